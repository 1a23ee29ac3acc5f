"""Send packets, and pair each with what answers it.

Answers are recognised by `Packet.answers`: replies of the protocols rawkit knows, and ICMP errors that quote
a request. `exchange` does it all, `aexchange` does it in a running asyncio loop; an `Exchange` tells what
happens while it happens, to `for` and to `async for`. What they share (`tools.exchanger`) never waits.

The kernel is a party to this. It does not know of a connection that a packet of ours opens, and answers a
SYN-ACK with a RST of its own after the SYN-ACK was handed to us: exchanges work, but a handshake needs a
socket that holds the port, or an address that is not the kernel's. On a raw IP socket the kernel also fills
in the total length and the header checksum of IPv4, and the identification where it is 0; to send those
wrong, start with `Ether`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import overload

from rawkit.bulk.answerfilter import answer_filter
from rawkit.engine.filter import Filter
from rawkit.engine.interface import LINKTYPE_ETHERNET
from rawkit.engine.sockets import ETH_P_ALL
from rawkit.tools.departure import LINKTYPE_IPV4, Departure, prepare
from rawkit.tools.exchanger import Answer as Answer
from rawkit.tools.exchanger import ExchangeConfig as ExchangeConfig
from rawkit.tools.exchanger import ExchangeEvent as ExchangeEvent
from rawkit.tools.exchanger import Exchanger
from rawkit.tools.exchanger import Outcome as Outcome
from rawkit.tools.exchanger import Sent as Sent
from rawkit.tools.exchanger import Unanswered as Unanswered
from rawkit.tools.lanes import Lane, Session
from rawkit.units import parse_duration
from rawkit.wire.header import Header
from rawkit.wire.packet import Packet

_ETHER_LEN = 14
_ARP = 0x0806
_IP_VERSIONS = {0x0800: 4, 0x86DD: 6}


@overload
def exchange(  # type: ignore[overload-overlap]  # a packet iterates over its headers
    packets: Packet | Header,
    *,
    timeout: float = ...,
    retries: int = ...,
    rate: float | None = ...,
    linger: float = ...,
    interface: str | None = ...,
) -> Answer | None: ...
@overload
def exchange(
    packets: Iterable[Packet | Header],
    *,
    timeout: float = ...,
    retries: int = ...,
    rate: float | None = ...,
    linger: float = ...,
    interface: str | None = ...,
) -> list[Outcome]: ...
def exchange(
    packets: Packet | Header | Iterable[Packet | Header],
    *,
    timeout: float = 1.0,
    retries: int = 0,
    rate: float | None = None,
    linger: float = 0.0,
    interface: str | None = None,
) -> Answer | list[Outcome] | None:
    """Send a packet and return the first that answers it, None if none does; or send many, and tell of each.

        answer = rawkit.exchange(IPv4(dst="192.0.2.1") / TCP(sport=40000, dport=80, flags="S"))
        if answer is not None and TCP in answer: ...
        for outcome in rawkit.exchange(probes, retries=2):
            print(outcome.request, outcome.answer)

    An answer is waited for `timeout` seconds, and then the packet is sent again, up to `retries` times.
    `rate` limits packets per second. For `linger` seconds after the last packet was answered or given up,
    duplicates and late answers are listened for. ICMP errors that quote a request are answers too.

    Listening begins before anything is sent. Where no interface is named, answers to an IP packet are heard
    on all of them: they need not come the way the request went, and this host's own "host unreachable" comes
    over the loopback.

    Raises: `TargetError` for a packet that cannot be sent, `NoRoute`, `UnknownInterface`, `FieldError`,
    `PermissionDenied`; ValueError for a number that makes no sense; `EngineError` with the kernel's reason
    (of many packets only where it concerns all).
    """
    one, session = _open(packets, timeout, retries, rate, linger, interface)
    with session:
        for _ in session:
            pass
        return _one(session.outcomes[0]) if one else session.outcomes


@overload
async def aexchange(  # type: ignore[overload-overlap]
    packets: Packet | Header,
    *,
    timeout: float = ...,
    retries: int = ...,
    rate: float | None = ...,
    linger: float = ...,
    interface: str | None = ...,
) -> Answer | None: ...
@overload
async def aexchange(
    packets: Iterable[Packet | Header],
    *,
    timeout: float = ...,
    retries: int = ...,
    rate: float | None = ...,
    linger: float = ...,
    interface: str | None = ...,
) -> list[Outcome]: ...
async def aexchange(
    packets: Packet | Header | Iterable[Packet | Header],
    *,
    timeout: float = 1.0,
    retries: int = 0,
    rate: float | None = None,
    linger: float = 0.0,
    interface: str | None = None,
) -> Answer | list[Outcome] | None:
    """As `exchange`, while the running asyncio loop's other tasks go on.

    Routes and interfaces are looked up before anything is sent, about a millisecond each.
    """
    one, session = _open(packets, timeout, retries, rate, linger, interface)
    with session:
        async for _ in session:
            pass
        return _one(session.outcomes[0]) if one else session.outcomes


def _open(
    packets: Packet | Header | Iterable[Packet | Header],
    timeout: float,
    retries: int,
    rate: float | None,
    linger: float,
    interface: str | None,
) -> tuple[bool, Exchange]:
    one = isinstance(packets, (Packet, Header))
    config = ExchangeConfig(parse_duration(timeout), retries, rate, parse_duration(linger) if linger else 0)
    return one, Exchange(
        [packets] if isinstance(packets, (Packet, Header)) else packets, config, interface=interface
    )


def _one(outcome: Outcome) -> Answer | None:
    if outcome.error is not None:
        raise outcome.error
    return outcome.answer


class Exchange(Session[ExchangeEvent]):
    """An exchange: iterate over it for what happens, `Sent`, `Answer` and `Unanswered`, as it happens.

        with Exchange(packets) as session:
            for event in session:
                ...
        session.outcomes

    `async for` does the same in a running asyncio loop. What arrives is heard from the moment the object is
    made. Iterating again sends all of it again. Use it in a `with` block, or call `close`.

    Raises: as `exchange`.
    """

    def __init__(
        self,
        packets: Iterable[Packet | Header],
        config: ExchangeConfig | None = None,
        *,
        interface: str | None = None,
    ) -> None:
        super().__init__()
        self.config = config or ExchangeConfig()
        self.departures = [prepare(packet, interface) for packet in packets]
        """The packets as they are sent."""
        self._core = Exchanger(self.departures, self.config)
        ways: dict[_Way, list[Departure]] = {}
        for departure in self.departures:
            ways.setdefault(_way(departure), []).append(departure)
        with ExitStack() as stack:
            for way, departures in ways.items():
                longest = max(len(departure.octets) for departure in departures)
                filter = _filter(departures, way[2])
                self._lanes[way] = Lane(departures[0], stack, longest, way[2], filter)
            self._opened = stack.pop_all()

    @property
    def outcomes(self) -> list[Outcome]:
        """What became of each packet so far, in their order."""
        return self._core.outcomes

    def _start(self) -> Exchanger:
        if any(outcome.sent_ns or outcome.error for outcome in self._core.outcomes):
            self._core = Exchanger(self.departures, self.config)
            for lane in self._lanes.values():
                lane.forget(self._in)
        return self._core

    def _lane_of(self, number: int) -> _Way:
        return _way(self.departures[number])


_Way = tuple[int, int, int]
"""LINKTYPE_ number, interface and EtherType of what leaves, and is heard, the same way."""


def _way(departure: Departure) -> _Way:
    if departure.is_ip:
        return (
            departure.linktype,
            departure.ifindex,
            0x0800 if departure.linktype == LINKTYPE_IPV4 else 0x86DD,
        )
    protocol = ETH_P_ALL
    if departure.linktype == LINKTYPE_ETHERNET:
        ethertype = int.from_bytes(departure.octets[12:_ETHER_LEN], "big")
        # With tags, what is heard may be of another EtherType than what is sent.
        if ethertype in _IP_VERSIONS or ethertype == _ARP:
            protocol = ethertype
    return departure.linktype, departure.ifindex, protocol


def _filter(departures: Sequence[Departure], protocol: int) -> Filter | None:
    version = _IP_VERSIONS.get(protocol)
    if version is None:
        return None
    link_len = 0 if departures[0].is_ip else _ETHER_LEN
    return answer_filter((departure.octets[link_len:] for departure in departures), version, link_len)
