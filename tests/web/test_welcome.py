"""What is at `/`: for whom it is a page, and what may run in it."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from typing import Any

import pytest
from quart import Response

from triocast import Settings
from triocast.testing import simulate
from triocast.web import create_app

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "Host": "localhost:8000"}
LOOPBACK = {"server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 50_000)}


async def welcome(headers: dict[str, str], **values: Any) -> Response:
    async with simulate(create_app(Settings(**values), harden=False)) as world:
        response: Response = await world.http.get("/", headers={**BROWSER, **headers}, scope_base=LOOPBACK)
        assert response.status_code == 200
        return response


async def is_page(headers: dict[str, str], **values: Any) -> bool:
    response = await welcome(headers, **values)
    text = await response.get_data(as_text=True)
    assert text.startswith("<!doctype html>" if response.mimetype == "text/html" else "This is Triocast")
    return response.mimetype == "text/html"


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (BROWSER["Accept"], True),
        ("text/html", True),
        ("text/html, text/plain;q=0.5", True),
        ("*/*", False),  # curl, wget, httpie
        ("", False),
        ("text/plain, text/html;q=0.5", False),
        ("text/plain, text/html", False),
        ("application/json", False),
        ("text/html;q=0", False),
    ],
)
async def test_who_prefers_html_is_shown_the_page_and_others_the_text(accept: str, page: bool) -> None:
    assert await is_page({"Accept": accept}) == page


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "push.example"},
        {"X-Forwarded-For": "203.0.113.7"},
        {"Via": "1.1 proxy"},
        {"Origin": "https://elsewhere.example"},
    ],
)
async def test_who_may_not_publish_is_shown_the_text(headers: dict[str, str]) -> None:
    assert not await is_page(headers)


async def test_the_page_is_gone_as_soon_as_a_key_is_set_even_for_whoever_has_it() -> None:
    assert not await is_page({}, api_key="s3cret")
    assert not await is_page({"X-API-Key": "s3cret"}, api_key="s3cret")
    assert not await is_page({}, api_key="s3cret", insecure=True)


async def test_a_server_that_lets_anybody_publish_shows_anybody_the_page() -> None:
    assert await is_page({"Host": "push.example"}, insecure=True)


async def test_a_link_on_another_site_may_lead_to_the_page() -> None:
    assert await is_page({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})


async def test_the_page_may_run_and_load_only_what_is_in_it_and_talk_only_to_its_server() -> None:
    response = await welcome({})
    page = await response.get_data(as_text=True)
    policy = dict(rule.split(" ", 1) for rule in response.headers["Content-Security-Policy"].split("; "))
    for tag in ("style", "script"):
        (inline,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert policy.pop(f"{tag}-src") == f"'sha256-{b64encode(sha256(inline.encode()).digest()).decode()}'"
    assert policy == {
        "default-src": "'none'",
        "connect-src": "'self' ws://localhost:8000 wss://localhost:8000",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)  # nothing from elsewhere
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", page)


async def test_all_that_the_text_says_to_type_is_there() -> None:
    text = await (await welcome({"Accept": "*/*"})).get_data(as_text=True)
    addresses = re.findall(r"curl (?:-N )?http://localhost:8000(/\S+)", text)
    assert addresses == ["/sse/sample", "/poll/sample", "/groups", "/members/sample"]
    async with simulate(create_app(Settings(), harden=False)) as world:
        for address in addresses:
            answer = await world.http.head(address, headers={"Host": "localhost:8000"}, scope_base=LOOPBACK)
            assert answer.status_code == 200


@pytest.mark.parametrize("settings", [{}, {"api_key": "s3cret"}])
async def test_neither_page_nor_text_is_kept_guessed_at_or_told_of(settings: dict[str, str]) -> None:
    headers = (await welcome({}, **settings)).headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Vary"] == "Accept"
