"""`rawkit pcap repair`: what can be saved of a damaged file."""

from __future__ import annotations

import click

from rawkit.cli.pcap.common import file_argument, output, write_option


@click.command(
    name="repair",
    epilog="""\b
Examples:
  rawkit pcap repair cut.pcapng -w whole.pcapng
  rawkit pcap repair --json damaged.pcap -w repaired.pcap

Exit status: 0 when the file was whole, 1 when damage was found and the rest is written, 2 when nothing in
it looks
like packets.""",
)
@file_argument
@write_option()
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each loss, then one for all.")
def command(file: str, write: str, as_json: bool) -> int:
    """Write all that can be read of FILE to a new file, and say what was lost.

    What is whole is copied as it stands. Reading goes on behind damage where packets begin again; a
    packet that the file's end cuts keeps what there is of it.
    """
    from rawkit.cli.errors import NEGATIVE, SUCCESS
    from rawkit.cli.output import JsonLines, counted, escape, status
    from rawkit.pcap.repair import repair_pcap

    with output(write, file) as path:
        done = repair_pcap(file, path)
    json = JsonLines("pcap.repair") if as_json else None
    for loss in done.losses:
        if json:
            json.write("loss", offset=loss.offset, octets=loss.octets, reason=loss.reason)
        else:
            lost = f"{counted(loss.octets, 'octet')} lost" if loss.octets else "nothing lost"
            status(f"offset {loss.offset}: {lost}: {escape(loss.reason)}")
    if json:
        json.write("repaired", packets=done.packets, losses=len(done.losses), lost_octets=done.lost_octets)
    found = f"{counted(done.lost_octets, 'octet')} lost" if done.losses else "the file is whole"
    status(f"{counted(done.packets, 'packet')} written to {escape(write)}; {found}")
    return NEGATIVE if done.losses else SUCCESS
