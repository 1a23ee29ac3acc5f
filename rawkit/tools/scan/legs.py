"""Which way probes go: targets grouped by source address, interface and next hop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from rawkit.addr import IPAddress, Span, TargetSet, parse_target
from rawkit.errors import NoRoute, TargetError
from rawkit.tools.scan.config import NO_LIMIT
from rawkit.wire import Ether

if TYPE_CHECKING:
    from rawkit import net

LINKTYPE_ETHERNET = 1
LINKTYPE_RAW = 101
_CHUNK = 256  # addresses that share a route look-up where there are many
_SINGLY = 64  # up to so many targets, each is looked up on its own

_NOWHERE = parse_target("0.0.0.0/8 224.0.0.0/4 255.255.255.255 :: ff00::/8", limit=NO_LIMIT)
"""Not one host: "this network" (RFC 791), multicast (RFC 5771, RFC 4291), limited broadcast (RFC 919)."""


@dataclass(frozen=True)
class Leg:
    """Targets that are reached from one source address through one interface.

    `link` is the Ethernet header for all of them; empty where there is none, or not one for all, and the
    kernel is to find the way for each packet.
    """

    targets: TargetSet
    source: IPAddress
    interface: str
    ifindex: int
    link: bytes = b""


def refuse_groups(targets: TargetSet) -> tuple[TargetSet, tuple[str, ...]]:
    """The targets without the broadcast addresses of networks that this host is in, and notes about those.

    Raises TargetError for an address that never stands for one host (multicast, broadcast, unspecified), and
    when nothing but a broadcast address was named.
    """
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
    return rest, tuple(sorted(notes))


def plan_legs(targets: TargetSet, interface: str = "", *, resolve: bool) -> tuple[list[Leg], TargetSet]:
    """The legs that lead to the targets, and the targets that no route leads to.

    Up to 64 targets each have their route looked up. Among more, blocks of 256 neighbouring addresses go by
    the route of their first one. `resolve` asks for Ethernet headers, and so for a look (ARP, neighbour
    discovery) at whoever comes first on the way.

    Raises NoRoute when no route leads to any target.
    """
    from rawkit import net

    groups: dict[tuple[object, ...], tuple[net.Route, list[Span]]] = {}
    unroutable: list[Span] = []
    reason: NoRoute | None = None
    for span in _chunks(targets.spans, 1 if targets.count <= _SINGLY else _CHUNK):
        first = TargetSet([span])[0]
        try:
            route = net.route(first, via=interface or None)
            if route.source is None:
                raise NoRoute(f"no route to {first}: {route.interface} has no IPv{span.version} address")
        except NoRoute as error:
            reason = reason or error
            unroutable.append(span)
            continue
        key = (span.version, route.ifindex, route.source, route.next_hop)
        groups.setdefault(key, (route, []))[1].append(span)
    if reason is not None and not groups:
        raise reason
    legs = []
    for route, spans in groups.values():
        assert route.source is not None
        link = _ether(route, spans) if resolve else b""
        legs.append(Leg(TargetSet(spans), route.source, route.interface, route.ifindex, link))
    return legs, TargetSet(unroutable)


def _ether(route: net.Route, spans: list[Span]) -> bytes:
    """The Ethernet header when all of a leg's packets have the same; nothing when they do not.

    A neighbour that does not answer is left to the kernel, too: its ICMP error then says so.
    """
    from rawkit import net

    next_hop = route.next_hop
    if next_hop is None:
        if len(spans) > 1 or spans[0].first != spans[0].last:
            return b""
        next_hop = TargetSet(spans)[0]
    link = net.interface(route.ifindex)
    # A packet socket's frames do not reach the host itself on every kernel.
    if link.loopback or link.linktype != LINKTYPE_ETHERNET or link.mac is None:
        return b""
    neighbour = net.neighbour(next_hop, route.ifindex)
    if neighbour is None:
        return b""
    ethertype = 0x0800 if spans[0].version == 4 else 0x86DD
    return bytes(Ether(dst=neighbour, src=link.mac, ethertype=ethertype))


def _chunks(spans: Iterable[Span], size: int) -> Iterator[Span]:
    """The spans, cut where the address is a multiple of `size`."""
    for span in spans:
        first = span.first
        while first <= span.last:
            last = min(span.last, first - first % size + size - 1)
            yield span._replace(first=first, last=last)
            first = last + 1


def _kind(address: IPAddress) -> str:
    if address.is_multicast:
        return "multicast"
    return "broadcast" if int(address) == 0xFFFFFFFF else "unspecified"
