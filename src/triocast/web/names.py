"""Lets every path through to a handler that ends in a group's name, so that bad names are answered with the rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quart import Blueprint
from quart.blueprints import BlueprintSetupState
from werkzeug.routing import BaseConverter

REST = "<triocast_group:{}>"
"""What may have slashes in it, under some name."""

GROUP = REST.format("group")


class GroupConverter(BaseConverter):
    """Takes the rest of the path, empty or with slashes and line ends in it: it is the handler that judges.

    The server has percent-decoded the path, once.
    """

    part_isolating = False
    regex = "(?s:.*)"
    weight = 300


def asked_group(scope: Mapping[str, Any], path: str) -> tuple[bool, str | None]:
    """Return whether a request is for `path` or for what is below it, and what that is; None at `path` itself.

    Below a root path no request is: Quart knows what is left of the path there.
    """
    head, slash, below = scope["path"][1:].partition("/")
    return head == path[1:] and not scope.get("root_path"), below if slash else None


def know_group_names(blueprint: Blueprint) -> None:
    """Make `GROUP` known in the rules that the blueprint adds from here on."""

    def register(state: BlueprintSetupState) -> None:
        state.app.url_map.converters["triocast_group"] = GroupConverter

    blueprint.record(register)
