"""Link addresses of neighbours, from the kernel's own table."""

from __future__ import annotations

import errno
import socket as sockets
import struct
import time
from contextlib import suppress
from ipaddress import ip_address

from rawkit.addr import MAC, IPAddress
from rawkit.errors import EngineError, PermissionDenied, TargetError
from rawkit.net import rtnetlink
from rawkit.net.interfaces import interface as find_interface

_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # struct ndmsg
_NDA_DST, _NDA_LLADDR = 1, 2
_FAMILY = {4: sockets.AF_INET, 6: sockets.AF_INET6}
# NUD_... and NTF_... of <linux/neighbour.h>.
_INCOMPLETE, _FAILED, _NONE = 0x01, 0x20, 0x00
_NTF_USE = 0x01
_DISCARD_PORT = 9  # RFC 863


def neighbour(address: IPAddress | str, interface: str | int, timeout: float = 1.0) -> MAC | None:
    """The MAC address of a neighbour on an interface; None when nobody answered within `timeout` seconds.

    What the kernel knows already is returned at once. Otherwise the kernel is asked to resolve the address
    as if it had a packet for it (ARP, neighbour discovery), without a packet being sent. Where that is
    forbidden (it needs CAP_NET_ADMIN), one empty UDP datagram goes to the neighbour's discard port.

    Raises:
        UnknownInterface: there is no such interface.
        TargetError: the text is no address.
    """
    try:
        wanted = ip_address(address) if isinstance(address, str) else address
    except ValueError as error:
        raise TargetError(f"bad address {address!r}: {error}") from None
    link = find_interface(interface)
    if link.loopback:  # the kernel keeps no entries there, or only one for all addresses
        return link.mac
    index = link.index
    end = time.monotonic() + timeout
    mac, pending = _look_up(wanted, index)
    if mac is None and not pending:
        _provoke(wanted, index)
    pause = 0.0005
    while mac is None:
        left = end - time.monotonic()
        if left <= 0:
            break
        time.sleep(min(pause, left))
        pause = min(2 * pause, 0.02)
        mac, pending = _look_up(wanted, index)
        if mac is None and not pending:  # the kernel has tried three times and given up
            break
    return mac


def _look_up(address: IPAddress, index: int) -> tuple[MAC | None, bool]:
    """What the kernel's table says: the MAC address if known, and whether it is being looked for."""
    try:
        (entry,) = _ask(rtnetlink.GET_NEIGHBOUR, address, index)
    except EngineError as error:
        if error.errno == errno.ENOENT:
            return None, False
        raise
    _, _, state, _, _ = _NEIGHBOUR.unpack(entry.fixed)
    if state in (_NONE, _INCOMPLETE, _FAILED):
        return None, state == _INCOMPLETE
    mac = entry.attributes.get(_NDA_LLADDR, b"")
    return (MAC(mac) if len(mac) == 6 else None), False


def _provoke(address: IPAddress, index: int) -> None:
    """Make the kernel look for a neighbour; the table says INCOMPLETE from then on."""
    try:
        _ask(rtnetlink.NEW_NEIGHBOUR, address, index, request=_NTF_USE, flags=rtnetlink.REPLACE)
    except PermissionDenied:
        # An error (no route, no address of one's own) leaves the table empty, which is an answer.
        family = _FAMILY[address.version]
        scope = (0, index) if address.version == 6 else ()
        with suppress(OSError), sockets.socket(family, sockets.SOCK_DGRAM) as datagram:
            datagram.setsockopt(
                sockets.SOL_SOCKET, sockets.SO_BINDTODEVICE, sockets.if_indextoname(index).encode()
            )
            datagram.sendto(b"", (str(address).partition("%")[0], _DISCARD_PORT, *scope))


def _ask(
    kind: int, address: IPAddress, index: int, request: int = 0, flags: int = 0
) -> list[rtnetlink.Message]:
    return rtnetlink.ask(
        kind,
        _NEIGHBOUR.pack(_FAMILY[address.version], index, _NONE, request, 0),
        # The kernel is given 16 octets of fe80::1%veth0; the scope is the interface.
        rtnetlink.attribute(_NDA_DST, address.packed),
        flags=flags,
        operation=f"find neighbour {address}",
    )
