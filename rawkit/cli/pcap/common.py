"""What the commands for capture files share: arguments, times as people type them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from rawkit.cli.output import refuse_overwriting

F = TypeVar("F", bound=Callable[..., Any])

file_argument = click.argument("file", type=click.Path(dir_okay=False, readable=False, allow_dash=True))


def write_option(required: bool = True) -> Callable[[F], F]:
    """-w FILE."""
    return click.option(
        "-w", "--write", metavar="FILE", required=required, type=click.Path(dir_okay=False, allow_dash=True),
        help="The file to write; the ending .gz, .zst or .lz4 packs it; \"-\" is standard output.",
    )  # fmt: skip


@contextmanager
def output(path: str, *sources: str) -> Iterator[str]:
    """The name to write to in place of `path`, which it becomes when all went well.

    Raises:
        UsageError: `path` is one of the files being read, or a terminal.
    """
    from rawkit.pcap.replace import replacing

    if path == "-" and sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal: say -w FILE, or send it into a file or a pipe")
    for source in sources:
        refuse_overwriting(path, source)
    with replacing(path) as beside:
        yield beside


def parse_moment(text: str) -> tuple[str, int]:
    """A point in time: ("start", ns) counts from a file's first packet, ("epoch", ns) from 1970.

    "+10s" or "+1.5min" behind the first packet; "2026-11-24T12:00:00.5" (local time, or with Z or +01:00);
    "1700000000.25" seconds since 1970.

    Raises:
        BadParameter: none of these.
    """
    from fractions import Fraction

    from rawkit.errors import UnitError
    from rawkit.units import parse_duration

    text = text.strip()
    try:
        if text.startswith("+"):
            return "start", parse_duration(text[1:])
        if re.fullmatch(r"\d+(\.\d*)?", text):
            return "epoch", int(Fraction(text) * 1_000_000_000)
        whole, fraction, zone = _parts(text)
        seconds = int(datetime.fromisoformat(whole + zone).timestamp())
        return "epoch", seconds * 1_000_000_000 + int(fraction.ljust(9, "0"))
    except (ValueError, UnitError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is no time: say 2026-11-24T12:00:00Z, seconds since 1970, or +10s from the start"
        ) from None


def _parts(text: str) -> tuple[str, str, str]:
    """Date and time to the second, digits of its fraction, and zone: datetime knows no nanoseconds."""
    match = re.fullmatch(r"([^.Z+]*?)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)?", text)
    if match is None:
        raise ValueError(text)
    whole, fraction, zone = match.groups()
    return whole, fraction or "0", "+00:00" if zone == "Z" else zone or ""


class MomentType(click.ParamType[tuple[str, int]]):
    name = "TIME"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        return value if isinstance(value, tuple) else parse_moment(str(value))


def iso_time(time_ns: int) -> str:
    """RFC 3339, UTC, with nanoseconds."""
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"
    except (ValueError, OverflowError, OSError):
        return f"{seconds}.{fraction:09d}"


def seconds_text(duration_ns: int) -> str:
    """A duration in seconds, to the nanosecond."""
    sign = "-" if duration_ns < 0 else ""
    seconds, fraction = divmod(abs(duration_ns), 1_000_000_000)
    return f"{sign}{seconds}.{fraction:09d} s"


def parse_size(text: str) -> int:
    """Octets: 500000, 500k, 100M, 2G, in powers of ten.

    Raises:
        BadParameter: no such number, or less than 1.
    """
    from fractions import Fraction

    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMG]?)", text.strip())
    octets = int(Fraction(match[1]) * {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}[match[2]]) if match else 0
    if octets < 1:
        raise click.BadParameter(f"{text!r} is no size: say 500000, 500k, 100M or 2G")
    return octets
