"""Labs of several links: hosts and routers in a graph, with the shortest ways in their routing tables."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from rawkit.addr import MAC, IPAddress
from rawkit.engine.link import LinkRelay
from rawkit.engine.namespace import Namespace, become_namespace_root
from rawkit.lab.host import Host
from rawkit.lab.processes import Processes
from rawkit.lab.setup import (
    IFA_F_NODAD,
    Closing,
    bring_up,
    lab_mac,
    new_host,
    set_sysctls,
    wait_until_up,
    wait_until_usable,
)
from rawkit.lab.wire import lay_half, open_relay
from rawkit.net.netlink import ask

if TYPE_CHECKING:
    from rawkit.sim.link import LinkSpec

MAX_NODES = 254
"""Hosts, and routers, of one lab at most."""

MAX_LINKS = 127
DEFAULT_MTU = 1500
MIN_MTU = 1280  # IPv6 asks for no less (RFC 8200 section 5)

_ROUTER_SETTINGS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    # Flows are spread by addresses and ports; by addresses alone, two hosts would have but one path.
    "net/ipv4/fib_multipath_hash_policy": "1",
    "net/ipv6/fib_multipath_hash_policy": "1",
    # Packets of one flow may come back another way than they went.
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
}
_NODE_SETTINGS = {
    # Every packet gets its ICMP error, however many there are: no type of message is limited but one that is
    # reserved and never sent (IPv6's list cannot be empty).
    "net/ipv4/icmp_ratemask": "0",
    "net/ipv6/icmp/ratemask": "0",
}

# <linux/rtnetlink.h>: the next hop is on the link, whatever the table says; a destination on the link.
_ONLINK = 4
_LINK_SCOPE = 253
_FAMILIES = (2, 10)  # AF_INET, AF_INET6
_LOOPBACK = 1  # the number of every namespace's own
_NAME_MAX = 15 - len("to-")


class Link(NamedTuple):
    """A wire between two of a lab's nodes, by their names. `mtu` is in octets of IP packet.

    With `spec` it does what that link of the simulator's does, both ways; the MTU is the smaller one.
    """

    near: str
    far: str
    mtu: int = DEFAULT_MTU
    spec: LinkSpec | None = None


class Router(Host):
    """A host that forwards. It has one address of each family, whichever interface it speaks on.

    Its interfaces are called to-<neighbour>; `interface` is the first.
    """

    def keep_silent(self) -> None:
        """Go on forwarding, but send no packet of its own to anybody any more: no ICMP errors either."""

        def question(route: Any) -> None:
            for family in _FAMILIES:
                # "iif lo" is what this host itself sends.
                route.rule(
                    "add", family=family, iifname="lo", priority=1, action="FR_ACT_BLACKHOLE", table=254
                )

        with self:
            ask(question, f"silence {self.name}")


class RoutedLab(Closing):
    """Hosts and routers in a graph; every node reaches every other by all the shortest ways there are.

    `hosts` and `routers` are names, `links` join them. Hosts have 10.77.0.1, fd77::1 and following, routers
    10.77.1.1, fd77:1::1 and following, each but one of each family; the links have none, so that a router's
    answer always comes from the router's own address. Where several ways are equally short, a node spreads
    flows over them (ECMP), by addresses and ports.

    `nodes` is everything by name; `a` and `b` are the first and the last host. `relays` is what delays and
    loses packets on the links that do, by "near>far"; what these meet, `seed` decides, as in a
    `rawkit.sim.Network` of the same names. `offloads` as in `Lab`.

    As root the nodes are made from here; an ordinary user's process moves into a user namespace, as in `Lab`.
    Ready when made; close it when done (it is a context manager).

    Raises:
        ValueError: a name twice, a link to nobody, a node that cannot be reached, too many, an MTU too low.
        PermissionDenied, EngineError: namespaces are not allowed here; the message says by what.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        routers: Sequence[str],
        links: Iterable[Link],
        *,
        seed: int = 0,
        offloads: bool = False,
    ) -> None:
        links = [
            link if link.spec is None else link._replace(mtu=min(link.mtu, link.spec.mtu)) for link in links
        ]
        ends = _ends(hosts, routers, links)
        ways = {name: _next_hops(name, ends) for name in (*hosts, *routers)}
        for name, reached in ways.items():
            if missing := set(ways) - set(reached):
                raise ValueError(f"there is no way from {name} to {', '.join(sorted(missing))}")
        self._resources = None
        become_namespace_root()
        with ExitStack() as stack:
            processes = Processes()
            self.nodes: dict[str, Host] = {}
            for cls, names, net in ((Host, hosts, ""), (Router, routers, "1")):
                for n, name in enumerate(names, 1):
                    first = next(iter(ends[name].values()))
                    addresses = f"10.77.{net or 0}.{n}", f"fd77:{net}::{n}".replace(":::", "::")
                    host = new_host(cls, stack, processes, name, *addresses, first.mac)
                    host.interface = first.interface
                    self.nodes[name] = host
            self.a, self.b = self.nodes[hosts[0]], self.nodes[hosts[-1]]
            wires = [link for link in links if link.spec is not None]
            middle = stack.enter_context(Namespace.create()) if wires else None
            for link in links:
                if link.spec is None:
                    self._join(link, ends)
            for n, link in enumerate(wires):
                self._lay(link, ends, middle, n, offloads)
            for name, host in self.nodes.items():
                with host:
                    set_sysctls(_NODE_SETTINGS)
                    if isinstance(host, Router):
                        set_sysctls(_ROUTER_SETTINGS)
                    configure = partial(_configure, host=host, nodes=self.nodes, ends=ends, ways=ways[name])
                    ask(configure, "set up the lab's hosts")
            self.relays: dict[str, LinkRelay] = {}
            for n, link in enumerate(wires):
                self.relays[f"{link.near}>{link.far}"] = stack.enter_context(_open(link, middle, n, seed))
            stack.callback(processes.close)  # the first thing to happen on closing
            self._resources = stack.pop_all()

    @property
    def routers(self) -> list[Router]:
        """The routers, in their order."""
        return [node for node in self.nodes.values() if isinstance(node, Router)]

    @property
    def hosts(self) -> list[Host]:
        """The other nodes, in their order."""
        return [node for node in self.nodes.values() if not isinstance(node, Router)]

    def _join(self, link: Link, ends: _Ends) -> None:
        """Make a veth pair, and raise both ends; they are up when the second is."""
        near, far = self.nodes[link.near], self.nodes[link.far]
        one, other = ends[link.near][link.far], ends[link.far][link.near]

        def make(route: Any) -> None:
            peer = {
                "ifname": other.interface,
                "address": str(other.mac),
                "net_ns_fd": far.namespace.fileno(),
                "mtu": link.mtu,
            }
            route.link(
                "add", kind="veth", ifname=one.interface, address=str(one.mac), mtu=link.mtu, peer=peer
            )
            bring_up(route, one.interface)

        for host, question in ((near, make), (far, partial(bring_up, name=other.interface))):
            with host:
                ask(question, "make the lab's links")

    def _lay(self, link: Link, ends: _Ends, middle: Namespace | None, n: int, offloads: bool) -> None:
        """As `_join`, with room for the relay in between."""
        assert middle is not None
        for near, name, other in zip(_middle_ends(n), (link.near, link.far), (link.far, link.near)):
            host, end = self.nodes[name], ends[name][other]
            attributes = {
                "ifname": end.interface,
                "address": str(end.mac),
                "net_ns_fd": host.namespace.fileno(),
            }
            lay_half(middle, near, host, attributes, link.mtu, offloads)

    def __repr__(self) -> str:
        return f"<RoutedLab of {len(self.hosts)} hosts and {len(self.routers)} routers>"


def _middle_ends(n: int) -> tuple[str, str]:
    """Of the n-th wire with a relay: what its two ends are called where that is."""
    return f"near{n}", f"far{n}"


def _open(link: Link, middle: Namespace | None, n: int, seed: int) -> LinkRelay:
    from rawkit.lab.emulator import emulated

    assert middle is not None
    assert link.spec is not None
    there = emulated(link.spec, link.near, link.far, seed)
    back = emulated(link.spec, link.far, link.near, seed)
    return open_relay(middle, _middle_ends(n), (there, back), 0)


def chain_of(
    n: int, parallel: Mapping[int, int], mtus: Mapping[int, int], specs: Mapping[int, LinkSpec]
) -> tuple[list[str], list[str], list[Link]]:
    """Hosts, routers and links of a chain; see `Lab.chain`."""
    if n < 1:
        raise ValueError(f"a chain of {n} routers: at least 1")
    for place, width in parallel.items():
        if not 1 <= place <= n or not 1 <= width <= 26:
            raise ValueError(
                f"{width} routers side by side at place {place}: places are 1..{n}, widths 1..26"
            )
    for place in (*mtus, *specs):
        if not 0 <= place <= n:
            raise ValueError(f"MTU or spec of link {place}: the links are 0..{n}")
    places = [["a"]]
    for place in range(1, n + 1):
        width = parallel.get(place, 1)
        letters = [""] if width == 1 else [chr(ord("a") + i) for i in range(width)]
        places.append([f"r{place}{letter}" for letter in letters])
    places.append(["b"])
    links = [
        Link(near, far, mtus.get(i, DEFAULT_MTU), specs.get(i))
        for i, (before, behind) in enumerate(pairwise(places))
        for near in before
        for far in behind
    ]
    return ["a", "b"], [name for place in places[1:-1] for name in place], links


def dumbbell_of(
    n: int, bottleneck: LinkSpec, access: LinkSpec | None
) -> tuple[list[str], list[str], list[Link]]:
    """Hosts, routers and links of a dumbbell; see `Lab.dumbbell`."""
    if n < 1:
        raise ValueError(f"a dumbbell of {n} hosts on each side: at least 1")
    mtu = bottleneck.mtu
    links = [Link("left", "right", mtu, bottleneck)]
    for i in range(1, n + 1):
        links += [Link(f"a{i}", "left", mtu, access), Link("right", f"b{i}", mtu, access)]
    return [f"{side}{i}" for side in "ab" for i in range(1, n + 1)], ["left", "right"], links


def star_of(n: int, spec: LinkSpec | None) -> tuple[list[str], list[str], list[Link]]:
    """Hosts, routers and links of a star; see `Lab.star`."""
    if n < 1:
        raise ValueError(f"a star of {n} hosts: at least 1")
    hosts = [f"h{i}" for i in range(1, n + 1)]
    return hosts, ["hub"], [Link(host, "hub", spec=spec) for host in hosts]


class _End(NamedTuple):
    """A node's end of a link."""

    interface: str
    mac: MAC
    other: MAC


_Ends = dict[str, dict[str, _End]]
"""By node, and by its neighbour there."""


def _ends(hosts: Sequence[str], routers: Sequence[str], links: Sequence[Link]) -> _Ends:
    ends: _Ends = {name: {} for name in (*hosts, *routers)}
    if not hosts:
        raise ValueError("a lab needs a host")
    if len(ends) < len(hosts) + len(routers):
        raise ValueError("two nodes of one name")
    for name in ends:
        if not 1 <= len(name) <= _NAME_MAX:
            raise ValueError(f"name {name!r}: 1..{_NAME_MAX} characters, as interfaces are called to-<name>")
    if max(len(hosts), len(routers)) > MAX_NODES or len(links) > MAX_LINKS:
        raise ValueError(
            f"{len(hosts)} hosts, {len(routers)} routers and {len(links)} links: "
            f"at most {MAX_NODES}, {MAX_NODES} and {MAX_LINKS}"
        )
    for i, link in enumerate(links):
        if link.near == link.far or link.far in ends.get(link.near, {}):
            raise ValueError(f"a second link from {link.near} to {link.far}, or one to itself")
        if link.mtu < MIN_MTU:
            raise ValueError(f"MTU {link.mtu}: at least {MIN_MTU}")
        macs = lab_mac(2 * i + 1), lab_mac(2 * i + 2)
        for name, neighbour, mac, other in (
            (link.near, link.far, macs[0], macs[1]),
            (link.far, link.near, macs[1], macs[0]),
        ):
            if name not in ends:
                raise ValueError(f"a link to {name!r}, which is no node")
            interface = f"veth{len(ends[name])}" if name in hosts else f"to-{neighbour}"
            ends[name][neighbour] = _End(interface, mac, other)
    return ends


def _next_hops(start: str, ends: _Ends) -> dict[str, list[str]]:
    """For each node that can be reached, the neighbours of `start` through which the way is shortest."""
    distance = {start: 0}
    through: dict[str, list[str]] = {start: []}
    queue = deque([start])
    while queue:
        name = queue.popleft()
        for neighbour in ends[name]:
            if neighbour not in distance:
                distance[neighbour] = distance[name] + 1
                through[neighbour] = []
                queue.append(neighbour)
            if distance[neighbour] == distance[name] + 1:
                more = through[name] if name != start else [neighbour]
                through[neighbour] += [hop for hop in more if hop not in through[neighbour]]
    return through


def _configure(
    route: Any, host: Host, nodes: Mapping[str, Host], ends: _Ends, ways: Mapping[str, list[str]]
) -> None:
    """Give a node its addresses and routes, once its links are up."""
    bring_up(route, "lo")
    own = ends[host.name]
    index = {name: route.link_lookup(ifname=end.interface)[0] for name, end in own.items()}
    # A host's addresses are where they usually are; a router's belong to no link.
    at = _LOOPBACK if isinstance(host, Router) else next(iter(index.values()))
    route.addr("add", index=at, address=str(host.ipv4), prefixlen=32)
    route.addr("add", index=at, address=str(host.ipv6), prefixlen=128, flags=IFA_F_NODAD)
    for end in own.values():
        wait_until_up(route, end.interface)
    wait_until_usable(route, at, f"host {host.name}")
    for version in (4, 6):
        for name, end in own.items():
            address = str(_address(nodes[name], version))
            # Nobody has to be asked for its link address, and the first packet does not wait for the answer.
            route.neigh("add", dst=address, lladdr=str(end.other), ifindex=index[name], state="permanent")
        for name, hops in ways.items():
            if name == host.name:
                continue
            to: dict[str, object] = {"dst": f"{_address(nodes[name], version)}/{32 if version == 4 else 128}"}
            source = {"prefsrc": str(_address(host, version))}
            steps = [
                {"gateway": str(_address(nodes[hop], version)), "oif": index[hop], "flags": _ONLINK}
                for hop in hops
            ]
            if name in own:
                route.route("add", **to, **source, oif=index[name], scope=_LINK_SCOPE if version == 4 else 0)
            elif len(steps) == 1:
                route.route("add", **to, **source, **steps[0])
            else:
                route.route("add", **to, **source, multipath=[{"hops": 0, **step} for step in steps])


def _address(host: Host, version: int) -> IPAddress:
    return host.ipv4 if version == 4 else host.ipv6
