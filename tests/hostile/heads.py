"""Requests that are none, or whose heads lie: what is sent, and what must be answered."""

# ruff: noqa: E501 - a case a line is easier to read than one that is folded

from __future__ import annotations

from collections.abc import Iterator

from tests.hostile.attacker import Case, upgrade

HEAD = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /publish/target HTTP/1.1\r\nHost: localhost\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes(3) + b"\x04" + bytes(5)
# What openssl says first, asking for a server of this name.
CLIENT_HELLO = bytes.fromhex("1603010200010001fc0303") + bytes(32) + b"\x20" + bytes(32) + b"\x00\x02\x13\x01\x01\x00"
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; "
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"


def status(*codes: int) -> bytes:
    """Return the pattern of an answer with one of these codes."""
    return rb"\AHTTP/1\.1 (" + b"|".join(b"%d" % code for code in codes) + rb") .*\r\n\r\n"


OK, BAD, ACCEPTED = status(200), status(400), status(101)


def line(request_line: bytes) -> bytes:
    return request_line + b"\r\nHost: localhost\r\n\r\n"


def get(target: bytes) -> bytes:
    return line(b"GET " + target + b" HTTP/1.1")


def replaced(old: bytes, new: bytes) -> bytes:
    changed = upgrade(change=lambda head: head.replace(old, new, 1))
    assert changed != upgrade()
    return changed


UPGRADES = {
    "a protocol in bytes": Case(upgrade(extra=b"Sec-WebSocket-Protocol: \xff\r\n"), BAD),
    "extensions in bytes": Case(upgrade(extra=b"Sec-WebSocket-Extensions: \xff\r\n"), BAD),
    "window bits that are no number": Case(upgrade(extra=DEFLATE + b"client_max_window_bits=abc\r\n"), ACCEPTED, True),
    "a small window": Case(upgrade(extra=DEFLATE + b"server_max_window_bits=8\r\n"), ACCEPTED, True),
    "a window of no bits": Case(upgrade(extra=DEFLATE + b"server_max_window_bits=0\r\n"), ACCEPTED, True),
    "a thousand extensions": Case(upgrade(extra=b"Sec-WebSocket-Extensions: " + b"x;y=z," * 1000 + b"x\r\n"), ACCEPTED, True),
    "a thousand protocols": Case(upgrade(extra=b"Sec-WebSocket-Protocol: " + b"chat, " * 1000 + b"x\r\n"), ACCEPTED, True),
    "an empty protocol": Case(upgrade(extra=b"Sec-WebSocket-Protocol: ,\r\n"), ACCEPTED, True),
    "upgrade in bytes": Case(replaced(b"Upgrade: websocket\r\nConnection: Upgrade", b"Upgrade: \xff\r\nConnection: \xff"), BAD),
    "connection in bytes": Case(replaced(b"Connection: Upgrade", b"Connection: Upgrade, \xff"), BAD),
    "no connection header": Case(replaced(b"Connection: Upgrade\r\n", b""), BAD),
    "no key": Case(replaced(b"Sec-WebSocket-Key", b"X"), BAD),
    "an empty key": Case(replaced(b"dGhlIHNhbXBsZSBub25jZQ==", b""), status(101, 400), True),
    "a key that is no base64": Case(replaced(b"dGhlIHNhbXBsZSBub25jZQ==", b"!" * 24), status(101, 400), True),
    "a key in bytes": Case(replaced(b"dGhlIHNhbXBsZSBub25jZQ==", b"\xff" * 24), BAD),
    "a long key": Case(replaced(b"dGhlIHNhbXBsZSBub25jZQ==", b"a" * 10_000), status(101, 400), True),
    "two keys": Case(upgrade(extra=b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), status(101, 400), True),
    "no version": Case(replaced(b"Sec-WebSocket-Version", b"X"), BAD),
    "version 8": Case(replaced(b"Version: 13", b"Version: 8"), BAD),
    "version thirteen": Case(replaced(b"Version: 13", b"Version: thirteen"), BAD),
    "version 13 and 8": Case(upgrade(extra=b"Sec-WebSocket-Version: 8\r\n"), status(101, 400), True),
    "by HTTP/1.0": Case(replaced(b"HTTP/1.1", b"HTTP/1.0"), BAD),
    "by POST": Case(replaced(b"GET", b"POST"), status(400, 404, 405)),
    "by a method of its own": Case(replaced(b"GET", b"WEBSOCKET"), status(400, 404, 405)),
    "with a body": Case(upgrade(extra=b"Content-Length: 5\r\n") + b"hello", status(101, 400), True),
    "with a chunked body": Case(upgrade(extra=b"Transfer-Encoding: chunked\r\n") + b"5\r\nhello\r\n0\r\n\r\n", status(101, 400), True),
    "twice": Case(upgrade() * 2, rb"\AHTTP/1\.1 101 .*\x88.\x03[\xea\xef]"),
    "and a request behind it": Case(upgrade() + get(b"/"), rb"\AHTTP/1\.1 101 .*\x88.\x03[\xea\xef]"),
    "behind a request": Case(get(b"/health/live") + upgrade(), OK + rb".*HTTP/1\.1 101 ", True),
    "where there is no websocket": Case(upgrade("/publish/target"), status(400, 404, 405)),
    "where there is nothing": Case(upgrade("/nothing"), status(404)),
    "h2c with settings": Case(HEAD + H2C + b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", OK),
    "h2c with bad settings": Case(HEAD + H2C + b"HTTP2-Settings: \xff\r\n\r\n", OK),
    "h2c without settings": Case(HEAD + H2C + b"\r\n", OK),
    "h2c and a preface behind": Case(HEAD + H2C + b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n" + PREFACE + SETTINGS, OK),
    "both protocols": Case(upgrade(extra=b"Upgrade: h2c\r\n"), BAD),
}  # fmt: skip

NO_REQUESTS = {
    "prior knowledge": Case(PREFACE + SETTINGS, BAD),
    "prior knowledge and DATA for a stream that is done": Case(
        PREFACE + SETTINGS + b"\x00\x00\x04\x01\x05\x00\x00\x00\x01\x82\x84\x86\x41" + b"\x00\x00\x01\x00\x01\x00\x00\x00\x01x" * 20, BAD
    ),
    "a TLS hello": Case(CLIENT_HELLO, b""),
    "a TLS hello and a line": Case(CLIENT_HELLO + b"\r\n\r\n", BAD),
    "an SSH greeting": Case(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", BAD),
    "a Redis command": Case(b"*1\r\n$4\r\nPING\r\n\r\n", BAD),
    "SMB": Case(b"\x00\x00\x00\x85\xffSMBr\x00\x00\x00\x00", b""),
    "zeros": Case(bytes(1000), b""),
    "zeros and a line": Case(bytes(1000) + b"\r\n\r\n", BAD),
    "empty lines": Case(b"\r\n" * 500, b""),
    "empty lines first": Case(b"\r\n" + HEAD + b"\r\n", status(200, 400)),
    "line feeds only": Case(HEAD.replace(b"\r\n", b"\n") + b"\n", status(200, 400)),
    "carriage returns only": Case(HEAD.replace(b"\r\n", b"\r") + b"\r", b""),
    "HTTP/0.9": Case(b"GET /health/live\r\n\r\n", BAD),
    "HTTP/2.0": Case(line(b"GET / HTTP/2.0"), BAD),
    "HTTP/3.7": Case(line(b"GET / HTTP/3.7"), BAD),
    "HTTP/1.12": Case(line(b"GET / HTTP/1.12"), BAD),
    "http/1.1 in small letters": Case(line(b"GET / http/1.1"), BAD),
    "no version": Case(line(b"GET / "), BAD),
    "no target": Case(line(b"GET  HTTP/1.1"), BAD),
    "no method": Case(line(b" / HTTP/1.1"), BAD),
    "a method in bytes": Case(line(b"G\xff\xfeT / HTTP/1.1"), BAD),
    "a NUL in the method": Case(line(b"G\x00T / HTTP/1.1"), BAD),
    "a NUL in the target": Case(get(b"/\x00"), BAD),
    "a space in the target": Case(get(b"/ws/a b"), BAD),
    "a target in bytes": Case(get(b"/ws/\xff\xfe"), BAD),
    "a long method": Case(line(b"A" * 10_000 + b" / HTTP/1.1"), status(400, 404, 405, 501)),
    "TRACE": Case(line(b"TRACE / HTTP/1.1"), status(405)),
    "CONNECT": Case(b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n", status(405)),
    "only half sensible methods": Case(line(b"pOsT /publish/target HTTP/1.1"), status(200, 400, 405, 501)),
}  # fmt: skip


def with_header(header: bytes) -> bytes:
    return HEAD + b"Connection: close\r\n" + header + b"\r\n\r\n"


HEADERS = {
    "no host": Case(b"GET / HTTP/1.1\r\n\r\n", BAD),
    "two hosts": Case(with_header(b"Host: elsewhere"), BAD),
    "a host in bytes": Case(b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n", BAD),
    "a host in bytes for a websocket": Case(replaced(b"Host: localhost", b"Host: \xff"), BAD),
    "a host with a path": Case(b"GET / HTTP/1.1\r\nHost: localhost/../x\r\n\r\n", BAD),
    "a host with markup": Case(b"GET / HTTP/1.1\r\nHost: <script>\r\n\r\n", BAD),
    "a host with a huge port": Case(b"GET / HTTP/1.1\r\nHost: localhost:99999\r\n\r\n", BAD),
    "a long host": Case(b"GET / HTTP/1.1\r\nHost: " + b"a" * 10_000 + b"\r\n\r\n", BAD),
    "a host of many labels": Case(b"GET / HTTP/1.1\r\nHost: " + b"a." * 5_000 + b"-\r\n\r\n", OK),
    "a host that backtracks": Case(b"GET / HTTP/1.1\r\nHost: " + b"a" * 63 + b"." + b"a." * 4_000 + b"!\r\n\r\n", BAD),
    "a folded header": Case(with_header(b"X: a\r\n b"), status(200, 400)),
    "a fold before any header": Case(b"GET / HTTP/1.1\r\n Host: localhost\r\n\r\n", BAD),
    "a space before the colon": Case(with_header(b"X : a"), BAD),
    "no colon": Case(with_header(b"X"), BAD),
    "no name": Case(with_header(b": a"), BAD),
    "a name in bytes": Case(with_header(b"\xff: a"), BAD),
    "a NUL in a name": Case(with_header(b"X\x00Y: a"), BAD),
    "a NUL in a value": Case(with_header(b"X: a\x00b"), BAD),
    "a lone carriage return in a value": Case(with_header(b"X: a\rb"), BAD),
    "a value in bytes": Case(with_header(b"X: \xff\xfe\x80"), OK),
    "a long name": Case(with_header(b"X" * 10_000 + b": a"), OK),
    "many headers": Case(with_header(b"\r\n".join(b"a%d:" % n for n in range(2_000))), status(431)),
    "a large head in one packet": Case(with_header(b"X: " + b"a" * 20_000), status(431)),
    "a line without end": Case(b"GET /" + b"a" * 40_000, status(431)),
    "a header without end": Case(HEAD + b"X: " + b"a" * 40_000, status(431)),
    "headers without end": Case(HEAD + b"X: a\r\n" * 10_000, status(431)),
    "an unknown expectation": Case(with_header(b"Expect: \xff"), status(200, 417)),
    "forwarded for nonsense": Case(with_header(b"X-Forwarded-For: \xff, ,,,::,[[[, 1.2.3.4.5\r\nX-Forwarded-Proto: \xff\r\nX-Forwarded-Host: \x80"), OK),
    "a range of nonsense": Case(with_header(b"Range: bytes=" + b"9" * 5_000 + b"-\r\nIf-Modified-Since: never\r\nIf-None-Match: \xff"), OK),
    "accept of nonsense": Case(with_header(b"Accept: \xff;q=\xff,*/*;q=1e999999\r\nAccept-Encoding: ;;;\r\nAccept-Language: \x80"), OK),
    "cookies of nonsense": Case(with_header(b"Cookie: " + b'="\xff;' * 1_000), OK),
}  # fmt: skip


def asked(*headers: bytes) -> bytes:
    """Return a publish with these headers."""
    return (
        POST
        + b"Connection: close\r\n"
        + b"".join(header + b"\r\n" for header in headers)
        + b"Content-Length: 1\r\n\r\nx"
    )


ACCESS = {
    "an origin in bytes": Case(asked(b"Origin: \xff\xfe"), status(403)),
    "an origin of nothing": Case(asked(b"Origin: "), status(403)),
    "an origin of null": Case(asked(b"Origin: null"), status(403)),
    "two origins": Case(asked(b"Origin: http://localhost", b"Origin: http://localhost"), status(403)),
    "a long origin": Case(asked(b"Origin: http://" + b"a." * 4_000 + b"!"), status(403)),
    "an origin with an address that is none": Case(asked(b"Origin: http://[::::]"), status(403)),
    "a websocket from an origin in bytes": Case(upgrade(extra=b"Origin: \xff\r\n"), status(403)),
    "a websocket from two origins": Case(upgrade(extra=b"Origin: null\r\nOrigin: http://localhost\r\n"), status(403)),
    "a site in bytes": Case(asked(b"Sec-Fetch-Site: \xff"), status(200, 403)),
    "two sites": Case(asked(b"Sec-Fetch-Site: same-origin", b"Sec-Fetch-Site: cross-site"), status(200, 403)),
    "forwarded by nobody": Case(asked(b"X-Forwarded-For: \xff" + b",1" * 3_000), status(403)),
    "forwarded a hundred times": Case(asked(*[b"X-Forwarded-For: 127.0.0.1"] * 100), status(403)),
    "a key in bytes": Case(asked(b"Authorization: Bearer \xff\xfe"), status(200)),
    "an authorization that is none": Case(asked(b"Authorization: \xff"), status(200)),
    "basic nonsense": Case(asked(b"Authorization: Basic ====", b"Authorization: Digest a=b,,,=\xff"), status(200)),
    "a long key": Case(asked(b"X-API-Key: " + b"k" * 10_000), status(200)),
    "a hundred keys": Case(asked(*[b"X-API-Key: k"] * 100), status(200)),
    "a type in bytes": Case(asked(b"Content-Type: \xff/\xfe"), status(415)),
    "a long type": Case(asked(b"Content-Type: " + b"a" * 10_000), status(415)),
    "a type of parameters": Case(asked(b"Content-Type: text/plain" + b';a="\\"' * 1_000), status(200, 415)),
    "a type with numbered parameters": Case(asked(b"Content-Type: text/plain; charset*0*=x''%ff; charset*1=a; charset*9999999999999999999=b"), status(200, 415)),
    "two types": Case(asked(b"Content-Type: text/plain", b"Content-Type: application/json"), status(200, 400, 415)),
    "a charset nobody knows": Case(asked(b"Content-Type: text/plain; charset=\xff"), status(200, 415)),
    "an encoding": Case(asked(b"Content-Encoding: gzip, \xff"), status(415)),
}  # fmt: skip


def _targets() -> Iterator[bytes]:
    """Yield paths and queries that mean harm."""
    yield from (b"/" + path for path in (b"%00", b"%ff%fe", b"%2e%2e", b"%2e%2e%2fetc%2fpasswd", b"..%5c..%5c"))
    for route in (b"/ws/", b"/publish/", b"/groups/"):
        yield from (
            route + name
            for name in (b"%00", b"%ff%fe", b"%c0%af", b"%ed%a0%80", b"%f5%80%80%80", b"%2F", b"a%0d%0aX:%20y")
        )
        yield from (
            route + name
            for name in (b"%", b"%2", b"%zz", b"%u0041", b"%252e", b"..", b"./../x", b"*", b"a" * 300, b"%61" * 3_000)
        )
    yield from (b"//ws//a", b"///", b"/ws/a//", b"/;a=b", b"/?", b"/??", b"/#fragment", b"/\\..\\")
    yield from (
        b"*",
        b"http://localhost/ws/a",
        b"http://elsewhere/publish/a",
        b"HTTP://[::1/",
        b"//elsewhere/a",
        b"localhost:80",
        b"ws/a",
        b"?",
    )
    yield from (
        b"/groups?limit=" + limit for limit in (b"-1", b"0", b"1e9", b"%ff", b"9" * 5_000, b"1&limit=2", b"%d9%a3")
    )
    yield from (
        b"/groups?after=%ff%00",
        b"/groups?after=a&after=b",
        b"/groups?" + b"&" * 10_000,
        b"/groups?" + b"a=b&" * 3_000,
    )
    yield from (b"/publish/a?msg=%ff", b"/publish/a?msg=a&msg=b", b"/publish/a?msg", b"/publish/a?" + b"msg=&" * 2_000)
    yield from (b"?a=b", b"/ws?group=", b"/ws?group=%00", b"/ws?=&=&group", b"/ws?group=a" + b"&group=a" * 1_500)


TARGETS = tuple(dict.fromkeys(_targets()))
