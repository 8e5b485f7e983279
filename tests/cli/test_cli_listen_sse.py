"""`triocast listen --sse`, against the real server."""

import json

from tests.cli.listening import listening_at
from tests.served import served

from triocast.settings import Settings


async def test_by_events_messages_come_from_where_it_is_told_to_begin():
    async with served() as server:
        group = server.push.group("chat")
        for message in ("one", "two", b"\xf0\x9f\x8e\x84"):
            await group.send(message)
        epoch = (await group.info()).epoch
        for begin, shown in (
            (["--since", "0"], ["one", "two", "🎄"]),
            (["--since", f"{epoch}:1"], ["two", "🎄"]),
            (["--last", "1"], ["🎄"]),
        ):
            async with listening_at(server.port, "chat", "--sse", "-n", str(len(shown)), *begin) as command:
                assert [await command.line() for _ in shown] == shown
                code, err = await command.end()
            assert code == 0
            assert f"to go on from here: triocast listen chat --since {epoch}:3\n" in err


async def test_by_events_json_shows_groups_gaps_and_what_it_is_taken_out_of():
    async with served() as server:
        push = server.push
        for group, message in (("a", {"price": [1.5, None]}), ("b", b"\x00")):
            await push.group(group).send(message)
        epochs = {group: (await push.group(group).info()).epoch for group in "ab"}
        begin = ["--since", "0", "--since", "gone:7"]
        async with listening_at(server.port, "a", "b", "--json", "--sse", "-q", *begin) as command:
            shown = [json.loads(await command.line()) for _ in range(3)]
            gap = {"from": 1, "to": 0, "count": 0, "reason": "epoch", "epochs": ["gone", epochs["b"]]}
            assert [line for line in shown if line["group"] == "a"] == [
                {"group": "a", "offset": 1, "data": {"price": [1.5, None]}}
            ]
            assert [line for line in shown if line["group"] == "b"] == [
                {"group": "b", "gap": gap},
                {"group": "b", "offset": 1, "b64data": "AA=="},
            ]
            (connection,) = server.hub.roster
            await push.group("b").discard(connection)
            left = {"epoch": epochs["b"], "offset": 1}
            assert json.loads(await command.line()) == {"group": "b", "left": left}


async def test_who_is_taken_out_is_told_on_standard_error():
    async with served() as server:
        group = server.push.group("chat")
        async with listening_at(server.port, "chat", "--sse") as command:
            await command.line("stderr")
            await group.send("hello")
            assert await command.line() == "hello"
            (connection,) = server.hub.roster
            await group.discard(connection)
            epoch = (await group.info()).epoch
            assert await command.line("stderr") == f"triocast: the server took us out of chat, after {epoch}:1"


async def test_by_events_a_server_that_stops_and_a_refusal_are_said():
    async with served(Settings(max_groups_per_connection=1)) as server:
        async with listening_at(server.port, "chat", "--sse", "--no-reconnect") as command:
            await command.line("stderr")
            await server.hub.roster.drain()
            code, err = await command.end()
        assert (code, err.count("closed with 1012: the server is restarting")) == (1, 1)
    async with served(Settings(max_groups_per_connection=1)) as server:
        async with listening_at(server.port, "a", "b", "--sse") as command:
            code, err = await command.end()
        assert code == 1
        assert err.startswith("triocast: refused with 400: too many groups")
