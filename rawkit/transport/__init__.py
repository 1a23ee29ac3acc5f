"""Transport protocols: the endpoint contract and building blocks. No socket, no clock, no randomness.

Time is an integer of nanoseconds that the caller passes in; keys are passed in too. Each block works alone
and is imported when it is first used (docs/design/transport.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawkit.late import from_homes

if TYPE_CHECKING:
    from rawkit.transport.chance import Substream as Substream
    from rawkit.transport.chance import chance as chance
    from rawkit.transport.chance import draw as draw
    from rawkit.transport.chance import stream_key as stream_key
    from rawkit.transport.congestion import AckSample as AckSample
    from rawkit.transport.congestion import Aimd as Aimd
    from rawkit.transport.congestion import CongestionControl as CongestionControl
    from rawkit.transport.congestion import Dctcp as Dctcp
    from rawkit.transport.congestion import Fixed as Fixed
    from rawkit.transport.congestion import NewReno as NewReno
    from rawkit.transport.congestion import Vegas as Vegas
    from rawkit.transport.congestion import Wrapped as Wrapped
    from rawkit.transport.congestion import controller as controller
    from rawkit.transport.congestion import initial_window as initial_window
    from rawkit.transport.cubic import Cubic as Cubic
    from rawkit.transport.delivery import DeliveryRate as DeliveryRate
    from rawkit.transport.delivery import RateSample as RateSample
    from rawkit.transport.driver import App as App
    from rawkit.transport.driver import Driver as Driver
    from rawkit.transport.endpoint import Context as Context
    from rawkit.transport.endpoint import Endpoint as Endpoint
    from rawkit.transport.endpoint import Packet as Packet
    from rawkit.transport.events import Abort as Abort
    from rawkit.transport.events import Close as Close
    from rawkit.transport.events import Closed as Closed
    from rawkit.transport.events import Connected as Connected
    from rawkit.transport.events import MtuChanged as MtuChanged
    from rawkit.transport.events import Path as Path
    from rawkit.transport.events import PeerClosed as PeerClosed
    from rawkit.transport.events import Read as Read
    from rawkit.transport.events import Reset as Reset
    from rawkit.transport.events import Shutdown as Shutdown
    from rawkit.transport.events import Unreachable as Unreachable
    from rawkit.transport.events import Writable as Writable
    from rawkit.transport.events import Write as Write
    from rawkit.transport.flow import FlowWindow as FlowWindow
    from rawkit.transport.flow import SendWindow as SendWindow
    from rawkit.transport.keyed import Isn as Isn
    from rawkit.transport.keyed import PortAllocator as PortAllocator
    from rawkit.transport.machine import Machine as Machine
    from rawkit.transport.machine import State as State
    from rawkit.transport.messages import MessageBox as MessageBox
    from rawkit.transport.pacer import Pacer as Pacer
    from rawkit.transport.rack import Rack as Rack
    from rawkit.transport.rack import TailLossProbe as TailLossProbe
    from rawkit.transport.ranges import RangeSet as RangeSet
    from rawkit.transport.reassembly import Reassembly as Reassembly
    from rawkit.transport.rtt import Rto as Rto
    from rawkit.transport.rtt import RttEstimator as RttEstimator
    from rawkit.transport.scoreboard import Scoreboard as Scoreboard
    from rawkit.transport.scoreboard import Segment as Segment
    from rawkit.transport.sendbuffer import SendBuffer as SendBuffer
    from rawkit.transport.seqspace import SeqSpace as SeqSpace

_HOMES = {
    "chance": "Substream chance draw stream_key",
    "driver": "App Driver",
    "endpoint": "Context Endpoint Packet",
    "events": "Abort Close Closed Connected MtuChanged Path PeerClosed Read Reset Shutdown Unreachable "
    "Writable Write",
    "congestion": "AckSample Aimd CongestionControl Dctcp Fixed NewReno Vegas Wrapped controller "
    "initial_window",
    "cubic": "Cubic",
    "keyed": "Isn PortAllocator",
    "pacer": "Pacer",
    "delivery": "DeliveryRate RateSample",
    "flow": "FlowWindow SendWindow",
    "machine": "Machine State",
    "messages": "MessageBox",
    "rack": "Rack TailLossProbe",
    "scoreboard": "Scoreboard Segment",
    "sendbuffer": "SendBuffer",
    "ranges": "RangeSet",
    "reassembly": "Reassembly",
    "rtt": "Rto RttEstimator",
    "seqspace": "SeqSpace",
}
_HOME_OF = {name: f"rawkit.transport.{module}" for module, names in _HOMES.items() for name in names.split()}

__all__ = list(_HOME_OF)


__getattr__ = from_homes(globals(), _HOME_OF)
