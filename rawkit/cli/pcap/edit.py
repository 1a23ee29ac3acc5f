"""`rawkit pcap edit`: other addresses, ports, tags and hop limits in the packets of a file."""

from __future__ import annotations

from typing import Any

import click

from rawkit.cli.pcap.common import file_argument, output, write_option
from rawkit.cli.rewriting import rewrite_options, take_rewrite


@click.command(
    name="edit",
    epilog="""\b
Examples:
  rawkit pcap edit capture.pcapng --map 10.0.0.0/8=192.168.0.0/16 -w moved.pcapng
  rawkit pcap edit capture.pcap --port-map 80=8080 --ttl 64 -w other.pcap
  rawkit pcap edit tagged.pcap --vlan-remove --fix-checksums -w plain.pcap

Addresses are changed in IP and ARP, in neighbour discovery, and in packets that ICMP errors quote; not in
tunnels and application data. Checksums follow: good ones stay good, bad ones bad unless they are to be
fixed.

Exit status: 0; 2 for a file that is damaged (what came before is written).""",
)
@file_argument
@write_option()
@rewrite_options
def command(file: str, write: str, **options: Any) -> None:
    """Change the packets of FILE and nothing else in it: times, comments and unknown blocks stay."""
    from rawkit.cli.output import counted, escape, status
    from rawkit.pcap import open_pcap
    from rawkit.tools.editfile import edit_pcap

    rewrite = take_rewrite(options)
    if not rewrite.is_wanted:
        raise click.UsageError("nothing is to be changed: say what, for example --map or --ttl")
    with open_pcap(file) as reader, output(write, file) as path:
        done = edit_pcap(reader, path, rewrite)
    finished = f", {done.finished} with a checksum that was left to a network card" if done.finished else ""
    written = f"{counted(done.packets, 'packet')} written to {escape(write)}"
    status(f"{written}, {done.changed} of them changed{finished}")
