"""A file to start a transport protocol from: a header, stop-and-wait, a run that shows it."""

from __future__ import annotations

import keyword

from rawkit.errors import TargetError

_TEMPLATE = '''\
"""{title}: a transport protocol of one's own.

One run with two losses, as a ladder:  python {module}.py
What breaks it:                        rawkit transport check {module}.py:{title}
"""

from collections import deque

from rawkit import Header
from rawkit.sim import Schedule, Transfer
from rawkit.transport import Close, Endpoint, PeerClosed, Write
from rawkit.wire import role
from rawkit.wire.field import auto, field, flags8, inet_checksum, payload_length, u8, u16


class {title}Header(Header):
    """What stands before each packet's data."""

    flags: flags8 = field(0, bits="ACK FIN")
    number: u8 = field(0, role=role.seq("packets"))
    length: u16 = auto(payload_length)
    checksum: u16 = auto(inet_checksum)


class {title}(Endpoint, header={title}Header):
    """Stop-and-wait: one packet, and the next when it is acknowledged."""

    def __init__(self):
        self.queue = deque()  # flags and data that are not acknowledged
        self.sending = self.expected = 0  # numbers
        self.closing = self.peer_closed = False

    def on_app(self, cx, operation):
        idle = not self.queue
        if isinstance(operation, Write):
            self.queue.extend((0, piece) for piece in self.pieces(cx.path, operation.data))
        elif isinstance(operation, Close):
            self.closing = True
            self.queue.append(({title}Header.FIN, b""))
        if idle:
            self.transmit(cx)

    def transmit(self, cx):
        if self.queue:
            flags, data = self.queue[0]
            cx.send({title}Header(flags=flags, number=self.sending), data)
            cx.timer("again", after=100_000_000)  # nanoseconds

    def on_timer(self, cx, name, path):
        self.transmit(cx)

    def on_packet(self, cx, packet):
        header = packet.header
        if header.flags & {title}Header.ACK:
            if self.queue and header.number == self.sending:
                self.queue.popleft()
                self.sending = (self.sending + 1) % 256
                cx.cancel("again")
                self.transmit(cx)
        else:
            cx.send({title}Header(flags="ACK", number=header.number))
            if header.number == self.expected:
                self.expected = (self.expected + 1) % 256
                if header.flags & {title}Header.FIN:
                    self.peer_closed = True
                    cx.event(PeerClosed())
                else:
                    cx.deliver(packet.payload)
        if self.closing and self.peer_closed and not self.queue:
            cx.linger(20_000_000_000)  # the peer may ask again


if __name__ == "__main__":
    result = Transfer({title}, octets=4000, schedule=Schedule.parse("drop 2, drop 5")).run()
    print(result.ladder())
    print(result.violation() or "nothing wrong")
'''


def scaffold(name: str) -> str:
    """The source of a protocol called `name`, ready to run.

    Raises:
        TargetError: it is no name that a Python module can have.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or not name.isascii():
        raise TargetError(f"{name!r} is no name for a protocol: letters, digits and underscores")
    title = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    return _TEMPLATE.format(title=title, module=name.lower())
