from __future__ import annotations

import pytest

from triocast.serve.order import Inherited, Order, decode_order, encode_order
from triocast.settings import Settings, load

EVERYTHING = {
    "TRIOCAST_ENGINE": "rediss://user:p%40ss@redis.example:6380/2?prefix=x",
    "TRIOCAST_API_KEY": "secret",
    "TRIOCAST_WORKERS": "3",
    "TRIOCAST_BIND": "127.0.0.1:0,unix:/run/x.sock",
    "TRIOCAST_SHUTDOWN_SPREAD": "2.5",
    "TRIOCAST_LOG_FORMAT": "json",
    "TRIOCAST_NAMESPACES": '{"chat": {"policy": "latest", "history_size": 5}, "empty": {}}',
}


@pytest.mark.parametrize("settings", [Settings(), load(environ=EVERYTHING).settings])
def test_a_worker_has_the_very_settings_of_its_supervisor(settings: Settings) -> None:
    order = Order(settings, 2, "/tmp/house", "7.sock", (Inherited(5, "[::1]:80"), Inherited(6, "unix:/x")), 9)
    line = encode_order(order)
    assert line.count(b"\n") == 1
    again = decode_order(line)
    assert again == order
    assert again.settings.for_group("chat:1") == settings.for_group("chat:1")
    assert (again.settings.api_key, again.settings.engine) == (settings.api_key, settings.engine)
