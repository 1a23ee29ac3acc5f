"""Probes and link headers as octets, what templates are made of, and the filter for their answers.

`rawkit.wire` builds the same octets, libpcap the same filter, and the tests compare; but to load the one
takes as long as scanning ten thousand ports, the other two thousand. Destination, lengths and checksums are
zero here, and filled in for each probe in C.
"""

from __future__ import annotations

import struct

from rawkit.addr import MAC, IPAddress
from rawkit.engine.filter import Filter, Instruction

ICMP, TCP, ICMPV6 = 1, 6, 58

_HOP_LIMIT = 64
_WINDOW = 1024
_MSS = {4: 1460, 6: 1440}
_FLAG_BITS = {"F": 0x01, "S": 0x02, "R": 0x04, "P": 0x08, "A": 0x10, "U": 0x20}

# Classic BPF (bpf(2)): load what stands at k, or that far behind an IPv4 header; jump; return.
_OCTET, _HALF, _HALF_BEHIND, _HEADER_LEN = 0x30, 0x28, 0x48, 0xB1
_EQUAL, _HAS_BITS, _KEEP = 0x15, 0x45, 0x06


def ether(dst: MAC | None, src: MAC, version: int) -> bytes:
    """An Ethernet header for packets of an IP version; None leaves its destination zero."""
    ethertype = 0x0800 if version == 4 else 0x86DD
    return (bytes(6) if dst is None else bytes(dst)) + bytes(src) + struct.pack("!H", ethertype)


def ip(
    source: IPAddress, protocol: int, payload: bytes, hop_limit: int = _HOP_LIMIT, identification: int = 0
) -> bytes:
    """An IP packet from `source` to nowhere yet.

    Where a raw IP socket sends it, the kernel replaces an IPv4 `identification` of 0 by one of its own.
    """
    if source.version == 4:
        header = struct.pack(
            "!BBHHHBBH4s4x", 0x45, 0, 0, identification, 0, hop_limit, protocol, 0, source.packed
        )
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


def answers(port: int, version: int, snaplen: int) -> Filter:
    """A filter for what may answer TCP probes from a port, among packets of an IP version without link
    header: segments to that port, and all ICMP. `snaplen` octets are kept of them."""
    protocol_at, icmp = (9, ICMP) if version == 4 else (6, ICMPV6)
    load_port = [(_HALF, 0, 0, 42)]
    if version == 4:  # options may be in between, and only a first fragment has any ports
        load_port = [
            (_HALF, 0, 0, 6),
            (_HAS_BITS, 4, 0, 0x1FFF),
            (_HEADER_LEN, 0, 0, 0),
            (_HALF_BEHIND, 0, 0, 2),
        ]
    program = [
        (_OCTET, 0, 0, protocol_at),
        (_EQUAL, len(load_port) + 2, 0, icmp),
        (_EQUAL, 0, len(load_port) + 2, TCP),
        *load_port,
        (_EQUAL, 0, 1, port),
        (_KEEP, 0, 0, snaplen),
        (_KEEP, 0, 0, 0),
    ]
    text = f"(tcp dst port {port}) or {'icmp' if version == 4 else 'icmp6'}"
    return Filter(text, 101, snaplen, [Instruction(*row) for row in program])
