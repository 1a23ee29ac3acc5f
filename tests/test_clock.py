"""Clocks."""

from __future__ import annotations

import pytest

from rawkit.clock import Clock, FakeClock, MonotonicClock


def test_the_monotonic_clock_sleeps_until_the_moment_and_no_less() -> None:
    clock: Clock = MonotonicClock()
    start = clock.now_ns()
    clock.sleep_until(start + 2_000_000)
    assert clock.now_ns() >= start + 2_000_000
    clock.sleep_until(start)  # long past


def test_a_fake_clock_moves_only_when_told() -> None:
    clock = FakeClock(5)
    as_protocol: Clock = clock
    assert (as_protocol.now_ns(), clock.now_ns()) == (5, 5)
    clock.advance(10)
    assert clock.now_ns() == 15
    clock.sleep_until(100)
    assert clock.now_ns() == 100
    clock.sleep_until(50)
    assert clock.now_ns() == 100
    with pytest.raises(ValueError, match="does not go backwards"):
        clock.advance(-1)
