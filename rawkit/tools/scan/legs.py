"""Which way probes go: targets grouped by source address, interface and next hop."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, NamedTuple

from rawkit.addr import IPAddress, Span, TargetSet, parse_target
from rawkit.errors import NoRoute, TargetError
from rawkit.tools.scan.config import NO_LIMIT, NO_NEIGHBOUR, NO_ROUTE
from rawkit.tools.scan.packets import ether
from rawkit.tools.scan.special import leave_out_special

if TYPE_CHECKING:
    from rawkit import net

LINKTYPE_ETHERNET = 1
LINKTYPE_RAW = 101
_CHUNK = 256  # addresses that share a route look-up where there are many
_NEIGHBOUR_TIMEOUT = 2.5  # seconds; the kernel asks three times, one second apart
_LOOKUPS_MAX = 512  # or not many more
_SINGLY = 64  # up to so many targets, each is looked up on its own

_NOWHERE = parse_target("0.0.0.0/8 224.0.0.0/4 255.255.255.255 :: ff00::/8", limit=NO_LIMIT)
"""Not one host: "this network" (RFC 791), multicast (RFC 5771, RFC 4291), limited broadcast (RFC 919)."""


Unreachable = tuple[TargetSet, str]
"""Targets to which nothing can be sent, and the reason that their results are to bear."""


class Leg(NamedTuple):
    """Targets that are reached from one source address through one interface.

    `link` is the Ethernet header for their packets; empty where there is none, and the kernel is to find the
    way of each packet. With `neighbours` its destination is missing: it is another one for each target.
    """

    targets: TargetSet
    source: IPAddress
    interface: str
    ifindex: int
    link: bytes = b""
    neighbours: bool = False

    @property
    def zone(self) -> str:
        """The zone of link-local targets."""
        return self.targets.spans[0].zone


def refuse_groups(targets: TargetSet) -> tuple[TargetSet, tuple[str, ...]]:
    """The targets without the broadcast addresses of networks that this host is in, and, of many public ones,
    without special ranges; and notes about those.

    Raises TargetError for an address that never stands for one host (multicast, broadcast, unspecified), and
    when nothing but a broadcast address was named.
    """
    targets, special = leave_out_special(targets)
    for span in targets.spans:
        for nowhere in _NOWHERE.spans:
            if span.version == nowhere.version and span.first <= nowhere.last and nowhere.first <= span.last:
                address = TargetSet([span._replace(first=max(span.first, nowhere.first))])[0]
                raise TargetError(f"bad target {address}: {_kind(address)} addresses are not scanned")
    from rawkit import net

    networks = {
        address.network
        for interface in net.interfaces()
        for address in interface.addresses
        if address.version == 4 and address.network.prefixlen < 31
    }
    notes = []
    left_out = []
    for network in networks:
        assert isinstance(network, IPv4Network)
        for address in (network.broadcast_address, network.network_address):
            if address not in targets or address.is_loopback:
                continue
            left_out.append(Span(4, int(address), int(address)))
            notes.append(f"{address} left out: a broadcast address of {network}")
    rest = targets.without(TargetSet(left_out)) if left_out else targets
    if rest.count == 0:
        raise TargetError(f"bad target {notes[0].replace(' left out:', ':')}; those are not scanned")
    return rest, (*special, *sorted(notes))


def plan_legs(
    targets: TargetSet, interface: str = "", *, resolve: bool, alone: bool = True
) -> tuple[list[Leg], list[Unreachable]]:
    """The legs that lead to the targets, and the targets that none leads to, with the reason.

    Up to 64 targets each have their route looked up. Among more, blocks of at most 256 addresses (or a 512th
    of all) go by the route of their first one; blocks end where this host's networks do, and its own
    addresses stand alone. `resolve` asks for Ethernet headers, and so for a question on the link (ARP,
    neighbour discovery) about routers and, unless `alone` is false, about lone targets.

    Raises NoRoute when no route leads to any target.
    """

    groups: dict[tuple[object, ...], tuple[net.Route, list[Span]]] = {}
    routes: dict[tuple[object, ...], net.Route | NoRoute] = {}  # by block
    unroutable: list[Span] = []
    reason: NoRoute | None = None
    size = 1 if targets.count <= _SINGLY else max(_CHUNK, targets.count // _LOOKUPS_MAX)
    borders = _borders()
    for span in _chunks(targets.spans, size, borders):
        block = span.version, span.zone, span.first // size, bisect_right(borders[span.version], span.first)
        if (found := routes.get(block)) is None:
            found = routes[block] = _route(TargetSet([span])[0], interface)
        if isinstance(found, NoRoute):
            reason = reason or found
            unroutable.append(span)
            continue
        route = found
        key = (span.version, route.ifindex, route.source, route.next_hop)
        groups.setdefault(key, (route, []))[1].append(span)
    if reason is not None and not groups:
        raise reason
    legs = []
    unreachable = [(TargetSet(unroutable), NO_ROUTE)]
    for route, spans in groups.values():
        assert route.source is not None
        leg: Leg | None = Leg(TargetSet(spans), route.source, route.interface, route.ifindex)
        if leg and resolve:
            leg = _with_link(leg, route, alone)
        if leg:
            legs.append(leg)
        else:
            unreachable.append((TargetSet(spans), NO_NEIGHBOUR))
    return legs, unreachable


def _route(address: IPAddress, interface: str) -> net.Route | NoRoute:
    from rawkit import net

    try:
        route = net.route(address, via=interface or None)
    except NoRoute as error:
        return error
    if route.source is None:
        return NoRoute(f"no route to {address}: {route.interface} has no IPv{address.version} address")
    return route


def _with_link(leg: Leg, route: net.Route, alone: bool) -> Leg | None:
    """The leg with its Ethernet header, where it can have one; None when the next hop does not answer."""
    from rawkit import net

    link = net.interface(leg.ifindex)
    # A packet socket's frames do not reach the host itself on every kernel.
    if link.loopback or link.linktype != LINKTYPE_ETHERNET or link.mac is None:
        return leg
    version = leg.source.version
    if route.next_hop is None and (leg.targets.count > 1 or not alone):
        return leg._replace(link=ether(None, link.mac, version), neighbours=True)
    neighbour = net.neighbour(route.next_hop or leg.targets[0], leg.ifindex, _NEIGHBOUR_TIMEOUT)
    if neighbour is None:
        return None
    return leg._replace(link=ether(neighbour, link.mac, version))


def _borders() -> dict[int, list[int]]:
    """By IP version: the addresses at which the route may change, as far as this host's interfaces tell."""
    from rawkit import net

    borders: dict[int, set[int]] = {4: set(), 6: set()}
    for interface in net.interfaces():
        for address in interface.addresses:
            network = address.network
            own, first, last = int(address.ip), int(network.network_address), int(network.broadcast_address)
            borders[address.version] |= {own, own + 1, first, last + 1}
    return {version: sorted(places) for version, places in borders.items()}


def _chunks(spans: Iterable[Span], size: int, borders: dict[int, list[int]]) -> Iterator[Span]:
    """The spans, cut at `borders` and where the address is a multiple of `size`."""
    for span in spans:
        places = borders[span.version]
        first = span.first
        while first <= span.last:
            last = min(span.last, first - first % size + size - 1)
            row = bisect_right(places, first)
            if row < len(places):
                last = min(last, places[row] - 1)
            yield span._replace(first=first, last=last)
            first = last + 1


def _kind(address: IPAddress) -> str:
    if address.is_multicast:
        return "multicast"
    return "broadcast" if int(address) == 0xFFFFFFFF else "unspecified"
