"""How fast a scan goes, how long it waits, and what it thinks it missed: on links and in times made up."""

from __future__ import annotations

import heapq
import random
from bisect import bisect_left
from collections import Counter

import pytest

from rawkit.tools.scan.missed import estimate, expected_more
from rawkit.tools.scan.pace import EPOCHS, AutoPace, Patience, RatePace

MS = 1_000_000


@pytest.mark.parametrize("rate", [1, 300, 12_345, 1e6])
def test_rate_is_kept_over_slices_of_any_length(rate: float) -> None:
    pace = RatePace(rate)
    now_ns, sent = 10**9, 0
    while now_ns < 6 * 10**9:
        n = pace.allowed(now_ns)
        pace.sent(n, now_ns)
        sent += n
        now_ns = max(pace.due_ns(), now_ns + 7 * MS)
    assert sent == pytest.approx(5 * rate, rel=0.005, abs=1)


def test_rate_catches_up_on_50_ms_after_a_pause() -> None:
    pace = RatePace(1000)
    pace.sent(pace.allowed(0), 0)
    pace.sent(pace.allowed(10**9), 10**9)
    assert pace.allowed(11 * 10**9) == pytest.approx(51, abs=1)


def test_rate_halves_when_answers_are_lost() -> None:
    pace = RatePace(1000)
    pace.slow_down()
    pace.sent(pace.allowed(10**9), 10**9)
    assert pace.due_ns() == pytest.approx(10**9 + 2 * MS, abs=2)


class Wire:
    """A link of `rate` frames a second, a queue of 1000 and round trips of `rtt_ns`, in a time of its own.

    Of the probes that get through, the share `answering` is answered.
    """

    def __init__(self, rate: float, rtt_ns: int, answering: float) -> None:
        self.interval_ns = 1e9 / rate
        self.rtt_ns, self.answering = rtt_ns, answering
        self.free_ns = 0.0
        self.answers: list[tuple[float, int, float]] = []  # when, to which epoch, round trip
        self.random = random.Random(1)
        self.lost = 0

    def send(self, now_ns: int, epoch: int) -> None:
        self.free_ns = max(self.free_ns, now_ns)
        if (self.free_ns - now_ns) / self.interval_ns > 1000:
            self.lost += 1
            return
        self.free_ns += self.interval_ns
        if self.random.random() < self.answering:
            took_ns = self.free_ns - now_ns + self.rtt_ns
            heapq.heappush(self.answers, (now_ns + took_ns, epoch, took_ns))


def run_pace(pace: AutoPace, path: Wire, end_ns: int, step_ns: int = MS // 2) -> list[int]:
    """When the probes were sent that the pace allowed up to `end_ns`."""
    sent: list[int] = []
    epoch, rtt_n, rtt_sum_ns = 0, 0, 0
    counts: Counter[int] = Counter()
    for now_ns in range(10**9, 10**9 + end_ns, step_ns):
        while path.answers and path.answers[0][0] <= now_ns:
            _, of, took_ns = heapq.heappop(path.answers)
            counts[of] += 1
            rtt_n, rtt_sum_ns = rtt_n + 1, rtt_sum_ns + int(took_ns)
        pace.heard([counts[epoch - age] for age in range(EPOCHS)], rtt_n, rtt_sum_ns, now_ns)
        if n := pace.allowed(now_ns):
            epoch += pace.begin()
            pace.sent(n, now_ns)
            for _ in range(n):
                path.send(now_ns, epoch)
            sent += [now_ns - 10**9] * n
    return sent


def test_the_pace_begins_with_1000_probes_a_second_and_grows_while_answers_keep_up() -> None:
    sent = run_pace(AutoPace(1000), Wire(1e9, 100_000, 1.0), 20 * MS, MS // 10)
    assert bisect_left(sent, MS // 10) == 10
    assert bisect_left(sent, MS) <= 10 + 20 + 40 + 80 + 160 + 320
    assert len(sent) > 50_000


@pytest.mark.parametrize("answering", [1.0, 0.9, 0.3])
def test_the_pace_finds_a_bottleneck_and_stays_there(answering: float) -> None:
    """Whatever else the path loses or the targets leave unanswered."""
    path = Wire(20_000, 40 * MS, answering)
    sent = run_pace(AutoPace(8192), path, 6000 * MS)
    assert path.lost < 0.1 * len(sent)
    lost = path.lost
    later = len(sent) - bisect_left(sent, 2000 * MS)
    assert 0.7 * 20_000 <= later / 4 <= 1.05 * 20_000
    assert path.lost == lost


def test_the_pace_stays_slow_where_nothing_answers() -> None:
    sent = run_pace(AutoPace(8192), Wire(1e9, MS, 0.0), 2000 * MS)
    assert bisect_left(sent, 10 * MS) == 10
    assert len(sent) <= 20_000
    assert len(sent) > 10_000


def test_the_pace_keeps_to_its_limit() -> None:
    sent = run_pace(AutoPace(8192, rate_max=300), Wire(1e9, 20 * MS, 1.0), 5000 * MS)
    assert len(sent) == pytest.approx(1500, rel=0.02)


def test_lost_answers_halve_the_largest_window() -> None:
    pace = AutoPace(1000)
    run_pace(pace, Wire(1e9, 100_000, 1.0), 10 * MS, MS // 10)
    pace.slow_down()
    assert pace.window == 500


# ---- what was missed -------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [0.0, 0.02, 0.1, 0.3])
@pytest.mark.parametrize("rounds", [2, 3, 4])
@pytest.mark.parametrize(("ports", "silent"), [(40, 1000), (200, 0), (3000, 100)])
def test_the_estimate_of_missed_ports_holds(loss: float, rounds: int, ports: int, silent: int) -> None:
    """Its interval of 95 %, over fifty scans whose losses are known; and it is no wider than it has to be."""
    chance = random.Random(ports)
    right, width = 0, 0
    for _ in range(50):
        missing, found = ports, []
        for _ in range(rounds):
            found.append(sum(chance.random() >= loss for _ in range(missing)))
            missing -= found[-1]
        missed = estimate(found, ports - missing, missing + silent)
        assert missed is not None
        right += missed.low <= missing <= missed.high
        width += missed.high
    assert right >= 46
    expected = ports * loss**rounds
    if ports > 100:  # of few there is little to learn from
        assert width / 50 <= 3 * expected + 60 * loss + 3


def test_where_nothing_is_known_there_is_no_estimate() -> None:
    assert estimate([0, 0, 0], 0, 100) is None
    assert estimate([50], 50, 100) is None
    assert estimate([50], 50, 0) == (0, 0, 0)


def test_rounds_go_on_while_they_find_more() -> None:
    assert expected_more([1000]) == 0
    assert expected_more([1000, 0]) == 0
    assert expected_more([1000, 100]) == pytest.approx(100 * 0.1 / 0.9)


def test_patience_shrinks_to_four_times_the_slowest_answer() -> None:
    patience = Patience(3000 * MS)
    for n in range(7):
        patience.seen(n * MS)
    assert patience.wait_ns == 3000 * MS
    patience.seen(150 * MS)
    assert patience.wait_ns == 600 * MS
    patience.seen(2000 * MS)
    assert patience.wait_ns == 3000 * MS


def test_patience_never_goes_below_200_ms_nor_above_the_timeout() -> None:
    for timeout_ms, wait_ms in ((1000, 200), (50, 50)):
        patience = Patience(timeout_ms * MS)
        for _ in range(8):
            patience.seen(1)
        assert patience.wait_ns == wait_ms * MS
