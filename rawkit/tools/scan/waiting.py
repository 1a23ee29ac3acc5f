"""What a scan yields besides results: that it has to wait. Whoever drives it does that, in its own way."""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Wait(NamedTuple):
    """Until one of the descriptors can be read, `timeout` seconds at most; 0 is a chance for others only."""

    descriptors: tuple[int, ...]
    timeout: float


def blocking(steps: Generator[Wait, None, T]) -> T:
    """What steps that only wait come to."""
    while True:
        try:
            wait(next(steps))
        except StopIteration as end:
            result: T = end.value
            return result


def wait(what: Wait) -> None:
    """Wait, in a thread that may."""
    if what.timeout > 0:
        from rawkit.engine import monotonic_ns
        from rawkit.engine.aio import wait_readable

        wait_readable(what.descriptors, monotonic_ns() + int(what.timeout * 1e9))
