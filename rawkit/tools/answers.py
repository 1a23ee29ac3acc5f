"""Answers in a flow beside those of a capture: which came, which are different, which are missing.

Of TCP the octets of the server's stream count, not how they were cut into segments this time: that, where
PSH is set and how often is acknowledged depends on the moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rawkit.transport.reassembly import Reassembly
from rawkit.transport.seqspace import SeqSpace
from rawkit.wire.edit import diff
from rawkit.wire.field import AUTO
from rawkit.wire.packet import Packet
from rawkit.wire.tcp import TCP, Timestamps

IGNORED = ("Ether.dst", "Ether.src", "IPv4.id", "IPv6.flow_label", "TCP.window", "trailer")
"""Fields that another run may have otherwise, besides checksums, which have to be as good as before."""

_OF_SEGMENTS = ("IPv4.total_length", "IPv6.payload_length", "TCP.seq", "TCP.ack", "TCP.flags", "payload")
"""What depends on how a stream was cut into segments."""

_SEQ = SeqSpace(32)
_WINDOW_LEN = 1 << 20
_FLAGS = TCP.FIN | TCP.PSH


@dataclass(eq=False)
class Answer:
    """One that is waited for: which packet of the file, and when it was due."""

    number: int
    packet: Packet
    due_ns: int


@dataclass
class Verdict:
    """What became of an answer: "as expected", "differs" or "missing"; "unexpected" stands for none."""

    kind: str
    packet: Packet
    answer: Answer | None = None
    differences: list[str] = field(default_factory=list)


class Comparison:
    """Says in what packets differ, but for ignored fields."""

    def __init__(self, ignore: Iterable[str] = ()) -> None:
        self._ignored = {name.casefold() for name in (*IGNORED, *ignore)}
        self._header = self._ignored | {name.casefold() for name in _OF_SEGMENTS}

    def packets(self, wanted: Packet, came: Packet, as_in_file: Packet) -> list[str]:
        """Differences as text; `as_in_file` is what came with the file's numbers."""
        return self._found(wanted, as_in_file, self._ignored) + _bad_checksums(wanted, came)

    def segments(self, wanted: Packet, came: Packet, as_in_file: Packet, octets: bytes) -> list[str]:
        """The same of a segment whose stream has these octets in the place of the wanted payload."""
        found = self._found(wanted, as_in_file, self._header) + _bad_checksums(wanted, came)
        before, now = wanted[TCP].flags & ~_FLAGS, came[TCP].flags & ~_FLAGS
        if before != now and "tcp.flags" not in self._ignored:
            found.append(f"TCP.flags: {before:#x} -> {now:#x}, besides FIN and PSH")
        if octets != wanted.payload:
            whole = bytes(wanted)
            at = whole.rindex(wanted.payload)
            other = Packet.parse(whole[:at] + octets + whole[at + len(octets) :])
            found += self._found(wanted, other, self._ignored)
        return found

    def _found(self, wanted: Packet, packet: Packet, ignored: set[str]) -> list[str]:
        return [
            str(one)
            for one in diff(wanted, packet)
            if one.field != "checksum" and one.path.casefold() not in ignored
        ]


def _bad_checksums(wanted: Packet, came: Packet) -> list[str]:
    before, now = ({v.layer.__name__ for v in p.checksums() if v.state == "bad"} for p in (wanted, came))
    return [f"{name}: its checksum is bad" for name in sorted(now - before)]


class Flow:
    """What is waited for in a flow, what came, and how its numbers differ from the file's."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        self.waiting: list[Answer] = []
        self._others: deque[Packet] = deque()  # what came, besides segments of a stream
        self._stream = _Stream()
        self._stamps: dict[int, int] = {}  # the server's time stamps, by those of the file
        self._syn: int | None = None
        self._is_reset = False

    @property
    def lacking(self) -> int:
        """Answers for which nothing has come that could be it; 0 also when the server ended it all."""
        if self._is_reset:
            return 0
        streamed = sum(_is_streamed(answer.packet) for answer in self.waiting)
        return streamed + max(len(self.waiting) - streamed - len(self._others), 0)

    def expect(self, answer: Answer) -> None:
        """One more to wait for."""
        if _is_streamed(answer.packet):
            self._stream.begin(answer.packet[TCP].seq)
        self.waiting.append(answer)

    def arrive(self, packet: Packet) -> None:
        """One came."""
        header = packet.get(TCP)
        if header is not None:
            if is_bare_ack(packet):
                return
            if _is_streamed(packet):
                self._stream.feed(packet)
                return
            if header.flags & TCP.SYN:
                if header.seq == self._syn:
                    return
                self._syn = header.seq
            self._is_reset = self._is_reset or bool(header.flags & TCP.RST)
        self._others.append(packet)

    def judge(self) -> Iterator[Verdict]:
        """Those of which it is known by now."""
        for answer in list(self.waiting):
            verdict = self._verdict(answer)
            if verdict is not None:
                self.waiting.remove(answer)
                self._learn(verdict.packet, answer.packet)
                yield verdict

    def give_up(self) -> Iterator[Verdict]:
        """What is waited for will not come: the others that came stand in its place."""
        yield from self.judge()
        for answer in self.waiting:
            if _is_streamed(answer.packet):
                said = self._stream.short_of(answer.packet)
                yield Verdict("differs" if said else "missing", answer.packet, answer, said)
            elif self._others:
                packet = self._others.popleft()
                wanted = answer.packet
                differences = self._comparison.packets(wanted, packet, self._as_in_file(packet, wanted))
                self._learn(packet, answer.packet)
                yield Verdict("differs", packet, answer, differences)
            else:
                yield Verdict("missing", answer.packet, answer)
        self.waiting = []

    def surplus(self) -> Iterator[Verdict]:
        """What came and stands in nothing's place."""
        yield from (Verdict("unexpected", packet) for packet in self._others)
        more = self._stream.surplus()
        if more is not None:
            yield Verdict("unexpected", more[0], None, [f"{more[1]} octets more than in the file"])

    def adjusted(self, packet: Packet) -> Packet:
        """A client's segment for the server as it is now."""
        header = packet[TCP]
        if self._stream.shift is None or not header.flags & TCP.ACK:
            return packet
        options = [
            option.replace(echo=self._stamps.get(option.echo, option.echo))
            if isinstance(option, Timestamps)
            else option
            for option in header.options
        ]
        was_good = all(verdict.state != "bad" for verdict in packet.checksums() if verdict.layer is TCP)
        checksum = AUTO if was_good else header.checksum
        ack = _SEQ.add(header.ack, self._stream.shift)
        return packet.replace(TCP, ack=ack, options=options, checksum=checksum)

    def _verdict(self, answer: Answer) -> Verdict | None:
        wanted = answer.packet
        if _is_streamed(wanted):
            found = self._stream.stands_for(wanted)
            if found is None:
                return None
            packet, octets = found
            as_in_file = self._as_in_file(packet, wanted)
            differences = self._comparison.segments(wanted, packet, as_in_file, octets)
            return Verdict("differs" if differences else "as expected", packet, answer, differences)
        for packet in self._others:
            if not self._comparison.packets(wanted, packet, self._as_in_file(packet, wanted)):
                self._others.remove(packet)
                return Verdict("as expected", packet, answer)
        return None

    def _as_in_file(self, packet: Packet, wanted: Packet) -> Packet:
        """A server's segment with the numbers that it would have in the file."""
        header, before = packet.get(TCP), wanted.get(TCP)
        if header is None or before is None:
            return packet
        shift = self._stream.shift
        if shift is None:
            shift = _SEQ.distance(before.seq, header.seq)
        stamps = {type(option): option for option in before.options}
        options = [
            stamps.get(Timestamps, option) if isinstance(option, Timestamps) else option
            for option in header.options
        ]
        return packet.replace(TCP, seq=_SEQ.add(header.seq, -shift), options=options)

    def _learn(self, packet: Packet, wanted: Packet) -> None:
        """Take the numbers of an answer for the ones in the file."""
        header, before = packet.get(TCP), wanted.get(TCP)
        if header is None or before is None:
            return
        if self._stream.shift is None:
            self._stream.shift = _SEQ.distance(before.seq, header.seq)
        now, then = _stamp(header), _stamp(before)
        if now is not None and then is not None:
            self._stamps[then] = now


class _Stream:
    """The server's octets, numbered as in the file; kept, since packets of the file may repeat some."""

    def __init__(self) -> None:
        self.shift: int | None = None
        """What the server's sequence numbers are more than in the file."""
        self._first: int | None = None  # the file's number of the first octet
        self._unplaced: deque[Packet] = deque()
        self._segments: list[tuple[int, int, Packet]] = []  # from where to where
        self._order = Reassembly(_WINDOW_LEN)
        self._octets = bytearray()
        self._end: int | None = None
        self._wanted = 0  # how many octets are in the file

    def begin(self, seq: int) -> None:
        """Octets from here on are expected; what came before that was known finds its place."""
        if self._first is None:
            self._first = seq
        self._place()

    def feed(self, packet: Packet) -> None:
        self._unplaced.append(packet)
        self._place()

    def _place(self) -> None:
        if self._first is None:
            return
        while self._unplaced:
            packet = self._unplaced.popleft()
            header, octets = packet[TCP], packet.payload
            if self.shift is None:
                self.shift = _SEQ.distance(self._first, header.seq)
            at = _SEQ.unwrap((header.seq - self.shift - self._first) % _SEQ.size, len(self._octets))
            self._segments.append((at, at + len(octets), packet))
            for piece in self._order.take(at, octets) if octets else ():
                self._octets += piece
            if header.flags & TCP.FIN:
                self._end = at + len(octets)

    def _span(self, wanted: Packet) -> tuple[int, int]:
        assert self._first is not None
        at = _SEQ.unwrap((wanted[TCP].seq - self._first) % _SEQ.size, self._wanted)
        return at, at + len(wanted.payload)

    def stands_for(self, wanted: Packet) -> tuple[Packet, bytes] | None:
        """The segment with the first octet of one in the file, and its octets; None while some lack."""
        start, end = self._span(wanted)
        self._wanted = max(self._wanted, end)
        fin = wanted[TCP].flags & TCP.FIN
        if len(self._octets) < end or (fin and self._end != end):
            return None
        for at, until, packet in reversed(self._segments):
            if at <= start < until or (start == end == until and packet[TCP].flags & TCP.FIN):
                return packet, bytes(self._octets[max(start, 0) : end])
        return None

    def short_of(self, wanted: Packet) -> list[str]:
        """In what the stream falls short of a segment in the file; nothing where it has not come to it."""
        start, end = self._span(wanted)
        have = len(self._octets)
        if self._end is not None and self._end < end and have >= start:
            return [f"the stream ends {end - self._end} octets before it"]
        if start < have < end:
            return [f"{have - start} octets of {end - start} came"]
        if self._end is not None and self._end > end and wanted[TCP].flags & TCP.FIN:
            return [f"the stream ends {self._end - end} octets later"]
        return []

    def surplus(self) -> tuple[Packet, int] | None:
        """A segment with octets behind all that is in the file, and how many there are."""
        more = len(self._octets) - self._wanted
        for at, until, packet in self._segments:
            if more > 0 and at <= self._wanted < until:
                return packet, more
        return None


def is_bare_ack(packet: Packet) -> bool:
    """Whether it only acknowledges: how often hosts do that depends on the moment."""
    header = packet.get(TCP)
    return header is not None and header.flags == TCP.ACK and not packet.payload


def _is_streamed(packet: Packet) -> bool:
    """Whether it is a segment with octets of a stream, or its end."""
    header = packet.get(TCP)
    if header is None or header.flags & (TCP.SYN | TCP.RST):
        return False
    return bool(packet.payload) or bool(header.flags & TCP.FIN)


def _stamp(header: TCP) -> int | None:
    return next((option.value for option in header.options if isinstance(option, Timestamps)), None)
