"""What two hosts said to each other, found in captured frames: TCP's octets in order, UDP's datagrams."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from rawkit.tools.flowsides import SERVER, Ends, FlowSides
from rawkit.transport.reassembly import Reassembly
from rawkit.transport.seqspace import SeqSpace
from rawkit.wire.fragment import Reassembler
from rawkit.wire.frame import Frame
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.tcp import TCP
from rawkit.wire.udp import UDP

_TCP, _UDP = 6, 17
_SEQ = SeqSpace(32)
_WINDOW_LEN = 1 << 20
"""Octets of a stream that may wait for those before them."""


class Message(NamedTuple):
    """Octets that `side` (CLIENT or SERVER) sent in one packet; of TCP b"" is the end of its stream."""

    time_ns: int
    side: int
    octets: bytes


@dataclass
class Conversation:
    """One connection of TCP, or all datagrams between two UDP ports, in the order of the capture.

    `missing` octets of each side (client, server) are not in the capture; what comes behind them is left out.
    """

    protocol: str
    client: tuple[str, int]
    server: tuple[str, int]
    messages: list[Message] = field(default_factory=list)
    missing: list[int] = field(default_factory=lambda: [0, 0])

    def __str__(self) -> str:
        ends = " > ".join(
            f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            for address, port in (self.client, self.server)
        )
        return f"{self.protocol} {ends}"

    def said(self, side: int) -> list[bytes]:
        """What a side sent, packet by packet."""
        return [message.octets for message in self.messages if message.side == side and message.octets]


class _Stream:
    """One direction of a TCP connection."""

    def __init__(self) -> None:
        self.isn: int | None = None
        self._base: int | None = None
        self._octets = Reassembly(_WINDOW_LEN)
        self._top = 0
        self._end: int | None = None
        self.ended = False

    @property
    def missing(self) -> int:
        return self._top - self._octets.next

    def feed(self, header: TCP, payload: bytes) -> list[bytes]:
        """What has come in order; b"" is the end."""
        flags = int(header.flags)
        seq = int(header.seq)
        if flags & TCP.SYN:
            self.isn = seq
            seq += 1
        if self._base is None:
            self._base = seq
        offset = _SEQ.unwrap((seq - self._base) % _SEQ.size, self._octets.next)
        if offset + len(payload) < 0 or self.ended:
            return []
        came = self._octets.take(offset, payload) if payload else []
        self._top = max(self._top, offset + len(payload))
        if flags & TCP.FIN:
            self._end = offset + len(payload)
        if flags & TCP.RST or self._end == self._octets.next:
            self.ended = True
            came.append(b"")
        return came


class Conversations:
    """Finds conversations: `add` each frame, in the order of the capture; `found` are all of them so far.

    Keeps what they said. Fragments are put together. Who is the client: `FlowSides`. Packets that are cut
    short leave a gap.
    """

    def __init__(self) -> None:
        self.found: list[Conversation] = []
        self._sides = FlowSides()
        self._fragments = Reassembler()
        self._open: dict[tuple[int, bytes, bytes, int, int], tuple[Conversation, list[_Stream]]] = {}

    def add(self, frame: Frame) -> None:
        """Take in a frame."""
        whole = self._fragments.feed(frame.packet(), frame.time_ns)
        layers = () if whole is None else whole.layers
        at = next((i for i, header in enumerate(layers) if isinstance(header, (TCP, UDP))), None)
        if whole is None or at is None:
            return
        upper = layers[at]
        assert isinstance(upper, (TCP, UDP))
        ip = next((header for header in reversed(layers[:at]) if isinstance(header, (IPv4, IPv6))), None)
        if ip is None:
            return
        payload = b"".join(bytes(header) for header in layers[at + 1 :]) + whole.payload
        tcp = upper if isinstance(upper, TCP) else None
        flags = 0 if tcp is None else int(tcp.flags)
        protocol = _UDP if tcp is None else _TCP
        sport, dport = upper.sport, upper.dport
        ends = Ends(protocol, ip.src.packed, ip.dst.packed, sport, dport, flags)
        side = self._sides.side_of(ends)
        src, dst = (str(ip.src), ends.sport), (str(ip.dst), ends.dport)
        if side == SERVER:
            src, dst = dst, src
            key = (ends.protocol, ends.dst, ends.src, ends.dport, ends.sport)
        else:
            key = (ends.protocol, ends.src, ends.dst, ends.sport, ends.dport)
        known = self._open.get(key)
        if known is None or (tcp is not None and _begins_anew(tcp, known[1][side])):
            known = Conversation("tcp" if tcp is not None else "udp", src, dst), [_Stream(), _Stream()]
            self._open[key] = known
            self.found.append(known[0])
        conversation, streams = known
        if tcp is None:
            conversation.messages.append(Message(frame.time_ns, side, payload))
            return
        for octets in streams[side].feed(tcp, payload):
            conversation.messages.append(Message(frame.time_ns, side, octets))
        conversation.missing[side] = streams[side].missing


def _begins_anew(header: TCP, stream: _Stream) -> bool:
    """Whether this opens another connection between the same ports."""
    return bool(int(header.flags) & TCP.SYN) and stream.isn is not None and stream.isn != int(header.seq)


def conversations(frames: Iterable[Frame]) -> list[Conversation]:
    """The conversations of a capture, in the order of their beginnings."""
    found = Conversations()
    for frame in frames:
        found.add(frame)
    return found.found
