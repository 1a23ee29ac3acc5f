"""Craft, send, capture, replay and invent packets.

The names below are the public ones. Each is imported from its module when it is first used (PEP 562), so that
`import rawkit` costs a few milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rawkit.late import from_homes

if TYPE_CHECKING:
    from rawkit.addr import MAC as MAC
    from rawkit.addr import TargetSet as TargetSet
    from rawkit.addr import parse_ports as parse_ports
    from rawkit.addr import parse_target as parse_target
    from rawkit.bulk import Picker as Picker
    from rawkit.bulk import columns as columns
    from rawkit.engine.batch import FrameBatch as FrameBatch
    from rawkit.engine.filter import compile_filter as compile_filter
    from rawkit.engine.ring import PacketRing as PacketRing
    from rawkit.engine.sockets import PacketSocket as PacketSocket
    from rawkit.engine.sockets import RawIPSocket as RawIPSocket
    from rawkit.errors import CaptureFileError as CaptureFileError
    from rawkit.errors import EngineError as EngineError
    from rawkit.errors import ExpressionError as ExpressionError
    from rawkit.errors import FieldError as FieldError
    from rawkit.errors import FilterError as FilterError
    from rawkit.errors import HeaderError as HeaderError
    from rawkit.errors import Malformed as Malformed
    from rawkit.errors import NoRoute as NoRoute
    from rawkit.errors import PermissionDenied as PermissionDenied
    from rawkit.errors import RawkitError as RawkitError
    from rawkit.errors import TargetError as TargetError
    from rawkit.errors import Truncated as Truncated
    from rawkit.errors import UnitError as UnitError
    from rawkit.errors import UnknownInterface as UnknownInterface
    from rawkit.lab import Lab as Lab
    from rawkit.net import interfaces as interfaces
    from rawkit.net import neighbour as neighbour
    from rawkit.net import route as route
    from rawkit.pcap import PcapngWriter as PcapngWriter
    from rawkit.pcap import PcapWriter as PcapWriter
    from rawkit.pcap import aopen_pcap as aopen_pcap
    from rawkit.pcap import create_pcap as create_pcap
    from rawkit.pcap import open_pcap as open_pcap
    from rawkit.tools.capture import capture as capture
    from rawkit.tools.departure import send as send
    from rawkit.tools.exchange import aexchange as aexchange
    from rawkit.tools.exchange import exchange as exchange
    from rawkit.tools.pathmtu import path_mtu as path_mtu
    from rawkit.tools.ping import ping as ping
    from rawkit.tools.replay import areplay as areplay
    from rawkit.tools.replay import replay as replay
    from rawkit.tools.scan import ascan as ascan
    from rawkit.tools.scan import find_hosts as find_hosts
    from rawkit.tools.scan import scan as scan
    from rawkit.tools.sweep import sweep as sweep
    from rawkit.tools.trace import atrace as atrace
    from rawkit.tools.trace import trace as trace
    from rawkit.wire import ARP as ARP
    from rawkit.wire import AUTO as AUTO
    from rawkit.wire import ICMP as ICMP
    from rawkit.wire import MSS as MSS
    from rawkit.wire import SACK as SACK
    from rawkit.wire import TCP as TCP
    from rawkit.wire import UDP as UDP
    from rawkit.wire import Dot1Q as Dot1Q
    from rawkit.wire import Ether as Ether
    from rawkit.wire import Frame as Frame
    from rawkit.wire import Header as Header
    from rawkit.wire import ICMPEcho as ICMPEcho
    from rawkit.wire import ICMPv6 as ICMPv6
    from rawkit.wire import ICMPv6Echo as ICMPv6Echo
    from rawkit.wire import IPv4 as IPv4
    from rawkit.wire import IPv6 as IPv6
    from rawkit.wire import Option as Option
    from rawkit.wire import Packet as Packet
    from rawkit.wire import SACKPermitted as SACKPermitted
    from rawkit.wire import Timestamps as Timestamps
    from rawkit.wire import WindowScale as WindowScale
    from rawkit.wire.edit import diff as diff
    from rawkit.wire.edit import mutate as mutate

__version__ = "0.1.0"

_HOMES = {
    "rawkit.addr": "MAC TargetSet parse_ports parse_target",
    "rawkit.bulk": "Picker columns",
    "rawkit.engine.batch": "FrameBatch",
    "rawkit.engine.filter": "compile_filter",
    "rawkit.engine.ring": "PacketRing",
    "rawkit.engine.sockets": "PacketSocket RawIPSocket",
    "rawkit.errors": "CaptureFileError EngineError ExpressionError FieldError FilterError HeaderError "
    "Malformed NoRoute PermissionDenied RawkitError TargetError Truncated UnitError UnknownInterface",
    "rawkit.lab": "Lab",
    "rawkit.net": "interfaces neighbour route",
    "rawkit.pcap": "PcapWriter PcapngWriter aopen_pcap create_pcap open_pcap",
    "rawkit.tools.capture": "capture",
    "rawkit.tools.departure": "send",
    "rawkit.tools.exchange": "aexchange exchange",
    "rawkit.tools.pathmtu": "path_mtu",
    "rawkit.tools.ping": "ping",
    "rawkit.tools.replay": "areplay replay",
    "rawkit.tools.scan": "ascan find_hosts scan",
    "rawkit.tools.sweep": "sweep",
    "rawkit.tools.trace": "atrace trace",
    "rawkit.wire": "ARP AUTO Dot1Q Ether Frame Header ICMP ICMPEcho ICMPv6 ICMPv6Echo IPv4 IPv6 MSS "
    "Option Packet SACK SACKPermitted TCP Timestamps UDP WindowScale",
    "rawkit.wire.edit": "diff mutate",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = list(_HOME_OF)


_find = from_homes(globals(), _HOME_OF)


def __getattr__(name: str) -> Any:
    if _HOME_OF.get(name) == "rawkit.wire":
        # Headers work without the compiled module; where it is, its checksums serve them.
        import contextlib
        import importlib

        with contextlib.suppress(ImportError):
            importlib.import_module("rawkit.engine.checksum")
    return _find(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
