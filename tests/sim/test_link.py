"""What a link does, packet by packet: the pipeline, queues, changes in time, overtaking, randomness."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sim.lines import Line

from rawkit.errors import LocalProtocolError, UnitError
from rawkit.sim.link import HOLD_NS, LinkSpec
from rawkit.sim.models import (
    Bernoulli,
    Blackhole,
    Burst,
    Corrupt,
    Duplicate,
    Jitter,
    Numbers,
    Periodic,
    Reorder,
)
from rawkit.sim.queues import CoDel, DropTail, EcnThreshold, Red
from rawkit.sim.rates import Mahimahi
from rawkit.transport.clockwork import Clockwork
from rawkit.transport.trace import Trace

MS, S = 10**6, 10**9


def test_events_come_by_time_and_then_in_the_order_asked_for() -> None:
    clock, seen = Clockwork(), []
    for name, at in (("c", 2), ("a", 1), ("b", 1)):
        clock.at(at, seen.append, name)
    clock.at(1, lambda _: clock.at(1, seen.append, "late"))
    assert clock.run() == 2
    assert seen == ["a", "b", "late", "c"]
    with pytest.raises(LocalProtocolError, match="1 ns in the past"):
        clock.at(1, seen.append)


def test_a_run_ends_at_its_limit_and_goes_on_from_there() -> None:
    clock, seen = Clockwork(), []
    clock.at(5, seen.append, "x")
    assert (clock.run(3), clock.now, seen, clock.next_ns) == (3, 3, [], 5)
    assert clock.run() == 5
    assert seen == ["x"]


def test_rates_are_exact_over_many_packets() -> None:
    line = Line(LinkSpec("7Mbit/s", 0))
    for _ in range(700):
        line.send(size=1001)
    # 1001 octets take 1144000 ns: no whole number for one packet would give this for all
    assert line.run()[-1] == 700 * 1001 * 8 * S // 7_000_000
    line = Line(LinkSpec("3Mbit/s", 0))
    for _ in range(3):
        line.send(size=1000)
    assert line.run() == [2_666_666, 5_333_333, 8_000_000]


def test_frame_octets_count_on_the_wire_only() -> None:
    line = Line(LinkSpec("10Mbit/s", 0, frame_octets=38))
    line.send()
    assert line.run() == [1538 * 800]


def test_an_oversize_packet_is_lost_before_anything_else() -> None:
    line = Line(LinkSpec(mtu=1000, models=(Numbers([0]),)))
    line.send(size=1001)
    line.send(size=1000)
    line.run()
    assert line.direction.counts == {"too large": 1, "delivered": 1}


@pytest.mark.parametrize(
    ("queue", "arrive"),
    [
        (DropTail(packets=3), 4),  # the one on the wire does not wait
        (DropTail(octets=4500), 4),
        (DropTail(octets=4499), 3),
        (DropTail(time="3.6ms"), 4),
        (DropTail(), 10),
        (CoDel(limit=3), 4),
        (EcnThreshold(1, limit=3), 4),
    ],
)
def test_a_full_queue_loses_what_comes(queue: DropTail, arrive: int) -> None:
    line = Line(LinkSpec("10Mbit/s", 0, queue))
    for _ in range(10):
        line.send()
    line.run()
    assert line.numbers == list(range(arrive))
    assert line.direction.counts["queue full"] == 10 - arrive


def test_room_in_the_queue_comes_back_when_a_packet_gets_its_turn() -> None:
    line = Line(LinkSpec("12Mbit/s", 0, DropTail(packets=1)))
    for at in (0, 0, 0, MS, 2 * MS - 1, 2 * MS):
        line.send(at)
    line.run()
    assert line.numbers == [0, 1, 3, 5]


def test_a_threshold_marks_capable_packets_and_leaves_others() -> None:
    line = Line(LinkSpec("10Mbit/s", 0, EcnThreshold(2)))
    for i in range(6):
        line.send(ecn=2 if i != 4 else 0)
    line.run()
    assert [ecn for *_, ecn in line.arrived] == [2, 2, 2, 3, 0, 3]
    assert line.direction.counts["marked"] == 2


def test_red_drops_more_the_longer_the_average_queue() -> None:
    shares = []
    for extra in (1.0, 1.1, 1.5):
        line = Line(LinkSpec("12Mbit/s", 0, Red(low=5, high=15, limit=1000)))
        for i in range(6000):
            line.send(int(i * MS / extra))
        line.run()
        shares.append(line.direction.counts["queue management"] / 6000)
    assert shares[0] == 0
    # In balance it drops what is too much.
    assert shares[1] == pytest.approx(1 - 1 / 1.1, abs=0.02)
    assert shares[2] == pytest.approx(1 - 1 / 1.5, abs=0.02)


def test_rate_and_delay_change_in_time_also_in_the_middle_of_a_packet() -> None:
    spec = (
        LinkSpec("12Mbit/s", "1ms").at("0.5ms", rate=0).at("10ms", rate="24Mbit/s").at("10.5ms", delay="5ms")
    )
    line = Line(spec)
    line.send()  # half of it before the link is suspended, the other half twice as fast
    line.send()
    assert line.run() == [10_250_000 + MS, 10_750_000 + 5 * MS]
    with pytest.raises(TypeError, match="rate and delay can change, not mtu"):
        spec.at(1, mtu=5)


def test_a_link_suspended_for_good_delivers_nothing() -> None:
    line = Line(LinkSpec("12Mbit/s", 0).at("0.5ms", rate=0))
    line.send()
    assert line.run() == []


def test_a_mahimahi_trace_gives_1500_octets_at_each_of_its_milliseconds() -> None:
    trace = Mahimahi.parse("1\n1\n4\n10\n")
    line = Line(LinkSpec(trace, 0))
    for size in (1500, 1500, 700, 800, 1500, 1500):
        line.send(size=size)
    line.send(35 * MS + 1)
    # two at 1 ms, the small ones share 4 ms, then 10, and 11 in the next round
    assert [t / MS for t in line.run()] == [1, 1, 4, 4, 10, 11, 40]
    with pytest.raises(LocalProtocolError, match="not '1.5'"):
        Mahimahi.parse("1.5")
    with pytest.raises(LocalProtocolError, match="rising milliseconds"):
        Mahimahi.parse("3\n2\n")


def test_jitter_of_the_link_keeps_order_and_the_model_does_not() -> None:
    kept = Line(LinkSpec("100Mbit/s", "1ms", jitter="5ms"))
    mixed = Line(LinkSpec("100Mbit/s", "1ms", models=(Jitter("5ms"),)))
    for line in (kept, mixed):
        for i in range(200):
            line.send(i * MS)
        line.run()
    assert kept.numbers == list(range(200))
    assert sorted(mixed.numbers) == list(range(200)) != mixed.numbers
    delays = [time - number * MS - 1_120_000 for time, number, *_ in mixed.arrived]
    assert min(delays) >= 0
    assert max(delays) <= 5 * MS
    assert sum(delays) / 200 == pytest.approx(2.5 * MS, rel=0.15)


def test_a_packet_that_is_overtaken_by_three_comes_right_behind_the_third() -> None:
    line = Line(LinkSpec("12Mbit/s", "1ms", models=(Periodic(100), Reorder(0.0001, by_packets=3))))
    line.direction.add_judge(Behind(1, 3))
    for _ in range(6):
        line.send()
    line.run()
    assert line.numbers == [0, 2, 3, 4, 1, 5]
    assert line.arrived[4][0] == line.arrived[3][0]


class Behind:
    """Lets one packet be overtaken."""

    def __init__(self, number: int, behind: int) -> None:
        self.number, self.behind = number, behind

    def judge(self, number: int, now_ns: int, datagram: object, verdict: object) -> None:
        if number == self.number:
            verdict.behind = self.behind  # type: ignore[attr-defined]


def test_a_packet_that_nobody_overtakes_is_not_kept_for_ever() -> None:
    line = Line(LinkSpec("12Mbit/s", "1ms"))
    line.direction.add_judge(Behind(0, 3))
    line.send()
    assert line.run() == [2 * MS + HOLD_NS]


def test_models_do_what_their_names_say() -> None:
    def left(*models: object, n: int = 12) -> list[int]:
        line = Line(LinkSpec(delay="1ms", models=models))  # type: ignore[arg-type]
        for i in range(n):
            line.send(i * MS)
        line.run()
        return line.numbers

    assert left(Periodic(4)) == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    assert left(Burst(6, 2)) == [0, 1, 2, 3, 6, 7, 8, 9]
    assert left(Numbers([0, 5])) == [1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert left(Blackhole("2ms", "10ms")) == [0, 1, 10, 11]
    assert left(Duplicate(1.0), n=3) == [0, 0, 1, 1, 2, 2]
    assert left(Duplicate(1.0, "1.5ms"), n=3) == [0, 1, 0, 2, 1, 2]
    assert left(Bernoulli(1.0)) == []
    assert left(Reorder(1.0, by_time="1ms"), n=3) == [0, 1, 2]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Bernoulli(1.5),
        lambda: Corrupt(ber=0.7),
        lambda: Reorder(0.5),
        lambda: Reorder(0.5, by_packets=1, by_time="1ms"),
        lambda: Burst(3, 4),
        lambda: Periodic(0),
        lambda: Blackhole("later", 2),
    ],
)
def test_parameters_out_of_range_are_refused(make: object) -> None:
    with pytest.raises((ValueError, UnitError)):
        make()  # type: ignore[operator]


def test_a_model_more_leaves_the_fates_that_others_deal_as_they_were() -> None:
    def lost(*models: object) -> set[int]:
        line = Line(LinkSpec("100Mbit/s", "1ms", models=models), seed=9)  # type: ignore[arg-type]
        for i in range(500):
            line.send(i * MS)
        line.run()
        return set(range(500)) - set(line.numbers)

    alone = lost(Bernoulli(0.1))
    assert lost(Jitter("5ms"), Bernoulli(0.1), Duplicate(0.2)) == alone
    assert 20 < len(alone) < 90


def test_a_second_model_of_a_kind_has_randomness_of_its_own() -> None:
    line = Line(LinkSpec(models=(Bernoulli(0.5), Bernoulli(0.5))))
    for _ in range(2000):
        line.send()
    line.run()
    assert len(line.arrived) == pytest.approx(500, rel=0.15)


@given(
    st.lists(st.tuples(st.integers(0, 20 * MS), st.integers(21, 1500)), min_size=1, max_size=40),
    st.integers(1, 10**9),
    st.sampled_from([DropTail(), DropTail(packets=3), CoDel(), Red()]),
)
def test_no_packet_is_lost_without_a_reason_and_order_is_kept(
    packets: list[tuple[int, int]], rate: int, queue: DropTail
) -> None:
    trace = Trace()
    line = Line(LinkSpec(rate, "3ms", queue), trace=trace)
    for at, size in packets:
        line.send(at, size)
    times = line.run()
    by_offer = sorted(range(len(packets)), key=lambda i: packets[i][0])
    assert line.numbers == [n for n in by_offer if n in set(line.numbers)]
    assert times == sorted(times)
    dropped = {event.packet for event in trace.of("drop")}
    assert dropped | set(line.numbers) == set(range(len(packets)))
    assert not dropped & set(line.numbers)
    assert all(event.detail for event in trace)
    for (earlier, *_), (later, _, octets, _) in zip(line.arrived, line.arrived[1:]):
        assert later - earlier >= (len(octets) + 20) * 8 * S // rate - 1  # the wire carries one at a time
