"""`rawkit pcap convert`: pcap to pcapng and back, and text to either."""

from __future__ import annotations

import sys
from typing import Literal

import click

from rawkit.cli.pcap.common import MomentType, file_argument, output, write_option


@click.command(
    name="convert",
    epilog="""\b
Examples:
  rawkit pcap convert capture.pcapng -w capture.pcap
  rawkit pcap convert capture.pcap.gz -w capture.pcapng.zst
  rawkit pcap convert capture.pcapng --microseconds -w for-old-programs.pcap
  xxd -g 1 packet.bin | rawkit pcap convert --text - -w packet.pcapng

pcap has one link type, and no interfaces, comments and flags. A text is a dump with offsets, as of xxd,
hexdump -C, tcpdump -x, Wireshark and rawkit read -x (a packet begins at offset 0), or a line of hexadecimal
digits for each packet.

Exit status: 0; 2 for a file that is damaged (what came before is written).""",
)
@file_argument
@write_option()
@click.option("--kind", type=click.Choice(["pcap", "pcapng"]), help="Whatever the name's ending says.")
@click.option("--microseconds", is_flag=True, help="Times of pcap in microseconds, rounded down.")
@click.option("--text", is_flag=True, help="FILE is a text with hexadecimal digits.")
@click.option("--linktype", type=click.IntRange(0, 65535), default=1, show_default=True,
              help="With --text: what packets begin with (LINKTYPE_ number; 101 is IP).")  # fmt: skip
@click.option("--time", "start", type=MomentType(), help="With --text: the time of the first packet.")
def command(
    file: str,
    write: str,
    kind: Literal["pcap", "pcapng"] | None,
    microseconds: bool,
    text: bool,
    linktype: int,
    start: tuple[str, int] | None,
) -> None:
    """Write the packets of FILE as another kind of file: pcap when -w's name ends in .pcap, else pcapng."""
    from rawkit.cli.output import counted, escape, status
    from rawkit.pcap import open_pcap
    from rawkit.tools.convertfile import convert_pcap, convert_text

    if start and start[0] != "epoch":
        raise click.BadParameter("there is no first packet to count from", param_hint="--time")
    if text:
        stream = sys.stdin if file == "-" else open(file, encoding="utf-8", errors="replace")  # noqa: SIM115
        try:
            with output(write, file) as path:
                time_ns = start[1] if start else 0
                done = convert_text(stream, path, linktype=linktype, time_ns=time_ns, kind=kind)
        finally:
            if stream is not sys.stdin:
                stream.close()
    else:
        with open_pcap(file) as reader, output(write, file) as path:
            done = convert_pcap(reader, path, kind, nanoseconds=not microseconds)
    status(f"{counted(done, 'packet')} written to {escape(write)}")
