"""`rawkit pcap split`: one file into several."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rawkit.cli.pcap.common import file_argument

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rawkit.tools.splitfile import Part


@click.command(
    name="split",
    epilog="""\b
Examples:
  rawkit pcap split big.pcap --count 100000 -w part.pcap
  rawkit pcap split big.pcapng --size 100M -w part.pcapng.zst
  rawkit pcap split day.pcapng --every 1h -w hour.pcapng
  rawkit pcap split capture.pcapng --flows -w flow.pcapng

The files are called part-00001.pcap and so on; each has the interfaces described in it. A line for each
is printed: its name, how many packets it has, and with --flows whose.

Exit status: 0; 2 for a file that is damaged (what came before is written).""",
)
@file_argument
@click.option(
    "-w", "--write", metavar="FILE", required=True, type=click.Path(dir_okay=False),
    help="What the files are called; the ending .gz, .zst or .lz4 packs them.",
)  # fmt: skip
@click.option("-c", "--count", type=click.IntRange(min=1), help="So many packets in a file.")
@click.option(
    "--size", metavar="OCTETS", help="So many octets in a file, before it is packed: 500k, 100M, 2G."
)
@click.option("--every", metavar="TIME", help="A file for each 10s, 5min or 1h from the first packet on.")
@click.option("--flows", is_flag=True, help="A file for each pair of addresses and ports, both directions.")
@click.option(
    "--most", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True,
    help="With --flows: so many files at most; other packets go to one more.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each file.")
def command(
    file: str,
    write: str,
    count: int | None,
    size: str | None,
    every: str | None,
    flows: bool,
    most: int,
    as_json: bool,
) -> None:
    """Write the packets of FILE to several files, as they stand."""
    from rawkit.cli.output import JsonLines, counted, emit, escape
    from rawkit.cli.pcap.common import parse_size
    from rawkit.errors import UnitError
    from rawkit.pcap import open_pcap
    from rawkit.tools.splitfile import split_flows, split_pcap
    from rawkit.units import parse_duration

    limits = (count, size, every)
    if flows == any(limit is not None for limit in limits):
        raise click.UsageError("say how to split: --count, --size and --every, or --flows")
    try:
        interval_ns = parse_duration(every) if every is not None else None
    except UnitError as error:
        raise click.BadParameter(str(error), param_hint="--every") from None
    if interval_ns == 0:
        raise click.BadParameter("it must be longer than nothing", param_hint="--every")
    octets = parse_size(size) if size is not None else None
    json = JsonLines("pcap.split") if as_json else None
    with open_pcap(file) as reader:
        parts: Iterable[Part]
        if flows:
            parts = split_flows(reader, write, most)
        else:
            parts = split_pcap(reader, write, count=count, size=octets, interval_ns=interval_ns)
        for part in parts:
            if json:
                json.write("file", path=part.path, packets=part.packets, flow=part.flow or None)
            else:
                whose = f"  {part.flow}" if part.flow else ""
                emit(escape(f"{part.path}  {counted(part.packets, 'packet')}{whose}"))
