"""Whose packet it is: from the octets of a transport header to the exchange that they belong to."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from rawkit.errors import TargetError
from rawkit.link.carrier import Flow
from rawkit.wire.header import Header
from rawkit.wire.layout import FieldInfo

Ports: TypeAlias = Callable[[bytes], tuple[int, int]]
"""(source port, destination port) in a packet; IndexError or struct.error where there are too few octets."""

SHIM = struct.Struct(">HH")
"""Source and destination port in front of each packet, for protocols without any."""


def shim_ports(octets: bytes) -> tuple[int, int]:
    """The ports in front of a packet."""
    src, dst = SHIM.unpack_from(octets)
    return src, dst


def _reader(row: FieldInfo) -> Callable[[bytes], int]:
    start, n = row.offset // 8, row.width // 8
    if row.moved or row.offset % 8 or row.width not in (8, 16, 24, 32, 48, 64):
        raise TargetError(f"{row.name}: exchanges are told apart by whole octets at a fixed place")
    if n == 1:
        return lambda octets: octets[start]
    end = start + n

    def read(octets: bytes) -> int:
        if len(octets) < end:
            raise IndexError("too short")
        return int.from_bytes(octets[start:end], "big")

    return read


class Numbering(NamedTuple):
    """How packets say which exchange they belong to."""

    ports: Ports
    bits: int = 16
    by_number: bool = False
    """By a number that stands for both ports, whatever the addresses are."""


def numbering(header: type[Header]) -> Numbering | None:
    """How packets of a protocol tell exchanges apart, by the roles of their header: src_port and dst_port, or
    conn_id; None where they do not.

    Raises:
        TargetError: such a field is not made of whole octets at a fixed place.
    """
    roles = header.roles
    if "src_port" in roles and "dst_port" in roles:
        row = roles["src_port"][1]
        src, dst = _reader(row), _reader(roles["dst_port"][1])
        return Numbering(lambda octets: (src(octets), dst(octets)), row.width)
    if "conn_id" in roles:
        row = roles["conn_id"][1]
        number = _reader(row)
        return Numbering(lambda octets: (number(octets),) * 2, row.width, by_number=True)
    return None


def with_ports(flow: Flow, ports: Ports, octets: bytes, *, quoted: bool = False) -> Flow | None:
    """A flow of addresses with the ports in a packet that came, or (`quoted`) in one that went; None for one
    that is too short.
    """
    try:
        src, dst = ports(octets)
    except (IndexError, struct.error):
        return None
    if quoted:
        src, dst = dst, src
    return Flow(flow.local, dst, flow.remote, src)
