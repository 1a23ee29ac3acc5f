"""Capture: frames from interfaces, live from the moment the capture is opened."""

from __future__ import annotations

import errno
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from itertools import accumulate
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from rawkit.clock import Clock, MonotonicClock
from rawkit.engine import (
    Counters,
    FrameBatch,
    PacketRing,
    RingCounters,
    RingSet,
    compile_filter,
    monotonic_ns,
    realtime_ns,
)
from rawkit.engine.interface import LINKTYPE_SLL2
from rawkit.engine.ring import BLOCK_LEN, BLOCK_TIMEOUT
from rawkit.errors import EngineError, UnknownInterface
from rawkit.wire.frame import Frame

if TYPE_CHECKING:
    from rawkit.net import Interface
    from rawkit.pcap import RotatingWriter

BUFFER_LEN = 64 << 20
"""Octets of the ring: two tenths of a second of 2 million small frames a second."""

SMALLEST_BLOCK_LEN = 128 << 10
"""Octets of a block that holds the longest ordinary merged frame."""

SLICE = 0.1
"""Seconds between looks at the clock while nothing arrives."""

RECORD_SLICE = 0.25
"""The same while C writes by itself. A signal that comes while frames do waits that long."""

ALL = "any"
"""The name that stands for all interfaces."""

Direction = Literal["in", "out", "inout"]

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


def explain(interface: str | Sequence[str] | None = None, filter: str = "") -> str:
    """What of a filter would run where in a capture on interfaces; needs no privilege.

    Raises:
        UnknownInterface, FilterError
    """
    if _means_all(interface):
        linktypes = {LINKTYPE_SLL2}
    else:
        linktypes = {101 if _is_cooked(found) else found.linktype for found in _find(interface)}
    return "\n".join(compile_filter(filter, linktype).explain() for linktype in sorted(linktypes))


def _means_all(interface: str | Sequence[str] | None) -> bool:
    return interface == ALL or (interface is not None and list(interface) == [ALL])


def _find(names: str | Sequence[str] | None) -> list[Interface]:
    from rawkit.net import interface, interfaces

    if names is None:
        return [default_interface()]
    if _means_all(names):
        return interfaces()
    return [interface(name) for name in dict.fromkeys([names] if isinstance(names, str) else names)]


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

    `interface` is a name, several, None for `default_interface()`, or "any". The frames of several come in
    the order of their times, as far as the kernel hands them over in time (`RingSet`). "any" are all
    interfaces, those too that appear later; its frames begin with a LINUX_SLL2 header in place of the link
    layer's, so that they look the same from all, and the filter runs in user space.

    It ends after `count` frames, after the frame that brings their octets to `octets`, with the first frame
    that passes the filter `until`, after `duration_ns` from its opening, or when `stop()` was called; in the
    last two cases what the kernel had already queued is still delivered. Closing it, or leaving its `with`
    block, releases the ring. An interface that goes down is waited for (`interruptions` counts how often);
    when the last one disappears the capture ends with `EngineError`, after what was queued.

    On the loopback interface each frame is seen once, as it arrives (with `direction` "out": as it leaves).

    Raises:
        UnknownInterface, FilterError, PermissionDenied
    """

    def __init__(
        self,
        interface: str | Sequence[str] | None = None,
        filter: str | None = None,
        *,
        count: int | None = None,
        octets: int | None = None,
        until: str | None = None,
        duration_ns: int | None = None,
        direction: Direction = "inout",
        promiscuous: bool = False,
        snaplen: int = 262144,
        buffer_len: int = BUFFER_LEN,
        latency: float = BLOCK_TIMEOUT,
        clock: Clock | None = None,
    ) -> None:
        """`buffer_len` octets hold what was not read yet (of each interface); what does not fit is dropped
        and counted.

        Frames are cut to `snaplen` octets. A frame comes at most `latency` seconds (0.001 to 1) late, of
        several interfaces an eighth of that and 12 ms more: less costs more wake-ups. `direction` "in"
        leaves what arrives, "out" what this host sends.
        """
        if direction not in ("in", "out", "inout"):
            raise ValueError(f"direction {direction!r} is none of in, out, inout")
        self.interfaces = _find(interface)
        """The interfaces; with "any" those that there were at the opening."""
        self.name = ALL if _means_all(interface) else ", ".join(found.name for found in self.interfaces)
        """What is captured from: the interfaces' names, or "any"."""
        self.names = {found.index: found.name for found in self.interfaces}
        """Names of all interfaces that frames came from so far, by number."""
        self.filter = filter or ""
        self.direction = direction
        self.count = count
        self.octets = octets
        self.captured = 0
        """Frames handed out so far."""
        self.captured_octets = 0
        """Octets in them; counted with a limit of `octets` alone."""
        self.went_down: dict[str, int] = {}
        """How often interfaces went down."""
        self.disappeared: list[str] = []
        """Interfaces that were removed while others are still there."""
        self._until_found = False
        self._is_down = {found.name for found in self.interfaces if not found.up}  # at first: no interruption
        self._clock = clock or MonotonicClock()
        self._deadline = None if duration_ns is None else self._clock.now_ns() + duration_ns
        self._grace_end_ns: int | None = None  # set by `stop`
        self._end: RingCounters | None = None  # what there was when that was over
        self.opened_ns = realtime_ns()
        """When it became live, in nanoseconds since 1970."""
        rings: list[PacketRing] = []
        with ExitStack() as stack:

            def open_ring(name: str | None, cooked: bool, once: int, loopback: bool) -> None:
                ring = PacketRing(
                    name,
                    cooked=cooked,
                    sll2=name is None,
                    filter=filter or None,
                    snaplen=snaplen,
                    promiscuous=promiscuous,
                    ignore_outgoing=direction == "in" or (loopback and direction == "inout"),
                    only_outgoing=direction == "out",
                    once=once,
                    memory_len=buffer_len,
                    block_len=_block_len(latency, buffer_len),
                    block_timeout=latency,
                )
                rings.append(stack.enter_context(ring))

            if self.name == ALL:
                loopbacks = [found.index for found in self.interfaces if found.loopback]
                open_ring(None, False, loopbacks[0] if loopbacks and direction == "inout" else 0, False)
            else:
                for found in self.interfaces:
                    open_ring(found.name, _is_cooked(found), 0, found.loopback)
            self.linktypes = [ring.linktype for ring in rings]
            """LINKTYPE_ numbers of the frames, one for each interface ("any": one for all)."""
            self._until = (
                {number: compile_filter(until, number) for number in self.linktypes} if until else {}
            )
            stack.pop_all()
        self._first = rings[0]
        self._ring = self._first if len(rings) == 1 else RingSet(rings, latency)
        # Whether no frame has to be looked at in Python before it is written.
        self._direct = self._ring is self._first and self.name != ALL and not until and octets is None

    @property
    def linktype(self) -> int:
        """LINKTYPE_ number of the frames (of several interfaces: of the first one's)."""
        return self.linktypes[0]

    @property
    def interruptions(self) -> int:
        """How often interfaces went down."""
        return sum(self.went_down.values())

    def __iter__(self) -> Iterator[Frame]:
        for batch in self.batches():
            yield from self._frames(batch)

    async def __aiter__(self) -> AsyncIterator[Frame]:
        async for batch in self.abatches():
            for frame in self._frames(batch):
                yield frame

    def _frames(self, batch: FrameBatch) -> list[Frame]:
        return batch.frames(interface_names=self.names)

    def batches(self, every: float = SLICE) -> Iterator[FrameBatch]:
        """The frames, as many at a time as have arrived; while none do, an empty batch `every` few seconds.

        It is always the same batch, and valid until the next one is asked for; its frames were not copied
        (those of several interfaces were). `names` has the interfaces' names.
        """
        while (plan := self._plan(every)) is not None:
            try:
                batch = self._ring.receive(*plan)
            except EngineError as error:
                self._note(error)
            else:
                self._take(batch)
                yield batch

    async def abatches(self, every: float = SLICE) -> AsyncIterator[FrameBatch]:
        """As `batches`, in a running event loop."""
        while (plan := self._plan(every)) is not None:
            try:
                batch = await self._ring.areceive(*plan)
            except EngineError as error:
                self._note(error)
            else:
                self._take(batch)
                yield batch

    def record(self, writer: RotatingWriter, every: float = RECORD_SLICE) -> Iterator[int]:
        """Write the frames to files as they come; gives, every `every` seconds at least, how many came.

        It writes what `batches` gives, at half the price from one interface to a plain file, without `octets`
        and `until`: then C goes on by itself for those seconds. What came before a pause of 100 ms is in the
        file.
        """
        while (plan := self._plan(every)) is not None:
            before = self.captured
            if self._direct and writer.appends:
                self._record(writer, *plan)
            else:
                self._write(writer, *plan)
            yield self.captured - before

    def _write(self, writer: RotatingWriter, seconds: float, wanted: int | None) -> None:
        try:
            batch = self._ring.receive(min(seconds, SLICE), wanted)
        except EngineError as error:
            self._note(error)
            return
        self._take(batch)
        if len(batch):
            writer.write_batch(batch, interface_names=self.names)
        else:
            writer.pause()

    def _record(self, writer: RotatingWriter, seconds: float, wanted: int | None) -> None:
        batch = None
        with writer.recording(self.linktype, self.names) as recorder:
            before = recorder.packets
            try:
                batch = self._first.record(recorder, min(seconds, writer.due_in()), wanted)
            except EngineError as error:
                self._note(error)
            finally:
                self.captured += recorder.packets - before + len(recorder.rest)
        if recorder.failed:
            writer.flush()  # which says why
        if batch is not None and recorder.rest:
            writer.write_batch(batch, recorder.rest.start, interface_names=self.names)

    def _take(self, batch: FrameBatch) -> None:
        """Count the frames, and leave those out that come after the end."""
        if self._until and len(batch):
            found = self._until[batch.linktype].match_batch(batch)
            if True in found:
                self._until_found = True
                batch.handle.n = found.index(True) + 1
        if self.octets is not None:
            left = self.octets - self.captured_octets
            total = batch.octets(0, len(batch))
            if total >= left:
                lengths = (cap_len for _, _, cap_len, *_ in batch.places())
                n, total = next((n, sum_) for n, sum_ in enumerate(accumulate(lengths), 1) if sum_ >= left)
                batch.handle.n = n
            self.captured_octets += total
        self.captured += len(batch)
        if self.name == ALL:
            for ifindex in batch.ifindexes() - self.names.keys():
                self.names[ifindex] = self._first.origin(ifindex)[0]

    def _plan(self, every: float) -> tuple[float, int | None] | None:
        """How many seconds to wait for the next frames, and how many to take at most; None: it is over."""
        wanted = None if self.count is None else self.count - self.captured
        if (wanted is not None and wanted <= 0) or self._until_found:
            return None
        if self.octets is not None and self.captured_octets >= self.octets:
            return None
        if self._grace_end_ns is None and self._deadline is not None:
            left_ns = self._deadline - self._clock.now_ns()
            if left_ns > 0:
                return min(every, left_ns / 1e9), wanted
            self.stop()
        if self._grace_end_ns is None:
            return every, wanted
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
        return every, rest if wanted is None else min(rest, wanted)

    def _note(self, error: EngineError) -> None:
        """Note that an interface went down, or away while there are others; raise what else it is."""
        name = str(error.subject)
        if error.errno == errno.ENXIO:
            if self.went_down.get(name):  # to disappear, it went down first
                self.went_down[name] -= 1
            if isinstance(self._ring, RingSet) and self._ring.live:
                self.disappeared.append(name)
                return
            raise EngineError(errno.ENODEV, "capture", name, "the interface disappeared") from error
        if error.errno != errno.ENETDOWN:
            raise error
        if name in self._is_down:
            self._is_down.remove(name)
        else:
            self.went_down[name] = self.went_down.get(name, 0) + 1

    def stop(self) -> None:
        """Let the iteration end once it has delivered what is queued; may be called from anywhere."""
        if self._grace_end_ns is None:
            self._grace_end_ns = monotonic_ns() + GRACE_NS
            self._ring.interrupt()

    def counters(self) -> Counters:
        """What the kernel counted from the opening to the end: frames that passed the filter, those dropped.

        After an end without `count`, received = captured + dropped.
        """
        now = self._ring.counters()
        end = self._end or now
        return Counters(end.received - now.rejected, end.dropped)

    def counters_by_interface(self) -> dict[str, tuple[Counters, int]]:
        """What the kernel counted for each interface, up to now, and how many frames were handed out.

        The rings of "any" are one.
        """
        if not isinstance(self._ring, RingSet):
            return {self.name: (self.counters(), self.captured)}
        return {
            found.name: (Counters(part.received - part.rejected, part.dropped), part.delivered)
            for found, part in zip(self.interfaces, self._ring.parts())
        }

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
    interface: str | Sequence[str] | None = None,
    filter: str | None = None,
    *,
    count: int | None = None,
    octets: int | None = None,
    until: str | None = None,
    duration: float | None = None,
    direction: Direction = "inout",
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
        octets=octets,
        until=until,
        direction=direction,
        duration_ns=None if duration is None else round(duration * 1e9),
        promiscuous=promiscuous,
        snaplen=snaplen,
        buffer_len=buffer_len,
        latency=latency,
    )
