"""Contenders on one emulated link: what is counted, against the link's own counters and by hand."""

from __future__ import annotations

import pytest

from rawkit.lab import Lab
from rawkit.report.analysis import Roles
from rawkit.report.costs import costs
from rawkit.report.run import Run
from rawkit.sim import DropTail, LinkSpec, Schedule, Transfer
from rawkit.tools.comparison import Contender, Passage, jain, kernel_controls, shared_rates_bps, side_by_side
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat
from rawkit.transport.protocols.stop_and_wait import StopAndWait
from rawkit.transport.trace import Trace
from rawkit.wire import TCP

LINK = LinkSpec("10Mbit/s", "5ms", DropTail(packets=20))


def test_jain() -> None:
    assert jain([5.0, 5.0, 5.0]) == 1
    assert jain([4.0, 0.0]) == 0.5
    assert jain([1.0, 2.0, 3.0]) == pytest.approx(36 / 42)  # Jain, Chiu, Hawe, equation 2
    with pytest.raises(ValueError, match="all rates are 0"):
        jain([0.0, 0.0])


def passage(began_ns: int, *deliveries: tuple[int, int]) -> Passage:
    trace = Trace()
    for at_ns, octets in deliveries:
        trace.say(at_ns - began_ns, "deliver", "b", octets=bytes(octets))
    return Passage(Contender("x"), 0, began_ns=began_ns, events=list(trace))


def test_rates_count_while_all_are_under_way() -> None:
    second = 10**9
    one = passage(0, (1 * second, 100), (3 * second, 1000), (5 * second, 500))
    other = passage(2 * second, (4 * second, 250), (9 * second, 7), (10 * second, 3))
    assert shared_rates_bps([one, other]) == [1500 * 8 / 3, 250 * 8 / 3]  # from 2 s to 5 s
    assert shared_rates_bps([one, passage(0)]) == [0, 0]


def test_costs_of_a_simulated_run_are_what_one_works_out() -> None:
    result = Transfer(StopAndWait, octets=10_000, link=LINK, schedule=Schedule.parse("drop 3")).run()
    cost = costs(Run.of(result))
    sent = [event for event in result.trace.of("send") if event.where == "a"]
    assert cost.packets == len(sent)
    assert cost.sent == sum(20 + len(event.octets) for event in sent)
    assert cost.again_packets == 1
    (repeated,) = {event.octets for event in sent if [e.octets for e in sent].count(event.octets) == 2}
    assert cost.again == len(repeated) - StopAndWait.header.min_len > 1000
    assert cost.payload == 10_000 + cost.again
    assert cost.headers == cost.sent - cost.payload
    assert cost.extra(10_000) == (cost.sent - 10_000) / 10_000
    assert cost.mean_delay_s == pytest.approx(0, abs=1e-8)  # one packet at a time waits for nobody
    assert cost.back == sum(20 + len(event.octets) for event in result.trace.of("send") if event.where == "b")


def test_a_full_queue_is_seen_as_delay() -> None:
    """200 kB through room for 20 packets: a window without limit keeps those 20 full, 24 ms at 10 Mbit/s."""
    options = {"control": "fixed", "control_options": {"cwnd": 40_000}}
    result = Transfer(SelectiveRepeat, options, octets=200_000, link=LINK).run()
    cost = costs(Run.of(result))
    # In flight 40,000 octets of payload at 10 Mbit/s: 27 packets and 40 octets of header each take 32.9 ms,
    # of which the round trip is 10 ms and the packet's own sending 1.2 ms.
    assert cost.p95_delay_s == pytest.approx(0.0217, rel=0.06)
    assert 0.6 * cost.p95_delay_s < cost.mean_delay_s <= cost.p95_delay_s


@pytest.mark.net
def test_side_by_side_is_what_passed_the_link() -> None:
    """A protocol and the kernel's TCP share a link, of which packet 9 is lost."""
    contenders = [Contender("ours", SelectiveRepeat), Contender("kernel", control="reno")]
    with Lab(link=LINK, schedule=Schedule.parse("drop 9"), seed=1) as lab:
        ours, kernel = side_by_side(contenders, lab, octets=60_000)
    for each in (ours, kernel):
        assert each.complete
        assert each.received == 60_000 == sum(octets for _, octets in each.delivered)
        assert 0 < each.goodput_bps < 10e6
    assert isinstance(ours.endpoint, SelectiveRepeat)
    of = [
        costs(Run(ours.events, Roles.of(ours.endpoint), rate_bps=10e6)),
        costs(Run(kernel.events, Roles(TCP), rate_bps=10e6)),
    ]
    assert sum(each.again_packets for each in of) >= 1
    for cost in of:
        assert cost.payload - cost.again == 60_000
        assert 20 * cost.packets < cost.headers < 80 * cost.packets
        assert 0 <= cost.mean_delay_s <= cost.p95_delay_s < 1
    rates = shared_rates_bps([ours, kernel])
    assert 0 < sum(rates) < 10e6
    assert 0.5 <= jain(rates) <= 1


@pytest.mark.net
def test_a_control_that_no_kernel_has() -> None:
    with Lab() as lab, pytest.raises(OSError, match="No such file"):
        side_by_side([Contender("x", control="none-such")], lab, octets=1000)
    assert "reno" in kernel_controls()  # every kernel has it


@pytest.mark.net
def test_what_does_not_arrive_is_not_complete() -> None:
    with Lab() as lab:
        (made,) = side_by_side([Contender("ours", SelectiveRepeat)], lab, octets=10**8, timeout=0.3)
    assert not made.complete
    assert 0 < made.goodput_bps < 10e9
    assert 0 < made.received < 10**8
