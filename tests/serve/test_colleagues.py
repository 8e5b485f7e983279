"""Workers that ask each other for their metrics, over real sockets in one process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio
import trio.testing

from triocast.serve.colleagues import DEADLINE, Colleagues
from triocast.serve.house import House, open_house


@pytest.fixture
def house() -> Iterator[House]:
    with open_house() as house:
        yield house


async def answering(nursery: trio.Nursery, house: House, name: str) -> Colleagues:
    async def page() -> str:
        await trio.lowlevel.checkpoint()
        return f"page of {name}"

    colleagues = Colleagues(house, name)
    await nursery.start(colleagues.answer, page)
    return colleagues


async def test_one_has_the_pages_of_all_by_their_label(nursery: trio.Nursery, house: House) -> None:
    one = await answering(nursery, house, "1.sock")
    await answering(nursery, house, "2.sock")
    house.write_roster({"1": "1.sock", "2": "2.sock"})
    assert await one.pages("mine") == {"1": "mine", "2": "page of 2.sock"}


async def test_who_is_dead_or_not_there_yet_has_no_page(nursery: trio.Nursery, house: House) -> None:
    one = await answering(nursery, house, "1.sock")
    (house.path / "2.sock").touch()
    house.write_roster({"1": "1.sock", "2": "2.sock", "3": "nobody"})
    assert await one.pages("mine") == {"1": "mine", "2": None, "3": None}


async def test_who_hangs_is_waited_for_no_longer_than_the_deadline(
    nursery: trio.Nursery, house: House, autojump_clock: trio.testing.MockClock
) -> None:
    one = Colleagues(house, "1.sock")
    silent = trio.socket.socket(trio.socket.AF_UNIX)
    await silent.bind(str(house.path / "2.sock"))
    silent.listen(1)
    house.write_roster({"1": "1.sock", "2": "2.sock"})
    begin = trio.current_time()
    with silent:
        assert await one.pages("mine") == {"1": "mine", "2": None}
    assert trio.current_time() - begin == DEADLINE


async def test_without_a_roster_one_still_has_its_own(house: House) -> None:
    assert await Colleagues(house, "1.sock").pages("mine") == {"alone": "mine"}
