"""Replay: send the frames of a capture file on an interface, each at its time.

Times are absolute deadlines on the monotonic clock, computed from the file's own times, so errors do not add
up: a frame that goes late does not delay the ones after it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from rawkit.addr import MAC
from rawkit.engine import FrameBatch, PacedSender, Transmitter, monotonic_ns, open_transmitter
from rawkit.engine.pace import TimingError
from rawkit.errors import CaptureFileError, EngineError, RawkitError
from rawkit.wire.frame import Frame

ETHERNET = 1
CHUNK = 64
TOPSPEED_CHUNK = 512
CHUNK_LEN = 1 << 20
"""Frames and octets handed to C at a time, at most.

Reading and counting take some 2.5 us a frame, between two chunks: the first frames of a chunk of 512 went a
millisecond late at 50,000 frames/s, those of 64 0.15 ms. At topspeed nothing is late.
"""

SLICE = 0.1
"""Seconds in C at a time."""

LEAD_NS = 2_000_000
"""The first frame is planned this far ahead, so that it is on time too."""


@dataclass(frozen=True)
class ReplayConfig:
    """How a file is replayed.

    `speed` multiplies the file's own pace; `pps` sends at a steady rate instead, and `topspeed` without
    waiting. `spin_ns` is how long before each deadline sleeping gives way to spinning (0: never spin; None:
    as `default_spin_ns` says). `backend` is how frames are sent (`open_transmitter`): "auto" is live frames
    where they work at topspeed, and the packet socket for frames at their own times.
    """

    interface: str
    speed: float = 1.0
    pps: float | None = None
    topspeed: bool = False
    src_mac: MAC | None = None
    dst_mac: MAC | None = None
    loop: int = 1
    limit: int | None = None
    spin_ns: int | None = None
    backend: str = "auto"

    def __post_init__(self) -> None:
        if self.pps is not None and self.topspeed:
            raise ValueError("replay: pps and topspeed exclude each other")
        for name, value in (("speed", self.speed), ("pps", self.pps), ("loop", self.loop)):
            if value is not None and not value > 0:
                raise ValueError(f"replay: {name} must be above 0, not {value}")


@dataclass
class ReplayReport:
    """What became of a replay: sent + failed + skipped + unsent is what was read of the file.

    `failed` and `skipped` count by cause. A skipped frame cannot go out as it was; `unsent` ones are those
    that were read when the replay ended early. Times are of the monotonic clock. `backend` and
    `backend_reason` say how frames went and why so; `counted` is how many the interface says it sent
    meanwhile, everybody's (None: not known yet, or it is gone).
    """

    interface: str
    planned: int = 0
    sent: int = 0
    octets: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    first_ns: int = 0
    last_ns: int = 0
    timing_error: TimingError | None = None
    """How late frames went; None when nothing was sent, nothing was timed (topspeed), or it goes on."""
    backend: str = ""
    backend_reason: str = ""
    counted: int | None = None

    @property
    def read(self) -> int:
        """Frames read of the file, each time it was gone through."""
        return self.planned + sum(self.skipped.values())

    @property
    def unsent(self) -> int:
        """Frames that could have been sent when the replay ended early."""
        return self.planned - self.sent - sum(self.failed.values())

    @property
    def duration_ns(self) -> int:
        """From the first frame's system call to the last one's."""
        return self.last_ns - self.first_ns

    @property
    def pps(self) -> float:
        """Frames per second; 0 for fewer than two."""
        return (self.sent - 1) / self.duration_ns * 1e9 if self.sent > 1 and self.duration_ns else 0.0

    def to_dict(self) -> dict[str, object]:
        """The report as plain values; times in nanoseconds."""
        return {
            "interface": self.interface,
            "backend": self.backend,
            "backend_reason": self.backend_reason,
            "read": self.read,
            "sent": self.sent,
            "octets": self.octets,
            "failed": self.failed,
            "skipped": self.skipped,
            "unsent": self.unsent,
            "counted": self.counted,
            "duration_ns": self.duration_ns,
            "pps": self.pps,
            "timing_error": self.timing_error,
        }


class Plan:
    """What goes out when: iterating gives `(offset_ns, octets)` for every frame that can be sent.

    `offset_ns` counts from the first frame's deadline and never decreases. `skipped` counts, by reason,
    frames that cannot go out as they were.
    """

    def __init__(self, frames: Iterable[Frame], config: ReplayConfig) -> None:
        self._frames = frames
        self._config = config
        self.planned = 0
        self.skipped: dict[str, int] = {}

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        config = self._config
        offset_ns = 0
        base_ns: int | None = None
        for frame in islice(self._passes(), config.limit):
            reason = unsendable(frame)
            if reason:
                self.skipped[reason] = self.skipped.get(reason, 0) + 1
                continue
            if config.pps is not None:
                offset_ns = round(self.planned * 1e9 / config.pps)
            elif not config.topspeed:
                if base_ns is None:
                    base_ns = frame.time_ns
                # A frame stamped before its predecessor goes right behind it.
                offset_ns = max(offset_ns, round((frame.time_ns - base_ns) / config.speed))
            self.planned += 1
            yield offset_ns, self._addressed(frame.data)

    def _passes(self) -> Iterator[Frame]:
        """The file's frames, `loop` times over; each further pass follows the last by the mean gap.

        To go over them again they are kept in memory.
        """
        if self._config.loop == 1:
            yield from self._frames
            return
        kept = list(self._frames)
        if not kept:
            return
        length_ns = max(kept[-1].time_ns - kept[0].time_ns, 0)
        period_ns = length_ns + length_ns // max(len(kept) - 1, 1)
        for i in range(self._config.loop):
            for frame in kept:
                yield Frame(frame.data, frame.time_ns + i * period_ns, frame.wire_len, frame.linktype)

    def _addressed(self, octets: bytes) -> bytes:
        """The frame with the configured MAC addresses in place of its own."""
        dst = bytes(self._config.dst_mac) if self._config.dst_mac else octets[:6]
        src = bytes(self._config.src_mac) if self._config.src_mac else octets[6:12]
        return dst + src + octets[12:]


class Replay:
    """A replay in progress: iterating drives it and gives its (growing) report about ten times a second.

    `async for` does the same in a running asyncio loop, as punctually: other tasks get their turn in the gaps
    between frames, and every 2 ms where there are none; reading the file does hold them up. It ends with the
    file, or within 100 ms when `stop()` was called. Leaving the iteration by an exception of one's own loses
    count of the frames of the last 100 ms.

    Raises:
        UnknownInterface, PermissionDenied, EngineError (the interface went down or away)
    """

    def __init__(self, frames: Iterable[Frame], config: ReplayConfig) -> None:
        from rawkit.net import interface as find_interface

        interface = find_interface(config.interface)
        if interface.linktype != ETHERNET:
            raise RawkitError(
                f"replay: {config.interface} is no Ethernet interface (link type {interface.linktype})"
            )
        self.config = config
        self.report = ReplayReport(config.interface)
        self._plan = Plan(frames, config)
        self._stopped = False
        backend, self._reason = config.backend, ""
        if backend == "auto" and not config.topspeed:
            # Each call of live frames takes 15 us, of the packet socket 2, and few frames are due together.
            backend, self._reason = "packet", "exact for frames that go one by one"
        self._transmitter = open_transmitter(config.interface, backend)
        self._paced: PacedSender | None = None
        if not config.topspeed:  # there a full queue is waited for: nobody behind is late for it
            self._paced = PacedSender(self._transmitter, config.spin_ns)

    def stop(self) -> None:
        """Let the iteration end; may be called from anywhere."""
        self._stopped = True

    def __iter__(self) -> Iterator[ReplayReport]:
        with self._transmitter as transmitter:
            try:
                for batch, due in self._batches():
                    done = 0
                    while done < len(due) and not self._stopped:
                        done += self._send(batch, due, done)
                        yield self.report
            finally:
                self._finish(transmitter)

    async def __aiter__(self) -> AsyncIterator[ReplayReport]:
        with self._transmitter as transmitter:
            try:
                for batch, due in self._batches():
                    done = 0
                    while done < len(due) and not self._stopped:
                        done += await self._asend(batch, due, done)
                        yield self.report
            finally:
                self._finish(transmitter)

    def _batches(self) -> Iterator[tuple[FrameBatch, list[int]]]:
        """What goes out, a chunk at a time in a batch that is refilled, and when each frame is due."""
        report = self.report
        most = TOPSPEED_CHUNK if self.config.topspeed else CHUNK
        batch = FrameBatch(most, CHUNK_LEN)
        start_ns = 0
        for chunk in _chunks(self._plan, most):
            report.planned, report.skipped = self._plan.planned, self._plan.skipped
            batch.clear()
            batch.extend([octets for _, octets in chunk])
            # The clock starts when the first frames lie ready.
            start_ns = start_ns or monotonic_ns() + LEAD_NS
            yield batch, [start_ns + offset_ns for offset_ns, _ in chunk]
            if self._stopped:
                return
        report.skipped = self._plan.skipped

    def _send(self, batch: FrameBatch, due: list[int], first: int) -> int:
        """Send for a SLICE at most; how many frames were dealt with."""
        if self._paced is not None:
            return self._note_paced(self._paced, self._paced.send(batch, due, first, timeout=SLICE))
        try:
            sent = self._transmitter.send_batch(batch, first, timeout=SLICE)
        except EngineError as error:
            return self._note_refused(error)
        return self._note_sent(batch, first, sent)

    async def _asend(self, batch: FrameBatch, due: list[int], first: int) -> int:
        if self._paced is not None:
            return self._note_paced(self._paced, await self._paced.asend(batch, due, first, timeout=SLICE))
        try:
            sent = await self._transmitter.asend_batch(batch, first, timeout=SLICE)
        except EngineError as error:
            return self._note_refused(error)
        return self._note_sent(batch, first, sent)

    def _note_paced(self, sender: PacedSender, dealt: int) -> int:
        report = self.report
        report.octets, report.first_ns, report.last_ns = sender.octets, sender.first_ns, sender.last_ns
        if sender.sent - report.sent < dealt:
            report.failed = {failure_text(number): n for number, n in sender.report().failed.items()}
        report.sent = sender.sent
        return dealt

    def _note_sent(self, batch: FrameBatch, first: int, sent: int) -> int:
        report = self.report
        if sent:
            report.last_ns = monotonic_ns()
            report.first_ns = report.first_ns or report.last_ns
            report.sent += sent
            report.octets += sum(record.cap_len for record in batch.records()[first : first + sent])
        return sent

    def _note_refused(self, error: EngineError) -> int:
        """One frame is given up, unless no other would fare better."""
        if error.errno in (errno.ENETDOWN, errno.ENXIO, errno.EOPNOTSUPP):
            raise error
        reason = failure_text(error.errno or errno.EIO)
        self.report.failed[reason] = self.report.failed.get(reason, 0) + 1
        return 1

    def _finish(self, transmitter: Transmitter) -> None:
        """What is told once, at the end."""
        told, report = transmitter.report(), self.report
        report.backend = told.backend
        report.backend_reason = self._reason or told.reason
        if told.before is not None and told.after is not None:
            report.counted = told.after.tx_packets - told.before.tx_packets
        if self._paced is not None:
            report.timing_error = self._paced.report().timing_error


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


def dry_run_to(path: str, frames: Iterable[Frame], config: ReplayConfig) -> ReplayReport:
    """Write what a replay would send to a capture file, times counting from 1970; nothing is sent.

    The report says how many frames were planned, and why others were skipped.
    """
    from rawkit.pcap import create_pcap

    plan = Plan(frames, config)
    with create_pcap(path, linktype=ETHERNET) as writer:
        for offset_ns, octets in plan:
            writer.write(Frame(octets, time_ns=offset_ns, interface=config.interface))
    return ReplayReport(config.interface, planned=plan.planned, skipped=plan.skipped)


def unsendable(frame: Frame) -> str:
    """Why a captured frame cannot go out as it was, "" when it can."""
    if frame.linktype != ETHERNET:
        return f"link type {frame.linktype} is not Ethernet"
    if frame.wire_len > len(frame.data):
        return "cut short by the capture"
    if len(frame.data) < 14:
        return "shorter than an Ethernet header"
    return ""


def failure_text(number: int) -> str:
    """What an errno of a send means for a frame."""
    if number == errno.EMSGSIZE:
        return "longer than the interface's MTU"
    if number == errno.ENOBUFS:
        return "the device queue stayed full"
    if number == errno.EFBIG:
        return "longer than a live frame"
    return os.strerror(number)


def replay(
    file: str | os.PathLike[str], interface: str, *, speed: float = 1.0, **options: object
) -> ReplayReport:
    """Send the frames of a capture file on an interface and report; see `ReplayConfig` for the options.

    Raises:
        CaptureFileError, UnknownInterface, PermissionDenied, EngineError
    """
    from rawkit.pcap import open_pcap

    config = ReplayConfig(interface, speed=speed, **options)  # type: ignore[arg-type]
    with open_pcap(file) as reader:
        run = Replay(reader, config)
        for _ in run:
            pass
    return run.report


async def areplay(
    file: str | os.PathLike[str], interface: str, *, speed: float = 1.0, **options: object
) -> ReplayReport:
    """As `replay`, while the running event loop's other tasks go on."""
    from rawkit.pcap import open_pcap

    config = ReplayConfig(interface, speed=speed, **options)  # type: ignore[arg-type]
    with open_pcap(file) as reader:
        run = Replay(reader, config)
        async for _ in run:
            pass
    return run.report
