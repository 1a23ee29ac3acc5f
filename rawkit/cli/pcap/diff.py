"""`rawkit pcap diff`: how two captures differ, field by field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rawkit.tools.filediff import PacketDifference


@click.command(
    name="diff",
    epilog="""\b
Examples:
  rawkit pcap diff before.pcapng after.pcapng
  rawkit pcap diff --ignore IPv4.id,IPv4.checksum,Ether.src a.pcap b.pcap
  rawkit pcap diff --times 1us a.pcap b.pcap

Packets that only one file has are found within 200 packets. Times do not matter unless --times is given.

Exit status: 0 when the packets are the same, 1 when they differ, 2 for bad input.""",
)
@click.argument("left", type=click.Path(dir_okay=False, readable=False, allow_dash=True))
@click.argument("right", type=click.Path(dir_okay=False, readable=False, allow_dash=True))
@click.option("--ignore", metavar="LIST", multiple=True, help="Fields that do not matter: IPv4.id,TCP.seq.")
@click.option("--times", metavar="TIME", help="Times may differ by so much at most: 0, 1us, 10ms.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing; the exit status tells.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each difference.")
def command(
    left: str, right: str, ignore: tuple[str, ...], times: str | None, quiet: bool, as_json: bool
) -> int:
    """Compare the packets of LEFT with those of RIGHT, field by field."""
    from rawkit.cli.errors import NEGATIVE, SUCCESS
    from rawkit.cli.output import JsonLines, emit, escape
    from rawkit.errors import FieldError, UnitError
    from rawkit.pcap import open_pcap
    from rawkit.tools.filediff import diff_files
    from rawkit.units import parse_duration

    try:
        within_ns = parse_duration(times) if times is not None else 0
    except UnitError as error:
        raise click.BadParameter(str(error), param_hint="--times") from None
    names = [name for text in ignore for name in text.split(",") if name.strip()]
    json = JsonLines("pcap.diff") if as_json else None
    found = 0
    with open_pcap(left) as one, open_pcap(right) as other:
        try:
            differences = diff_files(one, other, ignore=names, times=times is not None, within_ns=within_ns)
            for difference in differences:
                found += 1
                if json:
                    json.write("difference", **record(difference))
                elif quiet:
                    break
                else:
                    for line in lines(difference):
                        emit(escape(line))
        except FieldError as error:
            raise click.BadParameter(str(error), param_hint="--ignore") from None
    return NEGATIVE if found else SUCCESS


def lines(difference: PacketDifference) -> list[str]:
    """As `diff` marks them: < is in the first file, > in the second."""
    left, right = difference.left, difference.right
    if left is None and right is not None:
        return [f"> {difference.right_number}  {right.packet().summary()}"]
    if right is None and left is not None:
        return [f"< {difference.left_number}  {left.packet().summary()}"]
    assert left is not None
    numbers = f"{difference.left_number}, {difference.right_number}"
    return [f"= {numbers}  {left.packet().summary()}", *(f"    {row}" for row in difference.fields)]


def record(difference: PacketDifference) -> dict[str, Any]:
    """The fields of a "difference" record."""
    left, right = difference.left, difference.right
    return {
        "left_number": difference.left_number,
        "right_number": difference.right_number,
        "left": left.packet().summary() if left else None,
        "right": right.packet().summary() if right else None,
        "fields": [
            {"field": row.path, "offset": row.offset, "left": _value(row.left), "right": _value(row.right)}
            for row in difference.fields
        ],
    }


def _value(value: Any) -> Any:
    return value if value is None or isinstance(value, (int, str, bytes)) else str(value)
