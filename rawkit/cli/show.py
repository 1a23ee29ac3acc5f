"""`rawkit show`: one packet, explained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rawkit.wire.header import Header
    from rawkit.wire.packet import Packet

FIRST = ("ip", "ip6", "ether")


@click.command(
    name="show",
    epilog="""\b
Examples:
  rawkit show out.pcapng -n 3
  rawkit show 'ip(dst=192.0.2.1)/tcp(dport=80)' -x
  rawkit show --hex '45 00 00 1c 00 00 00 00 40 01 ...'
  tcpdump -x -c 1 | tail -n +2 | rawkit show --hex -
  rawkit show out.pcapng -n 3 -e     (an expression for `rawkit send`)
  rawkit show out.pcapng -n 3 --json --names wireshark

Exit status: 0; 2 for bad input.""",
)
@click.argument("what", required=False, metavar="[FILE|EXPRESSION]")
@click.option(
    "-n", "--number", type=click.IntRange(min=1), default=1, help="Which packet of the file  [default: 1]"
)
@click.option("--hex", "digits", metavar="DIGITS", help='The octets, in hexadecimal; "-" reads them.')
@click.option("--first", type=click.Choice(FIRST), help="The header that the octets begin with.")
@click.option("-x", "--dump", is_flag=True, help="The octets too, and which field each belongs to.")
@click.option("-e", "--expression", "as_expression", is_flag=True, help="Only as an expression.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option(
    "--names",
    type=click.Choice(("rawkit", "wireshark")),
    default="rawkit",
    show_default=True,
    help="Whose field names JSON has.",
)
@click.option("--with", "library", type=click.Choice(("scapy",)), help="As another library explains it.")
def command(
    what: str | None,
    number: int,
    digits: str | None,
    first: str | None,
    dump: bool,
    as_expression: bool,
    as_json: bool,
    names: str,
    library: str | None,
) -> None:
    """Explain one packet, header by header: from a capture FILE, an EXPRESSION, or octets in hexadecimal.

    What an expression leaves open is shown as it would be computed; an address that only sending can choose
    is zero.
    """
    from rawkit.cli.output import JsonLines, emit, escape
    from rawkit.wire.expression import parse_expression, to_expression
    from rawkit.wire.packet import Packet

    if names != "rawkit" and not as_json:
        raise click.UsageError("--names goes with --json")
    if (what is None) == (digits is None):
        raise click.UsageError("name one of: a FILE, an EXPRESSION, --hex DIGITS")
    if digits is not None:
        octets = _octets(digits)
        packet = Packet.parse(octets, _first_header(first, octets))
    elif first is not None:
        raise click.UsageError("--first goes with --hex")
    elif _is_file(what or ""):
        packet = _packet_of_file(what or "", number)
    else:
        built = parse_expression(what or "")
        # Not the packet as it was written but its octets: with lengths, checksums and numbers.
        packet = Packet.parse(bytes(built), type(built.layers[0]) if built.layers else None)
    if as_json:
        fields = {"summary": packet.summary(), "expression": to_expression(packet, compact=True)}
        JsonLines("show").write("packet", **fields, octets=bytes(packet), **packet.to_dict(names))
        return
    if as_expression:
        emit(escape(to_expression(packet, compact=True)))
        return
    if library is not None:
        from rawkit.interop.scapy import to_scapy

        emit(escape(to_scapy(packet).show(dump=True).rstrip(), lines=True))
    else:
        emit(escape(packet.show(), lines=True))
    if dump:
        emit()
        _dump(packet)


COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "red")


def _dump(packet: Packet) -> None:
    """The octets: coloured by field on a terminal, with numbers below them elsewhere."""
    from rawkit.cli.output import console, emit
    from rawkit.wire.show import annotated_hexdump, hexdump, spans

    screen = console()
    if not screen.color_system:
        emit(annotated_hexdump(packet))
        return
    from rich.text import Text

    octets, styles = bytes(packet), list[str]()
    legend = Text()
    for n, span in enumerate(spans(packet)):
        style = COLOURS[n % len(COLOURS)] + (" bold" if n // len(COLOURS) % 2 else "")
        styles += [style] * (span.end - span.start)
        legend.append(f"{span.name}  ", style)
    for at, line in zip(range(0, len(octets), 16), hexdump(octets).split("\n")):
        text = Text(line)
        for i, style in enumerate(styles[at : at + 16]):
            place = 6 + 3 * i + i // 8
            text.stylize(style, place, place + 2)
            text.stylize(style, 56 + i, 57 + i)
        screen.print(text, soft_wrap=True)
    screen.print(legend)


def _is_file(text: str) -> bool:
    """Whether this names a file, also one that is missing, rather than a packet."""
    import os

    # Headers are written with parentheses, payloads in quotes or as 0x digits.
    return text == "-" or os.path.exists(text) or not ("(" in text or text.startswith(('"', "'", "0x")))


def _packet_of_file(path: str, number: int) -> Packet:
    from rawkit.pcap import open_pcap

    seen = 0
    with open_pcap(path) as reader:
        for frame in reader:
            seen += 1
            if seen == number:
                return frame.packet()
    raise click.UsageError(f"{path} has no packet number {number}, there are {seen}")


def _octets(digits: str) -> bytes:
    """Octets from digits, a dump, or standard input."""
    import sys

    from rawkit.wire.text import octets_from_hex

    return octets_from_hex(sys.stdin.read() if digits == "-" else digits)


def _first_header(name: str | None, octets: bytes) -> type[Header]:
    """The class that was named, or the one the octets look like."""
    from rawkit.wire import Ether, IPv4, IPv6

    if name is not None:
        named: dict[str, type[Header]] = {"ip": IPv4, "ip6": IPv6, "ether": Ether}
        return named[name]
    length = int.from_bytes(octets[2:4], "big")
    if octets[0] >> 4 == 4 and octets[0] & 15 >= 5 and 20 <= length <= len(octets):
        return IPv4
    if octets[0] >> 4 == 6 and 40 <= 40 + int.from_bytes(octets[4:6], "big") <= len(octets):
        return IPv6
    return Ether
