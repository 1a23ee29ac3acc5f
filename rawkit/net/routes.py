"""The way to a destination, as the kernel would choose it."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from rawkit.addr import IPAddress
from rawkit.errors import EngineError, NoRoute, TargetError
from rawkit.net.interfaces import Interface, interface, interfaces
from rawkit.net.netlink import ask

_RTN_LOCAL = 2
_REFUSING = {6: "blackhole", 7: "unreachable", 8: "prohibit"}  # RTN_... of <linux/rtnetlink.h>


@dataclass(frozen=True, slots=True)
class Route:
    """The way to `destination`.

    `interface` and `ifindex` are where packets leave, `linktype` the kind of frames there (LINKTYPE number).
    `source` is the address the kernel would send from, None when the host has none. `next_hop` is the
    gateway, None when the destination is on the link or this host itself. `mtu` is in octets of IP packet:
    the interface's, or less where the route says so.
    """

    destination: IPAddress
    interface: str
    ifindex: int
    source: IPAddress | None
    next_hop: IPAddress | None
    mtu: int
    linktype: int


def route(destination: IPAddress | str, via: str | int | None = None) -> Route:
    """The route to an address, from the calling thread's network namespace.

    `via` asks for the way out of one interface (name or index); so does the scope of a link-local address
    ("fe80::1%veth0").

    Raises:
        NoRoute: there is no way, or the table forbids it; `errno` tells which.
        TargetError: the text is no address.
        UnknownInterface: `via`, or the scope, is no interface.
    """
    try:
        address = ip_address(destination) if isinstance(destination, str) else destination
    except ValueError as error:
        raise TargetError(f"bad address {destination!r}: {error}") from None
    scope = address.scope_id if isinstance(address, IPv6Address) else None
    if via is None and scope is not None:
        via = int(scope) if scope.isdecimal() else scope
    leaving = None if via is None else interface(via)

    def question(netlink: Any) -> Any:
        # The scope is not part of the 16 octets that the kernel is given.
        wanted: dict[str, object] = {"dst": str(address).partition("%")[0]}
        if leaving is not None:
            wanted["oif"] = leaving.index
        return netlink.route("get", **wanted)[0]

    try:
        message = ask(question, f"find a route to {address}")
    except EngineError as error:
        raise _no_route(address, error.errno or 0, leaving) from error
    table_error = (message.get_attr("RTA_CACHEINFO") or {}).get("rta_error", 0)
    if message["type"] in _REFUSING or table_error:
        raise _no_route(
            address, abs(table_error) or errno.ENETUNREACH, leaving, _REFUSING.get(message["type"], "")
        )
    return _route(address, message)


def source_address(destination: IPAddress) -> IPAddress | None:
    """The address that the kernel would send from; None where it does not say, and `route` tells why.

    It takes a few microseconds: a datagram socket is connected, and nothing is sent.
    """
    family = socket.AF_INET if destination.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((destination.compressed, 9))
            source = ip_address(sock.getsockname()[0].partition("%")[0])
    except OSError:
        return None
    return None if source.is_unspecified else source


def _route(address: IPAddress, message: Any) -> Route:
    present = interfaces()
    if message["type"] == _RTN_LOCAL:
        # Whatever interface holds the address: what a host sends to itself passes over its loopback.
        out = next(link for link in present if link.loopback)
    else:
        index = message.get_attr("RTA_OIF")
        out = next(link for link in present if link.index == index)
    via = message.get_attr("RTA_VIA")  # an IPv4 route by way of an IPv6 gateway (RFC 5549)
    gateway = message.get_attr("RTA_GATEWAY") or (via["addr"] if via else None)
    source = message.get_attr("RTA_PREFSRC")
    metrics = message.get_attr("RTA_METRICS")
    return Route(
        destination=address,
        interface=out.name,
        ifindex=out.index,
        source=ip_address(source) if source else None,
        next_hop=ip_address(gateway) if gateway else None,
        mtu=(metrics.get_attr("RTAX_MTU") if metrics else None) or out.mtu,
        linktype=out.linktype,
    )


def _no_route(
    address: IPv4Address | IPv6Address, code: int, leaving: Interface | None, kind: str = ""
) -> NoRoute:
    by = f" by way of {leaving.name}" if leaving else ""
    why = f": the routing table says {kind}" if kind else ""
    error = NoRoute(f"no route to {address}{by}{why}")
    error.errno = code
    return error
