"""Schedules: as text, as data, and what they do to packets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawkit.errors import LocalProtocolError
from rawkit.sim import Fault, Schedule, Transfer
from rawkit.sim.schedule import ACTIONS
from rawkit.sim.strategies import schedules
from rawkit.sim.transfer import Result
from rawkit.transport.protocols.go_back_n import GoBackN
from rawkit.transport.protocols.stop_and_wait import StopAndWait


def run(text: str, octets: int = 3000) -> Result:
    return Transfer(StopAndWait, {"numbers": 256}, octets=octets, schedule=Schedule.parse(text)).run()


def fates(result: Result) -> dict[int, str]:
    """Packet number to what the link did to it."""
    return {
        event.packet: event.detail or event.kind for event in result.trace.of("drop", "duplicate", "corrupt")
    }


def test_faults_count_all_transmissions_or_those_of_one_side_or_with_a_flag() -> None:
    assert fates(run("drop 2, drop 5")) == {2: "drop 2", 5: "drop 5"}
    # 0 SYN, 1 its acknowledgement, 2 data, 3 acknowledgement ...
    assert fates(run("drop b 1")) == {3: "drop b 1"}
    dropped = run("drop a FIN 0, drop a FIN 1")
    lost = list(dropped.trace.of("drop"))
    assert [event.octets[0] for event in lost] == [2, 2]  # StopAndWaitHeader.FIN
    assert dropped.violation() == ""


def test_faults_by_time_meet_everything_in_that_time() -> None:
    result = run("drop a from 0s to 2500ms")
    assert [event.time_ns for event in result.trace.of("drop")] == [0, 10**9, 2 * 10**9]
    assert result.violation() == ""


def test_each_action_does_what_it_says() -> None:
    assert fates(run("duplicate 2")) == {2: "duplicate"}
    corrupted = run("corrupt 2 bit 100")
    assert fates(corrupted) == {2: "260"}  # behind the 20 octets of the IP header
    assert corrupted.server.endpoint.dropped == {"checksum": 1}
    delayed = run("delay 2 by 35ms")
    sent, arrived = ([e.time_ns for e in delayed.trace.of(k) if e.packet == 2] for k in ("send", "arrive"))
    plain = run("")
    sent_plain, arrived_plain = (
        [e.time_ns for e in plain.trace.of(k) if e.packet == 2] for k in ("send", "arrive")
    )
    assert (sent, arrived) == (sent_plain, [arrived_plain[0] + 35 * 10**6])
    swapped = Transfer(GoBackN, octets=5000, schedule=Schedule.parse("swap 3")).run()
    arrivals = [e.packet for e in swapped.trace.of("arrive") if e.where == "b"]
    assert arrivals[:4] == [0, 2, 4, 3]
    swapped = Transfer(GoBackN, octets=9000, schedule=Schedule.parse("swap 3 by 3")).run()
    arrivals = [e.packet for e in swapped.trace.of("arrive") if e.where == "b"]
    assert arrivals[:6] == [0, 2, 4, 5, 6, 3]


@given(schedules(max_faults=8, horizon=60))
def test_a_schedule_is_its_text(schedule: Schedule) -> None:
    assert Schedule.parse(str(schedule)) == schedule


@given(
    st.builds(
        Fault,
        st.sampled_from(ACTIONS),
        st.integers(0, 99),
        st.sampled_from(["", "a", "host-2"]),
        st.just(""),
        st.just(0),
        st.none() | st.tuples(st.integers(0, 10**12), st.integers(0, 10**12)),
    )
)
def test_a_fault_is_its_text(fault: Fault) -> None:
    again = Fault.parse(str(fault))
    assert str(again) == str(fault)
    assert again == (fault if not fault.span else again)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lose 4", "bad fault 'lose 4'"),
        ("drop", "bad fault 'drop'"),
        ("drop 4 by 3ms", "'by' goes with delay"),
        ("delay 4", "'by' goes with delay"),
        ("drop 4 bit 3", "'bit' goes with corrupt"),
        ("swap 4 by 3ms", "a number with swap"),
        ("drop 4,, drop 5", "bad fault"),
    ],
)
def test_text_that_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(LocalProtocolError, match=message):
        Schedule.parse(text)


def test_a_flag_that_the_header_has_not_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="the header has no flag URG"):
        run("drop a URG 1")


@given(schedules(max_faults=3, actions=("drop", "duplicate")))
def test_the_strategy_keeps_to_what_it_was_asked_for(schedule: Schedule) -> None:
    assert len(schedule) <= 3
    assert {fault.action for fault in schedule} <= {"drop", "duplicate"}
