"""Blocks of big-endian pcapng sections in little-endian ones: numbers turn round, texts and octets do not."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from rawkit.pcap import blocks as b

# The numbers at the start of a block's body, and those in its options by their code; "" are no numbers.
_BODIES = {b.IDB: "HHI", b.ISB: "III", b.NRB: "", b.DSB: "II"}
_TEXTS = dict.fromkeys((b.OPT_COMMENT,), "")
_OPTIONS = {
    # Addresses are octets; speeds (8, 16, 17) and the offset in seconds have 64 bits, the zone 32.
    b.IDB: _TEXTS | dict.fromkeys(range(2, 19), "") | {8: "Q", 10: "I", b.IF_TSOFFSET: "q", 16: "Q", 17: "Q"},
    b.ISB: _TEXTS | {b.ISB_STARTTIME: "II", b.ISB_ENDTIME: "II"} | dict.fromkeys(range(4, 9), "Q"),
    b.NRB: _TEXTS | dict.fromkeys(range(2, 5), ""),
    b.DSB: _TEXTS,
}


def turned(block: b.Block) -> bytes | None:
    """A block that holds no packet, little-endian; None where its layout is not known.

    Options that are not known, or not of the length that they should have, are left out.
    """
    layout = _BODIES.get(block.kind)
    if layout is None or len(block.octets) < 12 + struct.calcsize("=" + layout):
        return None
    start = 8 + struct.calcsize("=" + layout)
    options_at = block.options_start()
    if options_at is None or not start <= options_at <= len(block.octets) - 4:
        options_at = len(block.octets) - 4  # names without an end
    body = struct.pack("<" + layout, *struct.unpack_from(">" + layout, block.octets, 8))
    between = block.octets[start:options_at]
    body += b"".join(_names(between)) if block.kind == b.NRB else between
    options = b"".join(_options(block))
    body += options + bytes(4 if options else 0)
    length = len(body) + 12
    return struct.pack("<II", block.kind, length) + body + struct.pack("<I", length)


def _names(records: bytes) -> Iterator[bytes]:
    """Name records, each of a kind, a length, and octets (section 4.5 of the draft)."""
    at = 0
    while at + 4 <= len(records):
        kind, length = struct.unpack_from(">HH", records, at)
        end = at + 4 + length + (-length % 4)
        yield struct.pack("<HH", kind, length) + records[at + 4 : end]
        at = end


def _options(block: b.Block) -> Iterator[bytes]:
    try:
        found = block.options
    except b.DamagedOptions:
        return
    for code, value in found:
        layout = _OPTIONS[block.kind].get(code)
        if layout is None or (layout and struct.calcsize("=" + layout) != len(value)):
            continue
        if layout:
            value = struct.pack("<" + layout, *struct.unpack(">" + layout, value))
        yield struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)
