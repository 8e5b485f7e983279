"""Turns whatever goes wrong in a request into `{"error": {"code", "message"}}`, for a blueprint or an application."""

from __future__ import annotations

import logging
from http import HTTPStatus

from quart import Blueprint, Quart, Response, has_request_context, has_websocket_context, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing.exceptions import WebsocketMismatch

from triocast.errors import TriocastError
from triocast.problems import answer, problem

logger = logging.getLogger("triocast.web")


def answer_errors_with_json(target: Quart | Blueprint) -> None:
    """Answer what goes wrong in the requests of `target` with JSON; crashes become 500, logged and not shown."""
    target.errorhandler(HTTPException)(http_error)
    target.errorhandler(TriocastError)(our_error)


async def our_error(error: TriocastError) -> Response:
    """Return the answer for one of our errors; the operator is told of those that are not the caller's fault."""
    tell_operator(error)
    return problem(error)


def tell_operator(error: TriocastError) -> None:
    """Log an error that is not the caller's fault."""
    if error.status >= 500:
        logger.warning("a request failed: %s", error, exc_info=None if error.temporary else error)


async def http_error(error: HTTPException) -> Response:
    """Return the answer for an HTTP error."""
    if error.response is not None:  # an answer made on purpose
        return error.response  # type: ignore[return-value]
    status = error.code or 500
    headers = {name: value for name, value in error.get_headers() if name != "Content-Type"}
    return answer(status, _code(status), _message(error, status), headers)


def _code(status: int) -> str:
    return HTTPStatus(status).name.lower()


def _message(error: HTTPException, status: int) -> str:
    if isinstance(error, WebsocketMismatch):
        if has_websocket_context():
            return "this address takes HTTP requests: use http:// or https://"
        return "this address takes WebSocket connections: use ws:// or wss://"
    if isinstance(error, MethodNotAllowed) and has_request_context():
        return f"{request.method} is not allowed here: use {', '.join(sorted(error.valid_methods or ()))}"
    if status == 404:
        return "nothing is here: / says what is where"
    if status >= 500:
        return "the server failed; the operator has been told"
    return error.description or HTTPStatus(status).phrase
