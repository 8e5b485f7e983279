"""The pages of the examples in a real browser: cut off from a real server, they come back and have missed nothing."""

from __future__ import annotations

import json
from functools import partial

import pytest

from tests.browsers.chromium import Chromium, Page
from tests.browsers.site import ANOTHER_SERVER, SAME_SERVER, Cut, Site, site
from tests.e2e.processes import wait_subscribers

pytestmark = pytest.mark.once

AFRESH = "he server began afresh, something may be missing here"


class News:
    """A page of the news, and what it should show, the oldest first."""

    def __init__(self, site: Site, page: Page) -> None:
        self._site = site
        self._page = page
        self._sent = 0
        self.expected: list[str] = []

    async def publish(self, count: int) -> None:
        for _ in range(count):
            self._sent += 1
            self.expected.append(f"news {self._sent}")
            await self._site.publish("/publish", self.expected[-1])

    async def check(self) -> None:
        assert await self._page.wait_items(len(self.expected)) == self.expected


@pytest.mark.parametrize("cut", [*SAME_SERVER, *ANOTHER_SERVER])
async def test_the_news_page_comes_back_by_itself_and_has_missed_nothing(chromium: Chromium, cut: Cut) -> None:
    async with site("news") as server, chromium.page(server.url) as page:
        news = News(server, page)
        await page.wait_state("live")
        await news.publish(3)
        await news.check()
        news.expected += [f"T{AFRESH}"] if cut in ANOTHER_SERVER else []
        await cut(server, partial(page.wait_state, "reconnecting"), news.publish)
        await news.check()
        await news.publish(1)
        await news.check()
        await page.wait_state("live")


class Ticker:
    """A page of prices and headlines, and what it should show of each, the oldest first."""

    def __init__(self, site: Site, page: Page) -> None:
        self._site = site
        self._page = page
        self._sent = 0
        self.prices: list[str] = []
        self.headlines: list[str] = []

    async def publish(self, count: int) -> None:
        for _ in range(count):
            self._sent += 1
            price = json.dumps({"name": "EUR", "price": self._sent + 0.5})
            await self._site.publish("/publish/prices", price, "Content-Type: application/json")
            self.prices.append(f"EUR {self._sent}.5")
            self.headlines.append(f"headline {self._sent}")
            await self._site.publish("/publish/headlines", self.headlines[-1])

    async def check(self) -> None:
        """The groups have nothing to do with each other: only within one is there an order."""
        shown = await self._page.wait_items(len(self.prices) + len(self.headlines))
        assert [text for text in shown if text.startswith(("EUR", "prices"))] == self.prices
        assert [text for text in shown if text.startswith("headline")] == self.headlines


@pytest.mark.parametrize("cut", [*SAME_SERVER, *ANOTHER_SERVER])
async def test_the_ticker_page_comes_back_and_has_missed_nothing(chromium: Chromium, cut: Cut) -> None:
    async with site("ticker") as server, chromium.page(server.url) as page:
        ticker = Ticker(server, page)
        await ticker.publish(1)  # what is kept is the first that a page shows
        await ticker.check()
        await page.wait_state("live")
        await ticker.publish(2)
        await ticker.check()
        if cut in ANOTHER_SERVER:
            ticker.prices.append(f"prices: t{AFRESH}")
            ticker.headlines.append(f"headlines: t{AFRESH}")
        await cut(server, partial(page.wait_state, "reconnecting"), ticker.publish)
        await ticker.check()
        await wait_subscribers(server.server, "prices", 1)
        await ticker.publish(1)
        await ticker.check()
        await page.wait_state("live")


async def test_the_ticker_page_shows_where_something_is_missing_for_good(chromium: Chromium) -> None:
    async with site("ticker") as server, chromium.page(server.url) as page:
        await server.publish("/publish/headlines", "1")
        assert await page.wait_items(1) == ["1"]
        server.way.fail()
        await page.wait_state("reconnecting")
        for number in range(2, 110):  # more than the 100 that are kept
            await server.publish("/publish/headlines", str(number))
        server.way.heal()
        missing = "headlines: 8 missing here (lost)"
        assert await page.wait_items(102) == ["1", missing, *map(str, range(10, 110))]
