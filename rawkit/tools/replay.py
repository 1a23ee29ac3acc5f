"""Replay: send the frames of a capture file on an interface, each at its time.

Times are absolute deadlines on the monotonic clock, computed from the file's own times, so errors do not add
up: a frame that goes late does not delay the ones after it.
"""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field

from rawkit.engine import (
    FrameBatch,
    PacedSender,
    PacketSocket,
    Transmitter,
    monotonic_ns,
    open_transmitter,
    realtime_ns,
)
from rawkit.engine.pace import TimingError
from rawkit.errors import EngineError, RawkitError, UnknownInterface
from rawkit.tools.replayplan import CHUNK, ETHERNET, Plan, ReplayConfig
from rawkit.wire.frame import Frame

SLICE = 0.1
"""Seconds in C at a time."""

SETTLE = 0.02
"""Seconds to wait for the last transmit stamps."""

ETHERNET_MTU = 1500

LEAD_NS = 2_000_000
"""The first frame is planned this far ahead, so that it is on time too."""


@dataclass
class ReplayReport:
    """What became of a replay: sent + failed + skipped + unsent is what was read, and what cutting added.

    `cut` frames were longer than the MTU and became `pieces`, which are frames to be sent like all others.
    `changed` frames went out with other octets than they had; of these `finished` with a transport checksum
    that had been left to the sender's network card. `failed` and `skipped` count by cause. A skipped frame
    cannot go out as it was; `unsent` ones are those that were read when the replay ended early. `start_ns`
    is when the first frame was due, since 1970; other times are of the monotonic clock. `backend` and
    `backend_reason` say how frames went and why so; `counted` is how many the interface says it sent
    meanwhile, everybody's (None: not known yet, it is gone, there are two).
    """

    interface: str
    planned: int = 0
    sent: int = 0
    octets: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    cut: int = 0
    pieces: int = 0
    changed: int = 0
    finished: int = 0
    start_ns: int = 0
    first_ns: int = 0
    last_ns: int = 0
    timing_error: TimingError | None = None
    """How late frames went; None when nothing was sent, nothing was timed (topspeed), or it goes on."""
    lateness: dict[int, int] = field(default_factory=dict)
    """Frames by how late they went: less than so many nanoseconds, and not less than half of it."""
    lateness_by: str = ""
    """What says when they went: the kernel's "transmit stamps", or "system calls", just before each."""
    backend: str = ""
    backend_reason: str = ""
    counted: int | None = None
    interface2: str | None = None

    @property
    def read(self) -> int:
        """Frames read of the file, each time it was gone through."""
        return self.planned - self.pieces + self.cut + sum(self.skipped.values())

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
            "interface2": self.interface2,
            "backend": self.backend,
            "backend_reason": self.backend_reason,
            "read": self.read,
            "sent": self.sent,
            "octets": self.octets,
            "cut": self.cut,
            "pieces": self.pieces,
            "changed": self.changed,
            "finished": self.finished,
            "failed": self.failed,
            "skipped": self.skipped,
            "unsent": self.unsent,
            "counted": self.counted,
            "start_ns": self.start_ns,
            "duration_ns": self.duration_ns,
            "pps": self.pps,
            "timing_error": self.timing_error,
            "lateness_by": self.lateness_by,
            "lateness": [{"below_ns": below, "frames": n} for below, n in sorted(self.lateness.items())],
        }


class Replay:
    """A replay in progress: iterating drives it and gives its (growing) report about ten times a second.

    `async for` does the same in a running asyncio loop, as punctually: other tasks get their turn in the gaps
    between frames, and every 2 ms where there are none; reading the file does hold them up. It ends with the
    file, or within 100 ms when `stop()` was called. Leaving the iteration by an exception of one's own loses
    count of the frames of the last 100 ms.

    Raises:
        UnknownInterface, PermissionDenied, EngineError (the interface went down or away)
    """

    def __init__(
        self, frames: Iterable[Frame], config: ReplayConfig, ask: Callable[[bytes], bool] | None = None
    ) -> None:
        """With `ask` frames go one at a time: it gets each one's octets, and False ends the replay."""
        from rawkit.net import interface as find_interface

        names = [config.interface] + ([config.interface2] if config.interface2 else [])
        interfaces = [find_interface(name) for name in names]
        for interface in interfaces:
            if interface.linktype != ETHERNET:
                raise RawkitError(
                    f"replay: {interface.name} is no Ethernet interface (link type {interface.linktype})"
                )
        self.config = config
        self.report = ReplayReport(config.interface, interface2=config.interface2)
        self._ask = ask
        indexes = [interface.index for interface in interfaces]
        mark = (lambda side, number: indexes[side]) if config.interface2 else None
        self._plan = Plan(frames, config, min(interface.mtu for interface in interfaces), mark)
        self._stopped = False
        self._end_ns: int | None = None
        backend, self._reason = config.backend, ""
        if backend == "auto" and not config.topspeed:
            # Each call of live frames takes 15 us, of the packet socket 2, and few frames are due together.
            backend, self._reason = "packet", "exact for frames that go one by one"
        self._transmitter: Transmitter | PacketSocket
        if config.interface2:
            self._transmitter = PacketSocket(None, protocol=0)  # each frame says where it goes
        else:
            self._transmitter = open_transmitter(config.interface, backend)
        self._paced: PacedSender | None = None
        if not config.topspeed:  # there a full queue is waited for: nobody behind is late for it
            self._paced = PacedSender(self._transmitter, config.spin_ns, stamps=True, warm=True)

    def stop(self) -> None:
        """Let the iteration end; may be called from anywhere."""
        self._stopped = True

    def __iter__(self) -> Iterator[ReplayReport]:
        with self._transmitter as transmitter:
            try:
                for batch, first, n, due in self._chunks():
                    end = first + n
                    while first < end and not self._is_over():
                        first += self._send(batch, first, end - first, due)
                        yield self.report
            finally:
                self._finish(transmitter)

    async def __aiter__(self) -> AsyncIterator[ReplayReport]:
        with self._transmitter as transmitter:
            try:
                for batch, first, n, due in self._chunks():
                    end = first + n
                    while first < end and not self._is_over():
                        first += await self._asend(batch, first, end - first, due)
                        yield self.report
            finally:
                self._finish(transmitter)

    def _chunks(self) -> Iterator[tuple[FrameBatch, int, int, array[int]]]:
        """What goes out, some rows of a batch at a time, and when each row is due."""
        for chunk in self._plan.chunks(1 if self._ask else CHUNK, self._start):
            note_plan(self.report, self._plan)
            if self._ask is not None and not self._ask(chunk[0][chunk[1]]):
                return
            yield chunk
            if self._is_over():
                return
        note_plan(self.report, self._plan)

    def _start(self) -> int:
        """When the first frame is due: the clock starts when the first frames lie ready."""
        now_ns, since_1970_ns = monotonic_ns(), realtime_ns()
        start_ns = now_ns + LEAD_NS
        if self.config.duration is not None:
            self._end_ns = start_ns + round(self.config.duration * 1e9)
        self.report.start_ns = since_1970_ns + LEAD_NS
        return start_ns

    def _is_over(self) -> bool:
        return self._stopped or (self._end_ns is not None and monotonic_ns() >= self._end_ns)

    def _slice(self) -> float:
        """Seconds in C at a time: the end is kept to."""
        left = SLICE if self._end_ns is None else (self._end_ns - monotonic_ns()) / 1e9
        return max(min(SLICE, left), 0.0)

    def _send(self, batch: FrameBatch, first: int, n: int, due: array[int]) -> int:
        """Send for a SLICE at most; how many frames were dealt with."""
        paced = self._paced
        if paced is not None:
            return self._note_paced(paced, paced.send(batch, due, first, n, timeout=self._slice()))
        try:
            sent = self._transmitter.send_batch(batch, first, n, timeout=self._slice())
        except EngineError as error:
            return self._note_refused(error)
        return self._note_sent(batch, first, sent)

    async def _asend(self, batch: FrameBatch, first: int, n: int, due: array[int]) -> int:
        paced = self._paced
        if paced is not None:
            return self._note_paced(paced, await paced.asend(batch, due, first, n, timeout=self._slice()))
        try:
            sent = await self._transmitter.asend_batch(batch, first, n, timeout=self._slice())
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
            report.octets += batch.octets(first, sent)
        return sent

    def _note_refused(self, error: EngineError) -> int:
        """One frame is given up, unless no other would fare better."""
        if error.errno in (errno.ENETDOWN, errno.ENXIO, errno.EOPNOTSUPP):
            raise error
        reason = failure_text(error.errno or errno.EIO)
        self.report.failed[reason] = self.report.failed.get(reason, 0) + 1
        return 1

    def _finish(self, transmitter: Transmitter | PacketSocket) -> None:
        """What is told once, at the end."""
        report = self.report
        if isinstance(transmitter, PacketSocket):
            report.backend, report.backend_reason = "packet", "one socket for two interfaces"
        else:
            told = transmitter.report()
            report.backend = told.backend
            report.backend_reason = self._reason or told.reason
            if told.before is not None and told.after is not None:
                report.counted = told.after.tx_packets - told.before.tx_packets
        if self._paced is not None:
            self._paced.settle(SETTLE)
            paced = self._paced.report()
            report.lateness_by = "transmit stamps" if paced.by_stamps else "system calls"
            report.timing_error = paced.timing_error
            for late_ns, n in paced.lateness.items():
                below = 1 << late_ns.bit_length()
                report.lateness[below] = report.lateness.get(below, 0) + n


def note_plan(report: ReplayReport, plan: Plan) -> None:
    """What is known of the frames before they are sent."""
    report.planned, report.cut, report.pieces = plan.planned, plan.cut, plan.pieces
    report.skipped = plan.skipped
    report.changed, report.finished = plan.changed, plan.finished


def dry_run_to(path: str, frames: Iterable[Frame], config: ReplayConfig) -> ReplayReport:
    """Write what a replay would send to a capture file, times counting from 1970; nothing is sent.

    The report says how many frames were planned, and why others were skipped. Where there is no interface of
    that name, and no MTU was given, frames are cut to 1500 octets, Ethernet's own.
    """
    from rawkit.net import interface as find_interface
    from rawkit.pcap import create_pcap

    try:
        mtu = find_interface(config.interface).mtu
    except UnknownInterface:
        mtu = ETHERNET_MTU
    plan = Plan(frames, config, mtu)
    report = ReplayReport(config.interface)
    written = 0
    with create_pcap(path, linktype=ETHERNET) as writer:
        for batch, first, n, due in plan.chunks():
            for row in range(first, first + n):
                writer.write(Frame(batch[row], time_ns=due[row], interface=config.interface))
            written += n
    note_plan(report, plan)
    report.planned = written
    return report


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
