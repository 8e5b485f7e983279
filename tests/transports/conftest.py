"""What the tests of the ways out share."""

from __future__ import annotations

import ssl

import pytest
import trustme

from tests.transports.stage import WAYS, Contexts, Way


@pytest.fixture(scope="session")
def contexts() -> Contexts:
    """The contexts of a server and of its clients."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


@pytest.fixture(params=WAYS, ids=str)
def way(request: pytest.FixtureRequest) -> Way:
    """Every way to write to clients."""
    param: Way = request.param
    return param
