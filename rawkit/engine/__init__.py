"""The engine room: batches, sockets, filters, checksums, namespaces, pacing, over the compiled module.

Names are imported when they are first used: whoever only reads a file pays for no sockets. The checksum
functions stay in `rawkit.engine.checksum`, whose name they would otherwise share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawkit.late import from_homes

if TYPE_CHECKING:
    from rawkit.engine.batch import FrameBatch, FrameRecord
    from rawkit.engine.filter import Filter, compile_filter
    from rawkit.engine.link import LinkRelay
    from rawkit.engine.namespace import Namespace
    from rawkit.engine.native import monotonic_ns, realtime_ns
    from rawkit.engine.pace import PacedSender, PaceReport, Rate, Schedule, wait_until
    from rawkit.engine.ring import PacketRing, RingBatch, RingCounters, fan_out
    from rawkit.engine.ringset import RingSet
    from rawkit.engine.sockets import ETH_P_ALL, Counters, PacketSocket, RawIPSocket
    from rawkit.engine.transmit import TransmitReport, Transmitter, open_transmitter

__all__ = [
    "ETH_P_ALL",
    "Counters",
    "Filter",
    "FrameBatch",
    "FrameRecord",
    "LinkRelay",
    "Namespace",
    "PaceReport",
    "PacedSender",
    "PacketRing",
    "PacketSocket",
    "Rate",
    "RawIPSocket",
    "RingBatch",
    "RingCounters",
    "RingSet",
    "Schedule",
    "TransmitReport",
    "Transmitter",
    "compile_filter",
    "fan_out",
    "monotonic_ns",
    "open_transmitter",
    "realtime_ns",
    "wait_until",
]

_HOMES = {
    "batch": ("FrameBatch", "FrameRecord"),
    "filter": ("Filter", "compile_filter"),
    "link": ("LinkRelay",),
    "namespace": ("Namespace",),
    "native": ("monotonic_ns", "realtime_ns"),
    "pace": ("PaceReport", "PacedSender", "Rate", "Schedule", "wait_until"),
    "ring": ("PacketRing", "RingBatch", "RingCounters", "fan_out"),
    "ringset": ("RingSet",),
    "sockets": ("ETH_P_ALL", "Counters", "PacketSocket", "RawIPSocket"),
    "transmit": ("TransmitReport", "Transmitter", "open_transmitter"),
}
_HOME_OF = {name: f"rawkit.engine.{module}" for module, names in _HOMES.items() for name in names}


__getattr__ = from_homes(globals(), _HOME_OF)
