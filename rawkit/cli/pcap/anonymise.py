"""`rawkit pcap anonymise`: a capture that can be shown to others."""

from __future__ import annotations

from typing import Literal

import click

from rawkit.cli.pcap.common import file_argument, output, write_option


@click.command(
    name="anonymise",
    epilog="""\b
Examples:
  rawkit pcap anonymise capture.pcapng -w to-share.pcapng
  rawkit pcap anonymise monday.pcap --key-file secret -w 1.pcap
  rawkit pcap anonymise tuesday.pcap --key-file secret -w 2.pcap
  rawkit pcap anonymise capture.pcap --keep 10.0.0.0/8 --payload cut -w small.pcap

Two addresses that share a prefix share one of the same length afterwards, so networks can still be seen.
Addresses that stand for no host (0.0.0.0, 127.0.0.1, assigned groups) stay. What is looked for: IP
headers and their options, ARP, neighbour discovery, ICMP with the packets it quotes, IGMP, SCTP, MPTCP,
tunnels. What is not understood becomes zero. From pcapng go names, secrets, comments, filters and unknown
blocks. Times, lengths, ports and host behaviour stay, and can tell more than one thinks.

Exit status: 0; 2 for a file that is damaged, or has packets that are not understood.""",
)
@file_argument
@write_option()
@click.option(
    "--key-file", type=click.Path(dir_okay=False, exists=True),
    help="A file whose content decides which address becomes which, in every capture; else it is random.",
)  # fmt: skip
@click.option(
    "--keep", "kept", metavar="PREFIX", multiple=True,
    help="Addresses in this prefix stay in it; what is behind it is changed. Repeatable.",
)  # fmt: skip
@click.option(
    "--payload", type=click.Choice(["zero", "keep", "cut"]), default="zero", show_default=True,
    help="What TCP, UDP and the like carry: zeros in its place, as it is, or packets end before it.",
)  # fmt: skip
def command(
    file: str,
    write: str,
    key_file: str | None,
    kept: tuple[str, ...],
    payload: Literal["zero", "keep", "cut"],
) -> None:
    """Copy FILE with other addresses in place of all, and without payloads; checksums stay good."""
    from ipaddress import ip_network
    from pathlib import Path

    from rawkit.cli.output import counted, escape, status
    from rawkit.pcap import open_pcap
    from rawkit.tools.anonymise import Anonymise
    from rawkit.tools.editfile import anonymise_pcap

    key = None
    if key_file is not None:
        key = Path(key_file).read_bytes()
        if len(key) < 8:
            raise click.UsageError(f"{key_file}: a key of {len(key)} octets can be guessed; 8 are the least")
    try:
        networks = tuple(ip_network(text.strip()) for text in kept)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--keep") from None
    with open_pcap(file) as reader, output(write, file) as path:
        done = anonymise_pcap(reader, path, Anonymise(key, networks, payload))
    gone = ", ".join(f"{escape(name)} {count}" for name, count in sorted(done.left_out.items()))
    status(
        f"{counted(done.packets, 'packet')} written to {escape(write)}{f'; left out: {gone}' if gone else ''}"
    )
