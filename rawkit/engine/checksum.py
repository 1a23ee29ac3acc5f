"""Checksums by the C engine over any buffer; importing this module also lets `rawkit.wire` use them.

A call costs about 0.17 us for 20 octets of `bytes` and 0.2 us for 1500; other buffers cost 0.13 us more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rawkit._native import ffi, lib
from rawkit.wire import checksum as _reference

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# Looked up once: a call from Python costs several times what the C function takes.
_from_buffer = ffi.from_buffer
_octets = ffi.typeof("uint8_t[]")
_csum: Callable[..., int] = lib.rk_csum
_csum_add: Callable[..., int] = lib.rk_csum_add
_csum_update: Callable[..., int] = lib.rk_csum_update
_crc32c: Callable[..., int] = lib.rk_crc32c


def checksum(data: ReadableBuffer) -> int:
    """The Internet checksum of `data` (RFC 1071): the complement of its sum as big-endian 16-bit words.

    An odd last octet is padded with zero on the right.

    Raises:
        TypeError: `data` is no buffer.
        BufferError, ValueError: it is not contiguous.
    """
    # cffi passes bytes without a copy or a view; it would take a list of integers as well.
    if type(data) is bytes:
        return _csum(data, len(data))
    view = _from_buffer(_octets, data)
    return _csum(view, len(view))


def checksum_add(sum: int, data: ReadableBuffer) -> int:
    """One's complement sum of `data`, not complemented, added to `sum` (0 or an earlier result, below 2**32).

    A block that is followed by another must have even length.

    Raises:
        TypeError, BufferError, ValueError: as `checksum`.
        OverflowError: `sum` is negative or needs more than 32 bits.
    """
    if type(data) is bytes:
        return _csum_add(sum, data, len(data))
    view = _from_buffer(_octets, data)
    return _csum_add(sum, view, len(view))


def checksum_update(checksum: int, old_word: int, new_word: int) -> int:
    """The checksum after one 16-bit word changed from `old_word` to `new_word` (RFC 1624, equation 3).

    Equals a fresh calculation, except that data which is now all zero gives 0 where a fresh one gives 0xffff.

    Raises:
        OverflowError: an argument is negative or needs more than 16 bits.
    """
    return _csum_update(checksum, old_word, new_word)


def crc32c(crc: int, data: ReadableBuffer) -> int:
    """CRC32c (RFC 9260 appendix A) of `data`, continuing from `crc` (0 at the start).

    Raises:
        TypeError, BufferError, ValueError: as `checksum`.
        OverflowError: `crc` is negative or needs more than 32 bits.
    """
    if type(data) is bytes:
        return _crc32c(crc, data, len(data))
    view = _from_buffer(_octets, data)
    return _crc32c(crc, view, len(view))


_reference.use(checksum_add, checksum, crc32c)
