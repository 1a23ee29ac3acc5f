"""Questions to the kernel's tables of interfaces, addresses, routes and neighbours (rtnetlink(7)).

Four questions in a hundred lines: importing pyroute2 takes 0.1 s, longer than all else that most commands do
before their first packet. What changes the tables, in the lab, is pyroute2's business (`rawkit.net.netlink`).
"""

from __future__ import annotations

import socket
import struct
import sys
from errno import EACCES, EPERM
from typing import NamedTuple

from rawkit.errors import EngineError, PermissionDenied

GET_LINK, GET_ADDRESS, GET_ROUTE = 18, 22, 26
NEW_NEIGHBOUR, GET_NEIGHBOUR = 28, 30

DUMP = 0x300
REPLACE = 0x100 | 0x400 | 0x4  # NLM_F_REPLACE | NLM_F_CREATE | NLM_F_ACK

_REQUEST = 0x1
_INTERRUPTED = 0x10  # NLM_F_DUMP_INTR
_ERROR, _DONE = 2, 3
_SOL_NETLINK, _EXTENDED_ACK = 270, 11
_CAPPED, _ACK_TLVS = 0x100, 0x200
_ACK_MESSAGE = 1
_ATTRIBUTE_MASK = 0x3FFF  # without the bits for "nested" and "network byte order"
_RECEIVE_LEN = 1 << 17  # a message of a dump takes 32 KiB at most

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_ATTRIBUTE = struct.Struct("=HH")


class Message(NamedTuple):
    """One of the kernel's messages: the fixed part after the header, and the attributes by number."""

    fixed: bytes
    attributes: dict[int, bytes]


def attribute(number: int, value: bytes) -> bytes:
    """An attribute for a request."""
    return _ATTRIBUTE.pack(4 + len(value), number) + value + bytes(-len(value) % 4)


def attributes(octets: bytes) -> dict[int, bytes]:
    """Attributes, or those nested in one, by number; of several with one number the last."""
    found = {}
    at = 0
    while at + 4 <= len(octets):
        length, number = _ATTRIBUTE.unpack_from(octets, at)
        if length < 4:
            break
        found[number & _ATTRIBUTE_MASK] = octets[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def ask(kind: int, fixed: bytes, request: bytes = b"", *, flags: int = 0, operation: str) -> list[Message]:
    """What the kernel answers to one request, in the calling thread's network namespace.

    `kind` and `flags` are the request's, `fixed` the part that all requests of that kind have, `request` its
    attributes. With DUMP the answer is as many messages as there are, else one; with REPLACE none.

    Raises:
        PermissionDenied: the kernel wants CAP_NET_ADMIN for this.
        EngineError: it refused for another reason; `errno` is its code.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.setsockopt(_SOL_NETLINK, _EXTENDED_ACK, 1)
        octets = fixed + request
        sock.send(_HEADER.pack(_HEADER.size + len(octets), kind, _REQUEST | flags, 1, 0) + octets)
        found: list[Message] = []
        changed = 0
        while True:
            received = sock.recv(_RECEIVE_LEN)
            at = 0
            while at + _HEADER.size <= len(received):
                length, answer, bits, _, _ = _HEADER.unpack_from(received, at)
                body = received[at + _HEADER.size : at + length]
                at += (length + 3) & ~3
                changed |= bits & _INTERRUPTED
                if answer == _DONE:
                    # What changed meanwhile may be in there twice, or missing.
                    return ask(kind, fixed, request, flags=flags, operation=operation) if changed else found
                if answer == _ERROR:
                    _raise(body, bits, operation)
                    return found
                found.append(Message(body[: len(fixed)], attributes(body[len(fixed) :])))
            if not flags:
                return found


def _raise(body: bytes, bits: int, operation: str) -> None:
    """Raise what an error message tells; an error of 0 is an acknowledgement (struct nlmsgerr)."""
    code = -int.from_bytes(body[:4], sys.byteorder, signed=True)
    if code == 0:
        return
    if code in (EPERM, EACCES):
        raise PermissionDenied(code, operation, hint="needs CAP_NET_ADMIN: run as root")
    words = b""
    if bits & _ACK_TLVS:  # after the request's header, or after all of the request
        quoted_len = _HEADER.size if bits & _CAPPED else int(_HEADER.unpack_from(body, 4)[0])
        words = attributes(body[4 + ((quoted_len + 3) & ~3) :]).get(_ACK_MESSAGE, b"")
    raise EngineError(code, operation, hint=words.rstrip(b"\0").decode("utf-8", "replace"))
