"""Cutting large TCP segments and UDP datagrams the way a network card does (segmentation offload).

No RFC says how; the rules are those of Linux's generic segmentation offload, which cards follow.
"""

from __future__ import annotations

from typing import TypeVar

from rawkit.errors import SplitError
from rawkit.wire.field import AUTO, ChecksumRule, payload_length, total_length
from rawkit.wire.header import Header
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.packet import Packet
from rawkit.wire.tcp import TCP
from rawkit.wire.udp import UDP

H = TypeVar("H", bound=Header)


def segment(packet: Packet, mss: int) -> list[Packet]:
    """The TCP segment as segments of at most `mss` octets of payload each.

    Sequence numbers go on from segment to segment and so do IPv4 identifications; FIN and PSH are left to the
    last, CWR to the first; lengths and checksums are computed; every other field, all options and all headers
    below are repeated. A trailer (Ethernet padding) is left out. A packet whose payload fits comes back as it
    is, alone.

    Raises:
        SplitError: no TCP over IP, a fragment, a length field that contradicts the octets, or a segment that
            no card would cut (SYN, RST or URG, which mean one place in the stream).
        ValueError: `mss` is not positive.
    """
    below, tcp, payload = _parts(packet, TCP, mss)
    if len(payload) <= mss:
        return [packet]
    if tcp.flags & (TCP.SYN | TCP.RST | TCP.URG):
        raise SplitError(f"segment: a segment with flags {tcp.flag_letters()} cannot be cut")
    segments = []
    for i, at in enumerate(range(0, len(payload), mss)):
        flags = tcp.flags
        if at:
            flags &= ~TCP.CWR
        if at + mss < len(payload):
            flags &= ~(TCP.FIN | TCP.PSH)
        header = tcp.replace(seq=tcp.seq + at & 0xFFFFFFFF, flags=flags, checksum=AUTO)
        segments.append(Packet([*_nth(below, i), header], payload[at : at + mss]))
    return segments


def segment_udp(packet: Packet, size: int) -> list[Packet]:
    """The payload of a UDP datagram as datagrams of `size` octets of payload each, the last with the rest.

    This is what the UDP_SEGMENT option of udp(7) does. IPv4 identifications go on from one to the next,
    lengths and checksums are computed, all else is repeated; a checksum of 0, which means "none" over IPv4,
    stays 0 there. A packet whose payload fits comes back as it is, alone.

    Raises:
        SplitError: no UDP over IP, a fragment, or a length field that contradicts the octets.
        ValueError: `size` is not positive.
    """
    below, udp, payload = _parts(packet, UDP, size)
    if len(payload) <= size:
        return [packet]
    none = udp.checksum is not AUTO and udp.checksum == 0 and isinstance(below[-1], IPv4)
    return [
        Packet(
            [*_nth(below, i), udp.replace(length=AUTO, checksum=0 if none else AUTO)],
            payload[at : at + size],
        )
        for i, at in enumerate(range(0, len(payload), size))
    ]


def _parts(packet: Packet, kind: type[H], size: int) -> tuple[list[Header], H, bytes]:
    """The headers below the first of `kind`, that header, and the octets after it."""
    if size < 1:
        raise ValueError(f"segment: {size} octets of payload per packet")
    layers = packet.layers
    i = next((i for i, header in enumerate(layers) if isinstance(header, kind)), len(layers))
    if any(header.is_fragment for header in layers[:i]):
        raise SplitError("segment: the packet is a fragment")
    if i == len(layers):
        raise SplitError(f"segment: the packet has no {kind.__name__} header")
    if not any(isinstance(lower, (IPv4, IPv6)) for lower in layers[:i]):
        raise SplitError(f"segment: there is no IP header below {kind.__name__}")
    headers = packet._headers()
    rest = len(packet.payload)
    for j in range(len(layers) - 1, -1, -1):
        if j <= i:
            _check_lengths(layers[j], len(headers[j]), rest)
        rest += len(headers[j])
    return list(layers[:i]), packet[kind], b"".join(headers[i + 1 :]) + packet.payload


def _check_lengths(header: Header, header_len: int, payload_len: int) -> None:
    """See that a length that is given is true; a packet that the kernel has not cut yet may say 0."""
    for row in header.fields:
        value = getattr(header, row.slot)
        if row.spec.rule not in (total_length, payload_length):
            continue
        true_len = payload_len + (header_len if row.spec.rule == total_length else 0)
        if value not in (AUTO, 0, true_len):
            name = f"{type(header).__name__}.{row.name}"
            raise SplitError(f"segment: {name} says {value} octets, but there are {true_len}")


def _nth(below: list[Header], i: int) -> list[Header]:
    """Copies of the headers for the packet number `i` (from 0), lengths and checksums left to be computed."""
    copies = []
    for header in below:
        changes = {
            row.name: AUTO
            for row in header.fields
            if row.spec.rule in (total_length, payload_length) or isinstance(row.spec.rule, ChecksumRule)
        }
        if isinstance(header, IPv4):
            changes["id"] = header.id + i & 0xFFFF
        copies.append(header.replace(**changes))
    return copies
