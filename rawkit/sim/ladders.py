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
        if name in roles:
            words.append(f"{name}={getattr(parsed, roles[name][1].name)}")
    if "sack" in roles:
        words += [f"sack={a}..{b - 1}" for a, b in getattr(parsed, roles["sack"][1].name)]
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
        label = f"[{rung.number}] {rung.text}"
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
    """The first `most` rungs as an SVG picture; time runs down, evenly by rung."""
    from html import escape

    hosts, found = rungs(trace, header)
    found = found[:most]
    moments = sorted({t for rung in found for t in (rung.time_ns, *rung.arrivals_ns)})
    row = {moment: 50 + 18 * i for i, moment in enumerate(moments)}
    height = 70 + 18 * len(moments)
    sides = (170, 570)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="740" height="{height}" font-family="monospace"'
        ' font-size="11">',
        f'<rect width="740" height="{height}" fill="white"/>',
    ]
    for x, name in zip(sides, hosts):
        parts.append(f'<text x="{x}" y="24" text-anchor="middle" font-size="14">{escape(name)}</text>')
        parts.append(f'<line x1="{x}" y1="34" x2="{x}" y2="{height - 10}" stroke="#999"/>')
    for rung in found:
        x, y = sides[rung.side], row[rung.time_ns]
        anchor, dx = ("end", -8) if rung.side == 0 else ("start", 8)
        if rung.number < 0:
            parts.append(
                f'<text x="{x + dx}" y="{y + 4}" text-anchor="{anchor}" fill="#666">'
                f"{escape(rung.text)}</text>"
            )
            continue
        label = escape(f"[{rung.number}] {rung.text}")
        parts.append(f'<text x="370" y="{y - 2}" text-anchor="middle">{label}</text>')
        ends = [(sides[1 - rung.side], row[t]) for t in rung.arrivals_ns]
        for x2, y2 in ends or [(370, y + 14)]:
            colour = "#c00" if rung.fate else "#046"
            parts.append(f'<line x1="{x}" y1="{y}" x2="{x2}" y2="{y2}" stroke="{colour}"/>')
            if rung.fate:
                parts.append(f'<text x="{x2}" y="{y2 + 4}" fill="#c00">&#x2717; {escape(rung.fate)}</text>')
            else:
                parts.append(f'<circle cx="{x2}" cy="{y2}" r="2" fill="{colour}"/>')
    parts.append("</svg>")
    return "\n".join(parts)
