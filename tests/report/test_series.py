"""Numbers over time, against what one works out by hand from the events of a short run."""

from __future__ import annotations

import pytest

from rawkit.report import series
from rawkit.report.analysis import Roles
from rawkit.report.figures import Line, bars, line, overlay, panels, thin
from rawkit.report.run import Run
from rawkit.sim import DropTail, LinkSpec, Transfer
from rawkit.transport.protocols.go_back_n import GoBackN, GoBackNHeader
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat, SelectiveRepeatHeader
from rawkit.transport.protocols.stop_and_wait import StopAndWait
from rawkit.transport.trace import Trace
from rawkit.wire import Header

MS = 10**6


class Script:
    """A trace, written packet by packet."""

    def __init__(self) -> None:
        self.trace = Trace()
        self.packets: list[tuple[str, str, bytes]] = []

    def send(self, at_ms: float, where: str, header: Header, payload: bytes = b"") -> int:
        octets = header._pack(payload, None, None) + payload
        src, dst = ("10.0.0.1", "10.0.0.2") if where == "a" else ("10.0.0.2", "10.0.0.1")
        self.packets.append((src, dst, octets))
        self._add(at_ms, "send", where, len(self.packets) - 1)
        return len(self.packets) - 1

    def arrive(self, at_ms: float, where: str, number: int) -> None:
        self._add(at_ms, "arrive", where, number)

    def drop(self, at_ms: float, where: str, number: int) -> None:
        self._add(at_ms, "drop", where, number)

    def _add(self, at_ms: float, kind: str, where: str, number: int) -> None:
        self.trace.add(round(at_ms * MS), kind, where, number, *self.packets[number], 0)

    def deliver(self, at_ms: float, where: str, size: int) -> None:
        self.trace.say(round(at_ms * MS), "deliver", where, octets=bytes(size))


@pytest.fixture(scope="module")
def run() -> Run:
    """Two packets, of which the second is lost and sent again."""
    script = Script()
    data, ack = (lambda n: GoBackNHeader(flags="DATA", seq=n)), (lambda n: GoBackNHeader(flags="ACK", ack=n))
    first = script.send(0, "a", data(0), bytes(100))
    second = script.send(10, "a", data(1), bytes(100))
    script.drop(10, "a>b", second)
    script.arrive(20, "b", first)
    script.deliver(20, "b", 100)
    answer = script.send(20, "b", ack(1))
    script.trace.say(30 * MS, "metric", "a", fields={"cwnd": 5.0})
    script.arrive(40, "a", answer)
    script.trace.say(50 * MS, "metric", "a", fields={"cwnd": 7.0})
    again = script.send(100, "a", data(1), bytes(100))
    script.arrive(120, "b", again)
    script.deliver(120, "b", 100)
    answer = script.send(120, "b", ack(2))
    script.arrive(140, "a", answer)
    script.trace.say(140 * MS, "metric", "a", fields={"cwnd": 7.0})
    return Run(script.trace, Roles(GoBackNHeader), "by hand")


def test_a_time_sequence(run: Run) -> None:
    found = series.time_sequence(run, "a")
    assert found.sent == [(0, 0, 1), (0.01, 1, 2)]
    assert found.again == [(0.1, 1, 2)]
    assert found.lost == [(0.01, 1, 2)]
    assert found.ack == [(0.04, 1), (0.14, 2)]
    assert (found.window, found.sack, found.damaged, found.dup_ack) == ([], [], [], [])


def test_what_is_in_flight_and_how_long_answers_take(run: Run) -> None:
    assert series.in_flight(run, "a") == [(0, 100), (0.01, 200), (0.04, 100), (0.14, 0)]
    assert series.round_trips(run, "a") == [(0.04, 0.04)]  # the second was sent twice
    assert series.queueing_delay(run, "a") == [(0, 0), (0.1, 0)]
    assert series.queue_length(run, "a") == []  # nobody said what the link's rate is


def test_what_was_delivered_and_how_fast(run: Run) -> None:
    assert series.delivered(run, "b") == [(0, 0), (0.02, 100), (0.12, 200)]
    points = series.goodput(run, "b", bins=6)
    assert [time for time, _ in points] == pytest.approx([0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12])
    assert [bps for _, bps in points] == pytest.approx([0, 40_000, 0, 0, 0, 40_000, 40_000])
    assert series.metrics(run, "a") == {"cwnd": [(0.03, 5), (0.05, 7), (0.14, 7)]}
    assert [panel.key for panel in panels(run)] == ["sequence", "window", "rtt", "goodput", "queue"]


def test_windows_and_selective_acknowledgements_in_octets_that_wrap() -> None:
    script = Script()
    most = 2**32

    def answer(at_ms: float, ack: int, sacks: list[tuple[int, int]], window: int) -> None:
        header = SelectiveRepeatHeader(flags="ACK", ack=ack % most, window=window, sacks=sacks)
        script.arrive(at_ms + 10, "a", script.send(at_ms, "b", header))

    for i in range(4):
        header = SelectiveRepeatHeader(flags="DATA", seq=(most - 150 + 100 * i) % most)
        script.send(i, "a", header, bytes(100))
    answer(20, most - 50, [], 10)
    answer(21, most - 50, [(150, 250)], 10)
    answer(22, most - 50, [(50, 250)], 10)
    found = series.time_sequence(Run(script.trace, Roles(SelectiveRepeatHeader, shift=5)), "a")
    assert found.sent == [(i / 1e3, 100 * i, 100 * i + 100) for i in range(4)]
    assert found.ack == [(0.03, 100)]
    assert found.window == [(0.03, 100 + 10 * 32)]
    assert found.sack == [(0.031, 300, 400), (0.032, 200, 400)]
    assert found.dup_ack == [(0.031, 100), (0.032, 100)]


def test_the_queue_is_what_the_link_itself_counts() -> None:
    link = LinkSpec("1Mbit/s", "10ms", DropTail(packets=6))
    result = Transfer(GoBackN, {"window": 5}, octets=1470 * 40, link=link).run()
    length = series.queue_length(Run.of(result), "a")
    # At first five packets of 1500 octets at once: one on the wire, four wait, each for 12 ms.
    start = next(i for i, (_, n) in enumerate(length) if n == 4)
    assert [n for _, n in length[start : start + 2]] == [4, 3]
    assert length[start + 1][0] - length[start][0] == pytest.approx(0.012)
    assert max(n for _, n in length) == 4
    full = Transfer(GoBackN, {"window": 12}, octets=1470 * 100, link=link).run()
    assert full.directions[0].counts["queue full"]
    assert max(n for _, n in series.queue_length(Run.of(full), "a")) == 6  # what the queue holds
    delays = series.queueing_delay(Run.of(full), "a")
    assert max(delay for _, delay in delays) == pytest.approx(6 * 0.012, rel=0.1)


def test_a_protocol_without_acknowledgement_numbers_has_its_plots() -> None:
    run = Run.of(Transfer(StopAndWait, octets=5 * 1474).run())
    found = series.time_sequence(run, "a")
    assert [(start, end) for _, start, end in found.sent] == [(i, i + 1) for i in range(7)]  # SYN, five, FIN
    assert [acked for _, acked in found.ack] == [1, 2, 3, 4, 5, 6, 7]
    assert len(series.round_trips(run, "a")) == 7


def test_several_runs_have_the_same_axes() -> None:
    runs = [Run.of(Transfer(p, octets=30_000).run()) for p in (SelectiveRepeat, GoBackN)]
    every = overlay(runs)
    assert [panel.key for panel in every] == ["delivered", "goodput", "window", "rtt", "queue"]
    assert all([line.name for line in panel.lines] == ["SelectiveRepeat", "GoBackN"] for panel in every)
    assert {panel.until for panel in every} == {max(run.end_ns for run in runs) / 1e9}


def test_thinning_keeps_the_ends_the_lowest_and_the_highest() -> None:
    points = [(float(i), float(i % 7)) for i in range(10_000)]
    points[5000], points[5003] = (5000.0, 99.0), (5003.0, -99.0)
    thinned = thin(line("x", points), 500)
    assert 400 < len(thinned) <= 510
    kept = list(zip(thinned.xs, thinned.ys))
    assert {points[0], points[-1], points[5000], points[5003]} <= set(kept)
    assert kept == sorted(kept)
    short = line("x", points[:500])
    assert thin(short, 500) is short
    many = bars("x", [(float(i), 0.0, 1.0) for i in range(1000)], "main")
    few = thin(many, 200)
    assert isinstance(few, Line)
    assert len(few) == 100
    assert few.xs[:6] == [0.0, 0.0, None, 10.0, 10.0, None]
