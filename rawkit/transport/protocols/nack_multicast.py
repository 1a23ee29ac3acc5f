"""Reliable multicast by negative acknowledgements: receivers speak only when something is missing.

One sender, many receivers, numbered messages. A receiver that sees a gap waits a random time before it asks
for what is missing, and keeps quiet when it hears another ask for the same: so a loss that many suffer is
asked for about once (suppression, as in NORM, RFC 5740 section 5.3). The sender repeats what is asked for,
and says from time to time how far it is, so that the loss of the last message is noticed too. It is no byte
stream, and there is no connection: receivers come and go.
"""

from __future__ import annotations

from math import exp, log
from typing import Any

from rawkit.transport.endpoint import Context, Endpoint, Packet
from rawkit.transport.events import Close, Closed, Path, PeerClosed, Role, Write
from rawkit.transport.ranges import RangeSet
from rawkit.wire import role
from rawkit.wire.field import auto, field, flags8, inet_checksum, payload_length, u8, u16, u32
from rawkit.wire.header import Header

MS = 10**6


class NackHeader(Header):
    """Twelve octets. DATA carries message `number`; NACK asks for `number` .. `last`; HERE says that `last`
    was sent.
    """

    flags: flags8 = field(0, bits="DATA NACK HERE END")
    reserved: u8 = 0
    length: u16 = auto(payload_length)
    number: u32 = field(0, role=role.seq("packets"))
    last: u32 = 0
    unused: u16 = 0
    checksum: u16 = auto(inet_checksum)


DATA, NACK, HERE, END = 1, 2, 4, 8


class NackMulticast(Endpoint, header=NackHeader):
    """Sender ("client") or receiver ("server") of numbered messages, delivered in order.

    Receivers wait a random time up to `suppress_ns` (several round trips) before they ask, ever longer if
    nothing comes; `group_size` is a guess at how many they are, for which the order of magnitude is enough.
    The sender says how far it is after `quiet_ns` without sending, each time twice as late, and ends after
    `farewells` times without a question. A receiver keeps `most_ahead` messages beyond the first that is
    missing.
    """

    def __init__(
        self,
        *,
        group_size: int = 100,
        suppress_ns: int = 200 * MS,
        quiet_ns: int = 100 * MS,
        farewells: int = 8,
        most_ahead: int = 4096,
    ) -> None:
        self.group_size, self.suppress_ns = group_size, suppress_ns
        self.quiet_ns, self.farewells, self.most_ahead = quiet_ns, farewells, most_ahead
        self.sent: list[bytes] = []
        self.closing = False
        self.quiet = 0  # announcements since the last question
        self.stored: dict[int, bytes] = {}
        self.have = RangeSet()
        self.next = self.known = 0  # the next number to deliver; how far the sender is known to be
        self.asked = 0  # how often in vain
        self.nacks = 0
        """How many questions this receiver asked."""
        self.sender = False

    def on_open(self, cx: Context, role: Role) -> None:
        self.sender = role == "client"

    # ---- the sender -----------------------------------------------------------------------------------

    def on_app(self, cx: Context, operation: Any) -> None:
        if isinstance(operation, Write):
            self.sent.append(operation.data)
            self.send_message(cx, len(self.sent) - 1)
        elif isinstance(operation, Close):
            self.closing = True
            self.announce(cx)

    def send_message(self, cx: Context, number: int) -> None:
        cx.send(NackHeader(flags=DATA, number=number, last=len(self.sent)), self.sent[number])
        self.quiet = 0
        cx.timer("announce", after=self.quiet_ns)

    def announce(self, cx: Context) -> None:
        cx.send(NackHeader(flags=HERE | (END if self.closing else 0), last=len(self.sent)))
        self.quiet += 1
        cx.timer("announce", after=self.quiet_ns << min(self.quiet, 10))

    def on_nack(self, cx: Context, header: NackHeader) -> None:
        self.quiet = 0
        for number in range(header.number, min(header.last + 1, len(self.sent), header.number + 64)):
            self.send_message(cx, number)

    # ---- a receiver -----------------------------------------------------------------------------------

    def on_packet(self, cx: Context, packet: Packet) -> None:
        header = packet.header
        if self.sender:
            if header.flags & NACK:
                self.on_nack(cx, header)
            return
        gap = self.first_gap()
        if header.flags & NACK:
            # Somebody else asks: if it is for what we miss, the answer will come to us as well.
            if gap is not None and header.number <= gap[0] <= header.last:
                self.asked += 1
                self.wait(cx)
            return
        self.known = max(self.known, min(header.last, self.next + self.most_ahead))
        number = header.number
        if header.flags & DATA and self.next <= number < self.known and number not in self.stored:
            self.stored[number] = packet.payload
            self.have.add(number, number + 1)
            while self.next in self.stored:
                cx.deliver(self.stored.pop(self.next))
                self.next += 1
        found = self.first_gap()
        if found is None:
            cx.cancel("ask")
        elif gap is None or found[0] != gap[0]:  # another message is the first that is missing
            self.asked = 0
            self.wait(cx)
        if header.flags & END and self.next >= header.last:
            cx.event(PeerClosed())
            cx.done()

    def first_gap(self) -> tuple[int, int] | None:
        """The first range that is missing, of what the sender is known to have sent."""
        return next(self.have.gaps(self.next, self.known), None)

    def wait(self, cx: Context) -> None:
        """Ask after a random time, if it is still missing then; longer each time it was in vain."""
        most = self.suppress_ns << min(self.asked, 6)
        # RFC 5740 section 5.3: exponential, so that of a group of any size only a few are early.
        rate = log(self.group_size) + 1
        x = cx.rng.random() * (exp(rate) - 1) + 1
        cx.timer("ask", after=int(most * log(x) / rate))

    def on_timer(self, cx: Context, name: str, path: Path) -> None:
        if name == "announce" and self.closing and self.quiet >= self.farewells:
            cx.event(Closed())
            cx.done()
        elif name == "announce":
            self.announce(cx)
        else:
            gap = self.first_gap()
            if gap is not None:
                self.nacks += 1
                self.asked += 1
                cx.send(NackHeader(flags=NACK, number=gap[0], last=gap[1] - 1))
                self.wait(cx)
