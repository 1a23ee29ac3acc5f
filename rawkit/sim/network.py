"""The simulated network: hosts, routers, links, and the endpoints that run on the hosts."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TypeVar

from rawkit.errors import LocalProtocolError
from rawkit.sim.driver import SimDriver
from rawkit.sim.link import Datagram, Direction, Link, LinkSpec, check_name
from rawkit.transport.chance import Substream
from rawkit.transport.clockwork import FOREVER, Clockwork
from rawkit.transport.driver import App
from rawkit.transport.endpoint import Endpoint
from rawkit.transport.events import Path
from rawkit.transport.trace import Trace
from rawkit.wire.ipv4 import IPv4

NodeT = TypeVar("NodeT", bound="Node")

PROTOCOL = 253
"""The IP protocol number of simulated packets: one for experiments (RFC 3692)."""


class Node:
    """Something that links end at: it sends on what is not for it."""

    def __init__(self, network: Network, name: str, address: str) -> None:
        self.network, self.name, self.address = network, name, address
        self.routes: dict[Node, Direction] = {}
        self.directions: list[Direction] = []

    def receive(self, datagram: Datagram) -> None:
        """A packet came out of a link."""
        self.forward(datagram)

    def forward(self, datagram: Datagram) -> None:
        """Send a packet on its way; one for a group goes out once on each branch of its tree."""
        dst = datagram.dst
        if isinstance(dst, Group):
            for way in dst.branches(datagram.src, self):
                way.send(datagram.copy())
            return
        way_to = self.routes.get(dst)
        if way_to is None:
            raise LocalProtocolError(f"{self.name}: no way to {dst.name}")
        way_to.send(datagram)

    def too_large(self, datagram: Datagram, mtu: int) -> None:
        """A packet that this node sent did not fit a link."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"


class Router(Node):
    """Sends packets on, at once."""


class Group(Node):
    """A multicast address: what is sent to it arrives at all members but the sender."""

    def __init__(self, network: Network, name: str, address: str) -> None:
        super().__init__(network, name, address)
        self.members: list[Host] = []
        self._branches: dict[tuple[Node, Node], list[Direction]] = {}

    def branches(self, source: Node, node: Node) -> list[Direction]:
        """The ways on which a packet from `source` leaves `node`: those of the shortest paths to all
        members.
        """
        if (source, source) not in self._branches:
            self._branches[source, source] = []
            for member in self.members:
                at = source
                while at is not member:
                    way = at.routes[member]
                    known = self._branches.setdefault((source, at), [])
                    if way not in known:
                        known.append(way)
                    at = way.target
        return self._branches.get((source, node), [])


class Host(Node):
    """Where endpoints run."""

    def __init__(self, network: Network, name: str, address: str) -> None:
        super().__init__(network, name, address)
        self.drivers: dict[int, SimDriver] = {}

    def receive(self, datagram: Datagram) -> None:
        if datagram.dst is not self:
            self.forward(datagram)
            if not isinstance(datagram.dst, Group):
                return
        driver = self.drivers.get(datagram.port)
        if driver is not None:
            driver.arrive(datagram)

    def too_large(self, datagram: Datagram, mtu: int) -> None:
        driver = self.drivers.get(datagram.port)
        if driver is not None:
            self.network.clock.at(self.network.clock.now, lambda _: driver.too_large(datagram, mtu))


class Network:
    """Hosts and routers joined by links, in virtual time.

    All randomness comes from `seed`. With `trace`, `network.trace` records every event; leave it off for long
    runs, it keeps them all.
    """

    def __init__(self, seed: int = 0, *, trace: bool = False) -> None:
        self.seed = seed
        self.clock = Clockwork()
        self.trace = Trace() if trace else None
        self.packets = 0
        """How many packets were sent by hosts."""
        self.nodes: dict[str, Node] = {}
        self.links: list[Link] = []
        self._by_address: dict[str, Node] = {}
        self._ports = 0
        self._routed = False

    # ---- building it ------------------------------------------------------------------------------

    def host(self, name: str) -> Host:
        """A new host.

        Raises:
            LocalProtocolError: the name is taken, or is no name.
        """
        return self._add(Host, name)

    def router(self, name: str) -> Router:
        """A new router; raises as `host` does."""
        return self._add(Router, name)

    def _add(self, kind: type[NodeT], name: str) -> NodeT:
        if check_name(name) in self.nodes:
            raise LocalProtocolError(f"there is a node {name!r} already")
        number = len(self.nodes) + 1
        node = kind(self, name, f"10.0.{number >> 8}.{number & 255}")
        self.nodes[name] = self._by_address[node.address] = node
        return node

    def group(self, name: str) -> Group:
        """A new multicast group, without members; `join` adds them."""
        group = self._add(Group, name)
        group.address = f"224.0.1.{len(self.nodes) & 255}"
        self._by_address[group.address] = group
        return group

    def link(self, a: Node, b: Node, spec: LinkSpec, back: LinkSpec | None = None) -> Link:
        """Join two nodes; `back` is for the way from b to a where that differs."""
        link = Link(
            Direction(self.clock, spec, a, b, self.seed, self.trace),
            Direction(self.clock, back or spec, b, a, self.seed, self.trace),
        )
        a.directions.append(link.forth)
        b.directions.append(link.back)
        self.links.append(link)
        self._routed = False
        return link

    def host_at(self, address: str) -> Node:
        """The node with an address."""
        return self._by_address[address]

    def _route(self) -> None:
        """Shortest paths by hops; among equals the link that was made first."""
        for start in self.nodes.values():
            start.routes = {}
            seen = {start}
            todo: deque[tuple[Node, Direction | None]] = deque([(start, None)])
            while todo:
                node, first = todo.popleft()
                for way in node.directions:
                    if way.target not in seen:
                        seen.add(way.target)
                        start.routes[way.target] = first or way
                        todo.append((way.target, first or way))
        self._routed = True

    # ---- running things on it -----------------------------------------------------------------------

    def connect(
        self,
        client: Host,
        server: Host,
        client_endpoint: Endpoint,
        server_endpoint: Endpoint,
        client_app: App | None = None,
        server_app: App | None = None,
    ) -> tuple[SimDriver, SimDriver]:
        """Put one endpoint on each of two hosts, joined to each other. `open` begins them."""
        self._ports += 1
        first = self._drive(client, server, client_endpoint, client_app or App())
        second = self._drive(server, client, server_endpoint, server_app or App())
        return first, second

    def join(
        self, group: Group, endpoints: Mapping[Host, Endpoint], apps: Mapping[Host, App] | None = None
    ) -> list[SimDriver]:
        """Put an endpoint on each of several hosts, each with a path to all the others. `open` begins
        them.
        """
        self._ports += 1
        group.members = list(endpoints)
        given = apps or {}
        return [self._drive(host, group, each, given.get(host) or App()) for host, each in endpoints.items()]

    def _drive(self, here: Host, there: Node, endpoint: Endpoint, app: App) -> SimDriver:
        if not self._routed:
            self._route()
        rng = Substream(self.seed, "endpoint", here.name, self._ports)
        driver = SimDriver(here, self._ports, endpoint, app, rng, [self.path(here, there)])
        here.drivers[self._ports] = driver
        return driver

    def path(self, here: Node, there: Node) -> Path:
        """The path from one node to another; its MTU is that of the first link."""
        if not isinstance(there, Group) and there not in here.routes:
            raise LocalProtocolError(f"{here.name}: no way to {there.name}")
        way = here.directions[0] if isinstance(there, Group) else here.routes[there]
        return Path(
            here.address,
            there.address,
            way.spec.mtu,
            IPv4.min_len,
            IPv4(src=here.address, dst=there.address, protocol=PROTOCOL),
            IPv4(src=there.address, dst=here.address, protocol=PROTOCOL),
            self._ports,
            self._ports,
        )

    @property
    def now(self) -> int:
        """The time, in nanoseconds."""
        return self.clock.now

    def run(self, until_ns: int = FOREVER) -> int:
        """Let time pass until nothing is left to do, or `until_ns`; returns the time."""
        return self.clock.run(until_ns)


# ---- topologies by name ------------------------------------------------------------------------------


def p2p(spec: LinkSpec, back: LinkSpec | None = None, *, seed: int = 0, trace: bool = False) -> Network:
    """Two hosts, "a" and "b", and a link."""
    network = Network(seed, trace=trace)
    network.link(network.host("a"), network.host("b"), spec, back)
    return network


def dumbbell(
    n: int,
    bottleneck: LinkSpec,
    access: LinkSpec | None = None,
    *,
    phase_jitter: str | float = "100us",
    seed: int = 0,
    trace: bool = False,
) -> Network:
    """`n` hosts a1 ... on the left and b1 ... on the right of one link between two routers.

    Deterministic senders that share a drop-tail queue lock phases, and one of them loses all packets (Floyd,
    Jacobson 1992): a little jitter on the access links avoids that. `phase_jitter=0` shows the effect.
    """
    network = Network(seed, trace=trace)
    left, right = network.router("left"), network.router("right")
    network.link(left, right, bottleneck)
    access = access or LinkSpec(mtu=bottleneck.mtu, jitter=phase_jitter)
    for i in range(1, n + 1):
        network.link(network.host(f"a{i}"), left, access)
        network.link(right, network.host(f"b{i}"), access)
    return network


def parking_lot(n: int, hop: LinkSpec, *, seed: int = 0, trace: bool = False) -> Network:
    """A row of `n` links between routers; hosts "a" and "b" at its ends, and a pair a1, b1 ... across
    each.
    """
    network = Network(seed, trace=trace)
    routers = [network.router(f"r{i}") for i in range(n + 1)]
    near = LinkSpec(mtu=hop.mtu, jitter="100us")
    network.link(network.host("a"), routers[0], near)
    network.link(network.host("b"), routers[-1], near)
    for i in range(n):
        network.link(routers[i], routers[i + 1], hop)
        network.link(network.host(f"a{i + 1}"), routers[i], near)
        network.link(network.host(f"b{i + 1}"), routers[i + 1], near)
    return network
