"""Capture: frames from one interface, live from the moment the capture is opened."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from rawkit.clock import Clock, MonotonicClock
from rawkit.engine import Counters, FrameBatch, PacketSocket, realtime_ns
from rawkit.errors import EngineError, UnknownInterface
from rawkit.wire.frame import Frame

if TYPE_CHECKING:
    from rawkit.net import Interface

BUFFER_LEN = 8 << 20
"""Octets of receive buffer asked for: a tenth of a second of 1500-octet frames at line rate of 500 Mbit/s."""

BATCH_LEN = 4 << 20
BATCH_FRAMES = 512
"""Octets and frames taken from the socket at a time."""

SLICE = 0.1
"""Seconds between looks at the clock while nothing arrives."""

GRACE = 0.02
"""Seconds to wait, at the end, for frames that the kernel is still carrying from the link to the socket."""


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


class Capture:
    """An open capture, live when the constructor returns; iterating gives `Frame`s as they arrive.

    It ends after `count` frames, after `duration_ns` from its opening, or when `stop()` was called; then
    what the kernel had already queued is still delivered (but for `count`). Closing it, or leaving its `with`
    block, releases the socket. An interface that goes down is waited for (`interruptions` counts how often);
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
        buffer_len: int = BUFFER_LEN,
        clock: Clock | None = None,
    ) -> None:
        """`buffer_len` is the receive buffer in octets; what comes when it is full is dropped and counted."""
        from rawkit.net import interface as find_interface

        self.interface = default_interface() if interface is None else find_interface(interface)
        self.filter = filter or ""
        self.count = count
        self.interruptions = 0
        self._was_up = self.interface.up  # one that is down at first is not interrupted
        self.captured = 0
        self._clock = clock or MonotonicClock()
        self._deadline = None if duration_ns is None else self._clock.now_ns() + duration_ns
        self._stopped_ns: int | None = None
        self.opened_ns = realtime_ns()
        """When it became live, in nanoseconds since 1970."""
        self._socket = PacketSocket(
            self.interface.name,
            cooked=self.interface.linktype not in (1, 101),
            filter=filter or None,
            promiscuous=promiscuous,
            ignore_outgoing=self.interface.loopback,
            buffer_len=buffer_len,
        )
        self._counters: Counters | None = None

    @property
    def linktype(self) -> int:
        """LINKTYPE_ number of the frames."""
        return self._socket.linktype

    def __iter__(self) -> Iterator[Frame]:
        for frames in self.batches():
            yield from frames

    def batches(self) -> Iterator[list[Frame]]:
        """The frames, as many at a time as have arrived; while none do, an empty list every 100 ms.

        For those who have something to do in between, such as flushing a file.
        """
        batch = FrameBatch(BATCH_FRAMES, BATCH_LEN)
        names = {self.interface.index: self.interface.name}
        queued: int | None = None
        ended = False
        while not ended:
            patience = self._patience()
            ending_ns = self._stopped_ns
            if ending_ns is not None and queued is None:
                counters = self._socket.counters()
                queued = counters.received - counters.dropped - self.captured
            self._receive(batch, patience)
            frames = batch.frames(self.linktype, names)
            if ending_ns is not None and queued is not None:
                kept = [frame for i, frame in enumerate(frames) if i < queued or frame.time_ns <= ending_ns]
                # On a busy link there is no end to what comes later. Times alone do not tell: frames that
                # arrive within milliseconds of the opening may get theirs only when they are read.
                ended = not kept or len(kept) < len(frames)
                queued -= len(kept)
                frames = kept
            if self.count is not None and self.captured + len(frames) >= self.count:
                frames = frames[: self.count - self.captured]
                ended = True
            self.captured += len(frames)
            yield frames

    def _patience(self) -> float:
        """Seconds to wait for the next frame; stops the capture when its time is over."""
        if self._stopped_ns is None and self._deadline is not None:
            left_ns = self._deadline - self._clock.now_ns()
            if left_ns > 0:
                return min(SLICE, left_ns / 1e9)
            self.stop()
        return SLICE if self._stopped_ns is None else GRACE

    def _receive(self, batch: FrameBatch, timeout: float) -> None:
        """Fill the batch; an interface that went down is noted, one that disappeared raises."""
        while True:
            try:
                self._socket.receive(batch, timeout)
                return
            except EngineError as error:
                # Both are told before (ENETDOWN) or after (ENXIO) the frames that are still queued.
                if error.errno == errno.ENXIO:
                    self.interruptions = max(self.interruptions - 1, 0)  # to disappear, it went down first
                    raise EngineError(
                        errno.ENODEV, "capture", self.interface.name, "the interface disappeared"
                    ) from error
                if error.errno != errno.ENETDOWN:
                    raise
                self.interruptions += self._was_up
                self._was_up = True

    def stop(self) -> None:
        """Let the iteration end once it has delivered what is queued; may be called from anywhere."""
        if self._stopped_ns is None:
            self._stopped_ns = realtime_ns()

    def counters(self) -> Counters:
        """What the kernel counted since the opening: frames that passed the filter, and those it dropped."""
        return self._counters or self._socket.counters()

    def close(self) -> None:
        """Release the socket; the counters stay readable."""
        if self._counters is None:
            self._counters = self._socket.counters()
            self._socket.close()

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
) -> Capture:
    """A live `Capture`; `duration` is in seconds.

    with rawkit.capture("veth0", "tcp port 80") as frames:
        for frame in frames:
            print(frame.packet().summary())
    """
    duration_ns = None if duration is None else round(duration * 1e9)
    return Capture(interface, filter, count=count, duration_ns=duration_ns, promiscuous=promiscuous)
