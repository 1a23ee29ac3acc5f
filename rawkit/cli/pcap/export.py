"""`rawkit pcap export`: chosen fields as CSV or JSON lines."""

from __future__ import annotations

import click

from rawkit.cli.pcap.common import file_argument

DEFAULT = "frame.number,frame.time,ip.src,ip.dst,ip.protocol,frame.len"


@click.command(
    name="export",
    epilog=f"""\b
Examples:
  rawkit pcap export capture.pcapng > packets.csv
  rawkit pcap export capture.pcapng -e frame.time,ip.src,tcp.dport,tcp.flags
  rawkit pcap export --json capture.pcapng -e ipv6.src,udp.sport | jq .
  rawkit read --json capture.pcapng      every field of every packet

Fields are header.field as `rawkit protocols NAME` shows them, or of the frame: frame.number, frame.time (ns
since 1970), frame.len, frame.cap_len, frame.interface, frame.direction, frame.comments, frame.summary.
A field that a packet does not have is empty, and null in JSON. Without -e: {DEFAULT}.

Exit status: 0; 2 for a file that is damaged (what came before is printed).""",
)
@file_argument
@click.option("-e", "--fields", metavar="LIST", multiple=True, help="Fields, with commas; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per packet, in place of CSV.")
def command(file: str, fields: tuple[str, ...], as_json: bool) -> None:
    """Print fields of each packet of FILE as a row of CSV, with the names first."""
    import csv
    import sys

    from rawkit.cli.output import JsonLines, plain
    from rawkit.pcap import open_pcap
    from rawkit.tools.exportfile import rows

    names = [name.strip() for text in fields or (DEFAULT,) for name in text.split(",") if name.strip()]
    with open_pcap(file) as reader:
        found = rows(reader, names)
        if as_json:
            json = JsonLines("pcap.export")
            for row in found:
                json.write("packet", **dict(zip(names, row)))
            return
        out = csv.writer(sys.stdout, lineterminator="\n")
        out.writerow(names)
        for row in found:
            out.writerow("" if value is None else _cell(plain(value)) for value in row)


def _cell(value: object) -> object:
    return " ".join(map(str, value)) if isinstance(value, list) else value
