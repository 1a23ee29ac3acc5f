"""From the events of a run to numbers over time, each a list of points: seconds, and octets, seconds or bits
per second. Nothing is drawn here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from rawkit.report.run import Run

Point = tuple[float, float]
Span = tuple[float, float, float]
"""A time, and where something begins and ends."""


@dataclass
class TimeSequence:
    """What one host sent, and what it was told of it. Numbers do not wrap, and begin at 0."""

    sent: list[Span] = field(default_factory=list)
    again: list[Span] = field(default_factory=list)
    """Retransmissions."""
    lost: list[Span] = field(default_factory=list)
    """Of both: when the network lost them."""
    damaged: list[Span] = field(default_factory=list)
    ack: list[Point] = field(default_factory=list)
    """Acknowledged up to."""
    window: list[Point] = field(default_factory=list)
    """The first number that the receiver has no room for."""
    sack: list[Span] = field(default_factory=list)
    dup_ack: list[Point] = field(default_factory=list)


def time_sequence(run: Run, host: str) -> TimeSequence:
    """Numbers of what `host` sent, over time as seen there."""
    found = TimeSequence()
    by_packet: dict[int, tuple[float, float]] = {}
    base: int | None = None
    edge = -1
    for event, facts in run.facts:
        if event.where != host:
            continue
        now = event.time_ns / 1e9
        if event.kind == "send" and facts.seq is not None:
            base = facts.seq if base is None else base
            extent = facts.seq - base, facts.seq - base + facts.reading.span
            (found.again if facts.retransmission else found.sent).append((now, *extent))
            by_packet[event.packet] = extent
        elif event.kind == "arrive" and facts.ack is not None and base is not None:
            acked = facts.ack - base + (not run.roles.cumulative)
            if not found.ack or acked > found.ack[-1][1]:
                found.ack.append((now, acked))
            if facts.dup_ack:
                found.dup_ack.append((now, acked))
            found.sack += [(now, a - base, b - base) for a, b in facts.sacks]
            if facts.reading.window is not None and acked + facts.reading.window != edge:
                edge = acked + facts.reading.window
                found.window.append((now, edge))
    for event in run.trace:
        if event.kind in ("drop", "corrupt") and event.packet in by_packet:
            kind = found.lost if event.kind == "drop" else found.damaged
            kind.append((event.time_ns / 1e9, *by_packet[event.packet]))
    return found


def in_flight(run: Run, host: str) -> list[Point]:
    """Octets of payload that `host` has sent and that are not acknowledged, when that changes."""
    points: list[Point] = []
    for event, facts in run.facts:
        if event.where == host:
            now = facts.in_flight if event.kind == "send" else facts.peer_in_flight
            if now is not None and (not points or points[-1][1] != now):
                points.append((event.time_ns / 1e9, now))
    return points


def round_trips(run: Run, host: str) -> list[Point]:
    """How long each acknowledgement took, as the packets of `host` show it."""
    return [
        (event.time_ns / 1e9, facts.rtt_ns / 1e9)
        for event, facts in run.facts
        if event.where == host and event.kind == "arrive" and facts.rtt_ns is not None
    ]


def metrics(run: Run, host: str) -> dict[str, list[Point]]:
    """What the endpoint at `host` reported by `cx.metric`, by name: when that changes, and at the end."""
    found: dict[str, list[Point]] = {}
    last: dict[str, Point] = {}
    for event in run.trace:
        if event.kind == "metric" and event.where == host:
            for name, value in event.fields.items():
                last[name] = event.time_ns / 1e9, value
                points = found.setdefault(name, [])
                if not points or points[-1][1] != value:
                    points.append(last[name])
    for name, point in last.items():
        if found[name][-1] != point:
            found[name].append(point)
    return found


def delivered(run: Run, host: str) -> list[Point]:
    """Octets delivered to the application at `host` so far."""
    points, total = [(0.0, 0.0)], 0
    for event in run.trace:
        if event.kind == "deliver" and event.where == host:
            total += len(event.octets)
            points.append((event.time_ns / 1e9, total))
    return points


def goodput(run: Run, host: str, *, bins: int = 60) -> list[Point]:
    """Bits per second delivered to the application at `host`, in equal intervals; points at their starts.

    The last point closes the last interval.
    """
    whole = delivered(run, host)
    end = whole[-1][0]
    if not end:
        return []
    octets = [0.0] * bins
    for (_, before), (time, after) in pairwise(whole):
        octets[min(int(time / end * bins), bins - 1)] += after - before
    width = end / bins
    return [(i * width, octets[min(i, bins - 1)] * 8 / width) for i in range(bins + 1)]


def one_way(run: Run, src: str) -> Iterator[tuple[int, int, int]]:
    """When each packet of the host `src` was sent and arrived (ns), and its octets with the IP header."""
    sent = {}
    header = 0
    for event in run.trace:
        if event.kind == "send" and event.where == src:
            header = 40 if ":" in event.src else 20
            sent[event.packet] = event
        elif event.kind == "arrive" and event.packet in sent:
            start = sent.pop(event.packet)
            yield start.time_ns, event.time_ns, len(start.octets) + header


def queueing_delay(run: Run, src: str) -> list[Point]:
    """How much longer than the fastest each packet of `src` took, in seconds, by when it was sent.

    What sending it takes at the link's rate is left out where that rate is known.
    """
    times = [(sent, arrived - sent - _serial_ns(run, octets)) for sent, arrived, octets in one_way(run, src)]
    least = min((delay for _, delay in times), default=0)
    return sorted((sent / 1e9, (delay - least) / 1e9) for sent, delay in times)


def queue_length(run: Run, src: str) -> list[Point]:
    """How many packets of `src` wait for the link, when that changes; [] where its rate is not known.

    Worked out from when packets were sent and arrived: whatever the fastest needed is the way, not the queue.
    """
    if not run.rate_bps:
        return []
    changes: list[tuple[int, int]] = []
    waits = [(sent, arrived - sent - _serial_ns(run, octets)) for sent, arrived, octets in one_way(run, src)]
    least = min((wait for _, wait in waits), default=0)
    for sent, wait in waits:
        if wait > least + 1:  # what a rate leaves of a nanosecond is no queue
            changes += [(sent, 1), (sent + wait - least, -1)]
    length, points = 0, [(0.0, 0.0)]
    for time, change in sorted(changes):
        length += change
        if points[-1][0] == time / 1e9:
            points.pop()
        points.append((time / 1e9, length))
    return [*points, (run.end_ns / 1e9, length)]


def _serial_ns(run: Run, octets: int) -> int:
    return round(octets * 8e9 / run.rate_bps) if run.rate_bps else 0
