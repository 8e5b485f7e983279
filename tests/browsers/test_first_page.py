"""The page at `/` in a real browser: it publishes and listens, comes back, and makes no HTML of what it is told."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.browsers.chromium import DESK, Chromium, Page
from tests.browsers.site import Site, site_of
from tests.e2e.processes import run, tool, triocast, wait_subscribers, websocket

pytestmark = pytest.mark.once

SERVE = triocast("serve", "--bind", "127.0.0.1:0")
MESSAGES = "#messages .text"


@asynccontextmanager
async def first_page(chromium: Chromium, query: str = "") -> AsyncIterator[tuple[Site, Page]]:
    """Serve, and open the page; it listens to `sample`, or to what the query says."""
    async with site_of(*SERVE) as site, chromium.page(f"{site.url}/{query}") as page:
        await page.wait_state("live")
        yield site, page


async def publish(page: Page, group: str, message: str, kind: str = "Text") -> None:
    def fill_in(inner: object) -> None:
        form = inner.locator("#publish")  # type: ignore[attr-defined]
        form.get_by_label("Group").fill(group)
        form.get_by_label(kind).check()
        form.get_by_label("Message").fill(message)
        form.get_by_role("button", name="Publish").click()

    await page.do(fill_in)


async def listen(page: Page, group: str) -> None:
    def fill_in(inner: object) -> None:
        form = inner.locator("#listen")  # type: ignore[attr-defined]
        form.get_by_label("Group").fill(group)
        form.get_by_role("button", name="Listen").click()

    await page.do(fill_in)


async def test_what_is_published_in_the_page_is_seen_in_it_and_the_receipt_is_told_in_words(chromium: Chromium) -> None:
    async with first_page(chromium) as (_, page):
        await page.wait_text("#quiet", "Nothing yet. Publish something to “sample”")
        await publish(page, "sample", "hello world")
        await page.wait_text("#receipt", "Told to 1 subscriber, none behind. It is message 1 of sample.")
        await page.wait_text("#messages", "hello world")
        await publish(page, "sample", '{"EUR": 1.10}', "JSON")
        await page.wait_text("#messages", '{"EUR": 1.10}')  # as it was published
        assert await page.texts("#messages .offset") == ["2", "1"]
        await publish(page, "empty", "anybody?")
        await page.wait_text("#receipt", "Nobody was there to be told. It is message 1 of empty.")
        await publish(page, "sample", "{", "JSON")
        await page.wait_text("#receipt.bad", "JSON")
        await publish(page, "no name", "hello")
        await page.wait_text("#receipt.bad", "is not a group name")


async def test_what_other_tools_publish_appears_with_what_was_kept_before_it(chromium: Chromium) -> None:
    async with first_page(chromium) as (site, page):
        await site.publish("/publish/prices", "before")
        await listen(page, "prices")
        await page.wait_text("#messages", "before")
        await site.publish("/publish/prices", "after")
        await page.wait_text("#messages", "after")
        await site.publish("/publish/prices", "\0\1", "Content-Type: application/octet-stream")
        await page.wait_text("#messages .binary", "AAE=")
        assert await page.texts(MESSAGES) == ["AAE=", "after", "before"]
        await page.do(lambda inner: inner.get_by_role("button", name="Stop").click())
        await page.wait_text("#quiet", "Not listening.")
        await wait_subscribers(site.server, "prices", 0)
        await page.wait_text("#no-groups", "Nobody is listening to anything yet.")


async def test_the_groups_table_follows_by_itself_and_leads_to_a_group(chromium: Chromium) -> None:
    async with first_page(chromium) as (site, page), chromium.page(f"{site.url}/?group=prices") as other:
        await other.wait_state("live")
        await page.wait_count("#groups tr", 2)
        await site.publish("/publish/prices", "1.10")
        await page.wait_text("#groups tr:first-child td:nth-child(3)", "1")
        assert await page.texts("#groups tr:first-child td") == ["prices", "1", "1", "0", "0"]
        await page.do(lambda inner: inner.get_by_role("button", name="prices").click())
        await page.wait_text("#groups tr:first-child td:nth-child(2)", "2")
        assert await page.texts(MESSAGES) == ["1.10"]
        await page.wait_count("#groups tr", 1)  # sample has nobody any more


async def test_who_listens_is_shown_and_who_comes_and_goes_is_told(chromium: Chromium) -> None:
    async with first_page(chromium) as (site, page):
        await page.wait_text("#count", "1 here")
        assert await page.texts("#members li") == ["this page"]
        info = quote(json.dumps({"name": "<b>Ann"}))
        async with websocket(f"{site.server.ws}/ws/sample?info={info}"):
            await page.wait_text("#messages .note", "<b>Ann joined")
            await page.wait_text("#count", "2 here")
            assert await page.texts("#members li") == ["this page", "<b>Ann claimed"]
            await page.screenshots("first-page-members")
        await page.wait_text("#messages .note", "<b>Ann left")
        await page.wait_text("#count", "1 here")
        assert await page.do(lambda inner: inner.locator("#members b").count()) == 0


async def test_where_presence_is_off_the_page_listens_without(chromium: Chromium, tmp_path: Path) -> None:
    config = tmp_path / "triocast.toml"
    config.write_text("presence = false\n")
    async with (
        site_of(*SERVE, "--config", str(config)) as site,
        chromium.page(site.url) as page,
    ):
        await page.wait_state("live")
        await wait_subscribers(site.server, "sample", 1)
        await site.publish("/publish/sample", "hello")
        await page.wait_text("#messages", "hello")
        assert await page.do(lambda inner: inner.locator("#who").is_hidden())


async def test_its_commands_do_what_they_say_when_they_are_pasted(chromium: Chromium) -> None:
    group = "it's:a\"$(group)"
    async with first_page(chromium, f"?group={quote(group)}") as (_, page):
        (command,) = [text for text in await page.texts("#commands code") if "/publish/" in text]
        result = await run("bash", "-c", f"{tool('curl')}{command.removeprefix('curl')}")
        assert json.loads(result.stdout)["group"] == group
        await page.wait_text("#messages", "hello")


async def test_a_hostile_message_or_group_is_shown_as_what_it_is(chromium: Chromium) -> None:
    message = (
        "<img src=x onerror=\"document.body.dataset.hacked='yes'\"><script>document.body.dataset.hacked='yes'</script>"
    )
    group = "<b>bold<script>alert(1)<iframe>"
    async with first_page(chromium, f"?group={quote(group)}") as (site, page):
        await page.wait_text("#groups button", group)
        await publish(page, group, message)
        await page.wait_text("#receipt", group)
        await site.publish(f"/publish/{quote(group)}", json.dumps({message: message}), "Content-Type: application/json")
        await page.wait_text("#messages .json", "<img src=x")
        assert (await page.texts(MESSAGES))[-1] == message
        assert await page.do(lambda inner: inner.locator("img, b, iframe").count()) == 0
        assert await page.do(lambda inner: inner.evaluate("document.body.dataset.hacked")) is None
        await page.screenshots("first-page-hostile")


async def test_a_restarted_server_is_come_back_to_and_the_new_beginning_shown(chromium: Chromium) -> None:
    async with first_page(chromium) as (site, page):
        await publish(page, "sample", "before")
        await page.wait_text("#messages", "before")
        await site.end(signal.SIGTERM)
        await page.wait_state("reconnecting")
        await page.wait_text("#state", "reconnecting…")
        await publish(page, "sample", "lost?")
        await page.wait_text("#receipt.bad", "does not answer")
        await page.screenshots("first-page-reconnecting")
        await site.begin()
        await page.wait_state("live")
        await page.wait_text("#messages .gap", "The server began afresh")
        await site.publish("/publish/sample", "after")
        await page.wait_text("#messages", "after")
        assert await page.texts(MESSAGES) == [
            "after",
            "The server began afresh: something may be missing here",
            "before",
        ]


async def test_a_cut_connection_is_come_back_from_and_nothing_is_missing_or_twice(chromium: Chromium) -> None:
    async with first_page(chromium) as (site, page):
        await publish(page, "sample", "1")
        await page.wait_text("#messages", "1")
        site.way.fail()
        await page.wait_state("reconnecting")
        for number in range(2, 110):  # 8 more than are kept
            await site.publish("/publish/sample", str(number))
        site.way.heal()
        await page.wait_text("#messages .gap", "8 messages no longer kept")
        await page.wait_text("#messages", "109")
        expected = ["1", "8 messages no longer kept", *map(str, range(10, 110))]
        assert await page.texts(MESSAGES) == expected[::-1]
        await page.wait_state("live")


async def test_the_page_is_gone_with_a_key_and_says_so_where_it_is_still_open(chromium: Chromium) -> None:
    async with first_page(chromium) as (site, page):
        await site.end(signal.SIGTERM)
        site.command = [*SERVE, "--api-key", "s3cret"]
        await site.begin()
        await page.wait_state("closed")
        await page.wait_text("#quiet", "This server needs a key now.")
        assert await page.do(lambda inner: inner.locator("#publish button").is_disabled())
        await page.do(lambda inner: inner.reload())
        await page.wait_text("body", "This is Triocast: server push, by groups.")


async def test_what_is_on_screen_is_bounded_and_a_busy_group_keeps_it_working(chromium: Chromium) -> None:
    async with first_page(chromium) as (site, page):
        for number in range(1, 251):
            await site.publish("/publish/sample", str(number))
        await page.wait_text("#messages li:first-child", "250")
        assert await page.texts(MESSAGES) == [str(number) for number in range(250, 50, -1)]


async def test_everything_can_be_done_from_the_keyboard(chromium: Chromium) -> None:
    async with first_page(chromium) as (_, page):
        await page.do(lambda inner: inner.locator("#message").focus())
        await page.do(lambda inner: inner.keyboard.type("by hand"))
        await page.do(lambda inner: inner.keyboard.press("Enter"))
        await page.wait_text("#messages", "by hand")
        names = []
        for _ in range(24):
            await page.do(lambda inner: inner.keyboard.press("Tab"))
            names.append(await page.do(lambda inner: inner.evaluate(FOCUSED)))
        assert {"Publish", "listen-group", "Listen", "Stop", "messages", "sample"} <= set(names)
        assert sum(name.startswith("Copy: ") for name in names) >= 4


FOCUSED = """(e => e.getAttribute("aria-label") && e.tagName === "BUTTON" ? e.getAttribute("aria-label")
  : e.tagName === "BUTTON" ? e.innerText : e.id || e.tagName)(document.activeElement)"""


async def test_it_is_good_to_look_at_empty_and_full(chromium: Chromium) -> None:
    async with site_of(*SERVE) as site, chromium.page(site.url, DESK) as page:
        await page.wait_state("live")
        await page.wait_count("#groups tr", 1)
        await page.screenshots("first-page-empty")
        for number in range(1, 31):
            await site.publish("/publish/sample", f"message {number}")
        await site.publish("/publish/sample", "Donaudampfschifffahrtsgesellschaftskapitän" * 6)
        await site.publish("/publish/sample", '{"EUR": 1.10, "of": ["nested", true]}', "Content-Type: application/json")
        await publish(page, "sample", "It rains.")
        await page.wait_text("#messages", "It rains.")
        await page.screenshots("first-page")
