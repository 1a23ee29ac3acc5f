"""Hypothesis strategies for schedules; `hypothesis` must be installed.

    @given(schedules(max_faults=4))
    def test_it_survives(schedule):
        assert not Transfer(MyProtocol, schedule=schedule).run().violation()

Hypothesis shrinks what fails to fewer, earlier and simpler faults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawkit.sim.checker import DELAYS_NS
from rawkit.sim.schedule import ACTIONS, Action, Fault, Schedule

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def schedules(
    max_faults: int = 4, horizon: int = 40, actions: tuple[Action, ...] = ACTIONS
) -> SearchStrategy[Schedule]:
    """Schedules of at most `max_faults` faults among the first `horizon` transmissions.

    They are drawn as sets of numbers, which shrink in fewer steps than lists of yes and no.
    """
    from hypothesis import strategies as st

    def fault(action: Action) -> SearchStrategy[Fault]:
        n = st.integers(0, horizon - 1)
        amount: SearchStrategy[int] = st.just(0)
        if action == "delay":
            amount = st.sampled_from(DELAYS_NS)
        elif action == "corrupt":
            amount = st.integers(0, 4095)
        return st.builds(Fault, st.just(action), n, amount=amount)

    return st.sets(st.one_of(*map(fault, actions)), max_size=max_faults).map(Schedule)
