"""What is plotted of a run, as values: panels with lines, which `draw` makes pictures of and `page` makes
interactive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from rawkit.report import series
from rawkit.report.run import Run
from rawkit.report.series import Point, Span
from rawkit.sim.ladders import describe

Look = Literal["line", "steps", "points", "bars"]
Tone = Literal["main", "again", "lost", "ack", "window", "sack", "second", "third", "limit"]
"""What a line stands for, of which colour and marker follow."""


@dataclass(frozen=True)
class Line:
    """Points of one kind. Of `bars`, three points are one: two ends, and a gap."""

    name: str
    xs: Sequence[float | None]
    ys: Sequence[float | None]
    look: Look = "line"
    tone: Tone = "main"
    run: int = 0
    """Which of several runs it is of: these have colours, and their lines no tones."""
    hidden: bool = False
    """Whether it lies so far from the others that it would press them flat: the page shows it when asked."""
    texts: Sequence[str] = ()
    """What the page says of each point, besides where it is; as many as points, or none."""

    def __len__(self) -> int:
        return len(self.xs) // 3 if self.look == "bars" else len(self.xs)


@dataclass(frozen=True)
class Panel:
    """Lines with common axes; time in seconds runs to the right."""

    key: str
    title: str
    unit: str
    lines: list[Line] = field(default_factory=list)
    until: float = 0.0
    """Where the time axis ends."""


def line(name: str, points: Iterable[Point], look: Look = "line", tone: Tone = "main", run: int = 0) -> Line:
    """A line of points."""
    pairs = list(points)
    return Line(name, [x for x, _ in pairs], [y for _, y in pairs], look, tone, run)


def bars(name: str, spans: Iterable[Span], tone: Tone, texts: Iterable[str] = ()) -> Line:
    """A vertical bar for each span, with what the page says of it."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    for time, start, end in spans:
        xs += [time, time, None]
        ys += [start, end, None]
    return Line(name, xs, ys, "bars", tone, texts=[text for text in texts for _ in range(3)])


# ---- one run ----------------------------------------------------------------------------------------


def sequence(run: Run) -> Panel:
    """The client's numbers over time: what it sent, what was lost, what was acknowledged, and the window."""
    found = series.time_sequence(run, run.hosts[0])
    numbers = "octets" if run.roles.in_octets else "packets"
    texts: dict[bool, list[str]] = {False: [], True: []}
    for event, facts in run.facts:
        if event.where == run.hosts[0] and event.kind == "send" and facts.seq is not None:
            words = describe(event.octets, run.roles.header)
            texts[facts.retransmission].append(f"[{event.packet}] {words}")
    lines = [
        bars("sent", found.sent, "main", texts[False]),
        bars("sent again", found.again, "again", texts[True]),
        line("lost on the way", _middles(found.lost), "points", "lost"),
        line("damaged on the way", _middles(found.damaged), "points", "third"),
        line("acknowledged", found.ack, "steps", "ack"),
        bars("selectively acknowledged", found.sack, "sack"),
        line("receive window", found.window, "steps", "window"),
    ]
    top = max((end for _, _, end in found.sent), default=0)
    if min((edge for _, edge in found.window), default=0) > 2 * top:
        lines[-1] = replace(lines[-1], hidden=True)
    title = f"Time sequence: numbers that {run.hosts[0]} sent"
    return _panel("sequence", title, f"sequence number ({numbers})", lines, run)


def window(run: Run) -> Panel:
    """The congestion window and threshold as the endpoint says, and what was in flight as its packets say."""
    told = series.metrics(run, run.hosts[0])
    lines = [
        line("in flight", _in_flight(run), "steps", "main"),
        line("congestion window", told.get("cwnd", []), "steps", "ack"),
        line("slow start threshold", [p for p in told.get("ssthresh", []) if p[1]], "steps", "limit"),
    ]
    title = "Congestion window" if "cwnd" in told else "In flight"
    return _panel("window", title, "octets", lines, run)


def round_trip(run: Run) -> Panel:
    """Round trips as measured from packets, smoothed, and the time-out that follows."""
    told = series.metrics(run, run.hosts[0])
    lines = [
        line("measured", _scaled(series.round_trips(run, run.hosts[0]), 1e3), "points", "main"),
        line("smoothed (SRTT)", _scaled(told.get("srtt", []), 1e3), "steps", "ack"),
        line("time-out (RTO)", _scaled(told.get("rto", []), 1e3), "steps", "limit"),
    ]
    return _panel("rtt", "Round-trip time", "ms", lines, run)


def goodput(run: Run) -> Panel:
    """What was delivered to the server's application, and the link's rate."""
    lines = [line("delivered", _scaled(series.goodput(run, run.hosts[1]), 1e-6), "steps", "main")]
    if run.rate_bps:
        lines.append(_level("rate of the link (IP octets)", run.rate_bps / 1e6, run))
    return _panel("goodput", f"Goodput: delivered at {run.hosts[1]}", "Mbit/s", lines, run)


def queue(run: Run) -> Panel:
    """What waits for the link: packets where its rate is known, else how much longer packets took."""
    length = series.queue_length(run, run.hosts[0])
    if length:
        return _panel("queue", "Queue to the link", "packets", [line("waiting", length, "steps")], run)
    delay = _scaled(series.queueing_delay(run, run.hosts[0]), 1e3)
    lines = [line("longer than the fastest", delay, "points")]
    return _panel("queue", "Queueing delay", "ms", lines, run)


def others(run: Run) -> Iterator[Panel]:
    """Metrics that have no place in the other panels, each in one of its own."""
    for name, points in series.metrics(run, run.hosts[0]).items():
        if name not in ("cwnd", "ssthresh", "in_flight", "srtt", "rto"):
            yield _panel(f"metric-{name}", f"{name}, as {run.hosts[0]} reports it", name,
                         [line(name, points, "steps")], run)  # fmt: skip


def panels(run: Run) -> list[Panel]:
    """All that there is to plot of a run; a panel without points is left out.

    Goodput and the queue need both hosts, which a capture at one of them has not.
    """
    if not run.hosts:
        return []
    every = [sequence(run), window(run), round_trip(run)]
    if len(run.hosts) > 1:
        every += [goodput(run), queue(run)]
    every += others(run)
    return [panel for panel in every if any(map(len, panel.lines))]


ONE_HOST = ("window", "rtt")
"""What can be plotted of several runs where not all of them were seen at both hosts."""


# ---- several runs on the same axes --------------------------------------------------------------------


def overlay(runs: Sequence[Run]) -> list[Panel]:
    """Several runs on the same axes: octets delivered, goodput, window, round trips, queueing delay."""
    runs = [run for run in runs if run.hosts]
    windows = [bool(series.metrics(run, run.hosts[0]).get("cwnd")) for run in runs]
    which = "Congestion window" if any(windows) else "In flight"
    if any(windows) and not all(windows):
        which += ", or in flight where there is none"
    kinds: list[tuple[str, str, str, Look, Callable[[Run], list[Point]]]] = [
        ("delivered", "Delivered", "octets", "steps", lambda run: series.delivered(run, run.hosts[1])),
        ("goodput", "Goodput", "Mbit/s", "steps",
         lambda run: _scaled(series.goodput(run, run.hosts[1]), 1e-6)),
        ("window", which, "octets", "steps",
         lambda run: series.metrics(run, run.hosts[0]).get("cwnd") or _in_flight(run)),
        ("rtt", "Round-trip time", "ms", "points", _measured),
        ("queue", "Queueing delay", "ms", "points",
         lambda run: _scaled(series.queueing_delay(run, run.hosts[0]), 1e3)),
    ]  # fmt: skip
    until = max((run.end_ns for run in runs), default=0) / 1e9
    found = []
    both = all(len(run.hosts) > 1 for run in runs)
    for key, title, unit, look, points in kinds if both else [each for each in kinds if each[0] in ONE_HOST]:
        lines = [line(run.name, points(run), look, run=i) for i, run in enumerate(runs)]
        lines = [each for each in lines if len(each)]
        if lines:
            found.append(Panel(key, title, unit, lines, until))
    return found


def _measured(run: Run) -> list[Point]:
    """Round trips as packets show them, or smoothed where none were seen."""
    host = run.hosts[0]
    return _scaled(series.round_trips(run, host) or series.metrics(run, host).get("srtt", []), 1e3)


def _in_flight(run: Run) -> list[Point]:
    """As the packets show it; or, where none were seen, as the sender says."""
    return series.in_flight(run, run.hosts[0]) or series.metrics(run, run.hosts[0]).get("in_flight", [])


def _panel(key: str, title: str, unit: str, lines: list[Line], run: Run) -> Panel:
    return Panel(key, title, unit, [each for each in lines if len(each)], run.end_ns / 1e9)


def _level(name: str, value: float, run: Run) -> Line:
    return Line(name, [0.0, run.end_ns / 1e9], [value, value], "line", "limit")


def _middles(spans: list[Span]) -> list[Point]:
    return [(time, (start + end) / 2) for time, start, end in spans]


def _scaled(points: Iterable[Point], by: float) -> list[Point]:
    return [(time, value * by) for time, value in points]


# ---- fewer points -----------------------------------------------------------------------------------


def thin(line: Line, most: int) -> Line:
    """A line of at most about `most` points: of each stretch its lowest and highest; of bars, which have two
    points each, every n-th.
    """
    n = len(line)
    most = most // 2 if line.look == "bars" else most
    if n <= most:
        return line
    kept: list[int]
    if line.look == "bars":
        step = -(-n // most)
        kept = [3 * i + j for i in range(0, n, step) for j in range(3)]
    else:
        size = -(-2 * n // most)
        kept = [0]
        for start in range(0, n, size):
            stretch = range(start, min(start + size, n))
            ends = {min(stretch, key=lambda i: line.ys[i] or 0), max(stretch, key=lambda i: line.ys[i] or 0)}
            kept += sorted(ends)
        kept = sorted({*kept, n - 1})
    texts = [line.texts[i] for i in kept] if line.texts else ()
    return replace(line, xs=[line.xs[i] for i in kept], ys=[line.ys[i] for i in kept], texts=texts)
