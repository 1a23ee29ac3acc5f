"""Packets whose octets follow each other: cut from one piece of data, or taken for one when they arrive.

Both work for any header whose fields have roles: `seq` in octets, a plain Internet checksum, perhaps a
length, all of whole octets at a fixed place. `cut` and `coalesce` are written here to be read; the engine has
the same in C, which is used from `use` on.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rawkit.wire import checksum
from rawkit.wire.field import ChecksumRule, Rule
from rawkit.wire.header import Header

Rows = list[tuple[bytes, Any, int]]
"""Packets as a carrier gives them: octets, which exchange, ECN codepoint."""


class Places(NamedTuple):
    """Where in a header of `header_len` octets the fields are. `length_len` 0: there is no length."""

    header_len: int
    seq_at: int
    seq_len: int
    length_at: int
    length_len: int
    length_extra: int
    """What the length counts besides the payload."""
    sum_at: int

    def packed(self) -> bytes:
        """As C wants it (struct rk_bulk)."""
        return struct.pack("=7I", *self)


@functools.cache
def places(header: type[Header]) -> Places | None:
    """Where a header has its fields; None where its packets cannot be cut or taken together.

    A header of variable length counts with its least.
    """
    roles, size = header.roles, header.min_len
    if "seq" not in roles or roles["seq"][0].unit != "octets" or "checksum" not in roles or size % 2:
        return None
    sums = [row for row in header.fields if isinstance(row.spec.rule, ChecksumRule)]
    rule = sums[0].spec.rule if len(sums) == 1 else None
    if not isinstance(rule, ChecksumRule) or not rule.payload:
        return None
    if rule.pseudo_header or rule.coverage or rule.skips[1] or rule.absent_when:
        return None
    length = roles["length"][1] if "length" in roles else None
    found = [roles["seq"][1], sums[0], *([length] if length else [])]
    if any(row.moved or row.offset % 8 or row.width % 8 for row in found) or sums[0].offset % 16:
        return None
    extra = 0
    if length is not None:
        bounds = length.spec.rule.bounds if isinstance(length.spec.rule, Rule) else None
        if bounds not in ("payload", "total") or length.width > 32:
            return None
        extra = size if bounds == "total" else 0
    return Places(
        size,
        found[0].offset // 8,
        found[0].width // 8,
        length.offset // 8 if length else 0,
        length.width // 8 if length else 0,
        extra,
        sums[0].offset // 8,
    )


def python_cut(header: bytes, payload: bytes, size: int, where: bytes) -> list[bytes]:
    """Packets with `header` and `size` octets of `payload` each, seq, length and checksum filled in.

    Raises:
        OverflowError: a piece is longer than the length field can tell.
    """
    at = Places(*struct.unpack("=7I", where))
    first = int.from_bytes(header[at.seq_at : at.seq_at + at.seq_len], "big")
    packets = []
    for offset in range(0, len(payload), size):
        piece = payload[offset : offset + size]
        packet = bytearray(header[: at.header_len]) + piece
        number = (first + offset) % (1 << 8 * at.seq_len)
        packet[at.seq_at : at.seq_at + at.seq_len] = number.to_bytes(at.seq_len, "big")
        if at.length_len:
            length = len(piece) + at.length_extra
            packet[at.length_at : at.length_at + at.length_len] = length.to_bytes(at.length_len, "big")
        packet[at.sum_at : at.sum_at + 2] = bytes(2)
        packet[at.sum_at : at.sum_at + 2] = (0xFFFF ^ checksum.add(0, bytes(packet))).to_bytes(2, "big")
        packets.append(bytes(packet))
    return packets


def python_coalesce(rows: Sequence[tuple[bytes, Any, int]], start: int, where: bytes) -> tuple[int, bytes]:
    """How many packets from `start` on follow each other, and what stands behind their headers, one behind
    the other; (1, b"") when the second does not follow the first.

    All are sound, of one flow and one ECN codepoint, with the same header but for seq, length and checksum.
    """
    at = Places(*struct.unpack("=7I", where))

    def sound(octets: bytes) -> bool:
        if len(octets) <= at.header_len or checksum.add(0, octets) != 0xFFFF:
            return False
        length = int.from_bytes(octets[at.length_at : at.length_at + at.length_len], "big")
        return not at.length_len or length == len(octets) - at.header_len + at.length_extra

    def rest(octets: bytes) -> bytes:
        head = bytearray(octets[: at.header_len])
        for place, n in ((at.seq_at, at.seq_len), (at.length_at, at.length_len), (at.sum_at, 2)):
            head[place : place + n] = bytes(n)
        return bytes(head)

    first, flow, ecn = rows[start]
    if not sound(first):
        return 1, b""
    number = int.from_bytes(first[at.seq_at : at.seq_at + at.seq_len], "big")
    payload = bytearray(first[at.header_len :])
    end = start + 1
    while end < len(rows):
        octets, next_flow, next_ecn = rows[end]
        wanted = (number + len(payload)) % (1 << 8 * at.seq_len)
        if next_flow is not flow or next_ecn != ecn or not sound(octets) or rest(octets) != rest(first):
            break
        if int.from_bytes(octets[at.seq_at : at.seq_at + at.seq_len], "big") != wanted:
            break
        payload += octets[at.header_len :]
        end += 1
    return (end - start, bytes(payload)) if end > start + 1 else (1, b"")


cut: Callable[[bytes, bytes, int, bytes], list[bytes]] = python_cut
coalesce: Callable[[Rows, int, bytes], tuple[int, bytes]] = python_coalesce


def use(
    fast_cut: Callable[[bytes, bytes, int, bytes], list[bytes]] = python_cut,
    fast_coalesce: Callable[[Rows, int, bytes], tuple[int, bytes]] = python_coalesce,
) -> None:
    """Let `cut` and `coalesce` be these functions; without arguments, the ones of this module."""
    global cut, coalesce
    cut, coalesce = fast_cut, fast_coalesce
