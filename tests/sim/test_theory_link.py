"""Theory, E.1: link and queue. Formulas and published numbers against what the link does."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
from sim.lines import Line

from rawkit.sim.link import Datagram, LinkSpec
from rawkit.sim.models import Bernoulli, Corrupt, GilbertElliott, Model, Verdict
from rawkit.sim.network import Network, Node
from rawkit.sim.queues import CoDel, DropTail
from rawkit.transport.chance import Substream, stream_key
from rawkit.wire import checksum

MS, S = 10**6, 10**9
nightly = pytest.mark.slow

ANYONE = Node(Network(), "anyone", "10.0.0.1")


def losses(model: Model, n: int, seed: int = 1) -> list[bool]:
    """Which of `n` packets a model loses."""
    judge = model.bind(stream_key(seed, "test"))
    datagram = Datagram(bytes(1480), 1500, ANYONE, ANYONE, 0, 0, 0)
    lost = []
    for number in range(n):
        verdict = Verdict()
        judge.judge(number, 0, datagram, verdict)
        lost.append(bool(verdict.drop))
    return lost


def runs(flags: list[bool]) -> tuple[list[int], list[int]]:
    """Lengths of the runs of true and of false, without the first and the last run, which are cut off."""
    groups = [(flag, len(list(group))) for flag, group in itertools.groupby(flags)][1:-1]
    return [n for flag, n in groups if flag], [n for flag, n in groups if not flag]


def test_check_1_delay_of_one_packet_is_serialization_and_propagation() -> None:
    line = Line(LinkSpec("10Mbit/s", "20ms"))
    line.send()
    line.send()
    assert line.run() == [21_200_000, 22_400_000]


@pytest.mark.parametrize("n", [100_000, pytest.param(1_000_000, marks=nightly)])
def test_check_2_bernoulli_losses_are_as_many_as_said_and_independent(n: int) -> None:
    p = 0.01
    lost = losses(Bernoulli(p), n)
    assert sum(lost) / n == pytest.approx(p, abs=3.291 * math.sqrt(p * (1 - p) / n))  # 99.9 %
    # Runs without a loss are geometric: chi-square, ten equal classes, 9 degrees of freedom.
    gaps = [b - a - 1 for a, b in itertools.pairwise(i for i, flag in enumerate(lost) if flag)]
    edges = [math.ceil(math.log(1 - k / 10) / math.log(1 - p)) for k in range(10)] + [10**9]
    counts = [sum(low <= gap < high for gap in gaps) for low, high in itertools.pairwise(edges)]
    shares = [(1 - p) ** low - (1 - p) ** high for low, high in itertools.pairwise(edges)]
    chi = sum((c - len(gaps) * s) ** 2 / (len(gaps) * s) for c, s in zip(counts, shares))
    assert chi < 27.88  # 99.9 % point


@pytest.mark.parametrize(("n", "rel"), [(200_000, 0.06), pytest.param(1_000_000, 0.03, marks=nightly)])
def test_check_3_gilbert_elliott_share_bursts_and_gaps(n: int, rel: float) -> None:
    lost = losses(GilbertElliott(0.01, 0.25), n)
    bursts, gaps = runs(lost)
    assert sum(lost) / n == pytest.approx(0.01 / 0.26, rel=rel)
    assert sum(bursts) / len(bursts) == pytest.approx(4, rel=rel)
    assert sum(gaps) / len(gaps) == pytest.approx(100, rel=rel)


@pytest.mark.parametrize(("n", "rel"), [(60_000, 0.12), pytest.param(400_000, 0.05, marks=nightly)])
def test_check_4_bit_errors_hit_the_packets_that_theory_says(n: int, rel: float) -> None:
    judge = Corrupt(ber=1e-6).bind(stream_key(4, "test"))
    datagram = Datagram(bytes(1480), 1500, ANYONE, ANYONE, 0, 0, 0)
    hit = 0
    for number in range(n):
        verdict = Verdict()
        judge.judge(number, 0, datagram, verdict)
        assert all(0 <= bit < 12_000 for bit in verdict.flips)
        hit += bool(verdict.flips)
    assert hit / n == pytest.approx(1 - (1 - 1e-6) ** 12_000, rel=rel)


def test_check_4_the_internet_checksum_sees_every_single_bit_error() -> None:
    stream = Substream("octets")
    body = stream.octets(200)
    octets = checksum.checksum(body).to_bytes(2, "big") + body
    assert checksum.add(0, octets) == 0xFFFF
    line = Line(LinkSpec("10Mbit/s", 0, models=(Corrupt(1.0),)))
    for _ in range(3000):
        line.send(octets=octets)
    line.run()
    counts = line.direction.counts
    assert counts["damaged IP header"] == pytest.approx(3000 * 20 / 222, rel=0.25)
    assert len(line.arrived) == 3000 - counts["damaged IP header"]
    damaged = [arrived for _, _, arrived, _ in line.arrived]
    assert all(arrived != octets and checksum.add(0, arrived) != 0xFFFF for arrived in damaged)


@pytest.mark.parametrize(
    ("rho", "n", "rel"),
    [
        (0.5, 60_000, 0.06),
        pytest.param(0.5, 1_000_000, 0.03, marks=nightly),
        pytest.param(0.8, 1_000_000, 0.03, marks=nightly),
        pytest.param(0.9, 1_000_000, 0.03, marks=nightly),
    ],
)
def test_check_5_mean_wait_of_poisson_arrivals_of_one_size(rho: float, n: int, rel: float) -> None:
    line = Line(LinkSpec("12Mbit/s", 0))  # 1500 octets take 1 ms
    stream, at, starts = Substream(5, "arrivals"), 0.0, []
    for _ in range(n):
        at += stream.exponential(MS / rho)
        starts.append(int(at))
        line.send(int(at))
    waits = [arrived - start - MS for start, arrived in zip(starts, line.run())]
    assert sum(waits) / n / MS == pytest.approx(rho / (2 * (1 - rho)), rel=rel)


def test_check_7_a_standing_queue_of_100_packets_adds_120_ms() -> None:
    line = Line(LinkSpec("10Mbit/s", "20ms", DropTail(packets=100)))
    for i in range(3000):  # a little more than it can carry
        line.send(i * 1_150_000)
    line.run()
    delays = {number: time - number * 1_150_000 for time, number, *_ in line.arrived}
    loaded = max(delays.values()) + 20 * MS  # and an unloaded way back
    assert loaded == pytest.approx(160 * MS, rel=0.02)
    assert line.direction.counts["queue full"] > 0


def test_check_8_codel_drops_after_an_interval_and_then_ever_faster() -> None:
    line = Line(LinkSpec("12Mbit/s", 0, CoDel("5ms", "100ms")))
    for i in range(4000):
        line.send(i * 600_000)  # 20 Mbit/s
    line.run()
    # Packets leave every 1 ms: one that is missing was dropped when the one behind it began.
    arrived = {number: time for time, number, *_ in line.arrived}
    drops = [arrived[n + 1] - MS for n in range(2000) if n not in arrived and n + 1 in arrived]
    above = next(arrived[n] - MS for n in range(4000) if arrived[n] - MS - n * 600_000 >= 5 * MS)
    assert drops[0] - above == pytest.approx(100 * MS, abs=MS)
    spacing = [b - a for a, b in itertools.pairwise(drops)][:4]
    for got, n in zip(spacing, itertools.count(1)):
        assert got == pytest.approx(100 * MS / math.sqrt(n), abs=1.01 * MS)


def test_check_8_codel_leaves_a_queue_alone_that_drains() -> None:
    line = Line(LinkSpec("12Mbit/s", 0, CoDel()))
    for burst in range(20):
        for _ in range(50):
            line.send(burst * 200 * MS)
    line.run()
    assert line.direction.counts == Counter(delivered=1000)
