"""Errors as HTTP answers: `{"error": {"code", "message"}}`, the same everywhere."""

from __future__ import annotations

import msgspec
from quart import Response

from triocast.errors import TriocastError


def answer(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """Return the JSON answer for a machine-readable `code` and a `message` that says what to do."""
    body = msgspec.json.encode({"error": {"code": code, "message": message}})
    return Response(body, status, {**(headers or {}), "Cache-Control": "no-store"}, content_type="application/json")


def problem(error: TriocastError) -> Response:
    """Return the answer for one of our errors; what may work later says so."""
    headers = {"Retry-After": "1"} if error.temporary else {}
    return answer(error.status, error.code, str(error), headers)
