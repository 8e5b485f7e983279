"""Who is there, told to those who ask: in memory, on a virtual clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import trio
import trio.testing

from triocast import Connection, Draft, GroupSettings, Happening, Policy, PresenceOff, Reason, Settings, Triocast
from triocast.connection import open_connection
from triocast.core.identity import Identity
from triocast.core.presence_log import KEPT, KEPT_WEIGHT
from triocast.core.recovery import OLDEST, wish_of
from triocast.core.wire import JSON, Joined, Left, Presence
from triocast.engines import Page
from triocast.engines.memory import MemoryEngine
from triocast.hub import Hub
from triocast.notices import LONGEST, QUIET
from triocast.testing import Client, Closed, MemoryTransport, World, simulate
from triocast.web import create_app

Clock = trio.testing.MockClock
OFF = MappingProxyType({"off": GroupSettings(presence=False)})


@asynccontextmanager
async def running_hub(
    make_engine: Callable[[Settings], MemoryEngine] = MemoryEngine, **values: Any
) -> AsyncIterator[Hub]:
    settings = Settings(**values)
    hub = Hub(settings, make_engine(settings))
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        yield hub
        hub.stop()


class Scene:
    """A hub with clients, each in a task of its own."""

    def __init__(self, hub: Hub, nursery: trio.Nursery) -> None:
        self.hub = hub
        self._nursery = nursery
        self.happened: list[tuple[str, str]] = []
        """Joins and leaves as hooks are told of them: "join" or the reason, and the connection."""

        async def note(happening: Happening) -> None:
            assert happening.member is not None
            what = "join" if happening.reason is None else happening.reason.value
            self.happened.append((what, happening.member.client))

        async def note_move(happening: Happening) -> None:
            assert happening.member is not None
            self.happened.append((f"moved {happening.was}", happening.member.client))

        for push_on, handler in ((Triocast.on_join, note), (Triocast.on_leave, note), (Triocast.on_move, note_move)):
            push_on(self, handler)  # type: ignore[arg-type]

    _hook = Triocast._hook

    async def client(self, *groups: str, watching: bool = False, user: str | None = None) -> Person:
        person = Person(self.hub)
        await self._nursery.start(person.live, groups or ("g",), watching, Identity.of(user))
        return person


class Person:
    """One client: what it was told, and its connection."""

    def __init__(self, hub: Hub) -> None:
        self.transport = MemoryTransport(JSON)
        self.connection: Connection
        self.scope = trio.CancelScope()
        self.crash = trio.Event()
        self._hub = hub

    async def live(
        self, groups: Sequence[str], watching: bool, identity: Identity, *, task_status: trio.TaskStatus[None]
    ) -> None:
        with self.scope:
            try:
                async with open_connection(
                    self._hub, self.transport, groups, presence=watching, identity=identity
                ) as self.connection:
                    task_status.started()
                    await self.crash.wait()
                    raise KeyError("the handler crashes")
            except KeyError:
                pass

    @property
    def id(self) -> str:
        return self.connection.id

    @property
    def told(self) -> list[Presence]:
        return [each for each in self.transport.received if isinstance(each, Presence)]

    def forget(self) -> None:
        self.transport.received.clear()

    @property
    def changes(self) -> list[tuple[set[str], dict[str, str], dict[str, str]]]:
        """Who joined, left (why) and moved (from where), event by event; of a reset nothing."""
        return [
            (
                {member.client for member in each.joined},
                {client: reason.value for client, reason in each.left},
                {moved.member.client: moved.was for moved in each.moved},
            )
            for each in self.told
            if not each.reset
        ]


@asynccontextmanager
async def scene(**values: Any) -> AsyncIterator[Scene]:
    async with running_hub(**values) as hub, trio.open_nursery() as nursery:
        yield Scene(hub, nursery)
        nursery.cancel_scope.cancel()


async def settled() -> None:
    """Let everything be told that is due by now."""
    await trio.sleep(3 * QUIET)
    await trio.testing.wait_all_tasks_blocked()


async def test_who_asks_is_told_to_ask_for_the_members_and_then_who_comes_and_goes(autojump_clock: Clock) -> None:
    async with scene() as here:
        watcher = await here.client(watching=True, user="ann")
        await settled()
        assert [type(each) for each in watcher.transport.received] == [Joined, Presence]
        assert [each.reset for each in watcher.told] == [True]
        other = await here.client(user="bob")
        await settled()
        assert watcher.changes == [({other.id}, {}, {})]
        assert watcher.told[-1].joined[0].user == "bob"
        other.transport.vanish()
        await settled()
        assert watcher.changes[1:] == [(set(), {other.id: "left"}, {})]


async def test_who_does_not_ask_is_told_nothing_and_costs_nothing(autojump_clock: Clock) -> None:
    async with scene() as here:
        one, two = await here.client(), await here.client()
        two.transport.vanish()
        await settled()
        assert one.told == []
        group = here.hub.opened_groups()[0]
        assert group._watchers is None
        assert (len(here.hub._rounds), group._inbox.notices._changes) == (0, None)
        watcher = await here.client(watching=True)
        await settled()
        watcher.transport.vanish()
        await here.client()
        await settled()
        assert (len(here.hub._rounds), group._inbox.notices._changes) == (0, None)


async def test_changes_are_told_once_it_is_quiet_or_a_second_after_the_first(autojump_clock: Clock) -> None:
    async with scene() as here:
        watcher = await here.client(watching=True)
        await settled()
        began = trio.current_time()
        while not watcher.changes:
            await here.client()
            await trio.sleep(QUIET * 0.8)
        assert LONGEST <= trio.current_time() - began <= LONGEST + 3 * QUIET
        first = len(watcher.changes[0][0])
        assert first >= 20
        await settled()
        assert len(watcher.changes) <= 2


async def test_who_came_and_went_in_between_has_left(autojump_clock: Clock) -> None:
    async with scene() as here:
        watcher = await here.client(watching=True)
        await settled()
        brief = await here.client()
        seen = {member.client for member in (await here.hub.members("g", None, 9)).members}
        assert brief.id in seen  # so whoever has asked by now has to be told
        brief.transport.vanish()
        await settled()
        assert watcher.changes == [(set(), {brief.id: "left"}, {})]


async def test_a_reload_within_the_grace_makes_no_join_and_no_leave(autojump_clock: Clock) -> None:
    async with scene(presence_grace=5) as here:
        watcher = await here.client(watching=True)
        before = await here.client(user="ann")
        await settled()
        watcher.forget()
        here.happened.clear()
        before.transport.vanish()
        await trio.sleep(3)
        assert (watcher.changes, here.happened) == ([], [])
        after = await here.client(user="ann")
        await settled()
        assert watcher.changes == [(set(), {}, {after.id: before.id})]
        assert here.happened == [(f"moved {before.id}", after.id)]
        after.transport.vanish()
        await trio.sleep(10)
        assert watcher.changes[1:] == [(set(), {after.id: "left"}, {})]
        assert here.happened[1:] == [("left", after.id)]


async def test_a_leave_is_told_when_the_grace_is_over(autojump_clock: Clock) -> None:
    async with scene(presence_grace=5) as here:
        watcher, gone = await here.client(watching=True), await here.client(user="ann")
        await settled()
        watcher.forget()
        gone.transport.vanish()
        await trio.sleep(4.9)
        assert (await here.hub.members("g", None, 9)).count == 2
        assert watcher.changes == []
        await trio.sleep(1.5)
        assert watcher.changes == [(set(), {gone.id: "left"}, {})]
        again = await here.client(user="ann")
        await settled()
        assert watcher.changes[1:] == [({again.id}, {}, {})]


async def test_ten_thousand_who_join_at_once_are_a_few_events_for_each_watcher(autojump_clock: Clock) -> None:
    async with running_hub(max_connections=20_000) as hub, AsyncExitStack() as stack:
        watchers = [MemoryTransport(JSON) for _ in range(3)]
        for transport in watchers:
            await stack.enter_async_context(open_connection(hub, transport, ["g"], presence=True))
        await settled()
        joined = set()
        for _ in range(10_000):
            connection = Connection(hub, MemoryTransport())
            hub.admit(connection)
            await connection.join("g")
            joined.add(connection.id)
        crowd = list(hub.roster)[3:]
        await trio.sleep(LONGEST + 1)
        for transport in watchers:
            events = [each for each in transport.received if isinstance(each, Presence)]
            assert [each.reset for each in events] == [True] + [False] * (len(events) - 1)
            told = [member.client for each in events for member in each.joined]
            assert len(told) == len(set(told)) >= 10_000
            assert joined <= set(told)
            assert len(events) <= 13
            assert all(len(JSON.frame(each)) <= 64 * 1024 for each in events)
        for connection in crowd:
            connection.leave_groups()  # type: ignore[attr-defined]
            hub.roster.dismiss(connection)


async def test_a_stalled_watcher_costs_no_memory_and_is_told_to_ask_again(autojump_clock: Clock) -> None:
    async with scene() as here:
        slow, fast = await here.client(watching=True), await here.client(watching=True)
        await settled()
        slow.transport.stall()
        slow.forget()
        for _ in range(2 * KEPT):
            other = await here.client()
            await settled()
        watchers = here.hub.opened_groups()[0]._watchers
        assert watchers is not None
        assert len(watchers.log) == KEPT
        assert watchers.log._weight <= KEPT_WEIGHT
        assert len(fast.changes) >= 2 * KEPT
        slow.transport.resume()
        await settled()
        assert [each.reset for each in slow.told] == [True]
        assert len(watchers.log) == 0  # nobody needs it any more
        other.transport.vanish()
        await settled()
        assert slow.changes == [(set(), {other.id: "left"}, {})]


async def test_a_watcher_that_lags_a_little_is_told_what_holds_in_the_end(autojump_clock: Clock) -> None:
    async with scene() as here:
        slow = await here.client(watching=True)
        await settled()
        slow.transport.stall()
        slow.forget()
        stays, goes = await here.client(), await here.client()
        await settled()
        goes.transport.vanish()
        await settled()
        slow.transport.resume()
        await settled()
        assert slow.changes == [({stays.id}, {goes.id: "left"}, {})]


async def test_a_stalled_watcher_that_leaves_is_not_waited_for(autojump_clock: Clock) -> None:
    async with scene() as here:
        slow, fast = await here.client("g", "h", watching=True), await here.client(watching=True)
        await settled()
        slow.transport.stall()
        await here.client()
        await settled()
        watchers = here.hub.opened_groups()[0]._watchers
        assert watchers is not None
        assert len(watchers.log) == 1
        await slow.connection.leave("g")
        assert len(watchers.log) == 0
        slow.forget()
        slow.transport.resume()
        await here.client()
        await settled()
        assert len(fast.changes) >= 2
        assert [each for each in slow.told if each.group == "g"] == []


async def test_who_leaves_and_joins_again_is_told_to_ask_again_behind_its_greeting(autojump_clock: Clock) -> None:
    async with scene() as here:
        watcher = await here.client("g", "h", watching=True)
        await settled()
        watcher.forget()
        await watcher.connection.leave("g")
        await watcher.connection.join("g")
        await settled()
        kinds = [type(each) for each in watcher.transport.received if each.group == "g"]  # type: ignore[union-attr]
        assert kinds[:3] == [Left, Joined, Presence]
        assert watcher.told[0].reset


class SlowEngine(MemoryEngine):
    """Reads history when the tests say so, first come first served."""

    readers: list[trio.Event]

    async def read(self, group: str, after: int, limit: int) -> Page:
        here = trio.Event()
        self.readers.append(here)
        await here.wait()
        return await super().read(group, after, limit)


def slow_engine(settings: Settings) -> SlowEngine:
    engine = SlowEngine(settings)
    engine.readers = []
    return engine


async def test_a_join_that_was_given_up_takes_no_watch_from_the_one_after_it(autojump_clock: Clock) -> None:
    async with running_hub(slow_engine) as hub:
        await hub.publish("g", Draft.of("x"))
        engine = hub.engine
        assert isinstance(engine, SlowEngine)
        transport = MemoryTransport(JSON)
        async with open_connection(hub, transport, [], presence=True) as connection:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_join_in_vain, connection)
                await trio.testing.wait_all_tasks_blocked()
                await connection.leave("g")
                await connection.join("g")
                for reader in engine.readers:
                    reader.set()
            async with open_connection(hub, MemoryTransport(), ["g"]) as other:
                await settled()
                events = [each for each in transport.received if isinstance(each, Presence)]
                assert [member.client for member in events[-1].joined] == [other.id]


async def _join_in_vain(connection: Connection) -> None:
    await connection.join("g", wish_of(OLDEST, None))


async def test_a_join_that_fails_leaves_nobody_in_the_roll(autojump_clock: Clock) -> None:
    async with running_hub(slow_engine) as hub, trio.open_nursery() as nursery:
        await hub.publish("g", Draft.of("x"))
        async with open_connection(hub, MemoryTransport()) as connection:
            engine = hub.engine
            assert isinstance(engine, SlowEngine)
            nursery.start_soon(connection.join, "g", wish_of(OLDEST, None))
            await trio.testing.wait_all_tasks_blocked()
            await connection.leave("g")
            with trio.CancelScope() as given_up:
                async with trio.open_nursery() as joining:
                    joining.start_soon(connection.join, "g", wish_of(OLDEST, None))
                    await trio.testing.wait_all_tasks_blocked()
                    engine.readers[0].set()
                    await trio.testing.wait_all_tasks_blocked()
                    given_up.cancel()
        assert (await hub.members("g", None, 9)).count == 0


async def test_what_comes_with_a_wish_goes_with_presence(autojump_clock: Clock) -> None:
    async with running_hub() as hub:
        for number in range(3):
            await hub.publish("g", Draft.of(number))
        transport = MemoryTransport(JSON)
        wishes = {"g": wish_of(OLDEST, None)}
        async with open_connection(hub, transport, ["g"], wishes, presence=True):
            await settled()
            kinds = [type(each).__name__ for each in transport.received]
            assert kinds == ["Joined", "Message", "Message", "Message", "Presence"]


# However a connection ends


async def vanishes(here: Scene, person: Person) -> None:
    person.transport.vanish()


async def is_closed(here: Scene, person: Person) -> None:
    await person.connection.close(4000, "enough")


async def crashes(here: Scene, person: Person) -> None:
    person.crash.set()


async def is_cancelled(here: Scene, person: Person) -> None:
    person.scope.cancel()


async def is_taken_out(here: Scene, person: Person) -> None:
    await person.connection.leave("g")
    await person.connection.leave("g")
    person.transport.vanish()


async def is_aborted(here: Scene, person: Person) -> None:
    person.connection.abort()


async def sends_too_fast(here: Scene, person: Person) -> None:
    for _ in range(here.hub.settings.max_inbound + 5):
        person.transport.say("x")
    await trio.sleep(here.hub.settings.inbound_timeout)


async def lags(here: Scene, person: Person) -> None:
    person.transport.stall()
    for _ in range(20):
        await here.hub.publish("g", Draft.of("x"))
        await trio.testing.wait_all_tasks_blocked()
    person.transport.resume()


async def is_drained(here: Scene, person: Person) -> None:
    await here.hub.roster.drain()


async def sees_the_hub_stop(here: Scene, person: Person) -> None:
    here.hub.stop()


ENDS = (vanishes, is_closed, crashes, is_cancelled, is_taken_out, is_aborted, sends_too_fast, lags, is_drained)


@pytest.mark.parametrize("grace", [0, 2])
@pytest.mark.parametrize("end", [*ENDS, sees_the_hub_stop], ids=lambda end: end.__name__)
async def test_there_is_one_leave_for_each_join_whatever_ends_it(
    end: Callable[[Scene, Person], Awaitable[None]], grace: float, autojump_clock: Clock
) -> None:
    policy = Policy.DISCONNECT if end is lags else Policy.DROP_OLDEST
    async with scene(presence_grace=grace, policy=policy, max_lag=5) as here:
        person = await here.client(user="ann")
        await settled()
        assert here.happened == [("join", person.id)]
        await end(here, person)
        await trio.sleep(20)
        assert here.happened == [("join", person.id), ("left", person.id)]
        assert len(here.hub.engine._rolls._rolls) == 0  # type: ignore[attr-defined]


async def test_strict_and_frozen_clients_that_are_ended_leave_once(autojump_clock: Clock) -> None:
    async with scene(policy=Policy.DROP_NEWEST, max_lag=5, pinned_bytes=10) as here:
        person = await here.client()
        await settled()
        await lags(here, person)
        await settled()
        assert here.happened == [("join", person.id), ("left", person.id)]


async def test_a_hub_that_begins_again_begins_with_nobody(autojump_clock: Clock) -> None:
    hub = Hub(Settings(presence_grace=100), MemoryEngine(Settings(presence_grace=100)))
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            assert (await hub.members("g", None, 9)).count == 0
            async with open_connection(hub, MemoryTransport(), ["g"]):
                assert (await hub.members("g", None, 9)).count == 1
            assert (await hub.members("g", None, 9)).count == 1  # its grace
            hub.stop()


async def test_who_comes_and_goes_quickly_is_told_of_in_pairs(autojump_clock: Clock) -> None:
    async with scene() as here:
        for _ in range(50):
            person = await here.client()
            for _ in range(3):
                await person.connection.leave("g")
                await person.connection.join("g")
            person.transport.vanish()
        await settled()
        counts = Counter(here.happened)
        assert set(counts.values()) == {4}
        assert len(counts) == 100


# As clients ask for it


async def frames(client: Client, count: int) -> list[Any]:
    return [msgspec.json.decode(await client.receive()) for _ in range(count)]


@asynccontextmanager
async def world(**values: Any) -> AsyncIterator[World]:
    async with simulate(create_app(Settings(namespaces=OFF, **values), harden=False)) as made:
        yield made


async def test_a_watcher_is_told_in_json(autojump_clock: Clock) -> None:
    async with world() as served:
        watcher = await served.connect("/ws/chat?format=json&presence=1")
        greeting, reset = await frames(watcher, 2)
        assert "joined" in greeting
        assert reset == {"group": "chat", "presence": "reset"}
        other = await served.connect("/ws/chat?info=" + quote('{"name":"Ann"}'))
        (event,) = await frames(watcher, 1)
        (ann,) = event["presence"]["joined"]
        assert ann == {"client": ann["client"], "user": None, "info": {"name": "Ann"}, "claimed": True}
        await other.close()
        (event,) = await frames(watcher, 1)
        assert event == {"group": "chat", "presence": {"left": [{"client": ann["client"], "reason": "left"}]}}


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("presence=1", "bare payloads have no room"),
        ("presence=2&format=json", "presence is 1 or 0, given once"),
        ("presence=&format=json", "presence is 1 or 0, given once"),
        ("presence=1&presence=1&format=json", "presence is 1 or 0, given once"),
    ],
)
async def test_a_websocket_that_asks_wrongly_is_closed(query: str, reason: str) -> None:
    async with world() as served:
        client = await served.connect(f"/ws/chat?{query}")
        with trio.fail_after(5):
            closed = await client.wait_closed()
        assert closed.code == 1008
        assert closed.reason.startswith(reason)


async def test_where_presence_is_off_nobody_is_told() -> None:
    async with world() as served:
        client = await served.connect("/ws/off:1?format=json&presence=1")
        with trio.fail_after(5):
            assert await client.wait_closed() == Closed(
                1008, "who is there is not told: presence is off for this group"
            )
        await served.connect("/ws/off:1")
        for path in (
            "/sse/off:1?presence=1",
            "/sse?group=a&group=off:1&presence=1",
            "/members/off:1",
            "/groups/off:1/members",
        ):
            response = await served.http.get(path)
            assert response.status_code == 404
            assert (await response.get_json())["error"]["code"] == "presence_off"
        push: Triocast = served.app.extensions["triocast"]
        with pytest.raises(PresenceOff, match="off:1"):
            await push.group("off:1").members()


@pytest.mark.parametrize("query", ["presence=2", "presence=1&presence=1"])
async def test_an_event_client_that_asks_wrongly_is_refused(query: str) -> None:
    async with world() as served:
        response = await served.http.get(f"/sse/chat?{query}")
        assert response.status_code == 400
        assert (await response.get_json())["error"]["message"] == "presence is 1 or 0, given once"


async def test_the_members_are_shown_a_page_at_a_time() -> None:
    async with world() as served:
        for number in range(7):
            await served.connect("/ws/chat?info=" + quote(f'{{"n":{number}}}'))
        found: list[Any] = []
        after = ""
        for path in ("/members/chat", "/groups/chat/members", "/members/chat"):
            response = await served.http.get(f"{path}?limit=3{after}")
            assert response.status_code == 200
            assert response.headers["Cache-Control"] == "no-store"
            page = await response.get_json()
            assert (page["group"], page["count"], page["users"]) == ("chat", 7, 0)
            found += page["members"]
            after = f"&after={page['next']}"
        assert page["next"] is None
        ids = [member["client"] for member in found]
        assert ids == sorted(ids)
        assert len(set(ids)) == 7
        assert sorted(member["info"]["n"] for member in found) == list(range(7))
        assert all(member["claimed"] for member in found)
        empty = await (await served.http.get("/members/nobody")).get_json()
        assert empty == {"group": "nobody", "count": 0, "users": 0, "members": [], "next": None}


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=1&limit=2", "after=a&after=b"])
@pytest.mark.parametrize("path", ["/members/chat", "/groups/chat/members"])
async def test_a_page_that_can_not_be_meant_is_refused(path: str, query: str) -> None:
    async with world() as served:
        assert (await served.http.get(f"{path}?{query}")).status_code == 400


async def test_pages_of_other_sites_are_shown_members_only_if_they_are_allowed() -> None:
    async with world(allowed_origins=("https://friend.example",)) as served:
        for origin, status in (("https://friend.example", 200), ("https://foe.example", 403)):
            response = await served.http.get("/members/chat", headers={"Origin": origin})
            assert response.status_code == status
            allowed = response.headers.get("Access-Control-Allow-Origin")
            assert allowed == (origin if status == 200 else None)
            assert response.headers["Vary"] == "Origin"


async def test_the_guarded_address_needs_the_key_and_the_open_one_does_not() -> None:
    async with world(api_key="secret") as served:
        assert (await served.http.get("/groups/chat/members")).status_code == 401
        keyed = await served.http.get("/groups/chat/members", headers={"X-API-Key": "secret"})
        assert keyed.status_code == 200
        assert (await served.http.get("/members/chat")).status_code == 200


async def test_the_reasons_have_names() -> None:
    assert {each.value for each in Reason} == {"left", "removed", "lost", "moved"}
