"""One Chromium for all tests, driven by Playwright's sync API, which belongs to the one thread that has started it.

It knows no page of the examples.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio

from tests.e2e.processes import PATIENCE

T = TypeVar("T")

PHONE, DESK = (390, 844), (1280, 800)
ARTEFACTS = Path(__file__).parent.parent.parent / "artefacts"  # git ignores it; CI keeps it


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
    async def page(self, url: str, size: tuple[int, int] = PHONE) -> AsyncIterator[Page]:
        """Open a page for the block, in a profile of its own; it must not have raised anything when the block ends."""
        viewport = {"width": size[0], "height": size[1]}
        context = await self.run(self._browser.new_context, viewport=viewport, reduced_motion="reduce")
        try:
            inner = await self.run(context.new_page)
            errors: list[object] = []
            await self.run(inner.on, "pageerror", lambda error: errors.append(error))  # noqa: PLW0108 - it puts marks on it
            await self.run(inner.on, "console", lambda said: errors.append(said.text) if _forbidden(said) else None)
            await self.run(inner.goto, url, timeout=PATIENCE * 1000)
            yield Page(self, inner)
            assert not errors
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
                await self.run(context.close)


def _forbidden(said: Any) -> bool:
    """Whether a page has said that its Content-Security-Policy kept it from something: only the console is told."""
    return "Content Security Policy" in said.text


class Page:
    """A page that shows lists, and in its body's data-state whether it is connected."""

    def __init__(self, chromium: Chromium, page: Any) -> None:
        self._chromium = chromium
        self._page = page

    async def wait_state(self, state: str) -> None:
        await self.wait("state => document.body.dataset.state === state", state)

    async def wait_items(self, count: int) -> list[str]:
        """Wait until the list, the newest first, has so many items; return all that it has, the oldest first."""
        await self.wait("count => document.querySelectorAll('li').length >= count", count)
        return (await self.texts("li"))[::-1]

    async def wait_text(self, selector: str, text: str) -> None:
        """Wait until what is at `selector` is there to be seen and says `text`, among other things."""
        said = "([where, text]) => [...document.querySelectorAll(where)].some(each => each.innerText.includes(text))"
        await self.wait(said, [selector, text])

    async def wait_count(self, selector: str, count: int) -> None:
        """Wait until so many elements are at `selector`."""
        await self.wait("([where, count]) => document.querySelectorAll(where).length === count", [selector, count])

    async def texts(self, selector: str) -> list[str]:
        """Return what the elements at `selector` say, each in one line."""
        texts = "items => items.map(item => item.innerText.trim().replace(/\\s+/g, ' '))"
        found: list[str] = await self._chromium.run(self._page.eval_on_selector_all, selector, texts)
        return found

    async def do(self, action: Callable[[Any], T]) -> T:
        """Do something with Playwright's own page, and return what comes of it."""
        done: T = await self._chromium.run(action, self._page)
        return done

    async def screenshots(self, name: str) -> None:
        """Keep how the page looks on a phone and on a desk, by day and by night."""
        ARTEFACTS.mkdir(exist_ok=True)
        for device, (width, height) in (("phone", PHONE), ("desk", DESK)):
            await self._chromium.run(self._page.set_viewport_size, {"width": width, "height": height})
            assert await self.do(lambda page: page.evaluate("document.documentElement.scrollWidth - innerWidth")) <= 0
            for scheme in ("light", "dark"):
                await self._chromium.run(self._page.emulate_media, color_scheme=scheme)
                await self._chromium.run(
                    self._page.screenshot, path=ARTEFACTS / f"{name}-{device}-{scheme}.png", full_page=True
                )

    async def wait(self, condition: str, argument: object) -> None:
        """Wait until the function `condition`, in JavaScript, returns something true for `argument`."""
        try:
            await self._chromium.run(self._page.wait_for_function, condition, arg=argument, timeout=PATIENCE * 1000)
        except self._chromium.timed_out as error:
            raise AssertionError(
                f"never {condition} of {argument!r}; the page shows {await self.texts('body')}"
            ) from error
