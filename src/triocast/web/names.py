"""Lets every path through to a handler that ends in a group's name, so that bad names are answered with the rule."""

from __future__ import annotations

from quart import Blueprint
from quart.blueprints import BlueprintSetupState
from werkzeug.routing import BaseConverter

GROUP = "<triocast_group:group>"


class GroupConverter(BaseConverter):
    """Takes the rest of the path, empty or with slashes and line ends in it: it is the handler that judges.

    The server has percent-decoded the path, once.
    """

    part_isolating = False
    regex = "(?s:.*)"
    weight = 300


def know_group_names(blueprint: Blueprint) -> None:
    """Make `GROUP` known in the rules that the blueprint adds from here on."""

    def register(state: BlueprintSetupState) -> None:
        state.app.url_map.converters["triocast_group"] = GroupConverter

    blueprint.record(register)
