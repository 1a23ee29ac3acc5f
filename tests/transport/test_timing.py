"""Time-outs, pacing, and numbers from keys, against the RFCs' formulas."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawkit.transport import Isn, Pacer, PortAllocator, Rto

S, MS = 10**9, 10**6
KEY = bytes(range(16))
A, B = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])


def test_check_17_rfc_6298_section_2_series_by_hand() -> None:
    rto = Rto(min_ns=1, granularity_ns=0)
    seen = []
    for sample in (100, 200, 150, 300):
        rto.on_sample(sample * MS)
        seen.append((rto.rtt.srtt_ns, rto.rtt.rttvar_ns, rto.ns))
    assert seen == [  # the last SRTT is 140039062.5: down for SRTT, up for RTO
        (100_000_000, 50_000_000, 300_000_000),
        (112_500_000, 62_500_000, 362_500_000),
        (117_187_500, 56_250_000, 342_187_500),
        (140_039_062, 87_890_625, 491_601_563),
    ]
    assert rto.rtt.min_ns == 100 * MS


def test_check_18_rfc_6298_constant_rtt_falls_to_the_floor() -> None:
    rto = Rto()
    for n in range(12):
        rto.on_sample(S // 2)
        exact = Fraction(S, 2) * (1 + 2 * Fraction(3, 4) ** n)
        assert abs(rto.ns - max(exact, S)) <= 1


def test_check_18_rfc_6298_section_5_5_backs_off_to_the_ceiling() -> None:
    rto, seen = Rto(), []
    for _ in range(9):
        seen.append(rto.ns // S)
        rto.on_timeout()
    assert seen == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_check_18_rfc_6298_section_3_karn_and_section_5_7_lost_syn() -> None:
    rto = Rto()
    rto.on_timeout()
    rto.on_sample(5 * S, retransmitted=True)
    assert (rto.ns, rto.rtt.latest_ns) == (2 * S, None)
    rto.on_established_after_lost_syn()
    assert rto.ns == 3 * S
    rto.on_sample(2 * S)
    assert rto.ns == 6 * S


def test_rfc_6298_section_2_clock_granularity_is_the_least_margin() -> None:
    rto = Rto(min_ns=1, granularity_ns=100 * MS)
    for _ in range(100):
        rto.on_sample(50 * MS)
    assert rto.ns == 150 * MS


@given(st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 50_000)), min_size=1, max_size=60))
def test_a_pacer_never_lets_more_through_than_rate_and_burst(sends: list[tuple[int, int]]) -> None:
    rate, burst, now, sent = 7_000_003, 3000, 0, 0
    pacer = Pacer(rate, burst)
    for octets, pause in sends:
        now = pacer.ready_ns(now + pause, octets)
        assert pacer.ready_ns(now, octets) == now
        pacer.on_sent(now, octets)
        sent += octets
        assert sent * 8 * S <= burst * 8 * S + now * rate


def test_a_pacer_spaces_segments_and_does_not_catch_up() -> None:
    pacer, now, times = Pacer(10_000_000, 1500), 0, []
    for _ in range(3):
        now = pacer.ready_ns(now, 1500)
        pacer.on_sent(now, 1500)
        times.append(now)
    assert times == [0, 1_200_000, 2_400_000]
    pacer.on_sent(S, 1500)  # after a pause of nearly a second
    assert pacer.ready_ns(S, 1500) == S + 1_200_000


def test_rfc_6528_isn_is_a_clock_of_4_us_apart_for_each_connection() -> None:
    isn = Isn(KEY)
    first = isn.number(0, A, 1024, B, 80)
    assert (isn.number(S, A, 1024, B, 80) - first) % 2**32 == 250_000
    others = {isn.number(0, A, port, B, 80) for port in range(1025, 2025)}
    assert first not in others
    assert len(others) == 1000
    assert Isn(KEY[::-1]).number(0, A, 1024, B, 80) != first


@pytest.mark.parametrize("table", [1, 64])
def test_rfc_6056_ports_go_round_the_whole_range_once(table: int) -> None:
    ports = PortAllocator(KEY, 50_000, 50_099, table=table)
    seen = [ports.allocate(A, B, 80, lambda port: True) for _ in range(100)]
    assert sorted(seen) == list(range(50_000, 50_100))  # type: ignore[type-var]
    assert ports.allocate(A, B, 80, lambda port: port == 50_042) == 50_042
    assert ports.allocate(A, B, 80, lambda port: False) is None


def test_bad_parameters_say_which() -> None:
    for make, message in [
        (lambda: Rto(min_ns=2, max_ns=1), "bad RTO bounds"),
        (lambda: Pacer(0, 1), "rate .0 bit/s."),
        (lambda: Isn(b"short"), "16 to 32 octets, got 5"),
        (lambda: PortAllocator(KEY, 2, 1), "bad ports 2..1"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
