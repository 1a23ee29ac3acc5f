"""How slow start ends: HyStart++ (RFC 9406) by its rules, hybrid slow start, and both on simulated links."""

from __future__ import annotations

from typing import Literal

import pytest

from rawkit.sim import DropTail, LinkSpec, Transfer
from rawkit.transport.congestion import AckSample
from rawkit.transport.cubic import Cubic
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat

MSS, MS = 1000, 10**6


class Rounds:
    """A sender with a full window all the time, whose acknowledgements come one after the other."""

    def __init__(self, control: Cubic) -> None:
        self.control, self.now, self.under_way = control, 0, 0
        self.send()

    def send(self) -> None:
        while self.under_way + MSS <= self.control.cwnd:
            self.under_way += MSS
            self.control.on_send(self.now, MSS, self.under_way)

    def round(self, rtt_ms: float, gap_ms: float = 0.0, acknowledgements: int = 1000) -> int:
        """What was under way is acknowledged; by how many segments the window grew."""
        before = self.control.cwnd
        self.now += int(rtt_ms * MS)
        for _ in range(min(self.under_way // MSS, acknowledgements)):
            self.now += int(gap_ms * MS)
            self.under_way -= MSS
            self.control.on_ack(AckSample(self.now, MSS, latest_rtt_ns=int(rtt_ms * MS)))
            self.send()
        return (self.control.cwnd - before) // MSS


@pytest.mark.parametrize(
    ("base", "longer"),
    [(20, 24), (100, 112.5), (400, 416)],  # an eighth, but between 4 and 16 ms (section 4.3)
)
def test_rfc_9406_a_longer_round_trip_makes_slow_start_conservative(base: float, longer: float) -> None:
    sender = Rounds(Cubic(MSS))
    assert [sender.round(base), sender.round(longer - 0.1)] == [10, 20]
    sender = Rounds(Cubic(MSS))
    assert [sender.round(base), sender.round(longer)] == [10, 8 + 12 // 4]  # the eighth sample decides
    for _ in range(4):
        window = sender.control.cwnd // MSS
        assert sender.round(longer) == pytest.approx(window / 4, abs=1)
        assert sender.control.ssthresh is None
    sender.round(longer)  # five rounds are over, of which the first was cut short
    assert sender.control.ssthresh == pytest.approx(window * 1.25 * MSS, rel=0.03)


def test_rfc_9406_slow_start_goes_on_when_the_round_trip_was_longer_by_mistake() -> None:
    sender = Rounds(Cubic(MSS))
    sender.round(50)
    sender.round(60)
    window = sender.control.cwnd // MSS
    sender.round(50)
    assert sender.round(50) == sender.control.cwnd // MSS / 2 > window
    assert sender.control.ssthresh is None


def test_rfc_9406_fewer_than_eight_samples_say_nothing() -> None:
    sender = Rounds(Cubic(MSS, 7 * MSS))
    sender.round(50)
    assert sender.round(90, acknowledgements=7) == 7


def test_rfc_9406_only_the_first_slow_start() -> None:
    sender = Rounds(Cubic(MSS, 100 * MSS))
    sender.control.on_rto(0, 100 * MSS)
    sender.under_way = 0
    sender.send()
    for rtt_ms in (50, 60, 70, 80, 90):
        before = sender.control.cwnd // MSS
        assert sender.round(rtt_ms) == before


def test_hybrid_slow_start_ends_in_a_train_of_half_the_round_trip() -> None:
    sender = Rounds(Cubic(MSS, slow_start="hybrid"))
    assert sender.round(40, 0.6) == 10  # 6 ms, and fewer than 16 segments
    assert sender.round(40, 0.6) == 20  # 12 ms
    sender.round(40, 0.6)
    assert sender.control.ssthresh == (40 + 35) * MSS  # 21 ms, of a least round trip of 40 ms


def test_hybrid_slow_start_sees_no_train_where_acknowledgements_are_apart() -> None:
    sender = Rounds(Cubic(MSS, slow_start="hybrid"))
    assert [sender.round(40, 2.1), sender.round(40, 2.1), sender.round(40, 2.1)] == [10, 20, 40]
    sender.round(45, 2.1)  # the ninth sample of a round that is longer
    assert sender.control.ssthresh == 89 * MSS


def test_a_slow_start_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="hystart\\+\\+, hybrid, standard"):
        Cubic(MSS, slow_start="quick")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("slow_start", "room", "lost"),
    [("standard", 600, True), ("hystart++", 600, False), ("standard", 100, True), ("hybrid", 100, False)],
)
def test_slow_start_ends_before_the_queue_overflows(
    slow_start: Literal["hystart++", "hybrid", "standard"], room: int, lost: bool
) -> None:
    """Of 67 packets that the link holds: a queue of nine times as many, and one of one and a half."""
    result = Transfer(
        SelectiveRepeat,
        {"control": "cubic", "control_options": {"slow_start": slow_start}},
        octets=2_000_000,
        link=LinkSpec("20Mbit/s", "20ms", DropTail(packets=room)),
        trace=False,
    ).run()
    assert result.complete
    assert (result.directions[0].counts["queue full"] > 0) is lost
