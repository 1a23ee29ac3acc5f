"""Which of many requests a packet answers.

`Packet.answers` is the judge. With thousands of requests outstanding it cannot be asked about each of them:
an index finds the few that come into question, by the addresses of the network header and by those fields of
the next one that the header classes compare. Where the classes of the headers are not known here, all
requests of the same addresses are tried, in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from rawkit.wire.arp import ARP
from rawkit.wire.dccp import DCCP
from rawkit.wire.field import AUTO
from rawkit.wire.header import Header
from rawkit.wire.icmp import ICMPEcho
from rawkit.wire.icmpext import (
    ICMPExtendedEcho,
    ICMPExtendedEchoReply,
    ICMPv6ExtendedEcho,
    ICMPv6ExtendedEchoReply,
)
from rawkit.wire.icmpv6 import ICMPv6Echo, NeighbourAdvertisement, NeighbourSolicitation
from rawkit.wire.ipv4 import BROADCAST, IPv4
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.packet import Packet
from rawkit.wire.sctp import SCTP
from rawkit.wire.tcp import TCP
from rawkit.wire.udp import UDP
from rawkit.wire.udplite import UDPLite

_PORTS = ("sport", "dport"), ("dport", "sport")
_SAME = ("id", "seq"), ("id", "seq")


class _Rule(NamedTuple):
    """Fields of a request, and those of a reply that `reply.answers` wants to equal them, one by one."""

    request: type[Header]
    reply: type[Header]
    asked: tuple[str, ...]
    answered: tuple[str, ...]


_NETWORK = (
    *(_Rule(cls, cls, ("src", "dst"), ("dst", "src")) for cls in (IPv4, IPv6)),
    _Rule(ARP, ARP, ("sender_ip", "target_ip"), ("target_ip", "sender_ip")),
)
_UPPER = (
    *(_Rule(cls, cls, *_PORTS) for cls in (TCP, UDP, UDPLite, DCCP, SCTP)),
    *(_Rule(cls, cls, *_SAME) for cls in (ICMPEcho, ICMPv6Echo)),
    _Rule(ICMPExtendedEcho, ICMPExtendedEchoReply, *_SAME),
    _Rule(ICMPv6ExtendedEcho, ICMPv6ExtendedEchoReply, *_SAME),
    _Rule(NeighbourSolicitation, NeighbourAdvertisement, ("target",), ("target",)),
)
# Found by the function that judges: a subclass with an `answers` of its own is none of these.
_BY_JUDGE: dict[Callable[..., bool], _Rule] = {rule.reply.answers: rule for rule in (*_NETWORK, *_UPPER)}

_NONE: tuple[Hashable, ...] = ()
"""The key of requests that have nothing to look for."""


class _Bucket:
    """Requests that the index cannot tell apart: those without an answer, in their order, and the others."""

    __slots__ = ("closed", "open")

    def __init__(self) -> None:
        self.open: dict[int, None] = {}
        self.closed: list[int] = []


class Matcher:
    """Requests, each with a number, and the search for the one that a packet answers."""

    def __init__(self, requests: Iterable[Packet] = ()) -> None:
        self._requests: list[Packet] = []
        self._places: list[_Bucket] = []
        self._index: dict[Hashable, dict[Hashable, _Bucket]] = {}
        # Whether there are requests from, or to, any address.
        self._any_source = self._any_destination = False
        for request in requests:
            self.add(request)

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: Packet) -> int:
        """Add a request, and return its number: 0, 1, 2, and so on."""
        number = len(self._requests)
        layers = _from_network(request)
        kind, source, destination = _ends_of_request(layers[0]) if layers else (None, None, None)
        self._any_source |= source is None
        self._any_destination |= destination is None
        group = self._index.setdefault((kind, source, destination), {})
        bucket = group.setdefault(_key_of_request(layers), _Bucket())
        bucket.open[number] = None
        self._requests.append(request)
        self._places.append(bucket)
        return number

    def close(self, number: int) -> None:
        """Take a request for answered: others that are like it come first from now on."""
        bucket = self._places[number]
        if number in bucket.open:
            del bucket.open[number]
            bucket.closed.append(number)

    def find(self, packet: Packet) -> int | None:
        """The number of the request that `packet` answers, None if there is none.

        Where several are alike it is the first that is not closed, and the first of all when all are.
        """
        closed = None
        for bucket in self._candidates(packet):
            for number in bucket.open:
                if packet.answers(self._requests[number]):
                    return number
            if closed is None:
                closed = next((n for n in bucket.closed if packet.answers(self._requests[n])), None)
        return closed

    def alike(self, packet: Packet) -> Iterator[int]:
        """The numbers of the requests with the addresses and the key fields of `packet`."""
        layers = _from_network(packet)
        if layers:
            bucket = self._index.get(_ends_of_request(layers[0]), {}).get(_key_of_request(layers))
            if bucket is not None:
                yield from bucket.open
                yield from bucket.closed

    def _candidates(self, packet: Packet) -> Iterator[_Bucket]:
        layers = _from_network(packet)
        if not layers:
            return
        quoting = next((i for i, header in enumerate(layers) if header.quotes), None)
        if quoting is None:
            groups = self._groups(*_ends_of_reply(layers[0]))
            key = _key_of_reply(layers)
        else:
            quoted = layers[quoting + 1 :]
            groups = self._groups(*_ends_of_request(quoted[0])) if quoted else ()
            key = _key_of_quote(quoted, packet.payload)
        for group in groups:
            if key is None:
                yield from group.values()
            else:
                for wanted in (key, _NONE) if key else (_NONE,):
                    if wanted in group:
                        yield group[wanted]

    def _groups(
        self, kind: type[Header] | None, source: Hashable, destination: Hashable
    ) -> Iterable[dict[Hashable, _Bucket]]:
        """Requests of these addresses, and of any where there are such."""
        if kind is None:
            return list(self._index.values())
        sources = [source, None] if self._any_source and source is not None else [source]
        destinations = (
            [destination, None] if self._any_destination and destination is not None else [destination]
        )
        places = ((kind, near, far) for near in sources for far in destinations)
        return [self._index[place] for place in places if place in self._index]


def _from_network(packet: Packet) -> Sequence[Header]:
    layers = packet.layers
    return next((layers[i:] for i, header in enumerate(layers) if header.is_network), ())


@cache
def _rule_of_request(cls: type[Header], rules: tuple[_Rule, ...]) -> _Rule | None:
    return next((rule for rule in rules if issubclass(cls, rule.request)), None)


def _ends_of_request(header: Header) -> tuple[type[Header] | None, Hashable, Hashable]:
    """Class, source and destination; None for an address that may be any, and for an unknown class."""
    rule = _rule_of_request(type(header), _NETWORK)
    if rule is None:
        return None, None, None
    source, destination = (getattr(header, name) for name in rule.asked)
    if rule.request is not ARP and (destination.is_multicast or destination == BROADCAST):
        destination = None
    return rule.request, None if source is AUTO else source, destination


def _ends_of_reply(header: Header) -> tuple[type[Header] | None, Hashable, Hashable]:
    """As `_ends_of_request`, of the request that this is the reply to."""
    rule = _BY_JUDGE.get(type(header).answers)
    if rule is None:
        return None, None, None
    source, destination = (getattr(header, name) for name in rule.answered)
    return rule.request, source, destination


def _key_of_request(layers: Sequence[Header]) -> tuple[Hashable, ...]:
    if len(layers) < 2:
        return _NONE
    rule = _rule_of_request(type(layers[1]), _UPPER)
    if rule is None:
        return _NONE
    return rule.request, *(getattr(layers[1], name) for name in rule.asked)


def _key_of_reply(layers: Sequence[Header]) -> tuple[Hashable, ...] | None:
    """The key of the request that this is the reply to; None: it may be any."""
    if len(layers) < 2:
        return _NONE
    judge = type(layers[1]).answers
    rule = _BY_JUDGE.get(judge)
    if rule is None:
        return _NONE if judge is Header.answers else None
    return rule.request, *(getattr(layers[1], name) for name in rule.answered)


def _key_of_quote(quoted: Sequence[Header], payload: bytes) -> tuple[Hashable, ...] | None:
    """The key of a request of which the beginning was quoted; None: it may be any."""
    upper = type(quoted[1]) if len(quoted) > 1 else quoted[0].upper_class() if quoted else None
    rule = _rule_of_request(upper, _UPPER) if upper is not None else None
    if upper is None or rule is None or upper.is_quote_of is Header.is_quote_of:
        return None
    if len(quoted) > 1:
        return rule.request, *(getattr(quoted[1], name) for name in rule.asked)
    # Of the header only the first octets came back, often 8 (RFC 792).
    bits = int.from_bytes(payload, "big")
    values = []
    for name in rule.asked:
        row = next(row for row in upper.fields if row.name == name)
        left = len(payload) * 8 - row.offset - row.width
        if left < 0:
            return None
        values.append(bits >> left & (1 << row.width) - 1)
    return rule.request, *values
