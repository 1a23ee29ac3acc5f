"""What a replay sends and when, before anything is sent: which frames, cut and changed, at which moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from rawkit.engine import FrameBatch
from rawkit.engine.rewrite import TAG_LEN, Rewriter
from rawkit.errors import CaptureFileError, SplitError
from rawkit.pcap import Reader
from rawkit.tools.flowsides import FlowSides
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
CHUNK_LEN = 1 << 20
"""Octets handed to C at a time, at most."""

_TAGS = (b"\x81\x00", b"\x88\xa8")


@dataclass(frozen=True)
class ReplayConfig:
    """How a file is replayed.

    `speed` multiplies the file's own pace; `pps` sends at a steady rate of frames instead, `mbps` of a
    million bits of frames (as they are in the file) a second, and `topspeed` without waiting. `skip` frames
    at the beginning of the file are passed over, and after `limit` frames (over all passes) or `duration`
    seconds it ends. `spin_ns` is how long before each deadline sleeping gives way to spinning (0: never
    spin; None: as `default_spin_ns` says). `backend` is how frames are sent (`open_transmitter`): "auto" is
    live frames where they work at topspeed, and the packet socket for frames at their own times.

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
    skip: int = 0
    limit: int | None = None
    duration: float | None = None
    spin_ns: int | None = None
    backend: str = "auto"
    interface2: str | None = None

    def __post_init__(self) -> None:
        if sum((self.pps is not None, self.mbps is not None, self.topspeed)) > 1:
            raise ValueError("replay: pps, mbps and topspeed exclude each other")
        if self.interface2 is not None and self.backend == "xdp":
            raise ValueError("replay: two interfaces need the packet backend")
        if self.as_is and self.rewrite.is_wanted:
            raise ValueError("replay: as_is and rewriting exclude each other")
        for name in ("speed", "pps", "mbps", "loop", "mtu", "duration"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"replay: {name} must be above 0, not {value}")
        if self.skip < 0:
            raise ValueError(f"replay: skip must be 0 or more, not {self.skip}")


class Plan:
    """What goes out when: iterating gives `(offset_ns, octets)` for every frame that can be sent.

    `offset_ns` counts from the first frame's deadline and never decreases. `planned` counts the rows,
    `skipped`, by reason, frames that cannot go out as they were; `cut` is how many frames were longer than
    `mtu` (None: anything goes) and `pieces` what became of them, all of them planned. Rewriting is not done
    here.
    """

    def __init__(self, frames: Iterable[Frame], config: ReplayConfig, mtu: int | None = None) -> None:
        self.frames = frames
        self._config = config
        self._mtu = None if config.as_is else config.mtu or mtu
        self.planned = 0
        self.cut = 0
        self.pieces = 0
        self.skipped: dict[str, int] = {}

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        return self.rows(islice(self._passes(), self._config.limit))

    @property
    def has_no_times(self) -> bool:
        """Whether all frames of the file go, once and without waiting."""
        config = self._config
        return config.topspeed and config.loop == 1 and config.skip == 0 and config.limit is None

    def takes(self, batch: FrameBatch) -> bool:
        """Whether every frame of a batch can go, and none has to be cut."""
        lens, wire_lens = batch.lens()
        if batch.linktype != ETHERNET or lens != wire_lens:
            return False
        most = CHUNK_LEN if self._mtu is None else self._mtu + ETHERNET_LEN
        return min(lens, default=0) >= ETHERNET_LEN and max(lens) <= most

    def rows(self, frames: Iterable[Frame]) -> Iterator[tuple[int, bytes]]:
        """What iterating gives for the frames, each of which counts."""
        config = self._config
        offset_ns = 0
        octets_n = 0
        base_ns: int | None = None
        end_ns = None if config.duration is None else round(config.duration * 1e9)
        for frame in frames:
            reason = unsendable(frame)
            if reason:
                self.skipped[reason] = self.skipped.get(reason, 0) + 1
                continue
            if config.pps is None and config.mbps is None and not config.topspeed:
                if base_ns is None:
                    base_ns = frame.time_ns
                # A frame stamped before its predecessor goes right behind it.
                offset_ns = max(offset_ns, round((frame.time_ns - base_ns) / config.speed))
            pieces = self._pieces(frame)
            for i, octets in enumerate(pieces):
                if config.pps is not None:
                    offset_ns = round(self.planned * 1e9 / config.pps)
                elif config.mbps is not None:
                    offset_ns = round(octets_n * 8000 / config.mbps)
                if end_ns is not None and offset_ns >= end_ns:
                    return
                octets_n += len(octets)
                self.planned += 1
                if len(pieces) > 1:
                    self.cut += i == 0
                    self.pieces += 1
                yield offset_ns, octets

    def _passes(self) -> Iterator[Frame]:
        """The file's frames, `loop` times over; each further pass follows the last by the mean gap.

        To go over them again they are kept in memory.
        """
        frames = islice(self.frames, self._config.skip, None)
        if self._config.loop == 1:
            yield from frames
            return
        kept = list(frames)
        if not kept:
            return
        length_ns = max(kept[-1].time_ns - kept[0].time_ns, 0)
        period_ns = length_ns + length_ns // max(len(kept) - 1, 1)
        for i in range(self._config.loop):
            for frame in kept:
                time_ns = frame.time_ns + i * period_ns
                yield Frame(frame.data, time_ns, frame.wire_len, frame.linktype, gso_len=frame.gso_len)

    def _pieces(self, frame: Frame) -> list[bytes]:
        if self._mtu is None or len(frame.data) <= self._mtu + ETHERNET_LEN:
            return [frame.data]
        # The kernel does not count the outermost tag.
        room = self._mtu + ETHERNET_LEN + (TAG_LEN if frame.data[12:14] in _TAGS else 0)
        tag = self._config.rewrite.add_tag
        if tag and room > self._mtu + ETHERNET_LEN and not self._config.rewrite.remove_tag:
            room -= TAG_LEN
        if len(frame.data) <= room:
            return [frame.data]
        return cut_frame(frame, room)


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


def prepared(
    plan: Plan, rewriter: Rewriter | None, most: int, ifindexes: tuple[int, int] | None = None
) -> Iterator[tuple[FrameBatch, list[int]]]:
    """The plan's frames, rewritten, and their offsets (ns): `most` at a time in a batch that is refilled.

    With `ifindexes` each frame gets that of its sender, client or server. When reading fails, what came
    before goes first.
    """
    if ifindexes is None and most > 1 and plan.has_no_times and isinstance(plan.frames, Reader):
        yield from _prepared_whole(plan, plan.frames, rewriter, most)
        return
    yield from _prepared_rows(plan, rewriter, most, ifindexes)


def _prepared_whole(
    plan: Plan, reader: Reader, rewriter: Rewriter | None, most: int
) -> Iterator[tuple[FrameBatch, list[int]]]:
    """At topspeed frames need not be looked at one by one: batches go as they were read, but for odd ones."""
    rewritten = FrameBatch(most, CHUNK_LEN + most * TAG_LEN)
    for batch in reader.batches():
        if not plan.takes(batch):
            yield from _prepared_rows(plan.rows(batch.frames()), rewriter, most, None)
            continue
        if rewriter is None:
            plan.planned += len(batch)
            yield batch, [0] * len(batch)
            continue
        done = 0
        while done < len(batch):
            rewritten.clear()
            n = rewriter.append(batch, rewritten, done, min(most, len(batch) - done))
            done += n
            plan.planned += n
            yield rewritten, [0] * n


def _prepared_rows(
    rows: Iterable[tuple[int, bytes]],
    rewriter: Rewriter | None,
    most: int,
    ifindexes: tuple[int, int] | None,
) -> Iterator[tuple[FrameBatch, list[int]]]:
    sides = FlowSides()
    plain = FrameBatch(most, CHUNK_LEN)
    rewritten = FrameBatch(most, CHUNK_LEN + most * TAG_LEN)
    for chunk in _chunks(rows, most):
        plain.clear()
        plain.extend([octets for _, octets in chunk])
        offsets = [offset_ns for offset_ns, _ in chunk]
        if ifindexes is not None:
            for row, (_, octets) in enumerate(chunk):
                plain.handle.frames[row].ifindex = ifindexes[sides.side(octets)]
        if rewriter is None:
            yield plain, offsets
            continue
        rewritten.clear()
        rewriter.append(plain, rewritten)
        yield rewritten, offsets


def _chunks(rows: Iterable[tuple[int, bytes]], most: int) -> Iterator[list[tuple[int, bytes]]]:
    """Rows in lists that fit a batch of `most`. When reading fails, what came before goes first."""
    chunk: list[tuple[int, bytes]] = []
    chunk_len = 0
    damage: CaptureFileError | None = None
    try:
        for row in rows:
            if len(chunk) == most or chunk_len + len(row[1]) > CHUNK_LEN:
                yield chunk
                chunk, chunk_len = [], 0
            chunk.append(row)
            chunk_len += len(row[1])
    except CaptureFileError as error:
        damage = error
    if chunk:
        yield chunk
    if damage is not None:
        raise damage
