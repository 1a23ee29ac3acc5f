"""`rawkit pcap`: the tools for capture files, each a module of its own."""

from __future__ import annotations

import click

from rawkit.cli.main import LazyGroup

COMMANDS = {
    "info": ("rawkit.cli.pcap.info", "Say what files hold: interfaces, sizes, times, losses."),
    "slice": ("rawkit.cli.pcap.slice", "Take packets out by time, number or filter."),
    "split": ("rawkit.cli.pcap.split", "Write several files: by count, size, time or flow."),
    "merge": ("rawkit.cli.pcap.merge", "Write one file of several, in the order of time."),
    "edit": ("rawkit.cli.pcap.edit", "Change addresses, ports, tags, hop limits; checksums follow."),
    "anonymise": ("rawkit.cli.pcap.anonymise", "Put other addresses in place of all, drop payloads."),
    "diff": ("rawkit.cli.pcap.diff", "Compare two files, field by field; exit status as diff's."),
    "convert": ("rawkit.cli.pcap.convert", "Make pcap of pcapng or back, or either of a hex dump."),
    "export": ("rawkit.cli.pcap.export", "Print chosen fields as CSV or JSON lines."),
    "stats": ("rawkit.cli.pcap.stats", "Count protocols, conversations, endpoints, and rates over time."),
    "repair": ("rawkit.cli.pcap.repair", "Save what can be saved of a damaged file; say what was lost."),
}


@click.command(
    name="pcap",
    cls=LazyGroup,
    lazy=COMMANDS,
    epilog="""\b
Examples:
  rawkit pcap info capture.pcapng
  rawkit pcap slice big.pcap -n 1-1000 -w first.pcap
  rawkit pcap slice capture.pcapng 'udp port 53' --from +1min -w dns.pcapng
  rawkit pcap edit capture.pcap --map 10.0.0.0/8=192.168.0.0/16 -w moved.pcap
  rawkit pcap anonymise capture.pcapng -w to-share.pcapng

Files may be pcap or pcapng, packed with gzip, zstd or lz4 or not; "-" is standard input or output. A file
that is written appears under its name when it is complete, and never in place of the one that is read.

Exit status: 0; 1 for a negative result (files differ, damage was found); 2 for bad input.""",
)
def command() -> None:
    """Cut, join, change, compare, repair and measure capture files.

    What is not to change stays octet for octet: times, comments, and blocks that nobody knows.
    """
