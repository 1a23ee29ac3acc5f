"""Go-back-N: many packets under way, cumulative acknowledgements, one timer.

As stop-and-wait, with a window: up to `window` units may be unacknowledged. The receiver takes only the unit
it expects, and every packet says which that is. When the timer of the oldest unit expires, all of the window
is sent again. Numbers have `bits` bits and wrap, so a window of 2**bits units or more would let an old unit
pass for a new one: with W = 2**bits, the loss of a window's acknowledgements is enough.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from rawkit.errors import LocalProtocolError
from rawkit.transport.endpoint import Context, Endpoint, Packet
from rawkit.transport.events import Close, Connected, Path, PeerClosed, Reset, Role, Writable, Write
from rawkit.transport.rtt import Rto
from rawkit.wire import role
from rawkit.wire.field import auto, field, flags8, inet_checksum, payload_length, u8, u16
from rawkit.wire.header import Header


class GoBackNHeader(Header):
    """Ten octets. `seq` is the number of what SYN, FIN or DATA says; with ACK, `ack` is expected."""

    flags: flags8 = field(0, bits="SYN FIN ACK DATA")
    reserved: u8 = 0
    seq: u16 = field(0, role=role.seq("packets"))
    ack: u16 = field(0, role=role.ack("packets"))
    length: u16 = auto(payload_length)
    checksum: u16 = auto(inet_checksum)


SYN, FIN, ACK, DATA = 1, 2, 4, 8


class Unit:
    """What has a number: a payload, or the beginning or end of the octets."""

    __slots__ = ("flags", "payload", "repeated", "sent_ns")

    def __init__(self, flags: int, payload: bytes) -> None:
        self.flags, self.payload = flags, payload
        self.sent_ns = 0
        self.repeated = False


class GoBackN(Endpoint, header=GoBackNHeader):
    """Octets in order, exactly once, both ways.

    `timeout_ns` fixes the timer, which otherwise follows RFC 6298. `gap_ns` is the least time between two
    units sent. The application is told `Writable` when no more than a window waits. After `tries` timeouts
    in a row without progress the endpoint gives up; when all is over it answers for `linger_ns` more.
    """

    def __init__(
        self,
        *,
        window: int = 32,
        bits: int = 16,
        timeout_ns: int | None = None,
        gap_ns: int = 0,
        tries: int = 30,
        linger_ns: int = 60 * 10**9,
    ) -> None:
        if not 1 <= bits <= 16 or not 1 <= window < 2**bits:
            raise LocalProtocolError(f"{bits}-bit numbers allow windows of 1 to {2**bits - 1}, not {window}")
        self.window, self.numbers, self.mask = window, 2**bits, 2**bits - 1
        self.rto = Rto()
        self.timeout_ns, self.gap_ns, self.tries, self.linger_ns = timeout_ns, gap_ns, tries, linger_ns
        self.units: deque[Unit] = deque()  # from `base` on, also those not sent yet
        self.base = self.next = 0  # numbers that do not wrap: the oldest unacknowledged, the next to send
        self.expected = self.timeouts = 0
        self.free_ns = 0  # when the next unit may go
        self.connected = self.closing = self.peer_closed = False

    # ---- sending ----------------------------------------------------------------------------------

    def on_open(self, cx: Context, role: Role) -> None:
        if role == "client":
            self.units.append(Unit(SYN, b""))
            self.transmit(cx)
        self.connected = role == "server"  # it may use its window at once

    def on_app(self, cx: Context, operation: Any) -> None:
        if self.closing:
            raise LocalProtocolError(f"{type(operation).__name__} after Close")
        if isinstance(operation, Write):
            self.units.extend(Unit(DATA, piece) for piece in self.pieces(cx.path, operation.data))
        elif isinstance(operation, Close):
            self.closing = True
            self.units.append(Unit(FIN, b""))
        self.transmit(cx)

    def transmit(self, cx: Context) -> None:
        end = self.base + min(self.window if self.connected else 1, len(self.units))
        while self.next < end:
            if self.free_ns > cx.now:
                cx.timer("pace", at=self.free_ns)
                return
            unit = self.units[self.next - self.base]
            unit.sent_ns = cx.now
            self.send(cx, unit.flags | ACK, unit.payload, self.next)
            if self.next == self.base:
                self.set_timer(cx)
            self.next += 1
            self.free_ns = cx.now + self.gap_ns

    def send(self, cx: Context, flags: int, payload: bytes = b"", number: int = 0) -> None:
        ack = self.expected & self.mask
        cx.send(self.encode(cx.path, payload, flags=flags, seq=number & self.mask, ack=ack))

    def set_timer(self, cx: Context) -> None:
        """The timer of the oldest unit counts from when that was sent."""
        due, now = self.units[0].sent_ns + (self.timeout_ns or self.rto.ns), cx.now
        cx.timer("retransmit", at=due if due > now else now)

    def on_timer(self, cx: Context, name: str, path: Path) -> None:
        if name == "pace":
            self.transmit(cx)
        elif self.timeouts == self.tries:
            cx.event(Reset("no answer"))
            cx.done()
        else:
            self.timeouts += 1
            self.rto.on_timeout()
            cx.trace("go back", to=self.base, units=self.next - self.base)
            for i in range(self.next - self.base):
                self.units[i].repeated = True
            self.next = self.base
            self.transmit(cx)

    def on_acknowledgement(self, cx: Context, ack: int) -> None:
        n = (ack - self.base) & self.mask
        if not 0 < n <= self.next - self.base:
            return  # old, or of what was never sent
        for _ in range(n):
            unit = self.units.popleft()
            if unit.flags & SYN:
                self.connected = True
                cx.event(Connected())
        self.base += n
        self.timeouts = 0
        self.rto.on_sample(cx.now - unit.sent_ns, unit.repeated)
        if self.next > self.base:
            self.set_timer(cx)
        else:
            cx.cancel("retransmit")
        self.transmit(cx)
        if len(self.units) <= self.window and not self.closing:
            cx.event(Writable((2 * self.window - len(self.units)) * self.room(cx.path)))

    # ---- receiving --------------------------------------------------------------------------------

    def on_packet(self, cx: Context, packet: Packet) -> None:
        header, flags = packet.header, packet.header.flags
        if flags & (SYN | FIN | DATA):
            if header.seq == self.expected & self.mask:
                self.accept(cx, flags, packet.payload)
            self.send(cx, ACK)
        if flags & ACK:
            self.on_acknowledgement(cx, header.ack)
        if self.closing and self.peer_closed and not self.units:
            cx.linger(self.linger_ns)

    def accept(self, cx: Context, flags: int, payload: bytes) -> None:
        self.expected += 1
        if flags & DATA:
            cx.deliver(payload)
        if flags & SYN:
            cx.event(Connected())
        if flags & FIN:
            self.peer_closed = True
            cx.event(PeerClosed())
