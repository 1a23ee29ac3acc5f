"""Every schedule of few losses, tried out; and a schedule that breaks something, made as simple as can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import comb

from rawkit.sim.schedule import Fault, Schedule
from rawkit.sim.transfer import Result, Transfer

Verdict = Callable[[Result], str]
"""What is wrong with a result; "" for nothing."""


def standard(result: Result) -> str:
    """The verdict by the standard properties."""
    return result.violation()


@dataclass(frozen=True)
class Counterexample:
    """A transfer that breaks a property, and which."""

    transfer: Transfer
    violation: str

    def report(self) -> str:
        """On one screen: what is wrong, the schedule, the ladder, the script that shows it again."""
        result = replace(self.transfer, trace=True).run()
        return "\n".join(
            [
                f"violation: {self.violation}",
                f"schedule:  {self.transfer.schedule}",
                "",
                result.ladder(most=32),
                "",
                self.transfer.script(),
            ]
        )


@dataclass(frozen=True)
class Exploration:
    """What trying out all schedules with at most `drops` losses in the first `first` transmissions gave."""

    first: int
    drops: int
    runs: int
    """How many transfers were run; schedules that name transmissions that never come are covered by
    others.
    """
    bad: tuple[Counterexample, ...]
    """All that broke something, those with fewer losses first."""

    @property
    def schedules(self) -> int:
        """How many schedules that are."""
        return sum(comb(self.first, k) for k in range(self.drops + 1))

    def __str__(self) -> str:
        found = (
            "no violation"
            if not self.bad
            else f"{len(self.bad)} violations, first: {self.bad[0].transfer.schedule}"
        )
        count = f"{self.schedules:,}".replace(",", " ")
        what = (
            f"all {count} schedules with at most {self.drops} drops in the first {self.first} transmissions"
        )
        return f"{what}: {found}"


def explore(
    transfer: Transfer, *, drops: int = 3, first: int = 16, verdict: Verdict = standard, stop: bool = False
) -> Exploration:
    """Try every schedule that loses at most `drops` of the first `first` transmissions.

    Schedules are tried by their number of losses, so the first violation is one with the fewest. A schedule
    is extended only by transmissions that were reached with it: losing one that never comes changes nothing.
    With `stop`, the first violation ends it.
    """
    bad: list[Counterexample] = []
    runs = 0
    level: list[tuple[int, ...]] = [()]
    for k in range(drops + 1):
        following: list[tuple[int, ...]] = []
        for numbers in level:
            tried = replace(transfer, schedule=Schedule.drops(numbers))
            result = tried.run()
            runs += 1
            violation = verdict(result)
            if violation:
                bad.append(Counterexample(tried, violation))
                if stop:
                    return Exploration(first, drops, runs, tuple(bad))
            if k < drops:
                start = numbers[-1] + 1 if numbers else 0
                reached = min(first, result.transmissions)
                following += [(*numbers, n) for n in range(start, reached)]
        level = following
    return Exploration(first, drops, runs, tuple(bad))


def shrink(found: Counterexample, *, verdict: Verdict = standard, most_runs: int = 2000) -> Counterexample:
    """The simplest counterexample that simple steps lead to: fewer faults, earlier, simpler ones, less
    data.
    """
    best = found
    runs = 0

    def better(candidate: Transfer) -> bool:
        nonlocal best, runs
        if runs >= most_runs:
            return False
        runs += 1
        violation = verdict(candidate.run())
        if violation:
            best = Counterexample(candidate, violation)
        return bool(violation)

    while runs < most_runs:
        before = best
        for size in (len(best.transfer.schedule) // 2, 1):  # halves, then one by one
            at = 0
            while size and at < len(best.transfer.schedule):
                faults = best.transfer.schedule.faults
                rest = Schedule(faults[:at] + faults[at + size :])
                if not better(replace(best.transfer, schedule=rest)):
                    at += size
        for octets in (
            0,
            1,
            best.transfer.octets // 8,
            best.transfer.octets // 2,
            best.transfer.octets * 3 // 4,
        ):
            if octets < best.transfer.octets and better(replace(best.transfer, octets=octets)):
                break
        if best.transfer.back:
            better(replace(best.transfer, back=0))
        for fault in best.transfer.schedule.faults:
            _simpler_fault(fault, best.transfer, better)
        if best == before:
            break
    return best


def _simpler_fault(fault: Fault, transfer: Transfer, better: Callable[[Transfer], bool]) -> None:
    """Try to make one fault of the schedule simpler, by its action, place or amount."""
    others = tuple(each for each in transfer.schedule.faults if each != fault)

    def instead(candidate: Fault) -> bool:
        return better(replace(transfer, schedule=Schedule((*others, candidate))))

    tries = [] if fault.action == "drop" else [replace(fault, action="drop", amount=0)]
    tries += [replace(fault, n=n) for n in (0, fault.n // 2, fault.n - 1) if 0 <= n < fault.n]
    if fault.action == "delay":
        tries += [replace(fault, amount=ns) for ns in (10**6, 10**7, 10**8, 10**9) if ns < fault.amount]
    elif fault.action == "corrupt" and fault.amount:
        tries.append(replace(fault, amount=0))
    next(filter(instead, tries), None)
