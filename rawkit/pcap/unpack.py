"""Unpacking gzip, bzip2, xz, zstd and lz4 in bounded steps, everything before damage included."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any

CHUNK_LEN = 256 << 10
_SLICE_LEN = 4096

_MAGICS = {
    b"\x1f\x8b\x08": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
}
# Where a class is that unpacks step by step as bz2.BZ2Decompressor does, the first that is there.
_CLASSES = {
    "bzip2": ["bz2:BZ2Decompressor"],
    "xz": ["lzma:LZMADecompressor"],
    "zstd": ["compression.zstd:ZstdDecompressor", "backports.zstd:ZstdDecompressor"],
    "lz4": ["lz4.frame:LZ4FrameDecompressor"],
}
_XZ_MEMORY = 256 << 20  # octets; xz itself needs 65 MiB for what it packs best
_TO_INSTALL = {"zstd": "backports.zstd", "lz4": "lz4"}


class MissingUnpacker(Exception):
    """There is no library that packs and unpacks; `.args[0]` says what to do."""


def packer(first: bytes) -> str:
    """What a file that begins with these octets is packed with; "" for nothing known."""
    return next((name for magic, name in _MAGICS.items() if first.startswith(magic)), "")


def unpacked(name: str, chunks: Iterator[bytes], fail: Callable[[str], None]) -> Iterator[bytes]:
    """The octets in `chunks`, unpacked, in pieces of CHUNK_LEN at most, however well they are packed.

    Several packed files in a row are one. When they are cut short or damaged, `fail` is told, after all that
    came before. (But for gzip, up to 4096 packed octets before the damage may be lost as well, and of bzip2 a
    whole block: their libraries do not give these.)

    Raises `MissingUnpacker`.
    """
    if name == "gzip":
        return _gunzipped(chunks, fail)
    return _unpacked(name, find_library(name, _CLASSES[name]), chunks, fail)


def find_library(name: str, places: list[str]) -> Callable[..., Any]:
    """The first of "module:attribute" that is there, for packing or unpacking `name`.

    Raises `MissingUnpacker`.
    """
    for place in places:
        module, _, attribute = place.partition(":")
        try:
            found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
        except ImportError:
            continue
        return found
    advice = f"pip install {_TO_INSTALL[name]}" if name in _TO_INSTALL else "unpack it first"
    raise MissingUnpacker(f"packed with {name}, for which this Python has no library: {advice}")


def _unpacked(
    name: str, make: Callable[..., Any], chunks: Iterator[bytes], fail: Callable[[str], None]
) -> Iterator[bytes]:
    packed = b""
    while packed := packed.lstrip(b"\0") or _past_padding(chunks):
        unpacker = make(memlimit=_XZ_MEMORY) if name == "xz" else make()
        while not unpacker.eof:
            if unpacker.needs_input and not packed:
                packed = next(chunks, b"")
                if not packed:
                    fail(f"the {name} file is cut short")
                    return
            piece = b""
            if unpacker.needs_input:
                piece, packed = packed[:_SLICE_LEN], packed[_SLICE_LEN:]
            try:
                chunk = unpacker.decompress(piece, CHUNK_LEN)
            except Exception as error:  # each library has its own
                fail(f"the {name} file is damaged ({error})")
                return
            if chunk:
                yield chunk
        packed = (unpacker.unused_data or b"") + packed


def _gunzipped(chunks: Iterator[bytes], fail: Callable[[str], None]) -> Iterator[bytes]:
    packed = next(chunks, b"")
    while packed:
        inflater = zlib.decompressobj(wbits=31)
        while not inflater.eof:
            while not packed:
                packed = next(chunks, b"")
                if not packed:
                    fail("the gzip file is cut short")
                    rest = inflater.flush()  # the end of a match that the last step had no room for
                    if rest:
                        yield rest
                    return
            before = inflater.copy()
            try:
                chunk = inflater.decompress(packed, CHUNK_LEN)
            except zlib.error as error:
                # zlib drops what this step had unpacked before the damage: repeat it octet by octet.
                yield from _inflate_until_error(before, packed)
                fail(f"the gzip file is damaged ({error})")
                return
            packed = inflater.unconsumed_tail
            if chunk:
                yield chunk
        packed = inflater.unused_data.lstrip(b"\0") or _past_padding(chunks)


def _past_padding(chunks: Iterator[bytes]) -> bytes:
    """The next chunk without zeros at its start, passing over those of nothing else; empty at the end."""
    return next(filter(None, (chunk.lstrip(b"\0") for chunk in chunks)), b"")


def _inflate_until_error(inflater: zlib._Decompress, packed: bytes) -> Iterator[bytes]:
    """Yield what comes out before the octet at which `inflater` fails; one octet gives a few thousand."""
    for at in range(len(packed)):
        try:
            chunk = inflater.decompress(packed[at : at + 1])
        except zlib.error:
            return
        if chunk:
            yield chunk
