"""`check`: everything the kit knows to try on a protocol, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rawkit.sim.explorer import Counterexample, Exploration, Verdict, explore, shrink, standard
from rawkit.sim.link import LinkSpec
from rawkit.sim.queues import DropTail
from rawkit.sim.schedule import ACTIONS, Action, Fault, Schedule
from rawkit.sim.transfer import Transfer
from rawkit.transport.chance import Substream
from rawkit.transport.endpoint import Endpoint

DELAYS_NS = tuple(ms * 10**6 for ms in (1, 11, 50, 300, 1500, 4000))
"""How late delayed packets come: less than a round trip, and more than most time-outs."""

QUICK = LinkSpec("10Mbit/s", "5ms", DropTail(packets=100))


@dataclass(frozen=True)
class CheckReport:
    """What a check found: sentences that hold, and a counterexample if there is one."""

    protocol: type[Endpoint]
    proved: tuple[str, ...]
    counterexample: Counterexample | None

    @property
    def ok(self) -> bool:
        """Whether nothing was found wrong."""
        return self.counterexample is None

    def __str__(self) -> str:
        lines = [f"{self.protocol.__name__}: {'nothing wrong' if self.ok else 'broken'}"]
        lines += [f"  {sentence}" for sentence in self.proved]
        if self.counterexample is not None:
            lines += ["", self.counterexample.report()]
        return "\n".join(lines)


def random_schedules(
    seed: int, count: int, *, most: int = 6, horizon: int = 40, actions: tuple[Action, ...] = ACTIONS
) -> Iterator[Schedule]:
    """`count` schedules of 1 to `most` faults among the first `horizon` transmissions."""
    stream = Substream(seed, "schedules")
    for _ in range(count):
        faults = []
        for _ in range(1 + stream.below(most)):
            action = stream.choice(actions)
            n = stream.below(horizon)
            amount = stream.choice(DELAYS_NS) if action == "delay" else 0
            amount = stream.below(4096) if action == "corrupt" else amount
            faults.append(Fault(action, n, amount=amount))
        yield Schedule(faults)


def check(
    protocol: type[Endpoint],
    options: Mapping[str, Any] | None = None,
    *,
    octets: int = 6000,
    back: int = 0,
    drops: int = 2,
    first: int = 16,
    random: int = 150,
    actions: tuple[Action, ...] = ACTIONS,
    seed: int = 0,
    verdict: Verdict = standard,
    transfer: Transfer | None = None,
) -> CheckReport:
    """Try a protocol class: first without faults, then all schedules with few drops, then random ones.

    What breaks is shrunk. The last try is the same run twice, which must be alike to the octet. `octets` go
    to the server, `back` to the client; `actions` are the faults that the protocol claims to survive.
    `transfer` says all else (link, message lengths), where the standard does not fit.
    """
    base = transfer or Transfer(protocol, options or {}, octets=octets, back=back, link=QUICK, seed=seed)
    # A trace costs more than the run; only verdicts of one's own may want it.
    base = replace(base, trace=verdict is not standard)
    proved: list[str] = []

    def broken(found: Counterexample) -> CheckReport:
        return CheckReport(protocol, tuple(proved), shrink(found, verdict=verdict))

    plain = base.run()
    violation = verdict(plain)
    if violation:
        return broken(Counterexample(base, violation))
    proved.append(f"{base.octets} + {base.back} octets without faults: {plain.transmissions} transmissions")
    exploration: Exploration = explore(base, drops=drops, first=first, verdict=verdict, stop=True)
    if exploration.bad:
        return broken(exploration.bad[0])
    proved.append(str(exploration))
    horizon = max(2 * plain.transmissions, first)
    for schedule in random_schedules(seed, random, horizon=min(horizon, 60), actions=actions):
        tried = replace(base, schedule=schedule)
        violation = verdict(tried.run())
        if violation:
            return broken(Counterexample(tried, violation))
    if random:
        proved.append(f"{random} random schedules of {', '.join(actions)}: no violation")
    one, other = (replace(base, trace=True).run().trace.digest() for _ in range(2))
    if one != other:
        return broken_by_chance(protocol, proved, base)
    proved.append("the same run twice gives the same trace")
    return CheckReport(protocol, tuple(proved), None)


def broken_by_chance(protocol: type[Endpoint], proved: list[str], base: Transfer) -> CheckReport:
    """The report on a protocol that does not do the same in the same situation."""
    return CheckReport(protocol, tuple(proved), Counterexample(base, "two equal runs gave different traces"))


def assert_sound(protocol: type[Endpoint], options: Mapping[str, Any] | None = None, **keywords: Any) -> None:
    """For tests: check a protocol, and fail with the report if something is wrong.

    Raises:
        AssertionError: with the shrunk counterexample, on one screen.
    """
    report = check(protocol, options, **keywords)
    if not report.ok:
        raise AssertionError(str(report))
