"""Capture: frames from one interface, live from the moment the capture is opened."""

from __future__ import annotations

import errno
import math
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from rawkit.clock import Clock, MonotonicClock
from rawkit.engine import (
    Counters,
    PacketRing,
    RingBatch,
    RingCounters,
    compile_filter,
    monotonic_ns,
    realtime_ns,
)
from rawkit.engine.ring import BLOCK_LEN, BLOCK_TIMEOUT
from rawkit.errors import EngineError, UnknownInterface
from rawkit.wire.frame import Frame

if TYPE_CHECKING:
    from rawkit.net import Interface

BUFFER_LEN = 64 << 20
"""Octets of the ring: two tenths of a second of 2 million small frames a second."""

SMALLEST_BLOCK_LEN = 128 << 10
"""Octets of a block that holds the longest ordinary merged frame."""

SLICE = 0.1
"""Seconds between looks at the clock while nothing arrives."""

GRACE_NS = 20_000_000
"""How long after `stop` the kernel may still carry frames from the link to the ring, in nanoseconds."""


def default_interface() -> Interface:
    """The first interface that is up and is not the loopback; the loopback where there is no other.

    Raises:
        UnknownInterface: no interface is up.
    """
    from rawkit.net import interfaces

    up = [interface for interface in interfaces() if interface.up]
    if not up:
        raise UnknownInterface("no interface is up")
    return min(up, key=lambda interface: (interface.loopback, interface.index))


def explain(interface: str | None = None, filter: str = "") -> str:
    """What of a filter would run where in a capture on an interface; needs no privilege.

    Raises:
        UnknownInterface, FilterError
    """
    found = _find(interface)
    return compile_filter(filter, 101 if _is_cooked(found) else found.linktype).explain()


def _find(name: str | None) -> Interface:
    from rawkit.net import interface

    return default_interface() if name is None else interface(name)


def _is_cooked(interface: Interface) -> bool:
    """Whether its link layer is one we cannot name, so that frames begin with the packet."""
    return interface.linktype not in (1, 101)


def _block_len(latency: float, buffer_len: int) -> int:
    """Octets of a block: for who can wait longer, larger ones, since each block costs a wake-up."""
    length = BLOCK_LEN << min(3, max(0, round(math.log2(max(latency, 0.001) / BLOCK_TIMEOUT))))
    while length * 8 > buffer_len and length > SMALLEST_BLOCK_LEN:
        length //= 2
    return length


class Capture:
    """An open capture, live when the constructor returns; iterating gives `Frame`s as they arrive.

    It ends after `count` frames, after `duration_ns` from its opening, or when `stop()` was called; then
    what the kernel had already queued is still delivered (but for `count`). Closing it, or leaving its `with`
    block, releases the ring. An interface that goes down is waited for (`interruptions` counts how often);
    one that disappears ends the capture with `EngineError`, after what was queued.

    On the loopback interface each frame is seen once, as it arrives.

    Raises:
        UnknownInterface, FilterError, PermissionDenied
    """

    def __init__(
        self,
        interface: str | None = None,
        filter: str | None = None,
        *,
        count: int | None = None,
        duration_ns: int | None = None,
        promiscuous: bool = False,
        snaplen: int = 262144,
        buffer_len: int = BUFFER_LEN,
        latency: float = BLOCK_TIMEOUT,
        clock: Clock | None = None,
    ) -> None:
        """`buffer_len` octets hold what was not read yet; what does not fit is dropped and counted.

        Frames are cut to `snaplen` octets. A frame comes at most `latency` seconds (0.001 to 1) late: less
        costs more wake-ups.
        """
        self.interface = _find(interface)
        self.filter = filter or ""
        self.count = count
        self.captured = 0
        """Frames handed out so far."""
        self.interruptions = 0
        self._was_up = self.interface.up  # one that is down at first is not interrupted
        self._clock = clock or MonotonicClock()
        self._deadline = None if duration_ns is None else self._clock.now_ns() + duration_ns
        self._grace_end_ns: int | None = None  # set by `stop`
        self._end: RingCounters | None = None  # what there was when that was over
        self.opened_ns = realtime_ns()
        """When it became live, in nanoseconds since 1970."""
        self._ring = PacketRing(
            self.interface.name,
            cooked=_is_cooked(self.interface),
            filter=filter or None,
            snaplen=snaplen,
            promiscuous=promiscuous,
            ignore_outgoing=self.interface.loopback,
            memory_len=buffer_len,
            block_len=_block_len(latency, buffer_len),
            block_timeout=latency,
        )

    @property
    def linktype(self) -> int:
        """LINKTYPE_ number of the frames."""
        return self._ring.linktype

    def __iter__(self) -> Iterator[Frame]:
        for batch in self.batches():
            yield from self._frames(batch)

    async def __aiter__(self) -> AsyncIterator[Frame]:
        async for batch in self.abatches():
            for frame in self._frames(batch):
                yield frame

    def _frames(self, batch: RingBatch) -> list[Frame]:
        return batch.frames(interface_names={self.interface.index: self.interface.name})

    def batches(self) -> Iterator[RingBatch]:
        """The frames, as many at a time as have arrived; while none do, an empty batch every 100 ms.

        It is always the same batch, and valid until the next one is asked for; its frames were not copied.
        """
        while (plan := self._plan()) is not None:
            try:
                batch = self._ring.receive(*plan)
            except EngineError as error:
                self._note(error)
            else:
                self.captured += len(batch)
                yield batch

    async def abatches(self) -> AsyncIterator[RingBatch]:
        """As `batches`, in a running event loop."""
        while (plan := self._plan()) is not None:
            try:
                batch = await self._ring.areceive(*plan)
            except EngineError as error:
                self._note(error)
            else:
                self.captured += len(batch)
                yield batch

    def _plan(self) -> tuple[float, int | None] | None:
        """How many seconds to wait for the next frames, and how many to take at most; None: it is over."""
        wanted = None if self.count is None else self.count - self.captured
        if wanted is not None and wanted <= 0:
            return None
        if self._grace_end_ns is None and self._deadline is not None:
            left_ns = self._deadline - self._clock.now_ns()
            if left_ns > 0:
                return min(SLICE, left_ns / 1e9), wanted
            self.stop()
        if self._grace_end_ns is None:
            return SLICE, wanted
        if self._end is None:
            left_ns = self._grace_end_ns - monotonic_ns()
            if left_ns > 0:
                return left_ns / 1e9, wanted
            self._end = self._ring.counters()
        # On a busy link there is no end to what comes later. The block that is being filled is handed over
        # when its time is up.
        now = self._ring.counters()
        rest = self._end.received - self._end.dropped - now.delivered - now.rejected
        if rest <= 0:
            return None
        return SLICE, rest if wanted is None else min(rest, wanted)

    def _note(self, error: EngineError) -> None:
        """Note that the interface went down; raise what else it is."""
        if error.errno == errno.ENXIO:
            self.interruptions = max(self.interruptions - 1, 0)  # to disappear, it went down first
            name = self.interface.name
            raise EngineError(errno.ENODEV, "capture", name, "the interface disappeared") from error
        if error.errno != errno.ENETDOWN:
            raise error
        self.interruptions += self._was_up
        self._was_up = True

    def stop(self) -> None:
        """Let the iteration end once it has delivered what is queued; may be called from anywhere."""
        if self._grace_end_ns is None:
            self._grace_end_ns = monotonic_ns() + GRACE_NS

    def counters(self) -> Counters:
        """What the kernel counted from the opening to the end: frames that passed the filter, those dropped.

        After an end without `count`, received = captured + dropped.
        """
        now = self._ring.counters()
        end = self._end or now
        return Counters(end.received - now.rejected, end.dropped)

    def details(self) -> RingCounters:
        """All that the ring counts, up to now: what the kernel merged, for one, and could not describe."""
        return self._ring.counters()

    def close(self) -> None:
        """Release the ring; the counters stay readable."""
        self._ring.close()

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def capture(
    interface: str | None = None,
    filter: str | None = None,
    *,
    count: int | None = None,
    duration: float | None = None,
    promiscuous: bool = False,
    snaplen: int = 262144,
    buffer_len: int = BUFFER_LEN,
    latency: float = BLOCK_TIMEOUT,
) -> Capture:
    """A live `Capture`; `duration` and `latency` are in seconds.

    with rawkit.capture("veth0", "tcp port 80") as frames:
        for frame in frames:
            print(frame.packet().summary())
    """
    return Capture(
        interface,
        filter,
        count=count,
        duration_ns=None if duration is None else round(duration * 1e9),
        promiscuous=promiscuous,
        snaplen=snaplen,
        buffer_len=buffer_len,
        latency=latency,
    )
