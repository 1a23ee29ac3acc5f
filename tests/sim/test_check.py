"""The kit's search for mistakes: what it proves of sound protocols, and that it catches each broken one."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from math import comb
from pathlib import Path

import hypothesis
import pytest

from rawkit.errors import LocalProtocolError
from rawkit.sim import (
    Counterexample,
    Schedule,
    Transfer,
    assert_sound,
    check,
    explore,
    random_schedules,
    shrink,
)
from rawkit.sim.checker import QUICK
from rawkit.sim.gallery import GALLERY, Mutant, WindowOfAllNumbers
from rawkit.sim.properties import CONGESTION_PROPERTIES
from rawkit.sim.strategies import schedules
from rawkit.transport.endpoint import Context, Endpoint, Packet
from rawkit.transport.protocols.go_back_n import GoBackN
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat
from rawkit.transport.protocols.stop_and_wait import StopAndWait

GOLDEN = Path(__file__).parent / "golden" / "gallery.txt"


def line_of(mutant: Mutant) -> str:
    found = mutant.check().counterexample
    assert found is not None, f"{mutant.protocol.__name__} was not caught"
    # The same schedule does no harm to the protocol that the mutant was made of.
    original = replace(found.transfer, protocol=mutant.protocol.__mro__[1], trace=True).run()
    assert original.violation() == ""
    assert not mutant.congestion or not any(wrong(original) for wrong in CONGESTION_PROPERTIES)
    name = mutant.protocol.__name__
    return f"{name}: {found.transfer.schedule}; {found.transfer.octets} octets; {found.violation}"


@pytest.mark.parametrize("mutant", GALLERY, ids=lambda mutant: mutant.protocol.__name__)
def test_each_mutant_is_caught_and_shrunk_as_written_down(mutant: Mutant) -> None:
    golden = {line.partition(":")[0]: line for line in GOLDEN.read_text(encoding="utf-8").splitlines()}
    assert line_of(mutant) == golden[mutant.protocol.__name__]


def test_the_gallery_has_enough_mutants_each_with_what_is_wrong() -> None:
    assert len(GALLERY) >= 15
    assert len({mutant.protocol for mutant in GALLERY}) == len(GALLERY)
    assert all(mutant.protocol.__doc__ for mutant in GALLERY)


EXPLORED = [
    pytest.param(StopAndWait, {}, 3000, 2, 16, id="stop-and-wait"),
    pytest.param(GoBackN, {"window": 3, "bits": 2}, 5000, 2, 20, id="go-back-n"),
    pytest.param(SelectiveRepeat, {}, 6000, 2, 14, id="selective repeat"),
    pytest.param(StopAndWait, {}, 3000, 4, 20, id="stop-and-wait, 4 drops", marks=pytest.mark.slow),
    pytest.param(SelectiveRepeat, {}, 9000, 3, 30, id="selective repeat, 3 of 30", marks=pytest.mark.slow),
    pytest.param(
        GoBackN, {"window": 3, "bits": 2}, 5000, 3, 40, id="go-back-n, 3 of 40", marks=pytest.mark.slow
    ),
]


@pytest.mark.parametrize(("protocol", "options", "octets", "drops", "first"), EXPLORED)
def test_no_schedule_of_few_drops_breaks_a_reference_protocol(
    protocol: type[Endpoint], options: dict[str, int], octets: int, drops: int, first: int
) -> None:
    explored = explore(
        Transfer(protocol, options, octets=octets, link=QUICK, trace=False), drops=drops, first=first
    )
    assert explored.bad == ()
    assert explored.schedules == sum(comb(first, k) for k in range(drops + 1))
    assert explored.runs <= explored.schedules
    count = f"{explored.schedules:,}".replace(",", " ")
    assert str(explored) == (
        f"all {count} schedules with at most {drops} drops in the first {first} transmissions: no violation"
    )


def test_exploring_finds_what_trying_everything_finds() -> None:
    base = Transfer(WindowOfAllNumbers, {"window": 3, "bits": 2}, octets=7000, link=QUICK, trace=False)
    explored = explore(base, drops=3, first=9)
    bad = {tuple(fault.n for fault in found.transfer.schedule) for found in explored.bad}
    assert bad
    for k in range(4):
        for numbers in combinations(range(9), k):
            broken = bool(replace(base, schedule=Schedule.drops(numbers)).run().violation())
            covered = {
                n for n in numbers if n < replace(base, schedule=Schedule.drops(numbers)).run().transmissions
            }
            assert broken == (tuple(sorted(covered)) in bad)


def test_shrinking_takes_away_all_that_is_not_needed() -> None:
    base = Transfer(WindowOfAllNumbers, {"window": 3, "bits": 2}, octets=9000, link=QUICK)
    found = explore(base, drops=3, first=16, stop=True).bad[0]
    noisy = replace(
        found.transfer, schedule=Schedule((*found.transfer.schedule, *Schedule.parse("drop 30, swap 25")))
    )
    violation = noisy.run().violation()
    assert violation
    small = shrink(Counterexample(noisy, violation))
    assert str(small.transfer.schedule) == "drop 6, drop 7, drop 8"
    assert small.transfer.octets < 9000


def test_the_report_fits_on_a_screen_and_its_script_shows_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = check(WindowOfAllNumbers, {"window": 3, "bits": 2}, octets=9000, drops=3)
    assert not report.ok
    text = str(report)
    assert len(text.splitlines()) <= 60
    assert "schedule:  drop 6, drop 7, drop 8" in text
    assert "X drop 7" in text
    assert report.counterexample is not None
    exec(report.counterexample.transfer.script(), {})
    shown = capsys.readouterr().out
    assert report.counterexample.violation in shown
    assert "X drop 7" in shown


def test_two_numbers_are_not_enough_where_packets_may_be_late() -> None:
    report = check(StopAndWait, drops=0, actions=("drop", "delay"), random=150)
    assert report.counterexample is not None
    assert "delay" in str(report.counterexample.transfer.schedule)
    assert "more than was written" in report.counterexample.violation
    assert check(StopAndWait, {"numbers": 256}, drops=0, actions=("drop", "delay"), random=100).ok


def test_assert_sound_is_silent_or_fails_with_the_report() -> None:
    assert_sound(StopAndWait, random=40, actions=("drop", "duplicate", "corrupt"))
    with pytest.raises(AssertionError, match="schedule:  drop 0"):
        assert_sound(type(GALLERY[4].protocol.__name__, (GALLERY[4].protocol,), {}))


@hypothesis.settings(max_examples=30)
@hypothesis.given(schedules(max_faults=5, horizon=24))
def test_go_back_n_survives_what_hypothesis_thinks_of(schedule: Schedule) -> None:
    result = Transfer(GoBackN, {"window": 4, "bits": 3}, octets=8000, link=QUICK, schedule=schedule).run()
    assert result.violation() == ""


def test_hypothesis_shrinks_a_planted_mistake_to_three_drops() -> None:
    found: list[Schedule] = []
    base = Transfer(WindowOfAllNumbers, {"window": 3, "bits": 2}, octets=9000, link=QUICK, trace=False)

    @hypothesis.settings(max_examples=600, database=None, phases=list(hypothesis.Phase)[2:5], deadline=None)
    @hypothesis.given(schedules(max_faults=4, horizon=10, actions=("drop",)))
    def attempt(schedule: Schedule) -> None:
        if replace(base, schedule=schedule).run().violation():
            found.append(schedule)
            raise AssertionError

    with pytest.raises(AssertionError):
        attempt()
    assert len(found[-1]) == 3


def test_random_schedules_are_the_same_for_a_seed() -> None:
    assert list(map(str, random_schedules(3, 20))) == list(map(str, random_schedules(3, 20)))
    assert list(random_schedules(3, 20)) != list(random_schedules(4, 20))


class TellsTheTime(StopAndWait):
    def on_packet(self, cx: Context, packet: Packet) -> None:
        import time

        time.monotonic()
        super().on_packet(cx, packet)


class RollsDice(StopAndWait):
    def on_packet(self, cx: Context, packet: Packet) -> None:
        import random

        random.random()
        super().on_packet(cx, packet)


class CountsInstances(StopAndWait):
    made = 0

    def on_packet(self, cx: Context, packet: Packet) -> None:
        type(self).made += 1
        cx.trace("seen before", n=self.made)
        super().on_packet(cx, packet)


def test_what_comes_from_outside_the_simulation_is_found() -> None:
    for protocol, name in ((TellsTheTime, "time.monotonic"), (RollsDice, "random.random")):
        result = Transfer(protocol).run()
        assert isinstance(result.error, LocalProtocolError)
        assert f"{name} in a simulated endpoint" in result.violation()
    report = check(CountsInstances, drops=0, random=0)
    assert report.counterexample is not None
    assert report.counterexample.violation == "two equal runs gave different traces"
    import time

    assert time.monotonic() > 0  # and afterwards all is as before
