"""Changing the packets of a capture file, and nothing else in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import IO

from rawkit.engine.batch import FrameBatch
from rawkit.engine.rewrite import LINKS, Rewriter
from rawkit.errors import CaptureFileError
from rawkit.pcap.copy import copy_pcap
from rawkit.pcap.reader import Reader
from rawkit.tools.anonymise import PACKET_OPTIONS, Anonymise
from rawkit.tools.rewrite import Rewrite

_ETHERNET = 1


@dataclass(frozen=True)
class Edited:
    """How many packets were copied, how many became different, how many had their checksum finished."""

    packets: int
    changed: int
    finished: int = 0


def edit_pcap(reader: Reader, path_or_stream: str | os.PathLike[str] | IO[bytes], rewrite: Rewrite) -> Edited:
    """Copy a capture file with other addresses, ports, tags or hop limits in its packets.

    All else stays octet for octet (`copy_pcap`). Packets of a link type that is not understood are an error,
    and so is a MAC address or a VLAN tag where there is no Ethernet.

    Raises `CaptureFileError` for such a packet, or when the file is damaged (what came before is in the new
    one), `EngineError` or OSError when the new file cannot be written, ValueError for a rule that is none.
    """
    rewriter = rewrite.rewriter()
    ethernet = any((rewrite.dst_mac, rewrite.src_mac, rewrite.add_tag, rewrite.remove_tag))
    packets = copy_pcap(reader, path_or_stream, edit=_Checked(rewriter, reader, ethernet))
    return Edited(packets, rewriter.changed, rewriter.finished)


@dataclass(frozen=True)
class Anonymised:
    """How many packets were copied, how many became different, and what of pcapng was left out, by name."""

    packets: int
    changed: int
    left_out: dict[str, int]


def anonymise_pcap(
    reader: Reader, path_or_stream: str | os.PathLike[str] | IO[bytes], how: Anonymise
) -> Anonymised:
    """Copy a capture file without anything in it that tells who and where (`rawkit.tools.anonymise`).

    Times, lengths, ports, flags and checksums stay what they were, and so does which packets belong together.

    Raises `CaptureFileError` for a packet of a link type that is not understood, or when the file is damaged
    (what came before is in the new one), `EngineError` or OSError when the new file cannot be written.
    """
    editor = how.editor()
    packets = copy_pcap(
        reader,
        path_or_stream,
        edit=_Checked(editor.rewriter, reader),
        blocks=editor.block,
        options=PACKET_OPTIONS,
    )
    return Anonymised(packets, editor.rewriter.changed, editor.left_out)


class _Checked:
    """A rewriter that says of which file it is what it does not understand."""

    def __init__(self, rewriter: Rewriter, reader: Reader, ethernet: bool = False) -> None:
        self._rewriter = rewriter
        self._path = reader.path
        self._ethernet = ethernet

    def append(self, batch: FrameBatch, out: FrameBatch, first: int = 0, n: int | None = None) -> int:
        linktype = batch.linktype
        if linktype not in LINKS:
            raise UnknownLink(f"{self._path}: packets of link type {linktype}, which cannot be changed")
        if self._ethernet and linktype != _ETHERNET:
            raise UnknownLink(
                f"{self._path}: packets of link type {linktype} have no MAC addresses and tags of Ethernet"
            )
        return self._rewriter.append(batch, out, first, n)


class UnknownLink(CaptureFileError):
    """Packets in a file that cannot be changed as asked."""
