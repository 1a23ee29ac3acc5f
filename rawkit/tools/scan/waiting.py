"""What a scan yields besides results: that it has to wait. Whoever drives it does that, in its own way."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from rawkit.engine.aio import Waits

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


class Running(Iterator[T]):
    """What steps find, to `for` and, in a running asyncio loop, to `async for`. A context manager ends it.

    Subclasses may count what is found (`_took`), and close more (`close`).
    """

    def __init__(self, steps: Generator[T | Wait]) -> None:
        self._steps = steps

    def _took(self, item: T) -> None:
        """An item is about to be handed out."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        try:
            while isinstance(item := next(self._steps), Wait):
                wait(item)
        except BaseException:  # the end, an error, an interrupt: all end it
            self.close()
            raise
        self._took(item)
        return item

    async def __aiter__(self) -> AsyncGenerator[T]:
        import asyncio

        waits = Waits()
        try:
            for item in self._steps:
                if not isinstance(item, Wait):
                    self._took(item)
                    yield item
                elif item.timeout > 0:
                    await waits.ready(item.descriptors, item.timeout)
                else:
                    await asyncio.sleep(0)
        finally:
            self.close()

    def close(self) -> None:
        """End it where it is. Closing again does nothing."""
        self._steps.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
