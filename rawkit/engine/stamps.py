"""When the kernel gave what a socket sent to the interface: transmit time stamps."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from rawkit.engine.native import check, ffi, lib

T = TypeVar("T")

_AT_ONCE = 64
_STAMP = struct.Struct("=qI4x")  # struct rk_stamp
_WAITING_MAX = 4096
"""Stamps that are waited for; of more the oldest will not come any more."""


class TransmitStamps(Generic[T]):
    """Stamps of what leaves by a socket, each with whatever the caller remembers it by.

    Use it on a socket that nobody else sends by. As long as stamps wait to be taken, the descriptor is ready
    for poll and asyncio; receive with timeout 0.

    Raises:
        EngineError: the socket cannot.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._name = name
        self._sent: deque[T] = deque()
        self._first = 0  # the number of the first of them
        self._start()

    def _start(self) -> None:
        check(lib.rk_stamp_start(self._descriptor), "ask for time stamps", self._name)

    def sent(self, what: T) -> None:
        """The kernel accepted this."""
        self._sent.append(what)
        if len(self._sent) > _WAITING_MAX:
            self._sent.popleft()
            self._first += 1

    def refused(self) -> None:
        """The kernel refused something: it may have been numbered or not, so what waits is forgotten."""
        for _ in self.take():
            pass
        self._start()
        self._sent.clear()
        self._first = 0

    def take(self) -> Iterator[tuple[T, int]]:
        """What has left since the last time, and when (nanoseconds since 1970). Some may never come."""
        stamps = ffi.new("struct rk_stamp[]", _AT_ONCE)
        n = _AT_ONCE
        while n == _AT_ONCE:
            n = check(lib.rk_stamp_read(self._descriptor, stamps, _AT_ONCE), "read time stamps", self._name)
            for time_ns, number in _STAMP.iter_unpack(ffi.buffer(stamps)[: n * _STAMP.size]):
                skipped = number - self._first & 0xFFFFFFFF  # the kernel counts in 32 bits
                if skipped < len(self._sent):
                    for _ in range(skipped):
                        self._sent.popleft()
                    self._first += skipped + 1
                    yield self._sent.popleft(), time_ns
