from __future__ import annotations

from triocast.serve.backoff import LONGEST, STEADY, Backoff


def test_the_first_start_after_an_end_is_at_once_and_pauses_double_up_to_a_bound() -> None:
    backoff = Backoff()
    pauses = [backoff.after(0.1) for _ in range(10)]
    assert pauses == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, LONGEST, LONGEST, LONGEST]


def test_a_process_that_lived_for_a_while_has_failed_at_nothing() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.after(0.1)
    assert backoff.after(STEADY) == 0.0
    assert backoff.after(0.1) == 0.5
    assert [backoff.after(STEADY + 1) for _ in range(3)] == [0.0, 0.0, 0.0]
