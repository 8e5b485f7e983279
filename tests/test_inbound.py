from __future__ import annotations

import pytest
import trio
import trio.testing

from triocast.inbound import Inbound, size_of


@pytest.mark.parametrize(("data", "size"), [("", 0), ("abc", 3), ("é", 2), ("😀", 4), (b"\xff", 1)])
def test_text_counts_as_utf8_does(data: str | bytes, size: int) -> None:
    assert size_of(data) == size


async def test_messages_come_out_in_order_empty_ones_included() -> None:
    inbound = Inbound(10, 100)
    for data in ("a", "", b"", b"z"):
        await inbound.put(data)
    assert [await inbound.get() for _ in range(4)] == ["a", "", b"", b"z"]


@pytest.mark.parametrize(("messages", "size"), [(2, 1000), (100, 2)])
async def test_a_full_queue_makes_the_reader_wait(nursery: trio.Nursery, messages: int, size: int) -> None:
    inbound = Inbound(messages, size)
    for _ in range(2):
        await inbound.put("x")
    nursery.start_soon(inbound.put, "y")
    await trio.testing.wait_all_tasks_blocked()
    assert len(inbound) == 2
    assert await inbound.get() == "x"
    await trio.testing.wait_all_tasks_blocked()
    assert len(inbound) == 2


async def test_there_is_always_room_for_one_message_whatever_its_size() -> None:
    inbound = Inbound(5, 10)
    with trio.fail_after(1):
        await inbound.put(b"x" * 1000)
    assert len(inbound) == 1


async def test_a_put_cancelled_while_it_waits_adds_nothing() -> None:
    inbound = Inbound(1, 10)
    await inbound.put("a")
    with trio.CancelScope() as scope:
        scope.cancel()
        await inbound.put("b")
    assert await inbound.get() == "a"
    assert len(inbound) == 0


async def test_after_the_end_what_is_left_can_be_taken() -> None:
    inbound = Inbound(5, 10)
    await inbound.put("last")
    inbound.end()
    assert await inbound.get() == "last"
    with pytest.raises(trio.EndOfChannel):
        await inbound.get()


async def test_the_end_wakes_who_waits(nursery: trio.Nursery) -> None:
    inbound = Inbound(5, 10)
    ended = trio.Event()

    async def wait() -> None:
        with pytest.raises(trio.EndOfChannel):
            await inbound.get()
        ended.set()

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    inbound.end()
    with trio.fail_after(1):
        await ended.wait()
