"""Bodies that lie about their length, their form or their meaning: what is sent, and what must be answered."""

# ruff: noqa: E501 - a case a line is easier to read than one that is folded

from __future__ import annotations

from tests.hostile.attacker import KIB, Case
from tests.hostile.heads import BAD, HEAD, OK, POST, status

CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"


def lengths(*headers: bytes, body: bytes = b"hello") -> bytes:
    """Return a publish whose length is said by these headers."""
    return POST + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body


FRAMING = {
    "two lengths": Case(lengths(b"Content-Length: 5", b"Content-Length: 6"), BAD),
    "the same length twice": Case(lengths(b"Content-Length: 5", b"Content-Length: 5"), status(200, 400)),
    "two lengths in one": Case(lengths(b"Content-Length: 5, 6"), BAD),
    "the same length twice in one": Case(lengths(b"Content-Length: 5, 5"), status(200, 400)),
    "a negative length": Case(lengths(b"Content-Length: -1"), BAD),
    "a signed length": Case(lengths(b"Content-Length: +5"), BAD),
    "a length in words": Case(lengths(b"Content-Length: five"), BAD),
    "a length in hexadecimal": Case(lengths(b"Content-Length: 0x5"), BAD),
    "a length in other digits": Case(lengths(b"Content-Length: \xd9\xa5"), BAD),
    "an empty length": Case(lengths(b"Content-Length: "), BAD),
    "a length of 2^64": Case(lengths(b"Content-Length: 18446744073709551616"), status(413)),
    "a length of 5,000 digits": Case(lengths(b"Content-Length: " + b"9" * 5_000), status(400, 413)),
    "a length and chunks": Case(lengths(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED), status(200, 400)),
    "chunks and a length": Case(lengths(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"1\r\nx\r\n0\r\n\r\n"), status(200, 400)),
    "chunks and a bad length": Case(lengths(b"Transfer-Encoding: chunked", b"Content-Length: x", body=b"0\r\n\r\n"), BAD),
    "chunks twice": Case(lengths(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), status(400, 501)),
    "chunks of chunks": Case(lengths(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"), status(400, 501)),
    "gzip and chunks": Case(lengths(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), status(400, 501)),
    "chunks and identity": Case(lengths(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"), status(400, 501)),
    "chunks with a vertical tab": Case(lengths(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"), status(400, 501)),
    "chunks in capitals": Case(lengths(b"Transfer-Encoding: CHUNKED", body=b"1\r\nx\r\n0\r\n\r\n"), status(200)),
    "chunks in bytes": Case(lengths(b"Transfer-Encoding: \xff"), status(400, 501)),
    "chunks by HTTP/1.0": Case(lengths(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0"), status(400, 403)),
    "a GET with a body": Case(HEAD + b"Content-Length: 5\r\n\r\nhello", OK),
    "a GET with a request for a body": Case(HEAD + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED, OK),
    "more than the length": Case(lengths(b"Content-Length: 1", body=b"x" + bytes(100)), status(200)),
    "a line end behind the last body": Case(lengths(b"Connection: close", b"Content-Length: 1", body=b"x\r\n"), status(200)),
    "a request behind the body": Case(lengths(b"Content-Length: 1", body=b"x" + SMUGGLED), rb"\AHTTP/1\.1 200 .*HTTP/1\.1 404 "),
    "a chunk that is no number": Case(CHUNKED + b"zz\r\nhello\r\n", BAD),
    "a negative chunk": Case(CHUNKED + b"-1\r\nhello\r\n", BAD),
    "a chunk in hexadecimal with 0x": Case(CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n", BAD),
    "a chunk of 21 digits": Case(CHUNKED + b"f" * 21 + b"\r\nhello", BAD),
    "a chunk of 2^64": Case(CHUNKED + b"10000000000000000\r\n" + b"x" * 70 * KIB, status(413)),
    "a chunk without its end": Case(CHUNKED + b"5\r\nhelloXX0\r\n\r\n", BAD),
    "a chunk longer than it says": Case(CHUNKED + b"1\r\nhello\r\n0\r\n\r\n", BAD),
    "a chunk size of 30,000 zeros": Case(CHUNKED + b"0" * 30_000 + b"\r\n\r\n", status(400, 431)),
    "a chunk with an extension": Case(CHUNKED + b"1;" + b"a" * 10_000 + b"=\xff\r\nx\r\n0\r\n\r\n", status(200, 400)),
    "a chunk with a NUL": Case(CHUNKED + b"1\x00\r\nx\r\n0\r\n\r\n", BAD),
    "chunks by line feeds": Case(CHUNKED + b"1\nx\n0\n\n", status(400, 408)),
    "bad trailers": Case(CHUNKED + b"1\r\nx\r\n0\r\n\x00\xff: \x00\r\n\r\n", BAD),
    "trailers that say a length": Case(CHUNKED + b"1\r\nx\r\n0\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\n\r\n", status(200, 400, 501)),
    "a trailer without end": Case(CHUNKED + b"1\r\nx\r\n0\r\nX: " + b"a" * 40_000, status(400, 431)),
    "an expectation without a body": Case(lengths(b"Content-Length: 5", b"Expect: 100-continue", body=b""), rb"HTTP/1\.1 100 .*HTTP/1\.1 408 "),
    "an expectation of too much": Case(lengths(b"Content-Length: 999999", b"Expect: 100-continue", body=b""), status(100, 413)),
}  # fmt: skip


def body(content_type: bytes, content: bytes) -> bytes:
    return lengths(
        b"Connection: close", b"Content-Type: " + content_type, b"Content-Length: %d" % len(content), body=content
    )


def json(content: bytes) -> bytes:
    return body(b"application/json", content)


def form(content: bytes, boundary: bytes = b"b") -> bytes:
    return body(b"multipart/form-data; boundary=" + boundary, content)


PART = b'--b\r\nContent-Disposition: form-data; name="msg"\r\n\r\n'

CONTENT = {
    "nested arrays": Case(json(b"[" * 60_000), BAD),
    "nested arrays that end": Case(json(b"[" * 30_000 + b"]" * 30_000), status(200, 400)),
    "nested objects": Case(json(b'{"a":' * 9_000 + b"1" + b"}" * 9_000), status(200, 400)),
    "a number of 60,000 digits": Case(json(b"9" * 60_000), status(200, 400)),
    "a number with a large exponent": Case(json(b"1e999999999"), status(200, 400)),
    "a lone surrogate": Case(json(b'"\\ud800"'), status(200, 400)),
    "JSON in UTF-16": Case(json('{"a": 1}'.encode("utf-16")), BAD),
    "JSON that is no UTF-8": Case(json(b'"\xff"'), BAD),
    "JSON of zeros": Case(json(bytes(1_000)), BAD),
    "JSON of nothing": Case(json(b""), BAD),
    "keys without number": Case(json(b"{" + b",".join(b'"%d":0' % n for n in range(6_000)) + b"}"), status(200)),
    "text that is no UTF-8": Case(body(b"text/plain", b"\xc0\x80"), BAD),
    "text that is cut off": Case(body(b"text/plain", "ä".encode()[:1]), BAD),
    "a form that is no UTF-8": Case(body(b"application/x-www-form-urlencoded", b"msg=%ff"), BAD),
    "a form of percent signs": Case(body(b"application/x-www-form-urlencoded", b"msg=" + b"%" * 60_000), status(200)),
    "a form of fields": Case(body(b"application/x-www-form-urlencoded", b"msg&" * 15_000), status(200, 400)),
    "a multipart form without boundary": Case(body(b"multipart/form-data", PART), status(400, 415)),
    "a boundary in bytes": Case(form(b"--\xff\r\n\r\n", b"\xff"), status(400, 415)),
    "a boundary of patterns": Case(form(b"x" * 1_000, b'"(((((.*)+)+)+"'), status(400, 415)),
    "a long boundary": Case(form(b"-" * 60_000, b"-" * 9_000), status(400, 415)),
    "a multipart form of nothing": Case(form(b""), status(400, 415)),
    "a multipart form without end": Case(form(PART + b"x" * 60_000), status(400, 415)),
    "a multipart form of line ends": Case(form(PART + b"\r" * 60_000), status(400, 415)),
    "a multipart form of boundaries": Case(form(b"--b\r\n" * 12_000), status(400, 415)),
    "a multipart form of parts": Case(form((PART + b"\r\n") * 1_000 + b"--b--\r\n"), status(400, 415)),
    "a part of headers": Case(form(b"--b\r\n" + b"X: y\r\n" * 10_000 + b"\r\n"), status(400, 415)),
    "a part whose header has no end": Case(form(b"--b\r\nX: " + b"y" * 60_000), status(400, 415)),
    "a part whose header is no header": Case(form(b"--b\r\n\xff\xfe\x00\r\n\r\nx\r\n--b--\r\n"), status(400, 415)),
    "a part without a name": Case(form(b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"), status(400, 415)),
    "a part without disposition": Case(form(b"--b\r\n\r\nx\r\n--b--\r\n"), status(400, 415)),
    "a part with a name in bytes": Case(form(b'--b\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n--b--\r\n'), status(400, 415)),
    "a part with a file name": Case(form(b'--b\r\nContent-Disposition: form-data; name="msg"; filename="../x"\r\n\r\nx\r\n--b--\r\n'), status(400, 415)),
    "a part with a numbered name": Case(form(b"--b\r\nContent-Disposition: form-data; name*9*=x''%ff; name*x=y\r\n\r\nx\r\n--b--\r\n"), status(400, 415)),
    "a message that is too large": Case(body(b"text/plain", b"x" * 70 * KIB), status(413)),
    "a form that is too large": Case(body(b"application/x-www-form-urlencoded", b"msg=" + b"x" * 70 * KIB), status(413)),
    "more than its length, too large": Case(lengths(b"Transfer-Encoding: chunked", body=b"ffff\r\n" + b"x" * 0xFFFF + b"\r\nffff\r\n" + b"x" * 0xFFFF), status(413)),
}  # fmt: skip
