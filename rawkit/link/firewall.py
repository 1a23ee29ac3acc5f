"""The last resort for keeping the kernel silent about a port: an nftables rule, where no guard can hold it.

A guard cannot where another socket is bound to the port without listening, or where the port needs a right.
The rule drops what the kernel would answer there, and nothing else: not what raw sockets that carry `MARK`
send, not what other programs say. Its table is owned by a socket (NFT_TABLE_F_OWNER, Linux 5.12), so that
nobody else can change it and the kernel takes it away with the process, however that dies.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import suppress
from ipaddress import ip_address
from itertools import count
from pathlib import Path

from rawkit.errors import EngineError, PermissionDenied
from rawkit.net.rtnetlink import attribute

MARK = 0x726B_6974
"""SO_MARK of sockets whose packets pass the rule (CAP_NET_ADMIN, which the rule itself needs)."""

_NETFILTER = 12  # NETLINK_NETFILTER
_NFTABLES = 10  # <linux/netfilter/nfnetlink.h>: a subsystem
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEW_TABLE, _NEW_CHAIN, _NEW_RULE, _GET_GENERATION = (_NFTABLES << 8 | n for n in (0, 3, 6, 16))
_REQUEST, _ACK, _CREATE = 0x1, 0x4, 0x400
_ERROR = 2
_NESTED = 0x8000
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_OWNER = 2  # NFT_TABLE_F_OWNER
_LOCAL_OUT = 3  # NF_INET_LOCAL_OUT
_PROTOCOL, _MARK = 16, 3  # NFT_META_L4PROTO, NFT_META_MARK
_NETWORK, _TRANSPORT = 1, 2  # NFT_PAYLOAD_*: where an offset counts from
_REGISTER = 1
_serial = count()


def _u32(number: int, value: int) -> bytes:
    return attribute(number, value.to_bytes(4, "big"))


def _nest(number: int, *parts: bytes) -> bytes:
    return attribute(number | _NESTED, b"".join(parts))


def _text(number: int, text: str) -> bytes:
    return attribute(number, text.encode() + b"\0")


def _expression(name: str, *parts: bytes) -> bytes:
    return _nest(1, _text(1, name), _nest(2, *parts))


def _compare(value: bytes, *, equal: bool = True) -> bytes:
    return _expression("cmp", _u32(1, _REGISTER), _u32(2, 0 if equal else 1), _nest(3, attribute(1, value)))


def _meta(key: int, value: bytes, *, equal: bool = True) -> bytes:
    return _expression("meta", _u32(1, _REGISTER), _u32(2, key)) + _compare(value, equal=equal)


def _load(base: int, offset: int, length: int) -> bytes:
    return _expression("payload", _u32(1, _REGISTER), _u32(2, base), _u32(3, offset), _u32(4, length))


def _payload(base: int, offset: int, value: bytes) -> bytes:
    return _load(base, offset, len(value)) + _compare(value)


def _reset_of(port: int) -> bytes:
    """A TCP segment from the port with RST, of a socket that is not marked."""
    mask = _expression(
        "bitwise",
        _u32(1, _REGISTER),
        _u32(2, _REGISTER),
        _u32(3, 1),
        _nest(4, attribute(1, b"\x04")),
        _nest(5, attribute(1, b"\0")),
    )
    return (
        _meta(_PROTOCOL, bytes([socket.IPPROTO_TCP]))
        + _meta(_MARK, struct.pack("=I", MARK), equal=False)
        + _payload(_TRANSPORT, 0, port.to_bytes(2, "big"))
        + _load(_TRANSPORT, 13, 1)
        + mask
        + _compare(b"\0", equal=False)
    )


def _unreachable_of(port: int, version: int) -> bytes:
    """An ICMP port unreachable about a UDP datagram to the port. An IPv4 header is quoted without options."""
    icmp, kind, number_at, header_len = (1, b"\x03\x03", 9, 20) if version == 4 else (58, b"\x01\x04", 6, 40)
    return (
        _meta(_PROTOCOL, bytes([icmp]))
        + _payload(_TRANSPORT, 0, kind)
        + _payload(_TRANSPORT, 8 + number_at, bytes([socket.IPPROTO_UDP]))
        + _payload(_TRANSPORT, 8 + header_len + 2, port.to_bytes(2, "big"))
    )


class FirewallRule:
    """Drops what the kernel answers at a TCP or UDP port, until closed. `local` is the address, "" for all.

    Raises:
        PermissionDenied: CAP_NET_ADMIN is missing.
        EngineError: EOPNOTSUPP: the kernel has no nf_tables, or not this much of it.
    """

    def __init__(self, protocol: int, port: int, local: str = "", *, version: int = 4) -> None:
        self.port = port
        self.table = f"rawkit_{os.getpid()}_{next(_serial)}"
        """The table's name, which has nothing else in it."""
        family = 2 if version == 4 else 10  # NFPROTO_IPV4, NFPROTO_IPV6
        rule = _reset_of(port) if protocol == socket.IPPROTO_TCP else _unreachable_of(port, version)
        if local:
            rule = _payload(_NETWORK, 12 if version == 4 else 8, ip_address(local).packed) + rule
        drop = _expression("immediate", _u32(1, 0), _nest(2, _nest(2, _u32(1, 0))))
        hook = _nest(4, _u32(1, _LOCAL_OUT), _u32(2, 0))
        own = _text(1, self.table)
        self._socket = _open()
        try:
            _ask(
                self._socket,
                _message(_BATCH_BEGIN, 0, _NFTABLES),
                _message(_NEW_TABLE, family, 0, own + _u32(2, _OWNER), _CREATE),
                _message(_NEW_CHAIN, family, 0, own + _text(3, "out") + hook + _text(7, "filter"), _CREATE),
                _message(_NEW_RULE, family, 0, own + _text(2, "out") + _nest(4, rule + drop), _CREATE | _ACK),
                _message(_BATCH_END, 0, _NFTABLES),
            )
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Take the rule away. Closing twice is harmless."""
        self._socket.close()

    def __enter__(self) -> FirewallRule:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def check_nftables() -> None:
    """Return when rules could be made here; nothing is changed.

    Raises: as `FirewallRule`.
    """
    with _open() as sock:
        _ask(sock, _message(_GET_GENERATION, 0, 0))


def somebody_listens(port: int) -> bool:
    """Whether a TCP socket of this network namespace listens on a port, on any address."""
    wanted = f":{port:04X}"
    for name in ("tcp", "tcp6"):
        with suppress(FileNotFoundError), Path("/proc/thread-self/net", name).open(encoding="ascii") as file:
            for line in file:
                _, local, _, state, *_ = line.split()
                if state == "0A" and local.endswith(wanted):
                    return True
    return False


def _open() -> socket.socket:
    try:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)
    except OSError:
        raise EngineError(errno.EOPNOTSUPP, "set a firewall rule", "nftables") from None


def _message(kind: int, family: int, resource: int, more: bytes = b"", flags: int = 0) -> bytes:
    octets = struct.pack(">BBH", family, 0, resource) + more
    return _HEADER.pack(_HEADER.size + len(octets), kind, _REQUEST | flags, 1, 0) + octets


def _ask(sock: socket.socket, *messages: bytes) -> None:
    sock.send(b"".join(messages))
    received = sock.recv(1 << 16)
    _, kind, *_ = _HEADER.unpack_from(received)
    code = -struct.unpack_from("=i", received, _HEADER.size)[0] if kind == _ERROR else 0
    if code in (errno.EPERM, errno.EACCES):
        hint = "needs CAP_NET_ADMIN: run as root"
        raise PermissionDenied(code, "set a firewall rule", "nftables", hint)
    if code:
        code = errno.EOPNOTSUPP if code == errno.EINVAL and len(messages) == 1 else code
        raise EngineError(code, "set a firewall rule", "nftables")
