"""A deterministic network in virtual time, for transport endpoints: no socket, no clock, no chance but the
seed.

`Transfer(Protocol).run()` is the standard experiment, `check(Protocol)` tries to break a protocol, `Network`
builds anything else. Names are imported when they are first used (docs/design/transport.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawkit.late import from_homes

if TYPE_CHECKING:
    from rawkit.sim.checker import CheckReport as CheckReport
    from rawkit.sim.checker import assert_sound as assert_sound
    from rawkit.sim.checker import check as check
    from rawkit.sim.checker import random_schedules as random_schedules
    from rawkit.sim.explorer import Counterexample as Counterexample
    from rawkit.sim.explorer import Exploration as Exploration
    from rawkit.sim.explorer import explore as explore
    from rawkit.sim.explorer import shrink as shrink
    from rawkit.sim.ladders import ladder as ladder
    from rawkit.sim.ladders import ladder_svg as ladder_svg
    from rawkit.sim.link import LinkSpec as LinkSpec
    from rawkit.sim.models import Bernoulli as Bernoulli
    from rawkit.sim.models import Blackhole as Blackhole
    from rawkit.sim.models import Burst as Burst
    from rawkit.sim.models import Corrupt as Corrupt
    from rawkit.sim.models import Duplicate as Duplicate
    from rawkit.sim.models import GilbertElliott as GilbertElliott
    from rawkit.sim.models import Jitter as Jitter
    from rawkit.sim.models import Numbers as Numbers
    from rawkit.sim.models import Periodic as Periodic
    from rawkit.sim.models import Reorder as Reorder
    from rawkit.sim.network import Group as Group
    from rawkit.sim.network import Host as Host
    from rawkit.sim.network import Network as Network
    from rawkit.sim.network import Router as Router
    from rawkit.sim.network import dumbbell as dumbbell
    from rawkit.sim.network import p2p as p2p
    from rawkit.sim.network import parking_lot as parking_lot
    from rawkit.sim.presets import PRESETS as PRESETS
    from rawkit.sim.presets import preset as preset
    from rawkit.sim.queues import CoDel as CoDel
    from rawkit.sim.queues import DropTail as DropTail
    from rawkit.sim.queues import EcnThreshold as EcnThreshold
    from rawkit.sim.queues import Red as Red
    from rawkit.sim.rates import Mahimahi as Mahimahi
    from rawkit.sim.schedule import Fault as Fault
    from rawkit.sim.schedule import Schedule as Schedule
    from rawkit.sim.script import Script as Script
    from rawkit.sim.script import ScriptError as ScriptError
    from rawkit.sim.transfer import STANDARD as STANDARD
    from rawkit.sim.transfer import Result as Result
    from rawkit.sim.transfer import Transfer as Transfer
    from rawkit.transport.clockwork import Clockwork as Clockwork
    from rawkit.transport.driver import App as App
    from rawkit.transport.driver import Driver as Driver
    from rawkit.transport.trace import Trace as Trace
    from rawkit.transport.trace import TraceEvent as TraceEvent

_HOMES = {
    "checker": "CheckReport assert_sound check random_schedules",
    "explorer": "Counterexample Exploration explore shrink",
    "ladders": "ladder ladder_svg",
    "link": "LinkSpec",
    "models": "Bernoulli Blackhole Burst Corrupt Duplicate GilbertElliott Jitter Numbers Periodic Reorder",
    "presets": "PRESETS preset",
    "network": "Group Host Network Router dumbbell p2p parking_lot",
    "queues": "CoDel DropTail EcnThreshold Red",
    "rates": "Mahimahi",
    "schedule": "Fault Schedule",
    "script": "Script ScriptError",
    "transfer": "STANDARD Result Transfer",
}
_HOME_OF = {name: f"rawkit.sim.{module}" for module, names in _HOMES.items() for name in names.split()}
_HOME_OF |= {
    "App": "rawkit.transport.driver",
    "Clockwork": "rawkit.transport.clockwork",
    "Driver": "rawkit.transport.driver",
    "Trace": "rawkit.transport.trace",
    "TraceEvent": "rawkit.transport.trace",
}

__all__ = list(_HOME_OF)


__getattr__ = from_homes(globals(), _HOME_OF)
