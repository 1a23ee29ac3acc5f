"""What a replay sends and when, before anything is sent: which frames, cut and changed, at which moment."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from rawkit.engine import FrameBatch, Rate, Schedule
from rawkit.engine.rewrite import TAG_LEN
from rawkit.errors import SplitError
from rawkit.tools.flowsides import FlowSides
from rawkit.tools.replaysource import BATCH_LEN, Source
from rawkit.tools.rewrite import Rewrite
from rawkit.wire.fragment import fragment
from rawkit.wire.frame import Frame
from rawkit.wire.header import Header
from rawkit.wire.packet import Packet
from rawkit.wire.segment import segment, segment_udp
from rawkit.wire.tcp import TCP
from rawkit.wire.udp import UDP

ETHERNET = 1
ETHERNET_LEN = 14
UDP_LEN = 8
MAX_SECONDS = 10**9

CHUNK = 512
"""Frames handed to C at a time, at most."""

_TAGS = (b"\x81\x00", b"\x88\xa8")


@dataclass(frozen=True)
class ReplayConfig:
    """How a file is replayed.

    `speed` multiplies the file's own pace; `pps` sends at a steady rate of frames instead, `mbps` of a
    million bits of frames a second, and `topspeed` without waiting. The file is gone over `loop` times,
    each `loop_delay` seconds later than its mean gap after the one before, and of it the first `skip`
    frames and those of the first `start` seconds are passed over; after `limit` frames (of all passes) or
    `duration` seconds it ends. `spin_ns` is how long before each deadline sleeping gives way to spinning
    (0: never spin; None: as `default_spin_ns` says). `backend` is how frames are sent (`open_transmitter`):
    "auto" is at topspeed live frames where they work, or an AF_XDP socket where the interface suits it; for
    frames at their own times it is the packet socket.

    With `interface2` only what clients send goes out of `interface`, and what servers send of the other (see
    `FlowSides`), by one packet socket.

    Frames that are longer than `mtu` (None: the interface's) are cut as a network card or a router would, and
    transport checksums that the sender had left to its network card are computed, unless `as_is`.
    """

    interface: str
    speed: float = 1.0
    pps: float | None = None
    mbps: float | None = None
    topspeed: bool = False
    rewrite: Rewrite = field(default_factory=Rewrite)
    as_is: bool = False
    mtu: int | None = None
    loop: int = 1
    loop_delay: float = 0.0
    skip: int = 0
    start: float = 0.0
    limit: int | None = None
    duration: float | None = None
    spin_ns: int | None = None
    backend: str = "auto"
    interface2: str | None = None

    def __post_init__(self) -> None:
        if sum((self.pps is not None, self.mbps is not None, self.topspeed)) > 1:
            raise ValueError("replay: pps, mbps and topspeed exclude each other")
        if self.interface2 is not None and self.backend in ("xdp", "af-xdp"):
            raise ValueError("replay: two interfaces need the packet backend")
        if self.as_is and self.rewrite.is_wanted:
            raise ValueError("replay: as_is and rewriting exclude each other")
        for name in ("speed", "pps", "mbps", "loop", "mtu", "duration"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"replay: {name} must be above 0, not {value}")
        for name in ("skip", "start", "loop_delay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"replay: {name} must be 0 or more, not {getattr(self, name)}")
        for name in ("start", "duration", "loop_delay"):
            if (getattr(self, name) or 0) > MAX_SECONDS:
                raise ValueError(f"replay: {name} is more than {MAX_SECONDS} seconds")
        if self.topspeed and self.loop_delay:
            raise ValueError("replay: loop_delay needs a pace, not topspeed")
        if not self.topspeed:
            Schedule(self.rate, self.speed)  # which knows its limits

    @property
    def rate(self) -> Rate | None:
        """The steady rate, if it is one."""
        if self.pps is not None:
            return Rate(self.pps)
        return None if self.mbps is None else Rate(self.mbps * 1e6, bits=True)


class Plan:
    """What goes out when, before anything is sent: `chunks()` gives it.

    Frames longer than `mtu` (None: anything goes) are cut. `mark` is given each frame's side (`FlowSides`)
    and its number in the file, from 1, and says what `ifindex` its row and those of its pieces get.
    `planned` counts what goes out; `skipped`, by reason, frames that cannot go out as they were; `cut` is
    how many were longer than the MTU and `pieces` what became of them, all of them planned.
    """

    def __init__(
        self,
        frames: Iterable[Frame],
        config: ReplayConfig,
        mtu: int | None = None,
        mark: Callable[[int, int], int] | None = None,
    ) -> None:
        self._config = config
        self._mtu = None if config.as_is else config.mtu or mtu
        self._mark = mark
        self._sides = FlowSides()
        self._source = Source(frames, config.loop, config.skip, round(config.start * 1e9), config.limit)
        self._schedule = None if config.topspeed else Schedule(config.rate, config.speed)
        self._rewriter = None if config.as_is else config.rewrite.rewriter()
        self.planned = 0
        self.cut = 0
        self.pieces = 0
        self.skipped: dict[str, int] = {}

    @property
    def changed(self) -> int:
        """Frames that go with other octets than they had."""
        return self._rewriter.changed if self._rewriter else 0

    @property
    def finished(self) -> int:
        """Frames whose transport checksum had been left to hardware, and was computed."""
        return self._rewriter.finished if self._rewriter else 0

    def chunks(
        self, most: int = CHUNK, start: Callable[[], int] = int
    ) -> Iterator[tuple[FrameBatch, int, int, array[int]]]:
        """What goes out, in their order: rows [first, first + n) of a batch, and when each row is due (ns).

        `most` rows at a time; the batch is refilled. Moments count from what `start` gives, which is called
        when the first frames lie ready, and never decrease; at topspeed all are 0.
        """
        end_ns: int | None = None
        due = array("q")
        for batch, first, n in self._ready(most):
            if len(due) < batch.capacity:
                due = array("q", bytes(8 * batch.capacity))
            if self.planned == 0:
                start_ns = start()
                if self._schedule is not None:
                    self._schedule.start(start_ns)
                if self._config.duration is not None:
                    end_ns = start_ns + round(self._config.duration * 1e9)
            self.planned += n
            if self._schedule is not None:
                self._schedule.plan(batch, first, n, due)
                if end_ns is not None and due[first + n - 1] >= end_ns:
                    yield batch, first, bisect_left(due, end_ns, first, first + n) - first, due
                    return
            yield batch, first, n, due

    def _ready(self, most: int) -> Iterator[tuple[FrameBatch, int, int]]:
        """Rows as they go out, `most` at a time."""
        rewriter = self._rewriter
        if rewriter is None:
            for batch, first, n in self._sendable():
                for at in range(first, first + n, most):
                    yield batch, at, min(most, first + n - at)
            return
        rewritten = FrameBatch(most, BATCH_LEN + most * TAG_LEN)
        for batch, first, n in self._sendable():
            done = 0
            while done < n:
                done += rewriter.append(batch, rewritten, first + done, n - done)
                if done < n:
                    yield rewritten, 0, len(rewritten)
                    rewritten.clear()
            if not n and len(rewritten):  # nobody waits for a full batch
                yield rewritten, 0, len(rewritten)
                rewritten.clear()

    def _sendable(self) -> Iterator[tuple[FrameBatch, int, int]]:
        """Rows that can go as they are, and pieces of others. An empty range ends each batch."""
        period_ns = 0
        number = 0
        for batch, first, n in self._source.rows():
            if self._source.current.number != number:
                number = self._source.current.number
                self._begin_pass(number, period_ns)
            period_ns = self._source.current.period_ns
            if self._mark is not None:
                rows, side, mark = batch.handle.frames, self._sides.side, self._mark
                number = self._source.current.row
                for row, octets in enumerate(islice(batch, first, first + n), first):
                    number += 1
                    rows[row].ifindex = mark(side(octets), number)
            done = first
            for odd in self._odd(batch, first, n):
                if odd > done:
                    yield batch, done, odd - done
                yield from self._pieces(batch, odd)
                done = odd + 1
            if first + n > done:
                yield batch, done, first + n - done
            yield batch, 0, 0

    def _begin_pass(self, number: int, period_ns: int) -> None:
        if self._schedule is not None:
            self._schedule.shift(period_ns)
            self._schedule.pause(round(self._config.loop_delay * 1e9))
        if self._rewriter is not None and self._config.rewrite.varies:
            self._rewriter.set_prefixes(self._config.rewrite.rules(number))

    def _odd(self, batch: FrameBatch, first: int, n: int) -> Iterator[int]:
        """Rows that need a look of their own."""
        end = first + n
        if batch.linktype != ETHERNET:
            yield from range(first, end)
            return
        most = BATCH_LEN if self._mtu is None else self._mtu + ETHERNET_LEN
        while (row := batch.odd(first, end - first, ETHERNET_LEN, most)) < end:
            yield row
            first = row + 1

    def _pieces(self, batch: FrameBatch, row: int) -> Iterator[tuple[FrameBatch, int, int]]:
        record = batch.handle.frames[row]
        frame = Frame(batch[row], record.time_ns, record.wire_len, batch.linktype, gso_len=record.gso_len)
        reason = unsendable(frame)
        if reason:
            self.skipped[reason] = self.skipped.get(reason, 0) + 1
            return
        room = self._room(frame.data)
        pieces = [frame.data] if room is None or len(frame.data) <= room else cut_frame(frame, room)
        if len(pieces) == 1:
            yield batch, row, 1
            return
        self.cut += 1
        self.pieces += len(pieces)
        cut = FrameBatch(len(pieces), sum(map(len, pieces)))
        cut.extend(pieces, frame.time_ns)
        for i in range(len(pieces)):
            cut.handle.frames[i].ifindex = record.ifindex
        yield cut, 0, len(pieces)

    def _room(self, octets: bytes) -> int | None:
        """How long the frame may be."""
        if self._mtu is None:
            return None
        # The kernel does not count the outermost tag.
        room = self._mtu + ETHERNET_LEN + (TAG_LEN if octets[12:14] in _TAGS else 0)
        rewrite = self._config.rewrite
        if rewrite.add_tag and room > self._mtu + ETHERNET_LEN and not rewrite.remove_tag:
            room -= TAG_LEN
        return room


def cut_frame(frame: Frame, room: int) -> list[bytes]:
    """An Ethernet frame as frames of at most `room` octets: TCP in segments, other IP in fragments.

    Merged datagrams (UDP with a known `gso_len`) are taken apart again. What cannot be cut (no IP, "don't
    fragment") comes back as it is, alone.
    """
    packet = frame.packet()
    tcp, udp = packet.get(TCP), packet.get(UDP)
    try:
        if tcp is not None:
            fits = room - _at(packet, tcp) - int(tcp.data_offset) * 4
            parts = segment(packet, min(frame.gso_len or fits, fits))
        elif udp is not None and 0 < frame.gso_len <= room - _at(packet, udp) - UDP_LEN:
            parts = segment_udp(packet, frame.gso_len)
        else:
            network = next((header for header in packet.layers if header.is_network), None)
            parts = fragment(packet, room - (_at(packet, network) if network else 0))
    except (SplitError, ValueError):
        return [frame.data]
    return [bytes(part) for part in parts]


def _at(packet: Packet, header: Header) -> int:
    """Where a header starts."""
    return next(at for at, other in zip(packet.offsets, packet.layers) if other is header)


def unsendable(frame: Frame) -> str:
    """Why a captured frame cannot go out as it was, "" when it can."""
    if frame.linktype != ETHERNET:
        return f"link type {frame.linktype} is not Ethernet"
    if frame.wire_len > len(frame.data):
        return "cut short by the capture"
    if len(frame.data) < ETHERNET_LEN:
        return "shorter than an Ethernet header"
    return ""
