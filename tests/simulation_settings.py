"""The groups of the simulation and their settings: bounds that are met soon, another policy in each namespace.

It runs nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.simulation_people import PRIVATE
from tests.simulation_presence import GRACES, OFF
from triocast import GroupSettings, Policy, Settings

PUBLIC = ("news", "$odd", "a,b", "d:chat", "d:docs", "l:prices", "l:state", "n:audit", "n:log", "b:jobs", "b:mail")
"""By namespace, two groups or more of every policy."""

GROUPS = (*PUBLIC, *(f"{PRIVATE}:{number}" for number in range(40)))
"""And some that are of hardly anybody: they become empty, and are forgotten."""


def settings_of(policy: Policy, max_lag: int, **history: Any) -> GroupSettings:
    return GroupSettings(policy=policy, max_lag=max_lag, inbox=8, block_timeout=3.0, **history)


def with_presence(namespaces: dict[str, GroupSettings]) -> dict[str, GroupSettings]:
    return {
        name: replace(each, presence=name != OFF, presence_grace=GRACES.get(name, 0.0))
        for name, each in namespaces.items()
    }


def settings_with(write_timeout: float) -> Settings:
    """Bounds that are met soon: each namespace has another one for what it keeps."""
    return Settings(
        write_timeout=write_timeout,
        max_lag=20,
        inbox=8,
        history_size=40,
        history_ttl=10.0,
        recovery_limit=25,
        max_connections=1_000_000,
        pinned_bytes=20_000,
        history_memory=120_000,
        position_ttl=12.0,
        shutdown_spread=10.0,
        hook_queue=100_000,
        hook_timeout=0.2,
        namespaces=with_presence(
            {
                "d": settings_of(Policy.DISCONNECT, 15, history_ttl=12.0, history_bytes=6_000),
                "l": settings_of(Policy.LATEST, 10, history_ttl=12.0, history_size=30),
                "n": settings_of(Policy.DROP_NEWEST, 10, history_ttl=3.0, history_size=500),
                "b": settings_of(Policy.BLOCK, 12, history_ttl=12.0, history_size=500),
                PRIVATE: settings_of(Policy.DROP_OLDEST, 20, history_ttl=12.0, history_size=10),
            }
        ),
    )
