"""One direction of a link with nothing at its ends: packets in, times of arrival out."""

from __future__ import annotations

from rawkit.sim.link import Datagram, Direction, LinkSpec
from rawkit.sim.network import Network, Node
from rawkit.transport.clockwork import Clockwork
from rawkit.transport.trace import Trace


class Line(Node):
    """The far end, which notes what arrives: (time in ns, number of the packet, octets, ECN codepoint)."""

    def __init__(self, spec: LinkSpec, seed: int = 0, trace: Trace | None = None) -> None:
        super().__init__(Network(), "sink", "10.0.0.2")
        self.clock = Clockwork()
        self.source = Node(self.network, "source", "10.0.0.1")
        self.direction = Direction(self.clock, spec, self.source, self, seed, trace)
        self.arrived: list[tuple[int, int, bytes, int]] = []
        self._sent = 0

    def receive(self, datagram: Datagram) -> None:
        self.arrived.append((self.clock.now, datagram.number, datagram.octets, datagram.ecn))

    def send(self, at_ns: int = 0, size: int = 1500, *, octets: bytes | None = None, ecn: int = 0) -> None:
        """Offer a packet of `size` octets at a time."""
        body = bytes(size - 20) if octets is None else octets
        datagram = Datagram(body, len(body) + 20, self.source, self, 0, ecn, self._sent)
        self._sent += 1
        self.clock.at(at_ns, self.direction.send, datagram)

    def run(self, until_ns: int = 2**62) -> list[int]:
        """Let everything happen; the times of arrival in ns."""
        self.clock.run(until_ns)
        return [time for time, *_ in self.arrived]

    @property
    def numbers(self) -> list[int]:
        """The numbers of the packets that arrived, in their order."""
        return [number for _, number, *_ in self.arrived]
