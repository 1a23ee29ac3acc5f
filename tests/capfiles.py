"""Makes capture files octet by octet, with nothing of rawkit: right ones, odd ones and broken ones."""

from __future__ import annotations

import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class Maker:
    """Blocks and records in byte order `order` ("<" or ">")."""

    order: str = "<"

    def pack(self, layout: str, *values: int) -> bytes:
        return struct.pack(self.order + layout, *values)

    # ---- pcap

    def pcap_header(
        self,
        magic: int = 0xA1B2C3D4,
        version: tuple[int, int] = (2, 4),
        snaplen: int = 65535,
        linktype: int = 1,
    ) -> bytes:
        return self.pack("IHHIIII", magic, *version, 0, 0, snaplen, linktype)

    def record(
        self,
        data: bytes = b"data",
        seconds: int = 1,
        fraction: int = 2,
        cap_len: int | None = None,
        wire_len: int | None = None,
        extra: bytes = b"",
    ) -> bytes:
        cap_len = len(data) if cap_len is None else cap_len
        wire_len = len(data) if wire_len is None else wire_len
        return self.pack("IIII", seconds, fraction, cap_len, wire_len) + extra + data

    # ---- pcapng

    def option(self, code: int, value: bytes, length: int | None = None) -> bytes:
        length = len(value) if length is None else length
        return self.pack("HH", code, length) + value + bytes(-len(value) % 4)

    def block(self, kind: int, body: bytes, length: int | None = None, trailing: int | None = None) -> bytes:
        body += bytes(-len(body) % 4)
        length = 12 + len(body) if length is None else length
        trailing = length if trailing is None else trailing
        return self.pack("II", kind, length) + body + self.pack("I", trailing)

    def shb(self, options: bytes = b"", minor: int = 0, section_len: int = -1, major: int = 1) -> bytes:
        return self.block(0x0A0D0D0A, self.pack("IHHq", 0x1A2B3C4D, major, minor, section_len) + options)

    def idb(self, linktype: int = 1, snaplen: int = 65535, options: bytes = b"") -> bytes:
        return self.block(1, self.pack("HHI", linktype, 0, snaplen) + options)

    def epb(
        self,
        data: bytes = b"data",
        interface: int = 0,
        ticks: int = 1_000_002,
        cap_len: int | None = None,
        wire_len: int | None = None,
        options: bytes = b"",
    ) -> bytes:
        cap_len = len(data) if cap_len is None else cap_len
        wire_len = len(data) if wire_len is None else wire_len
        fixed = self.pack("IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, cap_len, wire_len)
        return self.block(6, fixed + data + bytes(-len(data) % 4) + options)

    def spb(self, data: bytes = b"data", wire_len: int | None = None) -> bytes:
        return self.block(3, self.pack("I", len(data) if wire_len is None else wire_len) + data)

    def obsolete(
        self,
        data: bytes = b"data",
        interface: int = 0,
        drops: int = 0xFFFF,
        ticks: int = 1_000_002,
        options: bytes = b"",
    ) -> bytes:
        fixed = self.pack("HHIIII", interface, drops, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
        return self.block(2, fixed + data + bytes(-len(data) % 4) + options)

    def isb(self, interface: int = 0, ticks: int = 0, options: bytes = b"") -> bytes:
        return self.block(5, self.pack("III", interface, ticks >> 32, ticks & 0xFFFFFFFF) + options)

    def every_block(self) -> bytes:
        """A section with every kind of block, options of even and odd length, and seven packets."""
        comment = self.option(1, b"two") + self.option(1, b"comments")
        flags = self.option(2, self.pack("I", 1))
        return b"".join(
            (
                self.shb(self.option(4, b"maker") + self.option(0, b"")),
                self.idb(1, 96, self.option(2, b"eth0") + self.option(9, b"\x09") + self.option(0, b"")),
                self.epb(b"", ticks=5),
                self.epb(b"abc", ticks=6, options=comment + flags + self.option(0, b"")),
                self.block(4, self.pack("HH", 0, 0)),
                self.idb(101, 0, self.option(2, b"tun0")),
                self.epb(b"abcdefgh", interface=1, ticks=7),
                self.spb(b"simple!", 7),
                self.block(0x0A, self.pack("II", 0x544C534B, 4) + b"key\n"),
                self.obsolete(b"old", interface=1, drops=3, ticks=8, options=flags),
                self.block(0x0BAD, self.pack("I", 32473) + b"custom"),
                self.block(0x777, b"unknown"),
                self.epb(b"x" * 33, ticks=9, wire_len=1500, options=flags),
                self.isb(0, 10, self.option(4, self.pack("Q", 100)) + self.option(5, self.pack("Q", 1))),
                self.epb(b"last", interface=1, ticks=11),
            )
        )
