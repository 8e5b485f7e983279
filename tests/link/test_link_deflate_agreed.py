"""permessage-deflate on the link: what is offered, and what is agreed to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.link.deflating import AGREED, BITS_15, OFFER, ON, compressed_frame, deflated
from tests.link.harness import TEXT, Application, frame, serve
from triocast.link import LINK_KEY
from triocast.link.deflate import agree


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        ([], None),
        ([b""], None),
        ([b"permessage-deflate"], AGREED),
        ([b"permessage-deflate; client_max_window_bits"], AGREED),
        ([b"permessage-deflate;client_max_window_bits=8"], AGREED),
        ([b"permessage-deflate; client_max_window_bits=15"], AGREED),
        ([b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"], AGREED),
        ([b'permessage-deflate; server_max_window_bits="15"'], BITS_15),
        ([b"permessage-deflate; client_max_window_bits = 15 ;\tserver_max_window_bits=15"], BITS_15),
        # A window that the frames made for all do not keep to.
        ([b"permessage-deflate; server_max_window_bits=14"], None),
        ([b"permessage-deflate; server_max_window_bits=8"], None),
        ([b"permessage-deflate; server_max_window_bits=10, permessage-deflate"], AGREED),
        ([b"permessage-deflate; server_max_window_bits=10", b"permessage-deflate"], AGREED),
        ([b"permessage-deflate; server_max_window_bits=15, permessage-deflate"], BITS_15),
        # What nobody may offer.
        ([b"permessage-deflate; server_max_window_bits"], None),
        ([b"permessage-deflate; server_max_window_bits=16"], None),
        ([b"permessage-deflate; server_max_window_bits=015"], None),
        ([b"permessage-deflate; client_max_window_bits=7"], None),
        ([b"permessage-deflate; client_max_window_bits=08"], None),
        ([b"permessage-deflate; client_max_window_bits=abc"], None),
        ([b"permessage-deflate; client_max_window_bits=9; client_max_window_bits=10"], None),
        ([b"permessage-deflate; server_no_context_takeover=1"], None),
        ([b"permessage-deflate; client_no_context_takeover=true"], None),
        ([b"permessage-deflate; surprise"], None),
        ([b"permessage-deflate; surprise, permessage-deflate"], AGREED),
        # Other extensions.
        ([b"x-webkit-deflate-frame"], None),
        ([b"permessage-deflated"], None),
        ([b'mux; max-channels=4, x; y="z", permessage-deflate'], AGREED),
        ([b"mux", b"permessage-deflate"], AGREED),
        ([b",, permessage-deflate ,"], AGREED),
        # What can't be read.
        ([b"permessage-deflate;"], None),
        ([b"permessage-deflate; ;"], None),
        ([b";"], None),
        ([b"permessage-deflate=1"], None),
        ([b"permessage-deflate; client_max_window_bits="], None),
        ([b'permessage-deflate; client_max_window_bits="15'], None),
        ([b"permessage deflate"], None),
        ([b'mux; y=", permessage-deflate, "'], None),
        ([b"permessage-deflate, m\xc3\xbcx"], None),
        ([b"permessage-deflate, \x00"], None),
    ],
)
def test_what_is_offered_and_what_is_agreed_to(offers: list[bytes], answer: bytes | None) -> None:
    assert agree([(b"host", b"x"), *((b"Sec-WebSocket-Extensions", value) for value in offers)]) == answer


@given(st.binary(max_size=60))
def test_an_offer_of_anything_is_no_error(offer: bytes) -> None:
    for value in (offer, b"permessage-deflate; " + offer):
        assert agree([(b"sec-websocket-extensions", value)]) in (None, AGREED, BITS_15)


async def test_compression_is_off_unless_it_is_switched_on() -> None:
    async with serve(Application()) as served:
        client = await served.connect()
        assert b"sec-websocket-extensions" not in (await client.upgrade(OFFER)).lower()
        await client.send(compressed_frame(TEXT, deflated(b"hello")))
        assert (await client.close())[0] == 1002


@pytest.mark.parametrize(
    "offer",
    [
        b"",
        b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n",
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=abc\r\n",
        b"Sec-WebSocket-Extensions: ;;=,\r\n",
    ],
)
async def test_who_offers_nothing_that_we_can_take_is_served_without(offer: bytes) -> None:
    app = Application()
    async with serve(app, ON) as served:
        client = await served.connect()
        assert b"sec-websocket-extensions" not in (await client.upgrade(offer)).lower()
        assert not app.scopes[0]["state"][LINK_KEY].deflates
        await client.send(frame(TEXT, b"hello"))
        assert await client.frame() == (TEXT, b"hello")
        await client.send(compressed_frame(TEXT, deflated(b"hello")))
        assert (await client.close())[0] == 1002


async def test_the_handler_knows_before_it_accepts_and_a_refused_handshake_has_no_extension() -> None:
    class Refusing(Application):
        async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
            assert scope["state"][LINK_KEY].deflates
            await receive()
            await send({"type": "websocket.close"})

    app = Refusing()
    async with serve(app, ON) as served:
        client = await served.connect()
        head = await client.upgrade(OFFER)
        assert head.startswith(b"HTTP/1.1 403 ")
        assert b"sec-websocket-extensions" not in head.lower()
