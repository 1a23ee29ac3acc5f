"""Transport protocols over real networks: carriers, and the stack that runs endpoints on one.

The endpoints are those of `rawkit.transport`, unchanged; names are imported when they are first used
(docs/design/link.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawkit.late import from_homes

if TYPE_CHECKING:
    from rawkit.link.carrier import Carrier as Carrier
    from rawkit.link.carrier import Flow as Flow
    from rawkit.link.datagrams import DatagramSocket as DatagramSocket
    from rawkit.link.experiment import Outcome as Outcome
    from rawkit.link.experiment import transfer as transfer
    from rawkit.link.guard import Guard as Guard
    from rawkit.link.l2 import L2 as L2
    from rawkit.link.rawip import RawIP as RawIP
    from rawkit.link.sockets import Info as Info
    from rawkit.link.sockets import Socket as Socket
    from rawkit.link.stack import LinkDriver as LinkDriver
    from rawkit.link.stack import Listener as Listener
    from rawkit.link.stack import Stack as Stack
    from rawkit.link.stack import run as run
    from rawkit.link.tun import Tun as Tun
    from rawkit.link.udp import UDP as UDP
    from rawkit.link.wiretrace import WireTrace as WireTrace

_HOMES = {
    "carrier": "Carrier Flow",
    "guard": "Guard",
    "l2": "L2",
    "rawip": "RawIP",
    "datagrams": "DatagramSocket",
    "sockets": "Info Socket",
    "stack": "LinkDriver Listener Stack run",
    "experiment": "Outcome transfer",
    "tun": "Tun",
    "udp": "UDP",
    "wiretrace": "WireTrace",
}
_HOME_OF = {name: f"rawkit.link.{module}" for module, names in _HOMES.items() for name in names.split()}

__all__ = list(_HOME_OF)


__getattr__ = from_homes(globals(), _HOME_OF)
