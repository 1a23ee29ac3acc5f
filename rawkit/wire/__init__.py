"""Headers as values: declare, parse, build, show. No sockets, no clock, compiled or not.

The classes of rarer protocols are imported when their name, or their number in a packet, is first met.
"""

from typing import TYPE_CHECKING

from rawkit.late import from_homes
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
    from rawkit.wire.cooked import LinuxCooked as LinuxCooked
    from rawkit.wire.cooked import LinuxCooked2 as LinuxCooked2
    from rawkit.wire.cooked import Loopback as Loopback
    from rawkit.wire.cooked import NullLoopback as NullLoopback
    from rawkit.wire.dccp import DCCP as DCCP
    from rawkit.wire.dccp import DCCPAck as DCCPAck
    from rawkit.wire.dccp import DCCPClose as DCCPClose
    from rawkit.wire.dccp import DCCPData as DCCPData
    from rawkit.wire.dccp import DCCPRequest as DCCPRequest
    from rawkit.wire.dccp import DCCPReset as DCCPReset
    from rawkit.wire.dccp import DCCPResponse as DCCPResponse
    from rawkit.wire.dccp import DCCPSync as DCCPSync
    from rawkit.wire.eigrp import EIGRP as EIGRP
    from rawkit.wire.gre import GRE as GRE
    from rawkit.wire.icmpext import ICMPExtendedEcho as ICMPExtendedEcho
    from rawkit.wire.icmpext import ICMPExtendedEchoReply as ICMPExtendedEchoReply
    from rawkit.wire.icmpext import ICMPExtension as ICMPExtension
    from rawkit.wire.icmpext import ICMPv6ExtendedEcho as ICMPv6ExtendedEcho
    from rawkit.wire.icmpext import ICMPv6ExtendedEchoReply as ICMPv6ExtendedEchoReply
    from rawkit.wire.icmpext import InterfaceIdentification as InterfaceIdentification
    from rawkit.wire.icmpext import InterfaceInformation as InterfaceInformation
    from rawkit.wire.icmpext import MPLSStack as MPLSStack
    from rawkit.wire.icmpext import extended as extended
    from rawkit.wire.icmpext import extension_of as extension_of
    from rawkit.wire.icmpinfo import ICMPAddressMask as ICMPAddressMask
    from rawkit.wire.icmpinfo import ICMPRouterAdvertisement as ICMPRouterAdvertisement
    from rawkit.wire.icmpinfo import ICMPRouterSolicitation as ICMPRouterSolicitation
    from rawkit.wire.icmpinfo import ICMPTimestamp as ICMPTimestamp
    from rawkit.wire.icmpinfo import ICMPTraceroute as ICMPTraceroute
    from rawkit.wire.igmp import IGMP as IGMP
    from rawkit.wire.igmp import GroupRecord as GroupRecord
    from rawkit.wire.igmp import IGMPLeave as IGMPLeave
    from rawkit.wire.igmp import IGMPQuery as IGMPQuery
    from rawkit.wire.igmp import IGMPReport as IGMPReport
    from rawkit.wire.igmp import IGMPv3Query as IGMPv3Query
    from rawkit.wire.igmp import IGMPv3Report as IGMPv3Report
    from rawkit.wire.ipsec import AH as AH
    from rawkit.wire.ipsec import ESP as ESP
    from rawkit.wire.ipv6ext import DestinationOptions as DestinationOptions
    from rawkit.wire.ipv6ext import HomeAddressRouting as HomeAddressRouting
    from rawkit.wire.ipv6ext import HopByHop as HopByHop
    from rawkit.wire.ipv6ext import IPv6RouterAlert as IPv6RouterAlert
    from rawkit.wire.ipv6ext import IPv6Routing as IPv6Routing
    from rawkit.wire.ipv6ext import JumboPayload as JumboPayload
    from rawkit.wire.ipv6ext import PadN as PadN
    from rawkit.wire.ipv6ext import RPLRouting as RPLRouting
    from rawkit.wire.ipv6ext import SegmentRouting as SegmentRouting
    from rawkit.wire.ipv6ext import SourceRouting as SourceRouting
    from rawkit.wire.llc import LLC as LLC
    from rawkit.wire.llc import SNAP as SNAP
    from rawkit.wire.llc import LLCNumbered as LLCNumbered
    from rawkit.wire.mld import ListenerRecord as ListenerRecord
    from rawkit.wire.mld import MLDDone as MLDDone
    from rawkit.wire.mld import MLDQuery as MLDQuery
    from rawkit.wire.mld import MLDReport as MLDReport
    from rawkit.wire.mld import MLDv2Query as MLDv2Query
    from rawkit.wire.mld import MLDv2Report as MLDv2Report
    from rawkit.wire.mpls import MPLS as MPLS
    from rawkit.wire.mptcp import DSS as DSS
    from rawkit.wire.mptcp import MPTCP as MPTCP
    from rawkit.wire.mptcp import MPCapable as MPCapable
    from rawkit.wire.mptcp import MPJoin as MPJoin
    from rawkit.wire.ndoption import DNSSearchList as DNSSearchList
    from rawkit.wire.ndoption import Nonce as Nonce
    from rawkit.wire.ndoption import RecursiveDNS as RecursiveDNS
    from rawkit.wire.ndoption import RedirectedHeader as RedirectedHeader
    from rawkit.wire.ndoption import RouteInformation as RouteInformation
    from rawkit.wire.ospf import OSPF as OSPF
    from rawkit.wire.ospf import OSPFAcknowledgement as OSPFAcknowledgement
    from rawkit.wire.ospf import OSPFDescription as OSPFDescription
    from rawkit.wire.ospf import OSPFHello as OSPFHello
    from rawkit.wire.ospf import OSPFRequest as OSPFRequest
    from rawkit.wire.ospf import OSPFUpdate as OSPFUpdate
    from rawkit.wire.ospf import OSPFv3 as OSPFv3
    from rawkit.wire.ospf import OSPFv3Hello as OSPFv3Hello
    from rawkit.wire.sctp import SCTP as SCTP
    from rawkit.wire.sctp import SCTPAbort as SCTPAbort
    from rawkit.wire.sctp import SCTPCookieAck as SCTPCookieAck
    from rawkit.wire.sctp import SCTPCookieEcho as SCTPCookieEcho
    from rawkit.wire.sctp import SCTPData as SCTPData
    from rawkit.wire.sctp import SCTPHeartbeat as SCTPHeartbeat
    from rawkit.wire.sctp import SCTPHeartbeatAck as SCTPHeartbeatAck
    from rawkit.wire.sctp import SCTPInit as SCTPInit
    from rawkit.wire.sctp import SCTPInitAck as SCTPInitAck
    from rawkit.wire.sctp import SCTPSelectiveAck as SCTPSelectiveAck
    from rawkit.wire.sctp import SCTPShutdown as SCTPShutdown
    from rawkit.wire.sctp import SCTPShutdownAck as SCTPShutdownAck
    from rawkit.wire.sctp import SCTPShutdownComplete as SCTPShutdownComplete
    from rawkit.wire.tcpoption import AuthenticationOption as AuthenticationOption
    from rawkit.wire.tcpoption import FastOpen as FastOpen
    from rawkit.wire.tcpoption import MD5Signature as MD5Signature
    from rawkit.wire.tcpoption import UserTimeout as UserTimeout
    from rawkit.wire.udplite import UDPLite as UDPLite
    from rawkit.wire.vxlan import VXLAN as VXLAN

_HOMES: dict[str, str] = {
    "cooked": "LinuxCooked LinuxCooked2 Loopback NullLoopback",
    "gre": "GRE",
    "icmpext": "ICMPExtendedEcho ICMPExtendedEchoReply ICMPExtension ICMPv6ExtendedEcho "
    "ICMPv6ExtendedEchoReply InterfaceIdentification InterfaceInformation MPLSStack extended "
    "extension_of",
    "icmpinfo": "ICMPAddressMask ICMPRouterAdvertisement ICMPRouterSolicitation ICMPTimestamp ICMPTraceroute",
    "igmp": "GroupRecord IGMP IGMPLeave IGMPQuery IGMPReport IGMPv3Query IGMPv3Report",
    "ipsec": "AH ESP",
    "ipv6ext": "DestinationOptions HomeAddressRouting HopByHop IPv6RouterAlert IPv6Routing JumboPayload "
    "PadN RPLRouting SegmentRouting SourceRouting",
    "llc": "LLC SNAP LLCNumbered",
    "mld": "ListenerRecord MLDDone MLDQuery MLDReport MLDv2Query MLDv2Report",
    "mpls": "MPLS",
    "ndoption": "DNSSearchList Nonce RecursiveDNS RedirectedHeader RouteInformation",
    "vxlan": "VXLAN",
    "dccp": "DCCP DCCPAck DCCPClose DCCPData DCCPRequest DCCPReset DCCPResponse DCCPSync",
    "eigrp": "EIGRP",
    "mptcp": "DSS MPCapable MPJoin MPTCP",
    "ospf": "OSPF OSPFAcknowledgement OSPFDescription OSPFHello OSPFRequest OSPFUpdate OSPFv3 OSPFv3Hello",
    "sctp": "SCTP SCTPAbort SCTPCookieAck SCTPCookieEcho SCTPData SCTPHeartbeat "
    "SCTPHeartbeatAck SCTPInit SCTPInitAck SCTPSelectiveAck SCTPShutdown "
    "SCTPShutdownAck SCTPShutdownComplete",
    "tcpoption": "AuthenticationOption FastOpen MD5Signature UserTimeout",
    "udplite": "UDPLite",
}
"""Names of classes that are imported late, by module of this package."""

_HOME_OF = {name: f"rawkit.wire.{module}" for module, names in _HOMES.items() for name in names.split()}


__getattr__ = from_homes(globals(), _HOME_OF)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
