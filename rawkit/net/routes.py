"""The way to a destination, as the kernel would choose it."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from rawkit.addr import IPAddress
from rawkit.errors import EngineError, NoRoute, TargetError
from rawkit.net import rtnetlink
from rawkit.net.interfaces import Interface, interface, interfaces

# <linux/rtnetlink.h>
_ROUTE = struct.Struct("=8BI")  # struct rtmsg
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_METRICS, _RTA_CACHEINFO, _RTA_VIA = 1, 4, 5, 7, 8, 12, 18
_RTAX_MTU = 2
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_RTN_LOCAL = 2
_REFUSING = {6: "blackhole", 7: "unreachable", 8: "prohibit"}  # RTN_...


class Route(NamedTuple):
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

    version = address.version
    # The scope is not part of the 16 octets that the kernel is given.
    wanted = rtnetlink.attribute(_RTA_DST, address.packed)
    if leaving is not None:
        wanted += rtnetlink.attribute(_RTA_OIF, struct.pack("=I", leaving.index))
    fixed = _ROUTE.pack(_FAMILY[version], 8 * len(address.packed), 0, 0, 0, 0, 0, 0, 0)
    try:
        (message,) = rtnetlink.ask(rtnetlink.GET_ROUTE, fixed, wanted, operation=f"find a route to {address}")
    except EngineError as error:
        raise _no_route(address, error.errno or 0, leaving) from error
    kind = _ROUTE.unpack(message.fixed)[7]
    table_error = _table_error(message)
    if kind in _REFUSING or table_error:
        raise _no_route(address, table_error or errno.ENETUNREACH, leaving, _REFUSING.get(kind, ""))
    return _route(address, kind, message.attributes)


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


def _table_error(message: rtnetlink.Message) -> int:
    """The errno in RTA_CACHEINFO (struct rta_cacheinfo): what IPv6 says instead of an error message."""
    octets = message.attributes.get(_RTA_CACHEINFO, b"")
    return abs(int.from_bytes(octets[12:16], sys.byteorder, signed=True))


def _route(address: IPAddress, kind: int, found: dict[int, bytes]) -> Route:
    present = interfaces()
    if kind == _RTN_LOCAL:
        # Whatever interface holds the address: what a host sends to itself passes over its loopback.
        out = next(link for link in present if link.loopback)
    else:
        index = int.from_bytes(found[_RTA_OIF], sys.byteorder)
        out = next(link for link in present if link.index == index)
    # An IPv4 route by way of an IPv6 gateway (RFC 5549) has it in RTA_VIA (struct rtvia).
    gateway = found.get(_RTA_GATEWAY) or found.get(_RTA_VIA, b"")[2:]
    source = found.get(_RTA_PREFSRC)
    metrics = rtnetlink.attributes(found.get(_RTA_METRICS, b""))
    return Route(
        destination=address,
        interface=out.name,
        ifindex=out.index,
        source=ip_address(source) if source else None,
        next_hop=ip_address(gateway) if gateway else None,
        mtu=int.from_bytes(metrics.get(_RTAX_MTU, b""), sys.byteorder) or out.mtu,
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
