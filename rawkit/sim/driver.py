"""Joins an endpoint to a host of the simulated network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawkit.sim.link import Datagram
from rawkit.transport.chance import Substream
from rawkit.transport.driver import App, Driver
from rawkit.transport.endpoint import Endpoint
from rawkit.transport.events import Path

if TYPE_CHECKING:
    from rawkit.sim.network import Host


_new = object.__new__


class SimDriver(Driver):
    """A driver whose packets travel through a simulated network."""

    def __init__(
        self, host: Host, port: int, endpoint: Endpoint, app: App, rng: Substream, paths: list[Path]
    ) -> None:
        super().__init__(host.name, host.network.clock, endpoint, app, rng, paths, host.network.trace)
        self.host, self.port = host, port
        self.network = host.network
        self._peers = {path: host.network.host_at(path.remote) for path in paths}
        self._path_from = {peer: path for path, peer in self._peers.items()}

    def arrive(self, datagram: Datagram) -> None:
        """A packet for this endpoint has come to its host."""
        if self.trace is not None:
            self.trace.add(self.clock.now, "arrive", self.name, *datagram.facts)
        path = self._path_from.get(datagram.src) or self._path_from.get(datagram.dst)
        if path is not None:
            self.take(datagram.octets, path, datagram.ecn)

    def too_large(self, datagram: Datagram, mtu: int) -> None:
        """A router's answer (ICMP, fragmentation needed): the path takes only `mtu` octets."""
        path = self._path_from.get(datagram.dst)
        if path is not None:
            self.narrow(path, mtu)

    def send(self, octets: bytes, path: Path, ecn: int, at_ns: int) -> None:
        if at_ns and at_ns > self.clock.now:
            self.send_later(octets, path, ecn, at_ns)
            return
        self.sent += 1
        host, dst = self.host, self._peers[path]
        network = self.network
        number = network.packets
        network.packets = number + 1
        datagram = _new(Datagram)  # calling the class takes twice as long
        datagram.octets, datagram.size = octets, len(octets) + path.overhead
        datagram.src, datagram.dst, datagram.port = host, dst, self.port
        datagram.ecn, datagram.number = ecn, number
        if self.trace is not None:
            self.trace.add(self.clock.now, "send", self.name, *datagram.facts)
        way = host.routes.get(dst)
        if way is not None:
            way.send(datagram)
        else:
            host.forward(datagram)
