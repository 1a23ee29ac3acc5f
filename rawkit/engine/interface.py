"""What sockets have to know about an interface: its number, its name, what its frames start with."""

from __future__ import annotations

import struct
from contextlib import AbstractContextManager
from fcntl import ioctl
from socket import if_nametoindex
from typing import Protocol

from rawkit.errors import RawkitError, UnknownInterface

LINKTYPE_ETHERNET = 1
LINKTYPE_RAW = 101  # starts with an IP header
LINKTYPE_SLL2 = 276

_SIOCGIFNAME, _SIOCGIFMTU, _SIOCGIFHWADDR = 0x8910, 0x8921, 0x8927
_IFREQ = struct.Struct("16si20x")

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


def _name_of(request: bytes) -> str:
    name: bytes = _IFREQ.unpack(request)[0]
    return name.split(b"\0")[0].decode(errors="surrogateescape")


def _linktype_of(request: bytes) -> int:
    """LINKTYPE_ number for the ARPHRD_ number in an ifreq, 0 for one whose frames we cannot name."""
    return _LINKTYPES.get(struct.unpack_from("H", request, 16)[0], 0)
