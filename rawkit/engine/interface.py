"""What sockets have to know about an interface: its number, its name, what its frames start with."""

from __future__ import annotations

import struct
from contextlib import AbstractContextManager
from fcntl import ioctl
from socket import if_nametoindex
from socket import socket as Socket
from typing import Protocol

from rawkit.errors import RawkitError, UnknownInterface

LINKTYPE_ETHERNET = 1
LINKTYPE_RAW = 101  # starts with an IP header
LINKTYPE_SLL2 = 276

_SIOCGIFNAME, _SIOCGIFMTU, _SIOCGIFHWADDR = 0x8910, 0x8921, 0x8927
_IFREQ = struct.Struct("16si20x")

_NLMSG = struct.Struct("=IHHII")  # struct nlmsghdr
_IFINFO = struct.Struct("=BxHiII")  # struct ifinfomsg
_RTATTR = struct.Struct("=HH")
_NLMSG_ERROR, _RTM_GETLINK = 2, 18
_IFLA_LINKINFO, _IFLA_INFO_KIND = 18, 1

# Link layer of an interface (ARPHRD_...) to what its frames start with. Loopback frames have an Ethernet
# header of zeros; tun, tunnels and the like have none. Everything else is for cooked sockets.
_LINKTYPES = {1: 1, 772: 1, 65534: 101, 519: 101, 768: 101, 769: 101, 776: 101}


class Enterable(Protocol):
    """A network namespace: `with namespace.enter():` moves the calling thread into it for a while."""

    def enter(self) -> AbstractContextManager[object]: ...


class HasFileno(Protocol):
    def fileno(self) -> int: ...


class Origins:
    """Name and link type of the interfaces that a socket's frames come from, asked for once each."""

    def __init__(self, linktype: int = 0) -> None:
        """`linktype` is what all its frames have (0: it depends on the interface)."""
        self._linktype = linktype
        self._known: dict[int, tuple[str, int]] = {}

    def add(self, ifindex: int, name: str, linktype: int) -> None:
        """Say what is known of an interface, so that it holds also when the interface is gone."""
        self._known[ifindex] = name, linktype

    def find(self, ifindex: int, socket: HasFileno) -> tuple[str, int]:
        """Name of an interface ("" when it is gone) and LINKTYPE_ number of what is received from it.

        Asked through the socket, and so in its network namespace, whichever the asking thread is in.

        Raises:
            RawkitError: its link layer is unknown.
        """
        known = self._known.get(ifindex)
        if known is None:
            try:
                request = ioctl(socket, _SIOCGIFNAME, _IFREQ.pack(b"", ifindex))
                hardware = ioctl(socket, _SIOCGIFHWADDR, request)
            except OSError:
                return "", self._linktype or LINKTYPE_ETHERNET
            name = _name_of(request)
            linktype = self._linktype or _linktype_of(hardware)
            if not linktype:
                raise RawkitError(f"receive on {name}: its link layer is unknown; open it cooked")
            known = self._known[ifindex] = name, linktype
        return known


def resolve(interface: str | int | None) -> tuple[int, str, int]:
    """Number, name and LINKTYPE_ number (0: unknown) of an interface in the current network namespace.

    None, for all interfaces, has number 0.  Raises UnknownInterface.
    """
    if interface is None:
        return 0, "all interfaces", LINKTYPE_ETHERNET
    import socket

    try:
        index = if_nametoindex(interface) if isinstance(interface, str) else interface
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            request = ioctl(probe, _SIOCGIFNAME, _IFREQ.pack(b"", index))
            return index, _name_of(request), _linktype_of(ioctl(probe, _SIOCGIFHWADDR, request))
    except (OSError, struct.error, ValueError):
        label = f"named {interface!r}" if isinstance(interface, str) else f"number {interface}"
        raise UnknownInterface(f"there is no interface {label} in this network namespace") from None


def mtu(socket: HasFileno, ifindex: int) -> int:
    """The MTU of an interface, asked through a socket.  Raises OSError when it is gone."""
    request = ioctl(socket, _SIOCGIFNAME, _IFREQ.pack(b"", ifindex))
    octets: int = _IFREQ.unpack(ioctl(socket, _SIOCGIFMTU, request))[1]
    return octets


def kind(rtnl: Socket, ifindex: int) -> str:
    """What `ip link add type` calls an interface ("veth"); "" for a card's, and loopback.

    Asked through a socket of rtnetlink(7).  Raises OSError when it is gone.
    """
    header = _NLMSG.pack(_NLMSG.size + _IFINFO.size, _RTM_GETLINK, 1, 0, 0)
    rtnl.send(header + _IFINFO.pack(0, 0, ifindex, 0, 0))
    answer = rtnl.recv(1 << 16)
    if _NLMSG.unpack_from(answer)[1] == _NLMSG_ERROR:
        raise OSError(-struct.unpack_from("=i", answer, _NLMSG.size)[0], "RTM_GETLINK")
    info = _attribute(answer[_NLMSG.size + _IFINFO.size :], _IFLA_LINKINFO)
    return _attribute(info, _IFLA_INFO_KIND).rstrip(b"\0").decode("ascii", "replace")


def _attribute(octets: bytes, wanted: int) -> bytes:
    """The value of one of several netlink attributes, b"" where it is missing."""
    at = 0
    while at + _RTATTR.size <= len(octets):
        length, number = _RTATTR.unpack_from(octets, at)
        if number & 0x3FFF == wanted:
            return octets[at + _RTATTR.size : at + length]
        at += max((length + 3) & ~3, _RTATTR.size)
    return b""


def _name_of(request: bytes) -> str:
    name: bytes = _IFREQ.unpack(request)[0]
    return name.split(b"\0")[0].decode(errors="surrogateescape")


def _linktype_of(request: bytes) -> int:
    """LINKTYPE_ number for the ARPHRD_ number in an ifreq, 0 for one whose frames we cannot name."""
    return _LINKTYPES.get(struct.unpack_from("H", request, 16)[0], 0)
