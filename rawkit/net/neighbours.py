"""Link addresses of neighbours, from the kernel's own table."""

from __future__ import annotations

import errno
import socket as sockets
import time
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from rawkit.addr import MAC, IPAddress
from rawkit.errors import TargetError
from rawkit.net.interfaces import interface as find_interface
from rawkit.net.netlink import ask

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
    # The kernel is given 16 octets; the scope is the interface.
    text = str(wanted).partition("%")[0]
    end = time.monotonic() + timeout

    def question(socket: Any) -> MAC | None:
        mac, pending = _look_up(socket, text, index)
        if mac is None and not pending:
            _provoke(socket, text, index)
        pause = 0.0005
        while mac is None:
            left = end - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(pause, left))
            pause = min(2 * pause, 0.02)
            mac, pending = _look_up(socket, text, index)
            if mac is None and not pending:  # the kernel has tried three times and given up
                break
        return mac

    return ask(question, f"find neighbour {wanted}")


def _look_up(socket: Any, address: str, index: int) -> tuple[MAC | None, bool]:
    """What the kernel's table says: the MAC address if known, and whether it is being looked for."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        entry = socket.neigh("get", dst=address, ifindex=index)[0]
    except NetlinkError as error:
        if error.code == errno.ENOENT:
            return None, False
        raise
    state = entry["state"]
    if state in (_NONE, _INCOMPLETE, _FAILED):
        return None, state == _INCOMPLETE
    mac = entry.get_attr("NDA_LLADDR")
    return (MAC(mac) if mac and len(mac) == 17 else None), False


def _provoke(socket: Any, address: str, index: int) -> None:
    """Make the kernel look for a neighbour; the table says INCOMPLETE from then on."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        socket.neigh("replace", dst=address, ifindex=index, state=_NONE, flags=_NTF_USE)
    except NetlinkError as error:
        if error.code != errno.EPERM:
            raise
        # An error (no route, no address of one's own) leaves the table empty, which is an answer.
        family = sockets.AF_INET6 if ":" in address else sockets.AF_INET
        scope = (0, index) if family == sockets.AF_INET6 else ()
        with suppress(OSError), sockets.socket(family, sockets.SOCK_DGRAM) as datagram:
            datagram.setsockopt(
                sockets.SOL_SOCKET, sockets.SO_BINDTODEVICE, sockets.if_indextoname(index).encode()
            )
            datagram.sendto(b"", (address, _DISCARD_PORT, *scope))
