"""Checksums in plain Python: the Internet checksum (RFC 1071) and CRC32c (RFC 9260 appendix A).

This is the reference that the C engine is tested against, and what runs where the engine is not loaded.
`use` replaces the functions that run over data by faster ones; `rawkit.engine.checksum` does so when it is
imported. Callers therefore keep the module and write `checksum.add(...)`, never `from ... import add`.

A *sum* is an unsigned 16-bit one's complement sum, not complemented; a *checksum* is its complement, the
value that goes into a header. Data is bytes, a bytearray or a memoryview of octets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Octets: TypeAlias = bytes | bytearray | memoryview


def python_add(sum: int, data: Octets) -> int:
    """One's complement sum of `data` as big-endian 16-bit words, added to `sum` (0 or an earlier result).

    An odd last octet is padded with zero on the right (RFC 1071 section 4.1), so a block that is followed by
    another must have even length.
    """
    total = int.from_bytes(data, "big")
    if len(data) & 1:
        total <<= 8
    total += sum
    # 2**16 leaves 1 modulo 0xffff: the remainder is the sum of the words with every carry brought round. Only
    # a total of zero folds to zero, every other multiple of 0xffff stays at 0xffff.
    return total % 0xFFFF or (0xFFFF if total else 0)


def python_checksum(data: Octets) -> int:
    """The Internet checksum of `data`: the complement of its sum (RFC 1071)."""
    return 0xFFFF ^ python_add(0, data)


def _crc32c_table() -> list[int]:
    table = []
    for state in range(256):
        for _ in range(8):
            # The polynomial 0x1edc6f41 with its bits reversed: data is shifted in lowest bit first.
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
        table.append(state)
    return table


_CRC32C = _crc32c_table()


def python_crc32c(crc: int, data: Octets) -> int:
    """CRC32c of `data`, continuing from `crc` (0 at the start)."""
    table = _CRC32C
    state = crc ^ 0xFFFFFFFF
    for octet in data:
        state = state >> 8 ^ table[(state ^ octet) & 0xFF]
    return state ^ 0xFFFFFFFF


add: Callable[[int, Octets], int] = python_add
checksum: Callable[[Octets], int] = python_checksum
crc32c: Callable[[int, Octets], int] = python_crc32c


def use(
    fast_add: Callable[[int, Octets], int] = python_add,
    fast_checksum: Callable[[Octets], int] = python_checksum,
    fast_crc32c: Callable[[int, Octets], int] = python_crc32c,
) -> None:
    """Let `add`, `checksum` and `crc32c` be these functions; without arguments, the ones of this module."""
    global add, checksum, crc32c
    add, checksum, crc32c = fast_add, fast_checksum, fast_crc32c


def pseudo_header(src: bytes, dst: bytes, protocol: int, upper_len: int) -> int:
    """Sum of the pseudo-header that UDP, TCP and ICMPv6 checksums cover.

    `src` and `dst` are addresses in network order, both of 4 octets (RFC 768, RFC 9293 section 3.1) or both
    of 16 (RFC 8200 section 8.1); `upper_len` is the length in octets of what follows the IP header.

    Raises:
        ValueError: the addresses are of another length.
    """
    if len(src) != len(dst) or len(src) not in (4, 16):
        raise ValueError(f"pseudo-header: addresses of {len(src)} and {len(dst)} octets, want 4 or 16 each")
    return python_add(protocol + upper_len, src + dst)


def update(checksum: int, old_word: int, new_word: int) -> int:
    """The checksum after one 16-bit word changed (RFC 1624 section 3, equation 3).

    Equals a fresh calculation, except that data which is now all zero gives 0 where a fresh one gives 0xffff.
    """
    total = (0xFFFF ^ checksum) + (0xFFFF ^ old_word) + new_word
    return 0xFFFF ^ (total % 0xFFFF or (0xFFFF if total else 0))
