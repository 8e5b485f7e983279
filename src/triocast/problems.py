"""Errors as HTTP answers: `{"error": {"code", "message"}}`, the same everywhere."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from quart import Response

from triocast.errors import TriocastError, UnexpectedPosition


def answer(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """Return the JSON answer for a machine-readable `code` and a `message` that says what to do."""
    return _answer(status, {"code": code, "message": message}, headers or {})


def problem(error: TriocastError) -> Response:
    """Return the answer for one of our errors; what may work later says so."""
    headers = {"Retry-After": "1"} if error.temporary else {}
    return _answer(error.status, described(error), headers)


def described(error: TriocastError) -> dict[str, str]:
    """Return what JSON says of one of our errors."""
    told = {"code": error.code, "message": str(error)}
    return {**told, "position": error.position.text} if isinstance(error, UnexpectedPosition) else told


def _answer(status: int, error: Mapping[str, str], headers: Mapping[str, str]) -> Response:
    body = msgspec.json.encode({"error": error})
    return Response(body, status, {**headers, "Cache-Control": "no-store"}, content_type="application/json")
