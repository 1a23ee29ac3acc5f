"""Receive rings: frames that the kernel writes to memory shared with this process, a block at a time."""

from __future__ import annotations

import errno
import os
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, nullcontext, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from rawkit.engine.aio import Waits
from rawkit.engine.batch import FrameBatch, make_frames
from rawkit.engine.filter import OUTGOING_ONLY, Filter, Placement, compile_filter, incoming_only_on
from rawkit.engine.interface import LINKTYPE_RAW, LINKTYPE_SLL2, Enterable, Origins, resolve
from rawkit.engine.native import check, deadline, ffi, lib, monotonic_ns
from rawkit.engine.sockets import ETH_P_ALL
from rawkit.errors import RawkitError

if TYPE_CHECKING:
    from rawkit.engine.capfile import Recorder
    from rawkit.wire.frame import Frame

MEMORY_LEN = 64 << 20
"""Octets of ring memory unless told otherwise."""

BLOCK_LEN = 256 << 10
"""Octets of a block: there should be many, since each timeout uses up a whole one, and its frames should stay
in the processor's cache; but the longest ordinary merged frame has to fit in."""

BLOCK_TIMEOUT = 0.01
"""Seconds that a frame waits at most for others to share its block."""

FANOUT_MODES = {
    "hash": lib.RK_FANOUT_HASH,
    "balance": lib.RK_FANOUT_BALANCE,
    "cpu": lib.RK_FANOUT_CPU,
    "rollover": lib.RK_FANOUT_ROLLOVER,
    "random": lib.RK_FANOUT_RANDOM,
    "queue": lib.RK_FANOUT_QUEUE,
}

_SLICE_NS = 50_000_000  # the longest time in C: another thread that closes the ring waits for it
_SLOT_LEN = 96  # octets that the shortest frame takes in a block, at least


class RingCounters(NamedTuple):
    """Totals of a ring since it was opened: received = dropped + delivered + rejected + waiting.

    `received` counts frames that passed what the kernel runs of the filter; `dropped` those of them that were
    lost because the ring was full; `delivered` those handed out; `rejected` those that did not pass what runs
    in user space (see `Filter.explain`).  `undescribed` is how many of the dropped were merged frames of a
    kind (SCTP) whose segment length the kernel cannot tell: a ring opened with `segment_lengths=False`
    delivers them.  `merged` is how many of those handed out or rejected were longer than on the wire: merged
    by the kernel from segments, or not yet cut into them.
    """

    received: int
    dropped: int
    delivered: int
    rejected: int
    undescribed: int
    merged: int

    @property
    def waiting(self) -> int:
        """Frames that still lie in the ring."""
        return self.received - self.dropped - self.delivered - self.rejected


class _Closed(ValueError):
    """The ring was closed."""


class RingBatch(FrameBatch):
    """The frames of a block where the kernel put them, valid until the ring's next batch is asked for.

    Copies (`batch[i]`, `frames()`) stay; views close.  After the ring was closed it is empty.
    """

    __slots__ = ()

    def __init__(self, arena: Any, arena_len: int, capacity: int) -> None:
        """Room for `capacity` records; `arena` is the ring's memory."""
        self._adopt(arena, arena_len, capacity)

    def clear(self) -> None:
        """Empty the batch and close all views."""
        self.refill().n = 0


class PacketRing:
    """Frames from one interface or all of them, at rates where a socket loses them (packet(7), TPACKET_V3).

    It is live when the constructor returns: what arrives from then on is delivered or counted as dropped.
    VLAN tags are put back; records tell the kernel's time in ns, the direction, the state of the transport
    checksum and the segment length of merged frames.

    Iterating (`for`, `async for`) gives a `Frame` of its own for each frame; `batches()` and `receive()` give
    the frames of a block at once, without copying them.  One thread reads a ring; another may close it, which
    ends the reader's iteration within 100 ms.  A process that was forked may only close it.
    """

    def __init__(
        self,
        interface: str | int | None,
        *,
        filter: str | Filter | None = None,
        snaplen: int = 262144,
        cooked: bool = False,
        sll2: bool = False,
        protocol: int = ETH_P_ALL,
        promiscuous: bool = False,
        all_multicast: bool = False,
        ignore_outgoing: bool = False,
        only_outgoing: bool = False,
        once: int = 0,
        segment_lengths: bool = True,
        hardware_time: bool = False,
        memory_len: int = MEMORY_LEN,
        block_len: int = BLOCK_LEN,
        block_timeout: float = BLOCK_TIMEOUT,
        fanout: str | None = None,
        fanout_group: int | None = None,
        namespace: Enterable | None = None,
    ) -> None:
        """Open on an interface (name or number; None: all).

        `filter` is a tcpdump expression or a compiled one for this ring's `linktype`; it means the same as on
        a file.  Frames are cut to `snaplen` octets (a compiled filter has its own).
        `cooked`, `sll2`, `protocol`, `promiscuous` and `ignore_outgoing` are as for `PacketSocket`.
        `only_outgoing` leaves nothing but what this host sends.  `once` is the number of an interface (the
        loopback, among all) whose frames are wanted when they arrive, not also when they leave.
        `hardware_time` takes the card's stamps where it makes them (switched on with `hwstamp_ctl`, say);
        records of such frames have HARDWARE_TIME.

        `memory_len` octets (rounded to blocks of `block_len`, at least two) hold what was not read yet.  A
        block is handed over when it is full or has waited `block_timeout` seconds (0.001 to 1): less is
        sooner, more is fewer wake-ups.

        `fanout` shares the frames out among the rings of a group: "hash" by flow, "balance" in turn, "cpu",
        "rollover" (to the next when one is full), "random" or "queue".  `fanout_group` is another ring's, to
        join it; without it the ring starts a group of its own.

        Raises:
            UnknownInterface: there is no such interface.
            PermissionDenied: CAP_NET_RAW is missing.
            FilterError: the filter does not compile.
            EngineError: ENOMEM for more memory than there is; anything else the kernel says.
        """
        if promiscuous and interface is None:
            raise ValueError("promiscuous: needs one interface")
        if not 0 < protocol <= 0xFFFF:
            raise ValueError(f"protocol {protocol} is no EtherType")
        if not 0.001 <= block_timeout <= 1:
            raise ValueError(f"block_timeout is {block_timeout} s; possible are 0.001 to 1")
        if fanout is not None and fanout not in FANOUT_MODES:
            raise ValueError(f"fanout {fanout!r} is none of {', '.join(FANOUT_MODES)}")
        block_n = max(2, memory_len // block_len)
        with namespace.enter() if namespace is not None else nullcontext():
            self.ifindex, self.name, linktype = resolve(interface)
            if sll2:
                linktype = LINKTYPE_SLL2
            elif cooked:
                linktype = LINKTYPE_RAW
            elif not linktype:
                raise RawkitError(f"open ring on {self.name}: its link layer is unknown; open it cooked")
            if isinstance(filter, str) or (filter is None and snaplen < 262144):
                filter = compile_filter(filter or "", linktype, snaplen)
            self.linktype = linktype
            """LINKTYPE_ number of the frames (on all interfaces, not cooked: frames may differ)."""
            self.filter = filter
            place = Placement(ffi.NULL, 0, None)
            if filter is not None:
                place = filter.place("" if sll2 else "packets" if cooked else "frames")
            if only_outgoing:
                place = place.after(OUTGOING_ONLY)
            elif once:
                place = place.after(incoming_only_on(once))
            insns, insns_n, self._user_flags = place
            config = ffi.new(
                "struct rk_ring_config *",
                {
                    "ifindex": self.ifindex,
                    "protocol": protocol,
                    "flags": cooked * lib.RK_PACKET_COOKED
                    | sll2 * lib.RK_PACKET_SLL2
                    | promiscuous * lib.RK_PACKET_PROMISCUOUS
                    | all_multicast * lib.RK_RING_ALL_MULTICAST
                    | ignore_outgoing * lib.RK_PACKET_IGNORE_OUTGOING
                    | segment_lengths * lib.RK_RING_SEGMENT_LEN
                    | hardware_time * lib.RK_RING_HARDWARE_TIME,
                    "insns": insns,
                    "insns_n": insns_n,
                    "block_len": block_len,
                    "block_n": block_n,
                    "block_timeout_ms": round(block_timeout * 1000),
                    "fanout": FANOUT_MODES[fanout] if fanout is not None else lib.RK_FANOUT_NONE,
                    "fanout_group": -1 if fanout_group is None else fanout_group,
                },
            )
            out = ffi.new("struct rk_ring **")
            check(
                lib.rk_ring_open(out, config),
                "open ring",
                self.name,
                needs="CAP_NET_RAW",
                hint=f"{block_n} blocks of {block_len} octets",
            )
        handle = out[0]
        length = ffi.new("uint32_t *")
        memory = lib.rk_ring_memory(handle, length)
        self._handle: Any = handle
        # What looks into the memory keeps it, whenever the ring is closed.
        owner = ffi.gc(memory, lambda _: lib.rk_ring_close(handle))
        self._batch: RingBatch | None = RingBatch(owner, length[0], max(1, block_len // _SLOT_LEN))
        self._batch.linktype = linktype
        self._pid = os.getpid()
        self._rejected = 0
        self._final: RingCounters | None = None
        self._closing = False
        self._interrupted = False
        self._stop = ffi.new("uint32_t *")  # the same, for C
        self._lock = threading.Lock()  # for the handle
        self._reader = threading.Lock()
        self._origins = Origins(linktype if self.ifindex or cooked or sll2 else 0)
        if self.ifindex:
            self._origins.add(self.ifindex, self.name, linktype)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self.name}{', closed' if self.closed else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            if self._pid == os.getpid():
                warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=2)
            self.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closing

    def close(self) -> None:
        """Close the ring, from any thread; frames not read are lost, counters stay readable."""
        self._closing = True
        self._stop[0] = 1
        if self._pid != os.getpid():  # forked, perhaps while another thread held the lock
            self._shut()
            return
        with self._lock:
            if self._handle:
                self._final = self._count()
                self._shut()

    def _shut(self) -> None:
        if self._handle and self._batch is not None:
            lib.rk_ring_shut(self._handle)
            self._handle = None
            self._batch.handle.n = 0
            self._batch = None  # and with it the memory, unless somebody looks into it

    def _live(self) -> Any:
        if self._closing:
            raise _Closed(f"{self!r}")
        if self._pid != os.getpid():
            raise RuntimeError(f"{self!r} belongs to process {self._pid}, which this one was forked from")
        return self._handle

    def fileno(self) -> int:
        """The file descriptor, for select and poll: readable when a block is there.

        Before waiting on it, call `receive` until it gives none: a block not given back counts as there.
        """
        fd: int = lib.rk_ring_fd(self._live())
        return fd

    def counters(self) -> RingCounters:
        """Running totals; after `close`, the last ones."""
        with self._lock:
            if self._final is not None:
                return self._final
            self._live()
            return self._count()

    def _count(self) -> RingCounters:
        out = ffi.new("struct rk_ring_counters *")
        check(lib.rk_ring_counters(self._handle, out), "read counters", self.name)
        delivered = out.delivered - self._rejected
        return RingCounters(out.received, out.dropped, delivered, self._rejected, out.undescribed, out.merged)

    @property
    def fanout_group(self) -> int:
        """The number of the group, for other rings to join.  Raises EngineError without `fanout`."""
        with self._lock:
            return check(lib.rk_ring_fanout_group(self._live()), "read fanout group", self.name)

    def join(self, mac: bytes) -> None:
        """Ask the interface for frames to a multicast MAC address (6 octets), until the ring is closed."""
        if len(mac) != 6:
            raise ValueError(f"a MAC address has 6 octets, not {len(mac)}")
        with self._lock:
            check(lib.rk_ring_join(self._live(), mac), "join multicast address", self.name)

    def receive(self, timeout: float | None = None, n: int | None = None) -> RingBatch:
        """The frames of the next block, or none when nothing came within `timeout` seconds (None: for ever).

        It is always the same batch object, and what it held before is given back to the kernel.  At most `n`
        frames (None: all of the block) are taken from the ring, before user space judges any.

        Raises:
            EngineError: ENETDOWN once when the interface goes down (receiving may go on: frames come again
                when it is up), ENXIO when it was removed, after the last frame.
            BufferError: an array still looks into the batch.
            ValueError: the ring is closed.
            RuntimeError: another thread reads it, or this process was forked from the one that opened it.
        """
        end_ns = deadline(timeout)
        batch = self._begin_reading()
        try:
            while True:
                taken = self._receive(batch, end_ns, n)
                if len(batch):
                    return batch
                if n is not None and (n := n - max(taken, 0)) <= 0:
                    return batch
                if self._interrupted:
                    self._interrupted = False
                    return batch
                late_ns = monotonic_ns() - end_ns
                # What came may not have been wanted, but more lie behind it: even timeout 0 looks through it.
                if late_ns >= 0 and (taken == 0 or late_ns > 10_000_000):
                    return batch
        finally:
            self._reader.release()

    def interrupt(self) -> None:
        """Let a `receive` or `record` that waits return: at once from a signal handler of its thread, from
        elsewhere within 100 ms. One that is called next may do so instead."""
        self._interrupted = True
        self._stop[0] = 1

    def _begin_reading(self) -> RingBatch:
        """Be the one who reads, until `_reader` is released; the batch for it."""
        batch = self._batch
        self._live()
        if batch is None or not self._reader.acquire(blocking=False):
            raise RuntimeError(f"{self!r}: another thread reads it")
        return batch

    def _receive(self, batch: RingBatch, end_ns: int, most: int | None) -> int:
        """One slice of waiting: how many frames were taken from the ring, or -1 when a signal came."""
        with self._lock:
            handle = self._live()
            rows = batch.refill()
            rows.capacity = batch.capacity if most is None else min(most, batch.capacity)
            n: int = lib.rk_ring_receive(handle, rows, min(end_ns, monotonic_ns() + _SLICE_NS))
            if n == -errno.EINTR:
                return -1
            check(n, "receive", self.name)
            if n > 0 and self._user_flags is not None and self.filter is not None:
                self._rejected += n - self.filter.sift(batch, self._user_flags)
            return n

    def record(self, recorder: Recorder, timeout: float, n: int | None = None) -> RingBatch:
        """Append the frames that come within `timeout` seconds, or the first `n`, to a file, without Python.

        It ends sooner with what C leaves to others: a row that it cannot put, a file that is full, a write
        that failed, or a signal (up to `timeout` late, where the link is busy). Gives the ring's batch, of
        which the rows `recorder.rest` are not recorded; what is recorded is in the file.

        Raises:
            EngineError, BufferError, ValueError, RuntimeError: as `receive`; what came before is recorded.
        """
        end_ns = deadline(timeout)
        batch = self._begin_reading()
        try:
            with self._lock:
                handle = self._live()
                row = recorder.handle
                row.most = 2**64 - 1 if n is None else n
                row.stop = self._stop
                row.insns = ffi.NULL
                if self._user_flags is not None and self.filter is not None:
                    row.pcaplib, row.insns, row.insns_n = self.filter.program()
                    row.judged = self._user_flags
                rows = batch.refill()
                rows.capacity = batch.capacity
                result = lib.rk_record(row, handle, rows, recorder.records.handle, end_ns)
                self._rejected += row.rejected
                recorder.rest = range(row.next, rows.n)
            if result != -errno.EINTR:
                check(result, "receive", self.name)
            return batch
        finally:
            self._interrupted = False
            self._stop[0] = 0
            self._reader.release()

    def batches(self, timeout: float | None = None) -> Iterator[RingBatch]:
        """The frames of each block as it comes; ends when the ring is closed or `timeout` seconds bring none.

        Raises:
            EngineError: as `receive`; a new call goes on after ENETDOWN.
        """
        self._live()
        with suppress(_Closed):
            while len(batch := self.receive(timeout)):
                yield batch

    def __iter__(self) -> Iterator[Frame]:
        for batch in self.batches():
            yield from make_frames(batch, self.origin)

    async def areceive(self, timeout: float | None = None, n: int | None = None) -> RingBatch:
        """As `receive`, in a running event loop."""
        end_ns = deadline(timeout)
        while True:
            batch = self.receive(0, n)
            left_ns = end_ns - monotonic_ns()
            if len(batch) or left_ns <= 0:
                return batch
            # Not for long: nothing wakes us when another thread closes the ring, or its interface goes away.
            await self._readable(min(0.05, left_ns / 1e9))

    async def abatches(self, timeout: float | None = None) -> AsyncIterator[RingBatch]:
        """As `batches`, in a running event loop."""
        self._live()
        with suppress(_Closed):
            while len(batch := await self.areceive(timeout)):
                yield batch

    async def __aiter__(self) -> AsyncIterator[Frame]:
        async for batch in self.abatches():
            for frame in make_frames(batch, self.origin):
                yield frame

    async def _readable(self, seconds: float) -> None:
        # A descriptor of its own: the ring's may be closed meanwhile, by any thread, and its number reused.
        fd = os.dup(self.fileno())
        try:
            await Waits().ready([fd], seconds)
        finally:
            os.close(fd)

    def origin(self, ifindex: int) -> tuple[str, int]:
        """Name ("" when it is gone) and LINKTYPE_ number of an interface that frames came from."""
        return self._origins.find(ifindex, self)


def fan_out(n: int, interface: str | int | None, mode: str = "hash", **options: Any) -> list[PacketRing]:
    """`n` rings that share the frames of an interface among them, for as many threads or processes to read.

    `options` are those of `PacketRing`.  Together their counters tell of every frame since the call returned.
    """
    if n < 1:
        raise ValueError(f"{n} rings")
    with ExitStack() as stack:
        rings = [stack.enter_context(PacketRing(interface, fanout=mode, **options))]
        while len(rings) < n:
            group = rings[0].fanout_group
            rings.append(
                stack.enter_context(PacketRing(interface, fanout=mode, fanout_group=group, **options))
            )
        stack.pop_all()
        return rings
