"""A time sequence as a file for xplot, in the way of tcptrace: what was sent, acknowledged and lost.

Colours and marks are those of tcptrace's time sequence graphs: white lines between a down and an up arrow for
packets, red ones with "R" for retransmissions, green for acknowledgements, yellow for the window, purple with
"S" for selective acknowledgements. Losses, which tcptrace cannot know, are red crosses.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from rawkit.report.run import Run
from rawkit.report.series import Point, Span, time_sequence


def xpl(run: Run, host: str = "") -> str:
    """The time sequence of what `host` sent, by default the client."""
    host = host or run.hosts[0]
    found = time_sequence(run, host)
    numbers = "octets" if run.roles.in_octets else "packets"
    title = f"{run.name}: sent by {host} (time sequence graph)".replace("\n", " ")
    lines = ["timeval unsigned", "title", title, "xlabel", "time", "ylabel", f"sequence number ({numbers})"]
    lines += _packets(found.sent, "white")
    lines += _packets(found.again, "red", "R")
    lines += _steps(found.ack, "green")
    lines += _steps(found.window, "yellow")
    lines += _packets(found.sack, "purple", "S", arrows=False)
    lines += [f"x {_time(time)} {(start + end) // 2:.0f} red" for time, start, end in found.lost]
    lines += [f"dtick {_time(time)} {acked:.0f} green" for time, acked in found.dup_ack]
    return "\n".join([*lines, "go", ""])


def _time(seconds: float) -> str:
    return f"{seconds:.6f}"


def _packets(spans: list[Span], colour: str, letter: str = "", arrows: bool = True) -> Iterator[str]:
    for time, start, end in spans:
        at = _time(time)
        yield f"line {at} {start:.0f} {at} {end:.0f} {colour}"
        if arrows:
            yield f"darrow {at} {start:.0f} {colour}"
            yield f"uarrow {at} {end:.0f} {colour}"
        if letter:
            yield f"atext {at} {end:.0f} {colour}"
            yield letter


def _steps(points: list[Point], colour: str) -> Iterator[str]:
    for (time, value), (later, next_value) in pairwise(points):
        yield f"line {_time(time)} {value:.0f} {_time(later)} {value:.0f} {colour}"
        yield f"line {_time(later)} {value:.0f} {_time(later)} {next_value:.0f} {colour}"
