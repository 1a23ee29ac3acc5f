"""Congestion control without a network: acknowledgements in, windows out, against the published formulas."""

from __future__ import annotations

import math

import pytest

from rawkit.transport import (
    AckSample,
    Aimd,
    CongestionControl,
    Cubic,
    Dctcp,
    Fixed,
    NewReno,
    Vegas,
    Wrapped,
    controller,
)
from rawkit.transport.cubic import ALPHA, cubic_k, cubic_window

MSS, RTT_NS = 1000, 10**8


def mean_window(control: CongestionControl, period: int, cycles: int) -> float:
    """Mean window in segments, over time, when each `period`-th segment is lost; half is start-up."""
    control.on_loss(0, control.cwnd)  # no slow start, which would overshoot by far
    now = 0.0
    measured_from = 0.0
    for cycle in range(cycles):
        if cycle == cycles // 2:
            measured_from = now
        for _ in range(period):
            now += RTT_NS * MSS / control.cwnd  # one acknowledgement per segment
            control.on_ack(AckSample(int(now), MSS, RTT_NS))
        control.on_loss(int(now), control.cwnd)
    return period * (cycles - cycles // 2) / ((now - measured_from) / RTT_NS)


def test_rfc_5681_slow_start_doubles_then_one_segment_per_round_trip() -> None:
    control = NewReno(MSS)
    assert control.cwnd == 10 * MSS  # RFC 6928
    windows = []
    for _ in range(3):
        for _ in range(control.cwnd // MSS):
            control.on_ack(AckSample(0, MSS))
        windows.append(control.cwnd)
    assert windows == [20 * MSS, 40 * MSS, 80 * MSS]
    control.on_loss(0, 80 * MSS)
    assert (control.cwnd, control.ssthresh) == (40 * MSS, 40 * MSS)
    for _ in range(40):
        control.on_ack(AckSample(0, MSS))
    assert control.cwnd == 41 * MSS


@pytest.mark.parametrize(("make", "share"), [(NewReno, 0.5), (Cubic, 0.7)])
def test_a_timeout_starts_again_from_one_segment(make: type[NewReno] | type[Cubic], share: float) -> None:
    control = make(MSS, 100 * MSS)
    control.on_rto(0, 100 * MSS)
    assert (control.cwnd, control.ssthresh) == (MSS, int(100 * MSS * share))
    control.on_rto(0, MSS, repeated=True)  # RFC 5681 section 3.1: ssthresh is held
    assert control.ssthresh == int(100 * MSS * share)
    control.on_rto(0, MSS)
    assert control.ssthresh == 2 * MSS


def test_an_unused_window_does_not_grow() -> None:
    for control in (NewReno(MSS), Cubic(MSS)):
        control.on_ack(AckSample(0, MSS, RTT_NS, cwnd_limited=False))
        assert control.cwnd == 10 * MSS


def test_fixed_stays() -> None:
    control = Fixed(MSS, 7 * MSS)
    control.on_ack(AckSample(0, MSS))
    control.on_loss(0, 7 * MSS)
    control.on_rto(0, 7 * MSS)
    assert control.cwnd == 7 * MSS


def test_check_23_aimd_geometry_of_a_loss_at_100_segments() -> None:
    control = NewReno(MSS, 100 * MSS)
    control.on_loss(0, control.cwnd)
    segments, rounds = 0, 0.0
    while control.cwnd < 100 * MSS:
        segments += 1
        rounds += MSS / control.cwnd
        control.on_ack(AckSample(0, MSS))
    assert segments == pytest.approx(3 / 8 * 100**2, rel=0.02)
    assert rounds == pytest.approx(50, rel=0.02)
    assert segments / rounds == pytest.approx(75, rel=0.02)


@pytest.mark.parametrize("period", [1000, 10_000])
def test_check_24_mathis_square_root_law(period: int) -> None:
    assert mean_window(NewReno(MSS), period, 16) == pytest.approx(math.sqrt(1.5 * period), rel=0.05)


def test_aimd_response_for_other_parameters() -> None:
    # Floyd, Handley, Padhye 2000: sqrt(a (1 + b) / (2 (1 - b) p)) for W -> b W, W + a per round trip
    control = Aimd(MSS, increase=2.0, decrease=0.75)
    assert mean_window(control, 1000, 40) == pytest.approx(math.sqrt(2 * 1.75 / 0.5 * 1000), rel=0.05)


def test_check_29_rfc_9438_window_function() -> None:
    k = cubic_k(100, 70)
    assert k == pytest.approx(4.217, rel=0.001)
    seen = [cubic_window(t, k, 100) for t in (0, 1, 2, k, 2 * k)]
    assert seen == pytest.approx([70, 86.68, 95.64, 100, 130], rel=0.005)
    assert cubic_k(1000, 700) == pytest.approx(9.086, rel=0.001)
    assert pytest.approx(0.5294, rel=0.001) == ALPHA


def test_check_29_cubic_follows_its_window_function() -> None:
    control, now = Cubic(MSS, 1000 * MSS), 0.0
    control.on_loss(0, control.cwnd)
    for t in (2, 5, 9, 12):
        while now < t * 1e9:
            now += RTT_NS * MSS / control.cwnd
            control.on_ack(AckSample(int(now), MSS, RTT_NS))
        expected = 0.4 * (t - 750 ** (1 / 3)) ** 3 + 1000
        assert control.cwnd / MSS == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("period", [10_000, 100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_check_30_rfc_9438_section_5_mean_window_by_loss_rate(period: int) -> None:
    # Its fixed point: from the loss at W_max back to it, K seconds later, one cycle carries 1/p segments.
    # (From elsewhere it takes hundreds of cycles.)
    mean = 1.0538 * 0.1**0.75 * period**0.75
    w_max = mean / 0.925
    control, now, segments = Cubic(MSS, int(w_max * MSS), fast_convergence=False), 0.0, 0
    control.on_loss(0, control.cwnd)
    k_ns = (0.3 * w_max / 0.4) ** (1 / 3) * 1e9
    while now < k_ns:
        now += RTT_NS * MSS / control.cwnd
        control.on_ack(AckSample(int(now), MSS, RTT_NS))
        segments += 1
    assert segments == pytest.approx(period, rel=0.05)
    assert segments / (k_ns / RTT_NS) == pytest.approx(mean, rel=0.03)
    assert control.cwnd / MSS == pytest.approx(w_max, rel=0.01)


def test_rfc_9438_section_4_7_fast_convergence() -> None:
    control = Cubic(MSS, 100 * MSS)
    control.on_loss(0, 100 * MSS)
    control.on_loss(0, 70 * MSS)  # before 100 was reached again: the plateau is 70 * 0.85 instead of 70
    slower = Cubic(MSS, 70 * MSS)
    slower.on_loss(0, 70 * MSS)
    for each in (control, slower):
        for step in range(1, 4000):
            each.on_ack(AckSample(step * 10**6, MSS // 100, RTT_NS * 10))
    assert control.cwnd < slower.cwnd


def test_check_24_delayed_acknowledgements_that_are_counted_not_measured_give_0_866() -> None:
    # One acknowledgement for two segments, each worth MSS**2 / cwnd (RFC 5681 section 3.1, equation 3): half
    # the growth, so sqrt(3 / 4) instead of sqrt(3 / 2).
    class AckCounting(NewReno):
        def on_ack(self, ack: AckSample) -> None:
            self.cwnd += MSS * MSS // self.cwnd

    period, control = 1000, AckCounting(MSS, 30 * MSS)
    now = measured_from = 0.0
    for cycle in range(40):
        if cycle == 20:
            measured_from = now
        for _ in range(period // 2):
            now += 2 * RTT_NS * MSS / control.cwnd
            control.on_ack(AckSample(int(now), 2 * MSS))
        control.on_loss(int(now), control.cwnd)
    mean = 20 * period / ((now - measured_from) / RTT_NS)
    assert mean == pytest.approx(0.866 * math.sqrt(period), rel=0.05)


def slope(windows: list[float], periods: list[int]) -> float:
    """Of log window over log loss rate."""
    ends = math.log(windows[-1] / windows[0]), math.log(periods[-1] / periods[0])
    return -ends[0] / ends[1]


def test_check_26_the_rate_falls_with_the_root_of_the_loss_rate() -> None:
    periods = [100, 1000, 10_000]
    windows = [mean_window(NewReno(MSS, int(math.sqrt(1.5 * n)) * MSS), n, 16) for n in periods]
    assert slope(windows, periods) == pytest.approx(-0.5, abs=0.05)


@pytest.mark.slow
def test_check_26_cubic_in_its_own_region_falls_with_the_power_of_three_quarters() -> None:
    periods = [100_000, 1_000_000]
    windows = []
    for period in periods:
        start = 1.0538 * 0.1**0.75 * period**0.75 / 0.925  # near its balance
        windows.append(mean_window(Cubic(MSS, int(start * MSS), fast_convergence=False), period, 6))
    assert slope(windows, periods) == pytest.approx(-0.75, abs=0.05)


def test_check_30_at_higher_loss_rates_cubic_follows_reno() -> None:
    cubic, reno = (mean_window(make(MSS, 40 * MSS), 1000, 40) for make in (Cubic, NewReno))
    assert reno == pytest.approx(1.2 / math.sqrt(1e-3), rel=0.1)
    assert cubic == pytest.approx(reno, rel=0.1)


def test_rfc_8257_the_window_falls_by_half_of_the_share_that_is_marked() -> None:
    control = Dctcp(MSS, 100 * MSS)
    control.ssthresh = control.cwnd
    control.alpha = 0.0
    for share in (0.0, 1.0, 0.5):
        alpha, window = control.alpha, control.cwnd // MSS
        for i in range(window + (share == 0.0)):
            if i < share * window:
                control.on_ecn(0, MSS, 0)
            control.on_ack(AckSample(0, MSS))
        alpha = alpha * 15 / 16 + share / 16
        assert control.alpha == pytest.approx(alpha, rel=0.02)
        if share:
            assert control.cwnd / MSS == pytest.approx((window + 1) * (1 - alpha / 2), abs=1.1)


def test_rfc_8257_one_mark_ends_slow_start() -> None:
    control = Dctcp(MSS)
    control.on_ecn(0, MSS, 0)
    assert not control.in_slow_start


def test_vegas_keeps_two_to_four_segments_in_the_queue() -> None:
    control = Vegas(MSS, 20 * MSS)
    control.ssthresh = control.cwnd
    base, now = 50_000_000, 0.0
    for _ in range(20_000):
        # A path that holds 40 segments: what is beyond waits.
        rtt = max(base, int(base * control.cwnd / (40 * MSS)))
        now += rtt * MSS / control.cwnd
        control.on_ack(AckSample(int(now), MSS, rtt, True, rtt))
    assert 42 <= control.cwnd // MSS <= 44


def test_controllers_by_name_by_class_and_wrapped() -> None:
    assert isinstance(controller("cubic", MSS), Cubic)
    assert isinstance(controller(Aimd, MSS, increase=2.0), Aimd)
    with pytest.raises(LookupError, match="no congestion control is called 'bbr'; there are fixed"):
        controller("bbr", MSS)

    class Logged(Wrapped):
        seen = 0

        def on_ack(self, ack: AckSample) -> None:
            self.seen += 1
            super().on_ack(ack)

    logged, plain = Logged(NewReno(MSS)), NewReno(MSS)
    for control in (logged, plain):
        for _ in range(30):
            control.on_ack(AckSample(0, MSS))
        control.on_loss(0, control.cwnd)
        control.on_ecn(0, MSS, control.cwnd)
        control.on_rto(0, control.cwnd)
        control.on_idle(0, 10**10)
    assert logged.seen == 30
    assert (logged.cwnd, logged.ssthresh, logged.in_slow_start) == (plain.cwnd, plain.ssthresh, True)


def test_rfc_5681_section_4_1_a_pause_brings_the_initial_window_back() -> None:
    for control in (NewReno(MSS, 100 * MSS), Cubic(MSS, 100 * MSS)):
        control.on_idle(0, 10**9)
        assert control.cwnd == 10 * MSS
