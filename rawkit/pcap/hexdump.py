"""Packets from text: dumps as text2pcap, tcpdump -x, xxd, hexdump -C, Wireshark and rawkit print them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from rawkit.errors import FieldError
from rawkit.wire.text import octets_from_hex

_OFFSET = re.compile(r"\s*(?:0[xX])?([0-9a-fA-F]{3,8})(:?)(?:\s|$)")
_DIGITS = re.compile(r"\s*(?:[0-9a-fA-F]{2}[\s:]*)+$")


def packets_from_text(lines: Iterable[str]) -> Iterator[bytes]:
    """The octets of each packet in a text.

    A dump has an offset before each line, in hexadecimal, and a packet begins at offset 0; lines without one
    are passed over. In a text without any such line, each line of hexadecimal digits is a packet.

    Raises `FieldError`, which names the line.
    """
    dump: list[str] = []
    first = 0
    plain: list[tuple[int, str]] = []
    for n, line in enumerate(lines, 1):
        match = _OFFSET.match(line)
        offset = int(match[1], 16) if match else None
        if match and not match[2]:  # od and text2pcap have one space there, and Wireshark two
            line = f"{match[1].zfill(4)}  {line[match.end() :].lstrip()}"
        if offset == 0 and (dump or match):
            if dump:
                yield _packet(dump, first)
            dump, first, plain = [line], n, []
        elif dump:
            if match and len(line.split()) > 1:  # od ends with an offset alone
                dump.append(line)
        elif _DIGITS.match(line):
            plain.append((n, line))
    if dump:
        yield _packet(dump, first)
    for n, line in plain:
        yield _packet([line], n)


def _packet(lines: list[str], first: int) -> bytes:
    try:
        return octets_from_hex("\n".join(lines))
    except FieldError as error:
        raise FieldError(f"packet at line {first}: {error}") from None
