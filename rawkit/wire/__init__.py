"""Headers as values: declare, parse, build, show. No sockets, no clock, no compiled module.

The classes of rarer protocols are imported when their name, or their number in a packet, is first met.
"""

from typing import TYPE_CHECKING, Any

from rawkit.wire.arp import ARP as ARP
from rawkit.wire.ethernet import Dot1AD as Dot1AD
from rawkit.wire.ethernet import Dot1Q as Dot1Q
from rawkit.wire.ethernet import Ether as Ether
from rawkit.wire.field import AUTO as AUTO
from rawkit.wire.frame import Frame as Frame
from rawkit.wire.header import Header as Header
from rawkit.wire.icmp import ICMP as ICMP
from rawkit.wire.icmp import ICMPEcho as ICMPEcho
from rawkit.wire.icmp import ICMPParameterProblem as ICMPParameterProblem
from rawkit.wire.icmp import ICMPRedirect as ICMPRedirect
from rawkit.wire.icmp import ICMPTimeExceeded as ICMPTimeExceeded
from rawkit.wire.icmp import ICMPUnreachable as ICMPUnreachable
from rawkit.wire.icmpv6 import ICMPv6 as ICMPv6
from rawkit.wire.icmpv6 import ICMPv6Echo as ICMPv6Echo
from rawkit.wire.icmpv6 import ICMPv6PacketTooBig as ICMPv6PacketTooBig
from rawkit.wire.icmpv6 import ICMPv6TimeExceeded as ICMPv6TimeExceeded
from rawkit.wire.icmpv6 import ICMPv6Unreachable as ICMPv6Unreachable
from rawkit.wire.icmpv6 import NeighbourAdvertisement as NeighbourAdvertisement
from rawkit.wire.icmpv6 import NeighbourSolicitation as NeighbourSolicitation
from rawkit.wire.icmpv6 import RouterAdvertisement as RouterAdvertisement
from rawkit.wire.icmpv6 import RouterSolicitation as RouterSolicitation
from rawkit.wire.icmpv6 import SourceLinkAddress as SourceLinkAddress
from rawkit.wire.icmpv6 import TargetLinkAddress as TargetLinkAddress
from rawkit.wire.ipv4 import IPv4 as IPv4
from rawkit.wire.ipv6 import IPv6 as IPv6
from rawkit.wire.ipv6 import IPv6Fragment as IPv6Fragment
from rawkit.wire.option import Option as Option
from rawkit.wire.packet import Packet as Packet
from rawkit.wire.tcp import MSS as MSS
from rawkit.wire.tcp import SACK as SACK
from rawkit.wire.tcp import TCP as TCP
from rawkit.wire.tcp import NoOperation as NoOperation
from rawkit.wire.tcp import SACKPermitted as SACKPermitted
from rawkit.wire.tcp import Timestamps as Timestamps
from rawkit.wire.tcp import WindowScale as WindowScale
from rawkit.wire.udp import UDP as UDP

if TYPE_CHECKING:
    pass

_HOMES: dict[str, str] = {}
"""Names of classes that are imported late, by module of this package."""

_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'rawkit.wire' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"rawkit.wire.{_HOME_OF[name]}"), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
