"""A bell that one task waits for: what a parking lot is to many, at a tenth of the memory of one for each connection.

It remembers nothing: whoever waits looks first whether there is something to wait for.
"""

from __future__ import annotations

import trio


class Bell:
    """One task waits, anybody rings."""

    __slots__ = ("_sleeper",)

    def __init__(self) -> None:
        self._sleeper: trio.lowlevel.Task | None = None

    def __repr__(self) -> str:
        return f"<Bell {'awaited' if self._sleeper is not None else 'unawaited'}>"

    @property
    def awaited(self) -> bool:
        """Whether a task waits."""
        return self._sleeper is not None

    async def wait(self) -> None:
        """Wait until somebody rings. Raises `RuntimeError` if another task waits already; cancelled, nobody waits."""
        if self._sleeper is not None:
            raise RuntimeError("another task waits for this bell")
        self._sleeper = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._forget)

    def ring(self) -> None:
        """Wake the task that waits, if one does."""
        if self._sleeper is not None:
            trio.lowlevel.reschedule(self._sleeper)
            self._sleeper = None

    def _forget(self, _: object) -> trio.lowlevel.Abort:
        self._sleeper = None
        return trio.lowlevel.Abort.SUCCEEDED
