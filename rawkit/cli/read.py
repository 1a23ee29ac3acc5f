"""`rawkit read`: the packets of a capture file, one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rawkit.cli.lines import PacketPrinter, printing_options
from rawkit.cli.output import counted, refuse_overwriting

if TYPE_CHECKING:
    from rawkit.engine import FrameBatch
    from rawkit.pcap import Reader
    from rawkit.tools.select import Selection


@click.command(
    name="read",
    epilog="""\b
Examples:
  rawkit read http.pcapng
  rawkit read http.pcapng 'tcp port 80 and tcp[tcpflags] & tcp-syn != 0'
  rawkit read -v -n 3 http.pcapng
  rawkit read --json http.pcapng | jq .summary
  rawkit read big.pcap 'host 10.77.0.2' -w small.pcapng

Exit status: 0; 2 for a file that is damaged (what came before is printed) or is no capture file.""",
)
@click.argument("file", type=click.Path(dir_okay=False, readable=False, allow_dash=True))
@click.argument("filter", nargs=-1)
@click.option("-c", "--count", type=click.IntRange(min=1), help="Stop after N packets that match.")
@click.option("-n", "--number", type=click.IntRange(min=1), help="Only packet number N (the first is 1).")
@click.option(
    "-w",
    "--write",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Write the packets to a .pcapng or .pcap file instead, as they stand where the kind is the same.",
)
@printing_options
def command(
    file: str,
    filter: tuple[str, ...],
    count: int | None,
    number: int | None,
    write: str | None,
    verbose: bool,
    dump: bool,
    style: str,
    as_json: bool,
) -> None:
    """Print the packets of FILE (pcap or pcapng, "-" for standard input), one line each.

    FILTER is a tcpdump expression.
    """
    from contextlib import ExitStack
    from itertools import islice

    from rawkit.cli.output import JsonLines, escape, status
    from rawkit.pcap import create_pcap, open_pcap
    from rawkit.pcap.writer import kind_of_name
    from rawkit.tools.select import Selection

    if write is not None and as_json:
        raise click.UsageError("--json prints packets and -w writes them: choose one")
    with ExitStack() as stack:
        reader = stack.enter_context(open_pcap(file))
        if write is not None:
            refuse_overwriting(write, file)
        selected = Selection(" ".join(filter), reader.linktype)
        if write is not None and kind_of_name(write) == reader.kind:
            done, seen = copy_selected(reader, selected, write, count, number)
            if number is not None and seen < number:
                raise click.UsageError(f"{file} has no packet number {number}")
            status(f"{counted(done, 'packet')} written to {escape(write)}")
            return
        writer = None
        json = JsonLines("read") if as_json else None
        printer = PacketPrinter(style, tree=verbose, dump=dump, json=json)
        # A number past the end shows only at the end: then nothing was seen.
        frames = reader if number is None else islice(reader, number - 1, number)
        seen = done = 0
        for seen, frame in enumerate(frames, 1):  # noqa: B007 (wanted after the loop)
            if not selected.matches(frame):
                continue
            done += 1
            if write is None:
                printer.write(frame)
            else:
                if writer is None:
                    writer = create_pcap(write, linktype=frame.linktype)
                    stack.enter_context(writer)
                writer.write(frame)
            if done == count:
                break
        if number is not None and not seen:
            raise click.UsageError(f"{file} has no packet number {number}")
        if write is not None:
            if writer is None:
                stack.enter_context(create_pcap(write, linktype=reader.linktype))
            status(f"{counted(done, 'packet')} written to {escape(write)}")


def copy_selected(
    reader: Reader, selected: Selection, write: str, count: int | None, number: int | None
) -> tuple[int, int]:
    """Copy packets as they stand, all else of the file too; how many, and how many were looked at."""
    from rawkit.pcap import copy_pcap

    done = seen = 0

    def wanted(batch: FrameBatch) -> tuple[list[bool], bool]:
        nonlocal done, seen
        flags = []
        for matches in selected.choose(batch):
            seen += 1
            flags.append(bool(matches) and done != count and number in (None, seen))
            done += flags[-1]
        return flags, done != count and (number is None or seen < number)

    copy_pcap(reader, write, wanted)
    return done, seen
