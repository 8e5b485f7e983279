"""The connection class under Hypercorn, hardened against what clients do; the only room that knows Hypercorn inside.

It never knows what a connection is for: groups, messages and handlers are above it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triocast.link.handle import LINK_KEY as LINK_KEY
from triocast.link.handle import Handle as Handle
from triocast.link.install import install as install
from triocast.link.install import link_class as link_class

if TYPE_CHECKING:
    from triocast.link.link import Link as Link


def __getattr__(name: str) -> Any:
    # Link subclasses Hypercorn's inner classes, which another Hypercorn may not have: `install` must be able to say so.
    if name == "Link":
        from triocast.link.link import Link  # noqa: PLC0415

        return Link
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
