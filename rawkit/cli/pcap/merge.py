"""`rawkit pcap merge`: several files as one."""

from __future__ import annotations

import click

from rawkit.cli.pcap.common import output, write_option


@click.command(
    name="merge",
    epilog="""\b
Examples:
  rawkit pcap merge client.pcapng server.pcapng -w both.pcapng
  rawkit pcap merge day-*.pcap.zst -w week.pcap

Each file's interfaces stay apart in a .pcapng file, and packets keep their comments. A .pcap file has one
link type and none of that.

Exit status: 0; 2 for a file that is damaged (what came before is written).""",
)
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, readable=False))
@write_option()
def command(files: tuple[str, ...], write: str) -> None:
    """Write the packets of FILES to one file, in the order of time."""
    from rawkit.cli.output import counted, escape, status
    from rawkit.pcap.merge import merge_pcaps

    with output(write, *files) as path:
        done = merge_pcaps(files, path)
    gone = ", ".join(f"{escape(name)} {count}" for name, count in sorted(done.left_out.items()))
    written = (
        f"{counted(sum(done.packets), 'packet')} of {counted(len(files), 'file')} written to {escape(write)}"
    )
    status(f"{written}{f'; left out: {gone}' if gone else ''}")
