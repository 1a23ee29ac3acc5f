"""A capture file as one of another kind, and text as a capture file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import IO

from rawkit.pcap.hexdump import packets_from_text
from rawkit.pcap.reader import Reader
from rawkit.pcap.writer import Kind, PcapngWriter, PcapWriter, kind_of_name
from rawkit.wire.frame import Frame

Target = str | os.PathLike[str] | IO[bytes]


def convert_pcap(
    reader: Reader, path_or_stream: Target, kind: Kind | None = None, *, nanoseconds: bool = True
) -> int:
    """Write what is still to be read of a capture file anew, as pcap or pcapng; gives how many packets.

    The file's name decides which, or `kind`. pcapng gets the interfaces, comments and flags that there are;
    pcap has one link type and none of that, and times in nanoseconds or, without, in microseconds.

    Raises `CaptureFileError` when the file is damaged (what came before is in the new one), `FieldError` for
    what pcap cannot hold, `EngineError` or OSError when the new file cannot be written.
    """
    if (kind or kind_of_name(path_or_stream)) == "pcap":
        with PcapWriter(path_or_stream, reader.linktype, nanoseconds=nanoseconds) as writer:
            for batch in reader.batches():
                writer.write_batch(batch)
            return writer.packets
    with PcapngWriter(path_or_stream) as ng:
        described = 0
        for frame in reader:
            for interface in reader.interfaces[described:]:
                described += 1
                ng.add_interface(
                    interface.name,
                    interface.linktype,
                    snaplen=interface.snaplen,
                    filter=interface.filter,
                    os_name=interface.os,
                    description=interface.description,
                    comments=interface.comments,
                )
            ng.write(frame)
        return ng.packets


def convert_text(
    lines: Iterable[str],
    path_or_stream: Target,
    *,
    linktype: int = 1,
    time_ns: int = 0,
    kind: Kind | None = None,
) -> int:
    """Write the packets of a hexadecimal dump to a capture file; gives how many.

    They are a microsecond apart from `time_ns` on.

    Raises `FieldError` for a line that is no dump, `EngineError` or OSError when the file cannot be written.
    """
    if (kind or kind_of_name(path_or_stream)) == "pcap":
        writer: PcapWriter | PcapngWriter = PcapWriter(path_or_stream, linktype)
    else:
        writer = PcapngWriter(path_or_stream)
    with writer:
        for n, octets in enumerate(packets_from_text(lines)):
            writer.write(Frame(octets, time_ns + n * 1000, linktype=linktype))
        return writer.packets
