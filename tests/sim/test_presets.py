"""Links by name: all work, and each is as hard as it says."""

from __future__ import annotations

import pytest

from rawkit.sim import Transfer, preset
from rawkit.sim.presets import PRESETS
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat
from rawkit.transport.protocols.stop_and_wait import StopAndWait


@pytest.mark.parametrize("name", PRESETS)
def test_a_protocol_gets_through_every_one_of_them(name: str) -> None:
    result = Transfer(SelectiveRepeat, {"ecn": True}, octets=60_000, trace=False, **preset(name)).run()
    assert result.violation() == ""


def test_the_direction_of_loss_is_as_named() -> None:
    for name, lossy in (("forward loss", 0), ("reverse loss", 1)):
        run = Transfer(StopAndWait, octets=100_000, trace=False, **preset(name)).run()
        assert run.directions[lossy].counts["loss"] > 0
        assert run.directions[1 - lossy].counts["loss"] == 0


def test_a_name_that_is_not_there_says_which_are() -> None:
    with pytest.raises(LookupError, match="no link is called 'dsl'; there are standard, rdt1"):
        preset("dsl")
