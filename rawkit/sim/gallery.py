"""The mutation gallery: reference protocols with one mistake each, of the kinds that people make.

Each must be caught by `check`: they test the tests, and show what a mistake looks like from outside. The
mistake is the method that the mutant overrides, or the options it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rawkit.sim.checker import QUICK, CheckReport, check
from rawkit.sim.explorer import standard
from rawkit.sim.link import LinkSpec
from rawkit.sim.properties import CONGESTION_PROPERTIES
from rawkit.sim.transfer import Result, Transfer
from rawkit.transport.endpoint import Context, Endpoint, Packet
from rawkit.transport.events import Close, Path, PeerClosed, Write
from rawkit.transport.protocols import go_back_n as gbn
from rawkit.transport.protocols import stop_and_wait as saw
from rawkit.transport.protocols.go_back_n import GoBackN, GoBackNHeader
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat
from rawkit.transport.protocols.stop_and_wait import StopAndWait, StopAndWaitHeader
from rawkit.wire.field import auto, flags8, payload_length, u8, u16
from rawkit.wire.field import field as header_field
from rawkit.wire.header import Header

# ---- stop-and-wait -----------------------------------------------------------------------------------


class NoDuplicateSuppression(StopAndWait):
    """The receiver delivers whatever comes, also what it has delivered before."""

    def on_unit(self, cx: Context, packet: Packet) -> None:
        self.expected = packet.header.seq
        super().on_unit(cx, packet)


class AnyAcknowledgement(StopAndWait):
    """The sender takes an acknowledgement of an older unit for one of the present unit."""

    def on_acknowledgement(self, cx: Context, seq: int) -> None:
        super().on_acknowledgement(cx, self.send_number)


class SilentOnDuplicates(StopAndWait):
    """The receiver does not acknowledge a unit again, so one lost acknowledgement stops everything."""

    def on_unit(self, cx: Context, packet: Packet) -> None:
        if packet.header.seq == self.expected:
            super().on_unit(cx, packet)


class OneRetransmission(StopAndWait):
    """The timer is not set again when it has expired."""

    def on_timer(self, cx: Context, name: str, path: Path) -> None:
        super().on_timer(cx, name, path)
        if name == "retransmit":
            cx.cancel("retransmit")


class NoTimer(StopAndWait):
    """What is lost stays lost."""

    def transmit(self, cx: Context) -> None:
        super().transmit(cx)
        cx.cancel("retransmit")


class NoLinger(StopAndWait):
    """An endpoint is gone as soon as it has all it wants, while the peer may still ask."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, linger_ns=0)


class FinOnce(StopAndWait):
    """The end is sent once and taken for acknowledged."""

    def transmit(self, cx: Context) -> None:
        super().transmit(cx)
        if self.units and self.units[0][0] & saw.FIN:
            super().on_acknowledgement(cx, self.send_number)


class UnprotectedHeader(Header):
    """As `StopAndWaitHeader`, without its checksum."""

    flags: flags8 = header_field(0, bits="SYN FIN ACK")
    seq: u8 = 0
    length: u16 = auto(payload_length)
    unused: u16 = 0


class NoChecksum(StopAndWait, header=UnprotectedHeader):
    """Damaged packets pass."""

    def on_packet(self, cx: Context, packet: Packet) -> None:
        if packet.header.seq < self.numbers:
            super().on_packet(cx, packet)


class LosesAnOctet(StopAndWait):
    """What a unit carries is cut in the wrong place."""

    def on_unit(self, cx: Context, packet: Packet) -> None:
        packet.payload = packet.payload[1:]
        super().on_unit(cx, packet)


class IgnoresTheMtu(StopAndWait):
    """The header is forgotten when data are cut into packets."""

    def on_app(self, cx: Context, operation: Any) -> None:
        if isinstance(operation, Write) and len(operation.data) > cx.path.room:
            self.units.append((0, operation.data[: cx.path.room]))
        else:
            super().on_app(cx, operation)


class AnswersWhenDone(StopAndWait):
    """Something is sent after the end."""

    def finish(self, cx: Context) -> None:
        super().finish(cx)
        if cx.lingering:
            cx.done()
            cx.send(StopAndWaitHeader(flags=saw.ACK, seq=self.expected))


# ---- go-back-N -----------------------------------------------------------------------------------------


class WindowOfAllNumbers(GoBackN):
    """A window as large as the number space: W = 2**m instead of 2**m - 1."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.window = self.mask + 1


class AcceptsAnything(GoBackN):
    """The receiver takes units that are not next."""

    def on_packet(self, cx: Context, packet: Packet) -> None:
        header = packet.header
        if header.flags & gbn.DATA and (header.seq - self.expected) & self.mask < self.window:
            self.expected += (header.seq - self.expected) & self.mask
        super().on_packet(cx, packet)


class AcknowledgesHoles(GoBackN):
    """The receiver acknowledges the highest number it saw instead of the next it expects."""

    def on_packet(self, cx: Context, packet: Packet) -> None:
        super().on_packet(cx, packet)
        header = packet.header
        if header.flags & gbn.DATA and 0 < (header.seq - self.expected) & self.mask < self.window:
            cx.send(GoBackNHeader(flags=gbn.ACK, ack=(header.seq + 1) & self.mask))


class OffByOne(GoBackN):
    """An acknowledgement of n is taken to cover n too."""

    def on_acknowledgement(self, cx: Context, ack: int) -> None:
        ahead = (ack + 1 - self.base) & self.mask
        super().on_acknowledgement(cx, ack + 1 if 0 < ahead <= self.next - self.base else ack)


class NumbersDoNotWrap(GoBackN):
    """Numbers are compared as integers: right until they wrap."""

    def on_acknowledgement(self, cx: Context, ack: int) -> None:
        if ack > self.base & self.mask:
            super().on_acknowledgement(cx, ack)


class OldAcknowledgements(GoBackN):
    """An acknowledgement from before the window is taken for one of the window's units."""

    def on_acknowledgement(self, cx: Context, ack: int) -> None:
        n = (ack - self.base) & self.mask
        if n > self.next - self.base:
            ack = self.next & self.mask
        super().on_acknowledgement(cx, ack)


class EarlyEnd(GoBackN):
    """FIN is heeded when it comes, whether or not what was before it has come."""

    def on_packet(self, cx: Context, packet: Packet) -> None:
        if packet.header.flags & gbn.FIN and not self.peer_closed:
            self.peer_closed = True
            cx.event(PeerClosed())
        super().on_packet(cx, packet)

    def accept(self, cx: Context, flags: int, payload: bytes) -> None:
        if flags & gbn.FIN:
            self.expected += 1
        else:
            super().accept(cx, flags, payload)


class NoBackOff(GoBackN):
    """The time-out stays the same however often it expires."""

    def on_timer(self, cx: Context, name: str, path: Path) -> None:
        before = self.rto.ns
        super().on_timer(cx, name, path)
        self.rto.ns = before
        if name == "retransmit" and self.units:
            self.set_timer(cx)


class TimerStopsOnProgress(GoBackN):
    """Any acknowledgement stops the timer, also when more is under way."""

    def on_acknowledgement(self, cx: Context, ack: int) -> None:
        base = self.base
        super().on_acknowledgement(cx, ack)
        if self.base > base and self.next > self.base:
            cx.cancel("retransmit")


class SynCountsTwice(GoBackN):
    """The receiver counts another number for SYN than the sender."""

    def accept(self, cx: Context, flags: int, payload: bytes) -> None:
        super().accept(cx, flags, payload)
        if flags & gbn.SYN:
            self.expected += 1


class ClosesAtOnce(GoBackN):
    """Close throws away what was written and is not sent yet."""

    def on_app(self, cx: Context, operation: Any) -> None:
        if isinstance(operation, Close):
            while len(self.units) > max(self.next - self.base, 1):
                self.units.pop()
        super().on_app(cx, operation)


class ImpatientTimer(GoBackN):
    """A fixed time-out that is shorter than a round trip."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, timeout_ns=10**6)


class NoKarn(GoBackN):
    """Round-trip times are measured of units that were sent twice."""

    def on_acknowledgement(self, cx: Context, ack: int) -> None:
        for unit in self.units:
            unit.repeated = False
        super().on_acknowledgement(cx, ack)


# ---- selective repeat ------------------------------------------------------------------------------------


class WindowBeyondHalf(SelectiveRepeat):
    """A window of more than half of the numbers: W = 2**(m - 1) + 1."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.capacity = self.most_window = self.most_window + 1


class SackOffByOne(SelectiveRepeat):
    """The receiver reports ranges that begin a segment too early: what is missing counts as arrived."""

    def acknowledge(self, cx: Context, flags: int = 0) -> None:
        blocks = self.box.sack_blocks
        box = self.box
        self.box = _ShiftedBox(blocks(4), box.next, box.window)  # type: ignore[assignment]
        super().acknowledge(cx, flags)
        self.box = box


class _ShiftedBox:
    def __init__(self, blocks: list[tuple[int, int]], expected: int, window: int) -> None:
        self.next, self.window = expected, window
        self.blocks = [(expected, end) for _, end in blocks]

    def sack_blocks(self, most: int) -> list[tuple[int, int]]:
        return self.blocks


class NoReduction(SelectiveRepeat):
    """The congestion window ignores losses."""

    def repair(self, cx: Context) -> None:
        cwnd = self.control.cwnd
        super().repair(cx)
        self.control.cwnd = cwnd


class ReducesForEveryLoss(SelectiveRepeat):
    """The congestion window falls for each segment that is lost, instead of once for a window of them."""

    def repair(self, cx: Context) -> None:
        self.recovery_end = None
        self.no_reduction_before = self.board.una
        super().repair(cx)


@dataclass(frozen=True)
class Mutant:
    """A protocol with a mistake, and the experiment in which it is looked for."""

    protocol: type[Endpoint]
    options: Mapping[str, Any] = field(default_factory=dict)
    octets: int = 6000
    back: int = 0
    drops: int = 3
    first: int = 16
    chunk: int = 1 << 62
    link: LinkSpec = QUICK
    random: int = 150
    congestion: bool = False
    """Whether it is judged by how it treats the network too."""

    def check(self) -> CheckReport:
        """What the kit finds."""

        def verdict(result: Result) -> str:
            checks = CONGESTION_PROPERTIES if self.congestion else ()
            return result.violation() or next(filter(None, (each(result) for each in checks)), "")

        base = Transfer(self.protocol, self.options, self.octets, self.back, self.chunk, self.link)
        return check(
            self.protocol,
            transfer=base,
            drops=self.drops,
            first=self.first,
            random=self.random,
            verdict=verdict if self.congestion else standard,
        )


SAFE = {"numbers": 256}  # so that the alternating bit's own weakness is not what is found
SMALL = {"window": 4, "bits": 3}

GALLERY: tuple[Mutant, ...] = (
    Mutant(NoDuplicateSuppression, SAFE),
    Mutant(AnyAcknowledgement, SAFE),
    Mutant(SilentOnDuplicates, SAFE),
    Mutant(OneRetransmission, SAFE),
    Mutant(NoTimer, SAFE),
    Mutant(NoLinger, SAFE),
    Mutant(FinOnce, SAFE),
    Mutant(NoChecksum, SAFE),
    Mutant(LosesAnOctet, SAFE),
    Mutant(IgnoresTheMtu, SAFE),
    Mutant(AnswersWhenDone, SAFE),
    Mutant(WindowOfAllNumbers, {"window": 3, "bits": 2}, octets=9000),
    Mutant(AcceptsAnything, SMALL),
    Mutant(AcknowledgesHoles, SMALL),
    Mutant(OffByOne, SMALL),
    Mutant(NumbersDoNotWrap, SMALL, octets=12_000),
    Mutant(OldAcknowledgements, SMALL),
    Mutant(EarlyEnd, SMALL),
    Mutant(NoBackOff, SMALL, octets=1000, congestion=True),
    Mutant(TimerStopsOnProgress, SMALL),
    Mutant(SynCountsTwice, SMALL),
    Mutant(ClosesAtOnce, SMALL),
    Mutant(ImpatientTimer, SMALL),
    Mutant(NoKarn, SMALL, drops=0, random=0, link=LinkSpec(delay="1550ms"), congestion=True),
    Mutant(WindowBeyondHalf, {"mode": "messages", "window": 2, "bits": 2}, 8000, chunk=1000),
    Mutant(SackOffByOne),
    Mutant(NoReduction, octets=60_000, drops=1, first=30, congestion=True),
    Mutant(ReducesForEveryLoss, octets=60_000, drops=2, first=18, congestion=True),
)
