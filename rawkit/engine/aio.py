"""Waiting for descriptors: in a running asyncio loop, without threads and with nothing left behind, or not.

What needs waiting is written once, as steps that never block. A synchronous driver waits between two steps by
`wait_readable`, an asynchronous one by `Waits.ready`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rawkit.engine.native import lib, slice_end

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future


def wait_readable(descriptors: Sequence[int], end_ns: int) -> None:
    """Wait until one can be read or `end_ns` (monotonic), a slice at most: signal handlers have to run.

    Whoever calls this looks again anyway.
    """
    lib.rk_wait(descriptors, len(descriptors), slice_end(end_ns))


class Waits:
    """The waits under way for one object's descriptors. Its `close` calls `end` before it closes them."""

    __slots__ = ("_under_way",)

    def __init__(self) -> None:
        self._under_way: dict[tuple[int, bool], tuple[AbstractEventLoop, Future[bool]]] = {}

    async def ready(
        self, descriptors: Iterable[int], timeout: float | None = None, *, sending: bool = False
    ) -> bool:
        """Wait until one of the descriptors may be read (`sending`: written); False after `timeout` seconds.

        True as well when `end` is called meanwhile: what the caller tries next says what is the matter.

        Raises:
            RuntimeError: another task waits for the same already.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        future: Future[bool] = loop.create_future()
        add, remove = (
            (loop.add_writer, loop.remove_writer) if sending else (loop.add_reader, loop.remove_reader)
        )
        waiting: list[int] = []
        timer = None if timeout is None else loop.call_later(timeout, _settle, future, False)
        try:
            for descriptor in descriptors:
                key = descriptor, sending
                if key in self._under_way:
                    raise RuntimeError(f"another task waits for descriptor {descriptor} already")
                add(descriptor, _settle, future, True)
                self._under_way[key] = loop, future
                waiting.append(descriptor)
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            for descriptor in waiting:
                # Not those that `end` saw to: their number may be somebody else's by now.
                if self._under_way.pop((descriptor, sending), (None, None))[1] is future:
                    remove(descriptor)

    def end(self) -> None:
        """End all waits. To be called in the loop's thread, while the descriptors are still open."""
        while self._under_way:
            (descriptor, sending), (loop, future) = self._under_way.popitem()
            (loop.remove_writer if sending else loop.remove_reader)(descriptor)
            _settle(future, True)


def _settle(future: Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)
