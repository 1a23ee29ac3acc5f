"""Keeping the kernel silent about packets that are an endpoint's to answer.

A kernel answers TCP segments to a port where nobody listens with RST, and UDP datagrams with ICMP port
unreachable. An open raw socket does not change that, nor does a port that is only bound. A guard is an
ordinary socket that holds the port and hears nothing: the kernel takes packets for the socket's, and the
filter on it drops them all. It concerns one port, needs no firewall and no right beyond that of the port
(but some kernels want CAP_NET_ADMIN for a filter), keeps the kernel and other programs from choosing the
port, and is gone with the process however that dies.
"""

from __future__ import annotations

import errno
import socket
import struct
from array import array

from rawkit.errors import EngineError, PermissionDenied

GUARDED = (socket.IPPROTO_TCP, socket.IPPROTO_UDP)
"""Protocols for which the kernel answers by port. For any other, an open raw socket keeps it silent."""

_SO_ATTACH_FILTER, _SO_LOCK_FILTER = 26, 44  # <asm-generic/socket.h>
_DROP_ALL = array("B", struct.pack("@HBBI", 0x06, 0, 0, 0))  # BPF_RET | BPF_K, 0 octets
_HINTS = {
    errno.EADDRINUSE: "another program of this host has it",
    errno.EACCES: "needs CAP_NET_BIND_SERVICE",
    errno.EPERM: "this kernel wants CAP_NET_ADMIN for a socket's filter",
}


class Guard:
    """Holds a TCP or UDP port and lets nothing be answered there. Close it to give the port back.

    `local` is the address, "" for all of this host's; `port` 0 is the kernel's choice.

    Raises:
        EngineError: EADDRINUSE: the port is taken; EADDRNOTAVAIL: it is no address of this host.
        PermissionDenied: a port that needs CAP_NET_BIND_SERVICE, or a kernel that needs CAP_NET_ADMIN for the
            filter.
    """

    def __init__(self, protocol: int, port: int = 0, local: str = "", *, version: int = 4) -> None:
        if protocol not in GUARDED:
            raise ValueError(f"protocol {protocol} has no ports to guard; there are TCP (6) and UDP (17)")
        stream = protocol == socket.IPPROTO_TCP
        self._socket = socket.socket(
            socket.AF_INET if version == 4 else socket.AF_INET6,
            socket.SOCK_STREAM if stream else socket.SOCK_DGRAM,
        )
        try:
            if version == 6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            program = struct.pack("@HP", 1, _DROP_ALL.buffer_info()[0])  # struct sock_fprog
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_LOCK_FILTER, 1)
            self._socket.bind((local or ("0.0.0.0" if version == 4 else "::"), port))
            if stream:
                self._socket.listen(1)
        except OSError as error:
            self._socket.close()
            code = error.errno or errno.EIO
            kind = PermissionDenied if code in (errno.EACCES, errno.EPERM) else EngineError
            subject = f"{'TCP' if stream else 'UDP'} {port}"
            raise kind(code, "guard a port", subject, _HINTS.get(code, "")) from None
        self.port: int = self._socket.getsockname()[1]
        """The port that is held."""

    def close(self) -> None:
        """Give the port back. Closing twice is harmless."""
        self._socket.close()

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
