"""What Wireshark says of TCP, said of any protocol whose header has roles: which packets are retransmissions,
duplicate acknowledgements, how long answers took, how much is under way.

Everything is judged from the packets that one host sent and received, as a capture there would have them.
`analysis.lua` has the same rules for the generated dissectors. What the roles do not say follows from names:
SYN and FIN take a number each, as in TCP; with a flag ACK, numbers of acknowledgements count only where it is
set; and without a field for those, a packet with ACK and nothing else names in `seq` the packet that arrived.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from rawkit.errors import HeaderError
from rawkit.transport.endpoint import Endpoint, soundness
from rawkit.transport.events import Path
from rawkit.wire.field import FlagBits
from rawkit.wire.generate import compiled
from rawkit.wire.header import Header
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.role import Unit


class Reading(NamedTuple):
    """What the roles of a packet's header say; None where the header, or this packet, has no such thing."""

    seq: int | None
    span: int
    """How many numbers it takes: octets of payload or 1, and one for each of SYN and FIN (in octets)."""
    ack: int | None
    window: int | None
    """In octets or packets: what the field says, shifted as its role says."""
    sacks: tuple[tuple[int, int], ...]
    payload: int
    """Octets of payload."""
    conversation: tuple[int, ...]
    """Ports, the sender's first, and connection identifiers."""


class Roles:
    """Reads packets of a header class by the roles of its fields.

    `numbers` is how many sequence numbers there are, where that is less than the field could hold; `unit` is
    what they count and `shift` that of the window, where they are not what the role says. `Roles.of` takes
    all of them from an endpoint's attributes of these names, if it has any.
    """

    def __init__(
        self,
        header: type[Header],
        *,
        numbers: int | None = None,
        unit: Unit | None = None,
        shift: int | None = None,
    ) -> None:
        roles = header.roles
        self.header = header
        self._parse: Callable[[bytes, int, int], tuple[Any, int, int]] = compiled(header)._parse
        self._valid = soundness(header)
        self._paths: dict[tuple[str, str], Path] = {}
        slots = {name: row.name for name, (_, row) in roles.items()}
        self._seq, self._window, self._sack = (slots.get(name) for name in ("seq", "window", "sack"))
        self._flags = slots.get("flags")
        self._taking, self._acking = flag_masks(header)
        self.by_flag = acknowledges_by_flag(header)
        self._ack = slots.get("ack") or (self._seq if self.by_flag else None)
        self.cumulative = not self.by_flag and "ack" in roles and roles["ack"][0].cumulative
        self.in_octets = "seq" in roles and (unit or roles["seq"][0].unit) == "octets"
        self.numbers = numbers or (1 << roles["seq"][1].width if "seq" in roles else 0)
        declared = roles["window"][0].shift if "window" in roles else 0
        self._shift = declared if shift is None else shift
        self._keys = tuple(slots[name] for name in ("src_port", "dst_port", "conn_id") if name in slots)

    @classmethod
    def of(cls, endpoint: Endpoint) -> Roles:
        """For the packets of an endpoint with its options."""
        return cls(endpoint.header, **numbering(endpoint))

    def read(self, octets: bytes, src: str, dst: str) -> Reading | None:
        """What a packet says; None where it is none of this header, or its checksum is wrong.

        The addresses are those of the IP header, for checksums that cover them.
        """
        try:
            header, at, end = self._parse(octets, 0, len(octets))
        except HeaderError:
            return None
        path = self._paths.get((src, dst))
        if path is None:
            lower = (IPv6 if ":" in src else IPv4)(src=src, dst=dst)
            path = self._paths[src, dst] = Path(dst, src, lower_back=lower)
        if not self._valid(octets, header, path):
            return None
        payload = end - at
        flags = (self._flags and getattr(header, self._flags)) or 0  # a field may be absent from a packet
        window = getattr(header, self._window) if self._window else None
        taking = (flags & self._taking).bit_count()
        span = payload + taking if self.in_octets else int(bool(payload or taking))
        acking = self._ack is not None and (not self._acking or bool(flags & self._acking))
        if self.by_flag:
            acking &= not span
        return Reading(
            getattr(header, self._seq) if self._seq else None,
            span if self._seq else 0,
            getattr(header, self._ack) if acking and self._ack else None,
            None if window is None else window << self._shift,
            tuple(getattr(header, self._sack) or ()) if self._sack else (),
            payload,
            tuple(getattr(header, name) or 0 for name in self._keys),
        )


def numbering(endpoint: Endpoint) -> Any:
    """What an endpoint says of its numbers that its header does not: `numbers`, `unit`, `shift`."""
    return {name: getattr(endpoint, name, None) for name in ("numbers", "unit", "shift")}


def flag_masks(header: type[Header]) -> tuple[int, int]:
    """The bits of the flags that take a number (SYN, FIN), and of ACK."""
    kind = header.roles["flags"][1].kind if "flags" in header.roles else None
    names = [name.upper() for name in kind.names] if isinstance(kind, FlagBits) else []
    taking = sum(1 << names.index(name) for name in ("SYN", "FIN") if name in names)
    return taking, 1 << names.index("ACK") if "ACK" in names else 0


def acknowledges_by_flag(header: type[Header]) -> bool:
    """Whether a packet with ACK names in `seq` the packet that arrived, for want of another field."""
    roles = header.roles
    return (
        "ack" not in roles
        and "seq" in roles
        and roles["seq"][0].unit == "packets"
        and bool(flag_masks(header)[1])
    )


@dataclass(slots=True)
class Facts:
    """What was found out about one packet."""

    reading: Reading
    seq: int | None = None
    """The number without wrapping, of a packet that takes one."""
    ack: int | None = None
    """What it acknowledges, without wrapping, in the numbers of the other side."""
    sacks: tuple[tuple[int, int], ...] = ()
    retransmission: bool = False
    spurious: bool = False
    """A retransmission of what had been acknowledged already."""
    gap: bool = False
    """Numbers before it were not seen."""
    dup_ack: int = 0
    """How often this acknowledgement was repeated by now; 0: it is no duplicate."""
    rtt_ns: int | None = None
    """Since the newest of what it acknowledges was sent, where nothing of that was sent twice: nobody knows
    which of the two arrived (Karn's algorithm), and what came after a loss waited for its repair."""
    in_flight: int | None = None
    """Octets of payload that this sender has sent and that are not acknowledged, after this packet; None
    where it takes no number."""
    peer_in_flight: int | None = None
    """The same of the other side, where this packet acknowledges."""


@dataclass(slots=True)
class _Sent:
    start: int
    end: int
    payload: int
    time_ns: int
    times: int = 1


class Side:
    """What one side of a conversation has sent."""

    def __init__(self) -> None:
        self.next: int | None = None
        self.una = 0
        self.outstanding: list[_Sent] = []
        self.in_flight = 0
        self.last_ack: tuple[int, int | None] | None = None
        """What it acknowledged last, and the window it said then."""
        self.dup_acks = 0


class Analysis:
    """Judges the packets that one host sent and received, in their order."""

    def __init__(self, roles: Roles) -> None:
        self.roles = roles
        self._sides: dict[tuple[Any, ...], Side] = {}

    def see(self, time_ns: int, src: str, dst: str, octets: bytes) -> Facts | None:
        """The next packet; None for one that says nothing, being damaged."""
        reading = self.roles.read(octets, src, dst)
        if reading is None:
            return None
        here, there = self.sides(src, dst, reading.conversation)
        facts = Facts(reading)
        if reading.ack is not None and there.next is not None:
            self._acknowledge(time_ns, here, there, reading, facts)
            facts.peer_in_flight = there.in_flight
        if reading.span and reading.seq is not None:
            self._take(time_ns, here, reading, facts)
            facts.in_flight = here.in_flight
        return facts

    def sides(self, src: str, dst: str, conversation: tuple[int, ...]) -> tuple[Side, Side]:
        """The sender's side of a conversation, and the other."""
        back = (*conversation[:2][::-1], *conversation[2:])
        one, other = (src, dst, *conversation), (dst, src, *back)
        if one not in self._sides:
            self._sides[one], self._sides[other] = Side(), Side()
        return self._sides[one], self._sides[other]

    def _take(self, time_ns: int, here: Side, reading: Reading, facts: Facts) -> None:
        size, seq, span = self.roles.numbers, reading.seq or 0, reading.span
        if here.next is None:
            here.next = here.una = seq
        back = (here.next - seq) % size
        if back and back <= max(here.next - here.una, size // 2):
            start = here.next - back
            facts.retransmission, facts.spurious = True, start + span <= here.una
            for sent in here.outstanding[bisect_right(here.outstanding, start, key=lambda s: s.end) :]:
                if sent.start >= start + span:
                    break
                sent.times += 1
                sent.time_ns = time_ns
        else:
            start = here.next + (size - back if back else 0)
            facts.gap = back > 0
        facts.seq = start
        end = start + span
        if end > here.next:
            fresh = max(start, here.next)
            payload = min(reading.payload, end - fresh) if self.roles.in_octets else reading.payload
            here.outstanding.append(_Sent(fresh, end, payload, time_ns))
            here.in_flight += payload
            here.next = end

    def _acknowledge(self, time_ns: int, here: Side, there: Side, reading: Reading, facts: Facts) -> None:
        size, ack = self.roles.numbers, reading.ack or 0
        assert there.next is not None
        if not self.roles.cumulative:
            number = there.next - ((there.next - ack) % size or size)
            at = bisect_left(there.outstanding, number, key=lambda s: s.start)
            facts.ack = number
            if at < len(there.outstanding) and there.outstanding[at].start == number:
                self._leave(time_ns, there, there.outstanding[at : at + 1], facts)
                del there.outstanding[at]
                there.una = there.outstanding[0].start if there.outstanding else there.next
            return
        ahead = (ack - there.una) % size
        if ahead > there.next - there.una:
            return  # an old one
        una = facts.ack = there.una + ahead
        facts.sacks = tuple((una + (a - ack) % size, una + (b - ack) % size) for a, b in reading.sacks)
        said = (una, reading.window)
        if not ahead and not reading.span and there.outstanding and here.last_ack == said:
            here.dup_acks += 1
            facts.dup_ack = here.dup_acks
        elif here.last_ack != said:
            here.dup_acks = 0
        here.last_ack = said
        there.una = una
        n = bisect_right(there.outstanding, una, key=lambda s: s.end)
        self._leave(time_ns, there, there.outstanding[:n], facts)
        del there.outstanding[:n]

    @staticmethod
    def _leave(time_ns: int, there: Side, gone: list[_Sent], facts: Facts) -> None:
        for sent in gone:
            there.in_flight -= sent.payload
        if gone and all(sent.times == 1 for sent in gone):
            facts.rtt_ns = time_ns - gone[-1].time_ns
