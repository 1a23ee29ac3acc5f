"""The pace of sweeps, by a clock of its own."""

from __future__ import annotations

from rawkit.tools.sweeppace import AnswerPace

MS = 1_000_000


def test_no_more_in_the_air_than_the_window() -> None:
    pace = AnswerPace(100)
    assert pace.allowed(1000 * MS) == 100
    pace.sent(100, 1000 * MS)
    assert pace.allowed(1001 * MS) == 0
    pace.answered(30, 1 * MS)
    assert pace.allowed(1002 * MS) == 30
    assert pace.due_ns() == 1010 * MS
    assert pace.allowed(1010 * MS) == 100  # the others never came


def test_silence_is_waited_for_as_long_as_answers_take() -> None:
    pace = AnswerPace(100)
    pace.sent(100, 0)
    pace.answered(1, 30 * MS)
    assert pace.due_ns() == 60 * MS
    assert pace.allowed(59 * MS) == 1
    pace.answered(1, 3000 * MS)
    assert pace.due_ns() == 200 * MS


def test_slower_after_drops_and_when_asking_again() -> None:
    pace = AnswerPace(100)
    pace.slow_down()
    assert pace.allowed(0) == 50
    pace.sent(50, 0)
    assert pace.due_ns() == 20 * MS
    pace.restart()
    assert pace.allowed(1) == 50
    assert pace.due_ns() == 40 * MS
    for _ in range(9):
        pace.slow_down()
    assert pace.allowed(10_000 * MS) == 32
