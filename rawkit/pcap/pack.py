"""Packing capture files as they are written, each piece by itself, so that the file is whole after each."""

from __future__ import annotations

import functools
import gzip
import os
from collections.abc import Callable

from rawkit.errors import CaptureFileError
from rawkit.pcap.unpack import MissingUnpacker, find_library

Pack = Callable[[bytes], bytes]

_ENDINGS = {".zst": "zstd", ".gz": "gzip", ".lz4": "lz4"}
# Where a function is that packs octets, the first that is there.
_PLACES = {
    "zstd": ["compression.zstd:compress", "backports.zstd:compress"],
    "lz4": ["lz4.frame:compress"],
}


def split_ending(path: str) -> tuple[str, str]:
    """A file's name without the ending that says that it is packed, and this ending ("" for none)."""
    stem, ending = os.path.splitext(path)
    return (stem, ending) if ending in _ENDINGS else (path, "")


def pack_of_name(path: str) -> Pack | None:
    """What packs octets as the name wants it (.zst, .gz, .lz4); None when it shall not be packed.

    Raises `CaptureFileError` where the library is missing.
    """
    _, ending = split_ending(path)
    if not ending:
        return None
    name = _ENDINGS[ending]
    if name == "gzip":
        return functools.partial(gzip.compress, compresslevel=1)  # 6 is too slow for a capture
    try:
        return find_library(name, _PLACES[name])
    except MissingUnpacker as error:
        raise CaptureFileError(f"{path}: {error}", path) from None
