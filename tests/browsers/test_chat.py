"""The chat in a real browser: who talks is heard in order, once, and whatever happens to connection and server."""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote

import pytest
import trio
from trio_websocket import wrap_client_stream

from tests.browsers.chromium import DESK, PHONE, Chromium, Page
from tests.browsers.site import SAME_SERVER, Cut, Site, site
from tests.e2e.processes import PATIENCE

pytestmark = pytest.mark.once

SAID = ".said .text"
AFRESH = "The server began afresh: something may be missing here"


class Chat:
    """A chat that is served, and the people in it, each with a browser of their own."""

    def __init__(self, site: Site, chromium: Chromium, stack: AsyncExitStack) -> None:
        self.site = site
        self._chromium = chromium
        self._stack = stack

    async def come(self, name: str, size: tuple[int, int] = PHONE) -> Page:
        """Open the page, and enter with a name."""
        return await self._stack.enter_async_context(self.visit(name, size))

    @asynccontextmanager
    async def visit(self, name: str, size: tuple[int, int] = PHONE) -> AsyncIterator[Page]:
        """Be in the chat for the block; the page is closed behind it."""
        async with self._chromium.page(self.site.url, size) as page:
            await enter(page, name)
            yield page


@asynccontextmanager
async def chat(chromium: Chromium) -> AsyncIterator[Chat]:
    async with site("chat/chat") as one, AsyncExitStack() as stack:
        yield Chat(one, chromium, stack)


async def enter(page: Page, name: str) -> None:
    """Say who one is, where the page asks for it."""
    await page.do(lambda inner: inner.locator("#new-name").fill(name))
    await page.do(lambda inner: inner.get_by_role("button", name="Enter").click())
    await page.wait_state("live")


@asynccontextmanager
async def guest(site: Site, name: str) -> AsyncIterator[None]:
    """Be in the chat for the block, without a browser, and take no notice of it."""
    target = f"/ws?name={quote(name)}"
    stream = await trio.open_tcp_stream("127.0.0.1", site.server.port)
    async with trio.open_nursery() as nursery, stream:
        cookie = [(b"Cookie", f"chat={secrets.token_hex(8)}".encode())]
        await wrap_client_stream(nursery, stream, "127.0.0.1", target, extra_headers=cookie)
        yield
        nursery.cancel_scope.cancel()


def crash(inner: Any) -> None:
    """Kill the process of a page."""
    with suppress(Exception):  # Playwright's own page has crashed, too
        inner.goto("chrome://crash", timeout=1000)


async def say(page: Page, text: str) -> None:
    await page.do(lambda inner: inner.locator("#text").fill(text))
    await page.do(lambda inner: inner.locator("#text").press("Enter"))


async def post(site: Site, text: str, said_as: str = "") -> None:
    """Say something as somebody without a browser, past the network."""
    said = json.dumps({"id": said_as or secrets.token_hex(16), "name": "Curl", "text": text})
    await site.publish("/say", said, "Cookie: chat=somebody")


async def be_slow(page: Page) -> None:
    def switch(inner: object) -> None:
        if not inner.locator("#slow").is_visible():  # type: ignore[attr-defined]
            inner.locator("#line summary").click()  # type: ignore[attr-defined]
        inner.locator("#slow").check()  # type: ignore[attr-defined]

    await page.do(switch)
    await page.wait_text("#state", "slow")


async def heard(page: Page, text: str) -> None:
    """Wait until a line says exactly this, and has its place."""
    line = "text => [...document.querySelectorAll('.said:not(.pending) .text')].some(each => each.innerText === text)"
    await page.wait(line, text)


async def test_two_pages_talk_and_see_the_same_in_the_same_order(chromium: Chromium) -> None:
    async with chat(chromium) as one:
        ann, bob = await one.come("Ann"), await one.come("Bob")
        await ann.wait_text("#quiet", "Nobody has said anything yet.")
        for page, text in [(ann, "Hello?"), (bob, "Hello, Ann."), (bob, "How are you?"), (ann, "<b>Fine</b>")]:
            await say(page, text)
            await heard(ann, text)
            await heard(bob, text)
        expected = ["Hello?", "Hello, Ann.", "How are you?", "<b>Fine</b>"]
        assert await ann.texts(SAID) == await bob.texts(SAID) == expected
        assert await ann.texts(".mine .text") == ["Hello?", "<b>Fine</b>"]
        assert [name for name in await bob.texts(".said:not(.mine) .who") if name] == ["Ann", "Ann"]
        assert await ann.do(lambda inner: inner.locator("#log b").count()) == 0


async def test_who_enters_sees_what_was_said_before(chromium: Chromium) -> None:
    async with chat(chromium) as one:
        ann = await one.come("Ann")
        for number in range(1, 61):
            await say(ann, str(number))
        await heard(ann, "60")
        bob = await one.come("Bob")
        await heard(bob, "60")
        assert await bob.texts(SAID) == [str(number) for number in range(11, 61)]
        await ann.do(lambda inner: inner.reload())
        await ann.wait_state("live")
        await heard(ann, "60")
        assert await ann.texts(".mine .text") == [str(number) for number in range(11, 61)]  # they are still Ann's


@pytest.mark.parametrize("cut", SAME_SERVER)
async def test_what_is_said_meanwhile_is_shown_once_when_a_page_comes_back(chromium: Chromium, cut: Cut) -> None:
    async with chat(chromium) as one:
        ann = await one.come("Ann")
        await say(ann, "before")
        await heard(ann, "before")
        numbers: list[str] = []

        async def publish(count: int) -> None:
            for _ in range(20 * count):  # more than a page begins with
                numbers.append(str(len(numbers) + 1))
                await post(one.site, numbers[-1])

        async def away() -> None:
            await ann.wait_state("reconnecting")
            await ann.wait_text("#notice", "Reconnecting.")
            await say(ann, "is anybody there?")  # goes out when there is somebody again, once
            await ann.wait_text(".pending .fate", "sending…")

        await cut(one.site, away, publish)
        await ann.wait_state("live")
        await heard(ann, "is anybody there?")
        await heard(ann, numbers[-1])
        said = await ann.texts(SAID)
        assert sorted(said) == sorted(["before", *numbers, "is anybody there?"])
        assert [text for text in said if text in numbers] == numbers
        bob = await one.come("Bob")
        await heard(bob, numbers[-1])
        assert await bob.texts(SAID) == said[-50:]


async def test_a_restarted_server_is_come_back_to_with_what_was_said_to_nobody(chromium: Chromium) -> None:
    async with chat(chromium) as one:
        ann, bob = await one.come("Ann"), await one.come("Bob")
        await say(ann, "before")
        await heard(bob, "before")
        await post(one.site, "perhaps", "0" * 16)  # whose answer was lost
        await heard(bob, "perhaps")
        await one.site.end(signal.SIGTERM)
        for page in (ann, bob):
            await page.wait_state("reconnecting")
        await say(ann, "during")
        await one.site.begin()
        await post(one.site, "perhaps", "0" * 16)
        for page in (ann, bob):
            await page.wait_state("live")
            await heard(page, "during")
        assert await bob.texts("#log > :not(.note)") == ["A Ann before", "C Curl perhaps", AFRESH, "A Ann during"]
        assert await ann.texts("#log > :not(.note)") == ["before", "C Curl perhaps", AFRESH, "during"]


async def test_a_slow_page_is_told_what_is_left_out_and_the_other_page_has_everything(chromium: Chromium) -> None:
    async with chat(chromium) as one:
        ann, bob = await one.come("Ann"), await one.come("Bob")
        await say(ann, "before")
        await heard(ann, "before")
        await be_slow(ann)
        await bob.do(lambda inner: inner.evaluate("document.querySelector('#burst').click()"))
        await say(ann, "and I?")
        await heard(bob, "and I?")
        await heard(bob, "30 of 30")
        everything = await bob.texts(SAID)
        assert [text for text in everything if text != "and I?"] == [
            "before",
            *(f"{number} of 30" for number in range(1, 31)),
        ]
        await ann.wait_text(".gap", "left out: this line is too slow")
        await ann.screenshots("chat-slow")
        await heard(ann, everything[-1])
        await heard(ann, "and I?")  # her own is never missing, wherever it stands
        said = await ann.texts(SAID)
        gaps = [int(gap.split()[0]) for gap in await ann.texts(".gap")]
        assert len(said) + sum(gaps) == len(everything) == len(set(said)) + sum(gaps)
        assert [text for text in said if text != "and I?"] == [
            text for text in everything if text in said and text != "and I?"
        ]


async def test_who_is_there_is_listed_and_who_comes_and_goes_is_told_in_words(chromium: Chromium) -> None:
    async with chat(chromium) as one:
        ann = await one.come("Ann", DESK)
        await ann.wait_text("#count", "1 here")
        async with one.visit("Bob") as bob:
            await ann.wait_text(".note", "Bob joined")
            await bob.do(lambda inner: inner.locator("#count").click())
            for page in (ann, bob):
                await page.wait_text("#count", "2 here")
            assert await ann.texts("#members li") == ["A Ann you", "B Bob"]
            assert await bob.texts("#members li") == ["B Bob you", "A Ann"]
        await ann.wait_text(".note", "Bob left")
        await ann.wait_text("#count", "1 here")
        assert await ann.texts(".note") == ["Bob joined", "Bob left"]


async def test_a_page_that_is_loaded_again_has_not_left_and_one_that_is_killed_has(chromium: Chromium) -> None:
    async with chat(chromium) as one, chromium.page(one.site.url) as victim:
        ann, bob = await one.come("Ann", DESK), await one.come("Bob")
        await ann.wait_text(".note", "Bob joined")
        await enter(victim, "Victim")
        await ann.wait_text(".note", "Victim joined")
        await bob.do(lambda inner: inner.goto("about:blank"))
        async with guest(one.site, "Guest"):
            await ann.wait_text(".note", "Guest joined")  # that Bob is gone would have been told before
        await bob.do(lambda inner: inner.goto(one.site.url))
        await bob.wait_state("live")
        await victim.do(crash)
        await ann.wait_text(".note", "Victim left")  # leaves are told in order: Bob's would have come before
        expected = ["Bob joined", "Victim joined", "Guest joined", "Guest left", "Victim left"]
        assert await ann.texts(".note") == expected
        assert await ann.texts("#members li") == ["A Ann you", "B Bob"]


async def test_a_new_name_is_told_and_somebody_in_two_windows_is_there_once(chromium: Chromium) -> None:
    async with chat(chromium) as one:
        ann, bob = await one.come("Ann", DESK), await one.come("Bob")
        await ann.wait_text("#count", "2 here")
        await bob.do(lambda inner: inner.get_by_role("button", name="Bob").click())
        await enter(bob, "Bobby")
        await ann.wait_text(".note", "Bob is Bobby now")
        second = await bob.do(lambda inner: inner.context.new_page())
        await bob.do(lambda _: second.goto(one.site.url))
        await bob.do(lambda _: second.wait_for_function("document.body.dataset.state === 'live'"))
        async with one.visit("Cyd"):
            await ann.wait_text(".note", "Cyd joined")
            await ann.wait_text("#count", "3 here")
            assert await ann.texts("#members li") == ["A Ann you", "B Bobby", "C Cyd"]
        await bob.do(lambda _: second.close())
        async with one.visit("Dan"):
            await ann.wait_text(".note", "Dan joined")
        await ann.wait_text(".note", "Dan left")
        notes = [note for note in await ann.texts(".note") if "Bob" in note]
        assert notes == ["Bob joined", "Bob is Bobby now"]


async def test_who_comes_while_the_members_are_asked_for_is_there_behind_the_answer(chromium: Chromium) -> None:
    answers: list[tuple[Any, Any]] = []
    async with chat(chromium) as one, chromium.page(one.site.url, DESK) as ann:
        hold = lambda route: answers.append((route, route.fetch()))  # noqa: E731 - Playwright puts marks on it
        await ann.do(lambda inner: inner.route("**/members", hold))
        await enter(ann, "Ann")
        with trio.fail_after(PATIENCE):
            while not answers:
                await ann.do(lambda inner: inner.wait_for_timeout(10))
        await one.come("Bob")
        await ann.wait("() => JSON.stringify(meanwhile).includes('Bob')", None)
        route, old = answers[0]
        assert "Bob" not in await ann.do(lambda _: old.text())
        await ann.do(lambda _: route.fulfill(response=old))
        await ann.wait_text("#count", "2 here")
        assert await ann.texts("#members li") == ["A Ann you", "B Bob"]
        assert await ann.texts(".note") == ["Bob joined"]


async def test_a_restarted_server_makes_nobody_leave_and_join(chromium: Chromium) -> None:
    async with chat(chromium) as one:
        ann, bob = await one.come("Ann", DESK), await one.come("Bob")
        await ann.wait_text("#count", "2 here")
        await one.site.end(signal.SIGTERM)
        for page in (ann, bob):
            await page.wait_state("reconnecting")
        await one.site.begin()
        for page in (ann, bob):
            await page.wait_state("live")
            await page.wait_text("#count", "2 here")
        await one.come("Cyd")
        await ann.wait_text(".note", "Cyd joined")
        assert await ann.texts(".note") == ["Bob joined", "Cyd joined"]


async def test_a_full_chat_is_good_to_look_at(chromium: Chromium) -> None:
    names = [
        *(f"Guest {number}" for number in range(1, 28)),
        "<img src=x>",
        "Maximiliana Konstantinopolitanska-Oberhuber",
    ]
    async with chat(chromium) as one, AsyncExitStack() as stack:
        ann = await one.come("Ann", DESK)
        for name in names:
            await stack.enter_async_context(guest(one.site, name))
        await ann.wait_text("#count", "30 here")
        await ann.wait_text("#members", "Maximiliana")
        for number in range(1, 201):
            await post(one.site, f"{number}: {'and so on, ' * (number % 7)}and that is all.")
        await heard(ann, "200: and so on, and so on, and so on, and so on, and that is all.")
        await ann.screenshots("chat-full")
        assert await ann.do(lambda inner: inner.locator("img").count()) == 0


async def test_what_cannot_be_said_is_refused_and_shown_as_not_sent(chromium: Chromium) -> None:
    async with chat(chromium) as one:
        ann = await one.come("Ann")
        await ann.do(lambda inner: inner.evaluate("document.querySelector('#text').maxLength = 9999"))
        await say(ann, "x" * 2001)
        await ann.wait_text(".failed .fate", "Not sent:")
        await say(ann, "this goes")
        await heard(ann, "this goes")


async def test_the_chat_is_good_to_look_at(chromium: Chromium) -> None:
    async with chat(chromium) as one, chromium.page(one.site.url, DESK) as stranger:
        await stranger.screenshots("chat-enter")
        ann, bob = await one.come("Ann"), await one.come("Bob Bobson")
        await ann.screenshots("chat-empty")
        conversation = [
            (ann, "Good morning! Is the ferry running today?"),
            (bob, "It is, every hour."),
            (bob, "But take a coat: the wind is from the north-west, and there is no room inside for everybody."),
            (ann, "Thank you. Which is the station called again?"),
            (bob, "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogoch" * 2),
            (ann, "…"),
        ]
        for page, text in conversation:
            await say(page, text)
            await heard(ann, text)
        await ann.screenshots("chat")
        one.site.way.fail()
        await ann.wait_state("reconnecting")
        await say(ann, "Hello?")
        await ann.screenshots("chat-reconnecting")
        one.site.way.heal()
        await heard(ann, "Hello?")
