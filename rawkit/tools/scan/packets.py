"""Probes and link headers as octets: what templates are made of.

`rawkit.wire` builds the same, and the tests compare; but importing it takes as long as scanning ten thousand
ports. Destination, lengths and checksums are zero here, and filled in for each probe in C.
"""

from __future__ import annotations

import struct

from rawkit.addr import MAC, IPAddress

ICMP, TCP, ICMPV6 = 1, 6, 58

_HOP_LIMIT = 64
_WINDOW = 1024
_MSS = {4: 1460, 6: 1440}
_FLAG_BITS = {"F": 0x01, "S": 0x02, "R": 0x04, "P": 0x08, "A": 0x10, "U": 0x20}


def ether(dst: MAC | None, src: MAC, version: int) -> bytes:
    """An Ethernet header for packets of an IP version; None leaves its destination zero."""
    ethertype = 0x0800 if version == 4 else 0x86DD
    return (bytes(6) if dst is None else bytes(dst)) + bytes(src) + struct.pack("!H", ethertype)


def ip(source: IPAddress, protocol: int, payload: bytes, hop_limit: int = _HOP_LIMIT) -> bytes:
    """An IP packet from `source` to nowhere yet."""
    if source.version == 4:
        header = struct.pack("!BBHHHBBH4s4x", 0x45, 0, 0, 0, 0, hop_limit, protocol, 0, source.packed)
    else:
        header = struct.pack("!IHBB16s16x", 6 << 28, 0, protocol, hop_limit, source.packed)
    return header + payload


def tcp(sport: int, flags: str, version: int) -> bytes:
    """A TCP header with the flags "SA", "F", ...; a SYN has the MSS option, as some hosts expect."""
    bits = sum(_FLAG_BITS[flag] for flag in flags)
    options = struct.pack("!BBH", 2, 4, _MSS[version]) if "S" in flags else b""
    data_offset = (20 + len(options)) // 4 << 4
    return struct.pack("!HHIIBBHHH", sport, 0, 0, 0, data_offset, bits, _WINDOW, 0, 0) + options


def echo(identifier: int, version: int, data: bytes = bytes(8)) -> bytes:
    """An ICMP echo request; its data begin with room for the keyed hash that tells its answer, 8 octets."""
    return struct.pack("!BBHHH", 8 if version == 4 else 128, 0, 0, identifier, 0) + data
