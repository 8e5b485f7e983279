"""The account of a soak must see what went wrong: each fault, given to it, is counted as what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import pytest

from tests.soak.verdict import Given, Record, Told, Verdict, judge

RECEIPTS = {"g": {text: ("e", offset) for offset, text in enumerate("abc", 1)}}
A, B, C = (Given("e", offset, text) for offset, text in enumerate("abc", 1))


def judged(*entries: Given | Told) -> Verdict:
    return judge(RECEIPTS, [Record("g", "websocket", list(entries))])


def faults(verdict: Verdict) -> dict[str, int]:
    shown = ("lost", "told", "doubled", "disordered", "silent", "misplaced")
    return {name: value for name, value in asdict(verdict).items() if name in shown and value}


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ([A, B, C], {}),
        ([Given("e", 1, "never acknowledged")], {"lost": 3}),
        ([A, B], {"lost": 1}),
        ([A, C], {"lost": 1, "silent": 1}),
        ([A, Told("e", 2, 2), C], {"told": 1}),
        ([A, B, B, C], {"doubled": 1, "disordered": 1}),
        ([A, B, C, Given("e", 4, "b")], {"doubled": 1, "misplaced": 1}),
        ([A, C, B], {"silent": 1, "disordered": 1}),
        ([A, B, Given("f", 3, "c")], {"silent": 1}),
        ([A, Told("f", 1, 0, before="e"), Given("f", 1, "a")], {"told": 2}),
        ([A, Told("f", 1, 0, before="e"), Given("f", 2, "a")], {"told": 2, "silent": 1}),
        ([], {"lost": 3}),
    ],
)
def test_each_fault_is_counted_as_what_it_is(entries: Sequence[Given | Told], found: dict[str, int]) -> None:
    verdict = judged(*entries)
    assert faults(verdict) == found
    assert verdict.spotless == (not faults(verdict))
    assert verdict.honest == (not faults(verdict).keys() - {"told"})


def test_what_a_group_has_is_due_to_each_of_its_clients_and_to_no_other() -> None:
    records = [Record("g", "websocket", [A, B, C]), Record("g", "sse", [A, B]), Record("other", "since", [])]
    verdict = judge(RECEIPTS, records)
    assert (verdict.acknowledged, verdict.due, verdict.delivered, verdict.lost) == (3, 6, 5, 1)


def test_clients_that_were_told_of_no_new_epoch_are_counted() -> None:
    renewed = [A, B, C, Told("f", 1, 0, before="e"), Told("g", 1, 0, before="f")]
    verdict = judge(RECEIPTS, [Record("g", "sse", list(renewed)), Record("g", "sse", [A, B, C])])
    assert (verdict.epochs, verdict.not_told, verdict.spotless) == (2, 1, True)
