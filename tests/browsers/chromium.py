"""One Chromium for all tests, driven by Playwright's sync API, which belongs to the one thread that has started it.

It knows no page of the examples.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import trio

from tests.e2e.processes import PATIENCE


class Chromium:
    """A browser without a window; `playwright` is the module `playwright.sync_api`, `path` the browser's program."""

    def __init__(self, playwright: Any, path: str) -> None:
        self.timed_out: type[Exception] = playwright.TimeoutError
        self._thread = ThreadPoolExecutor(1, "chromium")
        with ExitStack() as stack:
            stack.callback(self._thread.shutdown)
            driver = self._call(playwright.sync_playwright().start)
            stack.callback(self._call, driver.stop)
            # Without the sandbox, because root has none and CI is root; the only pages are our own.
            options = {"executable_path": path, "args": ["--no-sandbox"], "timeout": PATIENCE * 1000}
            self._browser = self._call(driver.chromium.launch, **options)
            stack.callback(self._call, self._browser.close)
            self._ends = stack.pop_all()

    def close(self) -> None:
        self._ends.close()

    def _call(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return self._thread.submit(call, *arguments, **options).result()

    async def run(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Run a call of Playwright's in its thread; all of them have time limits of their own."""
        return await trio.to_thread.run_sync(lambda: self._call(call, *arguments, **options))

    @asynccontextmanager
    async def page(self, url: str) -> AsyncIterator[Page]:
        """Open a page for the block; it must not have raised anything when the block ends."""
        context = await self.run(self._browser.new_context, viewport={"width": 390, "height": 844})
        try:
            inner = await self.run(context.new_page)
            errors: list[object] = []
            await self.run(inner.on, "pageerror", lambda error: errors.append(error))  # noqa: PLW0108 - it puts marks on it
            await self.run(inner.goto, url, timeout=PATIENCE * 1000)
            yield Page(self, inner)
            assert not errors
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
                await self.run(context.close)


class Page:
    """A page that shows a list, the newest first, and in its body's data-state whether it is connected."""

    def __init__(self, chromium: Chromium, page: Any) -> None:
        self._chromium = chromium
        self._page = page

    async def wait_state(self, state: str) -> None:
        await self._wait("state => document.body.dataset.state === state", state)

    async def wait_items(self, count: int) -> list[str]:
        """Wait until the list has so many items; return all that it has, the oldest first."""
        await self._wait("count => document.querySelectorAll('li').length >= count", count)
        return await self.shown()

    async def shown(self) -> list[str]:
        items = "items => items.map(item => item.innerText.trim().replace(/\\s+/g, ' ')).reverse()"
        shown: list[str] = await self._chromium.run(self._page.eval_on_selector_all, "li", items)
        return shown

    async def _wait(self, condition: str, argument: object) -> None:
        try:
            await self._chromium.run(self._page.wait_for_function, condition, arg=argument, timeout=PATIENCE * 1000)
        except self._chromium.timed_out as error:
            raise AssertionError(f"never {condition} of {argument!r}; the page shows {await self.shown()}") from error
