"""Ladder diagrams: what two hosts sent each other, with what was lost, as text and as SVG."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from rawkit.errors import HeaderError
from rawkit.transport.trace import Trace, TraceEvent
from rawkit.wire.field import FlagBits
from rawkit.wire.header import Header


def describe(octets: bytes, header: type[Header]) -> str:
    """A packet in a few words, by the roles of its header: "SYN seq=0 ack=1 len=20"."""
    try:
        parsed, at, end = header._parse(octets, 0, len(octets))
    except HeaderError as error:
        return f"[{error}]"
    words = []
    roles = header.roles
    if "flags" in roles:
        kind = roles["flags"][1].kind
        value = getattr(parsed, roles["flags"][1].name)
        if isinstance(kind, FlagBits) and value:
            words.append(kind.text(value))
    for name in ("seq", "ack", "window"):
        number = getattr(parsed, roles[name][1].name) if name in roles else None
        if number is not None:  # a field may be absent from a packet
            words.append(f"{name}={number}")
    if "sack" in roles:
        words += [f"sack={a}..{b - 1}" for a, b in getattr(parsed, roles["sack"][1].name) or ()]
    if end > at:
        words.append(f"len={end - at}")
    return " ".join(words) or header.__name__


@dataclass
class Rung:
    """One line of the ladder: a packet, or what happened at one side."""

    time_ns: int
    side: int
    """0 for the left host, 1 for the right."""
    text: str
    number: int = -1
    arrivals_ns: list[int] = field(default_factory=list)
    fate: str = ""
    """Why it was lost; "" when it arrived."""


def rungs(trace: Trace | Iterable[TraceEvent], header: type[Header]) -> tuple[list[str], list[Rung]]:
    """The names of the two hosts, and the rungs in the order of their times."""
    hosts: list[str] = []
    found: list[Rung] = []
    packets: dict[int, Rung] = {}
    for event in trace:
        if event.kind in ("drop", "duplicate", "corrupt"):
            rung = packets[event.packet]
            if event.kind == "drop":
                rung.fate = event.detail
            else:
                bit = f" (bit {event.detail})" if event.kind == "corrupt" else ""
                rung.text += f" [{event.kind}{bit}]"
            continue
        if event.kind == "arrive":
            packets[event.packet].arrivals_ns.append(event.time_ns)
            continue
        if event.where not in hosts:
            hosts.append(event.where)
        side = hosts.index(event.where)
        if event.kind == "send":
            packets[event.packet] = Rung(event.time_ns, side, describe(event.octets, header), event.packet)
            found.append(packets[event.packet])
        elif event.kind == "deliver":
            found.append(Rung(event.time_ns, side, f"deliver {len(event.octets)} octets"))
        elif event.kind in ("timer", "tell", "note", "done"):
            fields = " ".join(f"{name}={value}" for name, value in event.fields.items())
            words = event.detail if event.kind in ("tell", "note") else f"{event.kind} {event.detail}"
            found.append(Rung(event.time_ns, side, f"{words} {fields}".strip()))
    hosts.sort()
    if hosts and found and hosts[0] != next(iter(_where(trace))):
        for rung in found:
            rung.side = 1 - rung.side
    return hosts, found


def _where(trace: Trace | Iterable[TraceEvent]) -> Iterable[str]:
    return (e.where for e in trace if e.kind not in ("drop", "duplicate", "corrupt", "arrive"))


def _seconds(ns: int) -> str:
    return f"{ns / 1e9:9.4f}"


def ladder(trace: Trace | Iterable[TraceEvent], header: type[Header], *, most: int = 60) -> str:
    """The first `most` rungs as text: time at the left host, arrow or event, time at the right host, in
    seconds.
    """
    hosts, found = rungs(trace, header)
    if not found:
        return "(nothing was sent)"
    longest = max((len(rung.text) + len(rung.fate) for rung in found[:most]), default=0)
    width = min(max(longest + 14, 54), 84)
    left, right = [*hosts, "?"][:2]
    lines = [f"{'s':>9}  {left:<{width}}  {right}"]
    for rung in found[:most]:
        here = _seconds(rung.time_ns)
        there = _seconds(rung.arrivals_ns[0]) if rung.arrivals_ns else " " * 9
        if rung.number < 0:
            text = f"{rung.text:<{width}}" if rung.side == 0 else f"{rung.text:>{width}}"
            times = (here, "") if rung.side == 0 else (" " * 9, here)
            lines.append(f"{times[0]} |{text}| {times[1]}".rstrip())
            continue
        label = _label(rung)
        lost = f"X {rung.fate}" if rung.fate else ""
        room = width - len(label) - (len(lost) or 2) - 3
        line = "-" * max(room, 1)
        if rung.side == 0:
            body = f"--{label} {line}{lost or '->'}"
            lines.append(f"{here} |{body:<{width}}| {there}".rstrip())
        else:
            body = f"{lost or '<-'}{line} {label}--"
            lines.append(f"{there} |{body:>{width}}| {here}".rstrip())
    if len(found) > most:
        lines.append(f"{'':9}  ... {len(found) - most} more")
    return "\n".join(lines)


def ladder_svg(trace: Trace | Iterable[TraceEvent], header: type[Header], *, most: int = 200) -> str:
    """The first `most` rungs as an SVG picture. Time runs down, evenly by what happens: each sending, arrival
    and event has a row of its own.
    """
    from html import escape

    hosts, found = rungs(trace, header)
    found = found[:most]
    # What arrives comes before what the host does about it.
    rows = [(t, 0, i) for i, rung in enumerate(found) for t in rung.arrivals_ns]
    rows += [(rung.time_ns, 1 if rung.number < 0 else 2, i) for i, rung in enumerate(found)]
    rows.sort()
    row = {key: 56 + 16 * n for n, key in enumerate(rows)}
    beside = max((len(rung.text) for rung in found if rung.number < 0), default=0) * 6.7 + 20
    between = max((len(_label(rung)) + len(rung.fate) for rung in found if rung.number >= 0), default=0)
    times = 66
    left = beside + times
    right = left + max(between * 6.7 + 90, 360)
    width, height = right + left, 76 + 16 * len(rows)
    sides = (left, right)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}"'
        ' font-family="monospace" font-size="11">',
        "<style>.packet{paint-order:stroke;stroke:white;stroke-width:4px}.time{fill:#767676}</style>",
        f'<rect width="{width:.0f}" height="{height}" fill="white"/>',
    ]
    for x, name in zip(sides, hosts):
        parts.append(f'<text x="{x:.0f}" y="24" text-anchor="middle" font-size="14">{escape(name)}</text>')
        parts.append(f'<line x1="{x:.0f}" y1="34" x2="{x:.0f}" y2="{height - 10}" stroke="#999"/>')
    shown: dict[int, int] = {}
    for time, kind, i in rows:
        side = 1 - found[i].side if kind == 0 else found[i].side
        if shown.get(side) != time:  # a time stands where it is new at that host
            shown[side] = time
            x, anchor = (left - beside, "end") if side == 0 else (right + beside, "start")
            parts.append(
                f'<text class="time" x="{x:.0f}" y="{row[time, kind, i] + 4}" text-anchor="{anchor}">'
                f"{time / 1e9:.4f}</text>"
            )
    lines, texts = [], []
    for i, rung in enumerate(found):
        x, y = sides[rung.side], row[rung.time_ns, 1 if rung.number < 0 else 2, i]
        outward, inward = (-8, 8) if rung.side == 0 else (8, -8)
        ends = ("end", "start") if rung.side == 0 else ("start", "end")
        if rung.number < 0:
            texts.append(
                f'<text x="{x + outward:.0f}" y="{y + 4}" text-anchor="{ends[0]}" fill="#555">'
                f"{escape(rung.text)}</text>"
            )
            continue
        tint = "#c2410c" if rung.fate else "#0072b2"
        arrivals = [(sides[1 - rung.side], row[t, 0, i]) for t in rung.arrivals_ns]
        for x2, y2 in arrivals or [(x + (sides[1 - rung.side] - x) * 0.8, y + 8)]:
            lines.append(f'<line x1="{x:.0f}" y1="{y}" x2="{x2:.0f}" y2="{y2}" stroke="{tint}"/>')
            if arrivals:
                lines.append(f'<circle cx="{x2:.0f}" cy="{y2}" r="2.5" fill="{tint}"/>')
            else:
                lines.append(
                    f'<text x="{x2:.0f}" y="{y2 + 4}" fill="{tint}" text-anchor="middle">&#x2717;</text>'
                )
        fate = f' <tspan fill="{tint}">{escape(rung.fate)}</tspan>' if rung.fate else ""
        texts.append(
            f'<text class="packet" x="{x + inward:.0f}" y="{y + 4}" text-anchor="{ends[1]}">'
            f"{escape(_label(rung))}{fate}</text>"
        )
    return "\n".join([*parts, *lines, *texts, "</svg>"])


def _label(rung: Rung) -> str:
    return f"[{rung.number}] {rung.text}"
