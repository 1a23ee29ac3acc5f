"""Stop-and-wait: one packet, wait for its acknowledgement, the next (the alternating-bit protocol).

Each direction has a sender and a receiver that know nothing of each other. A sender sends units: the client's
first is SYN, then come the data, the last is FIN. A unit is repeated until its number is acknowledged. Two
numbers do where packets stay in order (Bartlett, Scantlebury, Wilkinson 1969), and else more of them.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from rawkit.errors import LocalProtocolError
from rawkit.transport.endpoint import Context, Endpoint, Packet
from rawkit.transport.events import Close, Connected, Path, PeerClosed, Reset, Role, Write
from rawkit.wire import role
from rawkit.wire.field import auto, field, flags8, inet_checksum, payload_length, u8, u16
from rawkit.wire.header import Header


class StopAndWaitHeader(Header):
    """Six octets. `seq` numbers a unit; with ACK, and nothing else, it is the unit that arrived."""

    flags: flags8 = field(0, bits="SYN FIN ACK")
    seq: u8 = field(0, role=role.seq("packets"))
    length: u16 = auto(payload_length)
    checksum: u16 = auto(inet_checksum)


SYN, FIN, ACK = 1, 2, 4


class StopAndWait(Endpoint, header=StopAndWaitHeader):
    """Octets in order, exactly once, one packet at a time, both ways.

    `timeout_ns` counts from the start of a transmission. After `tries` transmissions without an answer the
    endpoint gives up. When all is over it answers repeated units for `linger_ns` more.
    """

    def __init__(
        self, *, numbers: int = 2, timeout_ns: int = 10**9, tries: int = 100, linger_ns: int = 8 * 10**9
    ) -> None:
        self.numbers, self.timeout_ns, self.tries, self.linger_ns = numbers, timeout_ns, tries, linger_ns
        self.units: deque[tuple[int, bytes]] = deque()  # to send: flags and payload; the first is under way
        self.tried = 0  # transmissions of the first
        self.send_number = self.expected = 0
        self.closing = self.peer_closed = False

    def on_open(self, cx: Context, role: Role) -> None:
        if role == "client":
            self.units.append((SYN, b""))
            self.transmit(cx)

    def on_app(self, cx: Context, operation: Any) -> None:
        if self.closing:
            raise LocalProtocolError(f"{type(operation).__name__} after Close")
        if isinstance(operation, Write):
            self.units.extend((0, piece) for piece in self.pieces(cx.path, operation.data))
        elif isinstance(operation, Close):
            self.closing = True
            self.units.append((FIN, b""))
        if not self.tried:
            self.transmit(cx)

    def transmit(self, cx: Context) -> None:
        if self.units:
            flags, payload = self.units[0]
            self.tried += 1
            cx.send(StopAndWaitHeader(flags=flags, seq=self.send_number), payload)
            cx.timer("retransmit", after=self.timeout_ns)

    def on_timer(self, cx: Context, name: str, path: Path) -> None:
        if self.tried < self.tries:
            self.transmit(cx)
        else:
            cx.event(Reset("no answer"))
            cx.done()

    def on_packet(self, cx: Context, packet: Packet) -> None:
        if packet.header.flags & ACK:
            self.on_acknowledgement(cx, packet.header.seq)
        else:
            self.on_unit(cx, packet)

    def on_acknowledgement(self, cx: Context, seq: int) -> None:
        if not self.tried or seq != self.send_number:
            return  # it is for a unit that was acknowledged before
        flags, _ = self.units.popleft()
        self.tried = 0
        self.send_number = (seq + 1) % self.numbers
        cx.cancel("retransmit")
        if flags & SYN:
            cx.event(Connected())
        self.transmit(cx)
        self.finish(cx)

    def on_unit(self, cx: Context, packet: Packet) -> None:
        header = packet.header
        cx.send(StopAndWaitHeader(flags=ACK, seq=header.seq))
        if header.seq == self.expected:
            self.expected = (header.seq + 1) % self.numbers
            if header.flags & SYN:
                cx.event(Connected())
            if packet.payload:
                cx.deliver(packet.payload)
            if header.flags & FIN:
                self.peer_closed = True
                cx.event(PeerClosed())
        self.finish(cx)

    def finish(self, cx: Context) -> None:
        """When both sides have closed and all is acknowledged: wait for the peer's last questions."""
        if self.closing and self.peer_closed and not self.units:
            cx.linger(self.linger_ns)
