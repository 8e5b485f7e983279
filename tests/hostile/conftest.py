"""What the tests of hostile bytes share."""

from __future__ import annotations

import ssl

import pytest
import trustme

from tests.hostile.scene import Contexts


@pytest.fixture(scope="session")
def contexts() -> Contexts:
    """The contexts of a server and its clients; HTTP/2 is spoken where both want it."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    server.set_alpn_protocols(["h2", "http/1.1"])
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client
