"""Reads from a query how long a page is to be; what is on the page is others' to know."""

from __future__ import annotations

from werkzeug.exceptions import BadRequest

from triocast.web import query


def asked_limit(query_string: bytes, page: int, most: int) -> int:
    """Return how many are asked for, `page` if left out. Raises `BadRequest` for what is not from 1 to `most`."""
    asked = query.texts(query_string, "limit") or [str(page)]
    if len(asked) == 1 and asked[0].isascii() and asked[0].isdigit() and len(asked[0]) <= len(str(most)):
        limit = int(asked[0])
        if 1 <= limit <= most:
            return limit
    raise BadRequest(f"limit is a number from 1 to {most} ({page} if left out), given once")
