"""Building blocks of transport protocols: no socket, no clock, no randomness.

Time is an integer of nanoseconds that the caller passes in; keys are passed in too. Each block works alone
and is imported when it is first used (docs/design/transport.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rawkit.transport.congestion import AckSample as AckSample
    from rawkit.transport.congestion import Aimd as Aimd
    from rawkit.transport.congestion import CongestionControl as CongestionControl
    from rawkit.transport.congestion import Fixed as Fixed
    from rawkit.transport.congestion import NewReno as NewReno
    from rawkit.transport.cubic import Cubic as Cubic
    from rawkit.transport.keyed import Isn as Isn
    from rawkit.transport.keyed import PortAllocator as PortAllocator
    from rawkit.transport.pacer import Pacer as Pacer
    from rawkit.transport.ranges import RangeSet as RangeSet
    from rawkit.transport.reassembly import Reassembly as Reassembly
    from rawkit.transport.rtt import Rto as Rto
    from rawkit.transport.rtt import RttEstimator as RttEstimator
    from rawkit.transport.seqspace import SeqSpace as SeqSpace

_HOMES = {
    "congestion": "AckSample Aimd CongestionControl Fixed NewReno",
    "cubic": "Cubic",
    "keyed": "Isn PortAllocator",
    "pacer": "Pacer",
    "ranges": "RangeSet",
    "reassembly": "Reassembly",
    "rtt": "Rto RttEstimator",
    "seqspace": "SeqSpace",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = list(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'rawkit.transport' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"rawkit.transport.{_HOME_OF[name]}"), name)
    globals()[name] = value  # the next look-up does not come here
    return value
