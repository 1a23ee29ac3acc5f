"""`rawkit pcap slice`: packets by time, number or filter."""

from __future__ import annotations

import click

from rawkit.cli.pcap.common import MomentType, file_argument, output, write_option


@click.command(
    name="slice",
    epilog="""\b
Examples:
  rawkit pcap slice capture.pcapng 'tcp port 80' -w http.pcapng
  rawkit pcap slice big.pcap.zst -n 1-1000,5000- -w part.pcap
  rawkit pcap slice capture.pcapng --from +10s --until +20s -w ten-seconds.pcapng
  rawkit pcap slice capture.pcap --from 2026-11-24T12:00:00Z -c 100 -w - | tcpdump -r -

Times are those of a file (with Z or +01:00) or local; +10s is ten seconds behind the first packet.

Exit status: 0, also when no packet is left; 2 for a file that is damaged (what came before is written).""",
)
@file_argument
@click.argument("filter", nargs=-1)
@write_option()
@click.option(
    "-n", "--numbers", metavar="LIST", help="Packet numbers, from 1 on: 5, 1-100, 300-, with commas."
)
@click.option("--from", "start", type=MomentType(), help="Packets from this time on.")
@click.option("--until", "end", type=MomentType(), help="Packets before this time.")
@click.option("-c", "--count", type=click.IntRange(min=1), help="So many packets at most.")
@click.option("--invert", is_flag=True, help="All packets but those.")
def command(
    file: str,
    filter: tuple[str, ...],
    write: str,
    numbers: str | None,
    start: tuple[str, int] | None,
    end: tuple[str, int] | None,
    count: int | None,
    invert: bool,
) -> None:
    """Write the packets of FILE that are asked for to another file, as they stand, with all that is
    beside them.

    FILTER is a tcpdump expression. A name with the ending of the other kind of file (.pcap, .pcapng)
    makes a file of that kind.
    """
    from rawkit.cli.output import counted, escape, status
    from rawkit.pcap import open_pcap
    from rawkit.tools.slicefile import Slice, parse_numbers, slice_pcap

    wanted = Slice(
        filter=" ".join(filter),
        numbers=parse_numbers(numbers) if numbers else (),
        from_ns=start[1] if start else None,
        until_ns=end[1] if end else None,
        from_ns_since_start=bool(start and start[0] == "start"),
        until_ns_since_start=bool(end and end[0] == "start"),
        invert=invert,
        count=count,
    )
    with open_pcap(file) as reader, output(write, file) as path:
        kept, seen = slice_pcap(reader, path, wanted)
    status(f"{counted(kept, 'packet')} of the {seen} looked at written to {escape(write)}")
