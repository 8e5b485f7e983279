"""From what an HTTP request carries to the message it means; pure, and byte for byte wherever that is possible."""

from __future__ import annotations

from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder

from triocast.core.message import Draft, Kind
from triocast.errors import InvalidMessage, UnsupportedKind
from triocast.web import query

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
FIELD = "msg"
ESCAPED = 3  # bytes that one byte of a message takes at most in an urlencoded form
MULTIPART_OVERHEAD = 8 * 1024  # bytes for boundaries and headers around the one field of a multipart form
# Bytes for several messages: to read more of JSON in one go would hold up the event loop for milliseconds.
BATCH = 1024 * 1024

ACCEPTED = (
    "accepted are text/* (or no content type), application/json, application/octet-stream, "
    "and forms whose only field is 'msg'"
)


def body_limit(content_type: str, max_message: int, *, batch: bool = False) -> int:
    """Return how many bytes a body of this type needs at most to carry a message of `max_message` bytes, or a
    `batch` of messages in JSON."""
    if batch:
        return max(BATCH, 2 * max_message)  # base64 takes 4 bytes for 3
    media_type, _ = _parse(content_type)
    if media_type == URLENCODED:
        return len(FIELD) + 1 + ESCAPED * max_message
    return max_message + (MULTIPART_OVERHEAD if media_type == MULTIPART else 0)


def from_body(content_type: str, body: bytes) -> Draft:
    """Return the message that a body of this content type is.

    An urlencoded form whose only field is `msg` is that field's text; any other urlencoded body is text as it stands,
    because `curl -d` labels whatever it sends so. Raises `UnsupportedKind` and `InvalidMessage`.
    """
    media_type, options = _parse(content_type)
    _check_charset(media_type, options.get("charset", "utf-8"))
    if media_type == URLENCODED:
        return Draft.parse(Kind.TEXT, _unwrapped(body))
    if media_type == MULTIPART:
        return Draft.parse(Kind.TEXT, _only_field(body, options.get("boundary", "")))
    kind = _kind(media_type)
    try:
        return Draft.parse(kind, body)
    except InvalidMessage as error:
        if kind is not Kind.JSON:
            raise
        # Some tools say application/json unasked, whatever they send.
        raise InvalidMessage(f"{error}; to send it as text, say Content-Type: text/plain") from error


def from_query(query_string: bytes) -> Draft:
    """Return the text that the one `msg` of a query is. Raises `InvalidMessage` if there is none, or several."""
    found = query.values(query_string, FIELD)
    if len(found) != 1:
        raise InvalidMessage(f"expected the message as ?{FIELD}=..., exactly once; found it {len(found)} times")
    return Draft.parse(Kind.TEXT, found[0])


def check_json(content_type: str) -> None:
    """Raise `UnsupportedKind` unless a body of this content type is JSON in UTF-8."""
    media_type, options = _parse(content_type)
    if media_type != "application/json":
        raise UnsupportedKind("several messages are sent as Content-Type: application/json")
    _check_charset(media_type, options.get("charset", "utf-8"))


def _parse(content_type: str) -> tuple[str, dict[str, str]]:
    media_type, options = parse_options_header(content_type)
    return media_type.lower(), options


def _kind(media_type: str) -> Kind:
    if not media_type or media_type.startswith("text/"):
        return Kind.TEXT
    if media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json")):
        return Kind.JSON
    if media_type == "application/octet-stream":
        return Kind.BINARY
    raise UnsupportedKind(f"{media_type[:80]!r} names no kind of message: {ACCEPTED}")


def _check_charset(media_type: str, charset: str) -> None:
    # Kept byte for byte, text can't be converted; and subscribers are promised UTF-8.
    if media_type != "application/octet-stream" and charset.lower() not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedKind(f"text in {charset[:40]!r} is not accepted: send UTF-8")


def _unwrapped(body: bytes) -> bytes:
    name, _, value = body.partition(b"=")
    return query.decode(value) if name == FIELD.encode() and b"=" in body and b"&" not in body else body


def _only_field(body: bytes, boundary: str) -> bytes:
    """Return the value of the field `msg` of a multipart form that has no other."""
    parts = _parts(body, boundary)
    if [name for name, _ in parts] != [FIELD]:
        raise UnsupportedKind(f"a multipart form has to have one field, {FIELD!r}, and no file: {ACCEPTED}")
    return bytes(parts[0][1])


def _parts(body: bytes, boundary: str) -> list[tuple[str | None, bytearray]]:
    """Return the first parts of a multipart form, two at most: names and values; a file has no name."""
    if not boundary:
        raise InvalidMessage("the content type of the multipart form names no boundary")
    decoder = MultipartDecoder(boundary.encode())
    decoder.receive_data(body)
    decoder.receive_data(None)
    parts: list[tuple[str | None, bytearray]] = []
    try:
        while len(parts) < 2 and not isinstance(event := decoder.next_event(), Epilogue):
            match event:
                case Field(name=name):
                    parts.append((name, bytearray()))
                case File():
                    parts.append((None, bytearray()))
                case Data(data=data):
                    parts[-1][1].extend(data)
    except ValueError as error:
        raise InvalidMessage(f"the body is not a multipart form: {error}") from error
    return parts
