"""Send one packet, and wait for the one that answers it.

A packet that starts with an IP header goes out over a raw IP socket: the kernel finds the route and the
next hop's link address. One that starts with a link header goes out as it is on an interface. Answers are
recognised by `Packet.answers`: replies of the protocols rawkit knows, and ICMP errors that quote the request.

The kernel is a party to this. It does not know of a connection that a packet of ours opens, and answers a
SYN-ACK with a RST of its own after the SYN-ACK was handed to us: exchanges work, but a handshake needs a
socket that holds the port, or an address that is not the kernel's. On a raw IP socket the kernel also fills
in the total length and the header checksum of IPv4, and the identification where it is 0; to send those
wrong, start with `Ether`.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from rawkit.addr import IPAddress
from rawkit.engine.batch import KERNEL_TIME, FrameBatch
from rawkit.engine.filter import Filter, Instruction
from rawkit.engine.native import deadline, monotonic_ns
from rawkit.engine.sockets import ETH_P_ALL, PacketSocket, RawIPSocket
from rawkit.errors import TargetError
from rawkit.net import Route, route
from rawkit.net import interface as find_interface
from rawkit.tools.roundtrip import Moment, round_trip
from rawkit.wire.field import AUTO
from rawkit.wire.header import LINKTYPES, Header
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.packet import Packet, first_header

LINKTYPE_IPV4, LINKTYPE_IPV6 = 228, 229
IPPROTO_RAW = 255
"""A raw IP socket that only sends, whole packets with their own header."""


class Answer(Packet):
    """A packet that answers `request` (the packet as it was sent).

    `rtt_ns` is the time between the two, `stamp` says who took the time of its arrival ("kernel" or
    "user"), `time_ns` is that time (since 1970).
    """

    __slots__ = ("request", "rtt_ns", "stamp", "time_ns")
    request: Packet
    rtt_ns: int
    stamp: str
    time_ns: int


@dataclass(frozen=True)
class Departure:
    """A packet ready to go: source address filled in, octets built, and where it leaves.

    `linktype` is the LINKTYPE_ number of the octets, `interface` and `ifindex` the interface ("" and 0:
    the kernel chooses by its routing table).
    """

    packet: Packet
    octets: bytes
    interface: str
    ifindex: int
    linktype: int

    @property
    def is_ip(self) -> bool:
        """Whether there is no link header."""
        return self.linktype in (LINKTYPE_IPV4, LINKTYPE_IPV6)


def prepare(packet: Packet | Header, interface: str | None = None) -> Departure:
    """Find the way out for a packet, fill in a source address left at `AUTO`, and build it.

    Raises: `TargetError` for a packet that cannot be sent, `NoRoute`, `UnknownInterface`, `FieldError`.
    """
    if isinstance(packet, Header):
        packet = Packet([packet])
    first = packet.layers[0] if packet.layers else None
    linktype = next((number for number, cls in LINKTYPES.items() if isinstance(first, cls)), None)
    if first is None or linktype is None:
        raise TargetError(
            f"cannot send a packet that starts with {type(first).__name__ if first else 'its payload'}: "
            "it needs an IP or link header first"
        )
    is_ip = isinstance(first, (IPv4, IPv6))
    ip = next((layer for layer in packet.layers if isinstance(layer, (IPv4, IPv6))), None)
    way: Route | None = None
    if ip is not None and (ip.src is AUTO or (interface is None and not is_ip)):
        way = route(ip.dst, interface)
        if ip.src is AUTO:
            if way.source is None:
                raise TargetError(f"no source address for {ip.dst}: {way.interface} has none; give src=")
            packet = packet.replace(type(ip), src=way.source.packed)
    if interface is not None:
        link = find_interface(interface)
        name, ifindex, link_linktype = link.name, link.index, link.linktype
    elif is_ip:
        name, ifindex, link_linktype = "", 0, linktype
    elif way is not None:
        name, ifindex, link_linktype = way.interface, way.ifindex, way.linktype
    else:
        raise TargetError("cannot tell on which interface to send: name one")
    if not is_ip and link_linktype != linktype:
        raise TargetError(
            f"cannot send a packet that starts with {type(first).__name__} on {name}: its frames are of "
            f"link type {link_linktype}, not {linktype}"
        )
    return Departure(packet, bytes(packet), name, ifindex, linktype)


def send(packet: Packet | Header, *, interface: str | None = None) -> Packet:
    """Send a packet once; returns it as it was sent, with its source address.

    `interface` names the interface to send on. Without it the route to the destination decides.

    Raises: as `prepare`; `PermissionDenied`; `EngineError` with the kernel's reason.
    """
    departure = prepare(packet, interface)
    transmit(departure)
    return departure.packet


def exchange(packet: Packet | Header, *, timeout: float = 1.0, interface: str | None = None) -> Answer | None:
    """Send a packet and return the first that answers it; None when none came within `timeout` seconds.

        answer = rawkit.exchange(IPv4(dst="192.0.2.1") / TCP(sport=40000, dport=80, flags="S"))
        if answer is not None and TCP in answer: ...

    ICMP errors that quote the request are answers too. Listening begins before the packet is sent. Where
    no interface is named, answers to an IP packet are heard on all of them: they need not come the way the
    request went, and this host's own "host unreachable" comes over the loopback.

    Raises: as `send`.
    """
    with Exchange(prepare(packet, interface)) as session:
        session.send(timeout)
        return session.answer(timeout)


def transmit(departure: Departure) -> None:
    """Send what was prepared; see `send`."""
    with _sender(departure) as sender:
        sender.send(departure.octets, ifindex=departure.ifindex)


class Exchange:
    """Sockets that send a prepared packet and hear its answer, once or several times; see `exchange`.

    What arrives is heard from the moment the object is made. Use it in a `with` block, or call `close`.
    """

    def __init__(self, departure: Departure) -> None:
        self.departure = departure
        self._batch = FrameBatch(64, 1 << 18)
        self._sent = Moment.now()
        with ExitStack() as stack:
            self._receiver = stack.enter_context(_receiver(departure))
            self._sender = stack.enter_context(_sender(departure))
            self._opened = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets."""
        self._opened.close()

    def send(self, timeout: float | None = None) -> Moment:
        """Send the packet, and return when; answers to earlier ones that nobody asked for are forgotten."""
        give_up_ns = deadline(0.01)  # where more comes all the time, it never ends
        while self._receiver.receive(self._batch, 0) and monotonic_ns() < give_up_ns:
            pass
        self._sent = Moment.now()
        self._sender.send(self.departure.octets, timeout, ifindex=self.departure.ifindex)
        return self._sent

    def answer(self, timeout: float) -> Answer | None:
        """The first answer to the packet sent last; None when none comes within `timeout` seconds."""
        end_ns = deadline(timeout)
        while self._receiver.receive(self._batch, max(end_ns - monotonic_ns(), 0) / 1e9):
            seen = Moment.now()
            for record, octets in zip(self._batch.records(), self._batch):
                answer = _recognise(self.departure, octets)
                if answer is None:
                    continue
                stamp_ns = record.time_ns if record.flags & KERNEL_TIME else None
                answer.request = self.departure.packet
                answer.rtt_ns, answer.stamp = round_trip(self._sent, seen, stamp_ns)
                answer.time_ns = seen.realtime_ns if stamp_ns is None else stamp_ns
                return answer
        return None


def _sender(departure: Departure) -> RawIPSocket | PacketSocket:
    if not departure.is_ip:
        return PacketSocket(departure.ifindex, protocol=0)
    family = 4 if departure.linktype == LINKTYPE_IPV4 else 6
    return RawIPSocket(family, IPPROTO_RAW, interface=departure.ifindex or None)


def _receiver(departure: Departure) -> PacketSocket:
    # What goes out is not wanted; on the loopback it comes in as well, and so does the answer.
    if not departure.is_ip:
        return PacketSocket(departure.ifindex, protocol=ETH_P_ALL, ignore_outgoing=True)
    return PacketSocket(
        departure.ifindex or None,
        cooked=True,
        protocol=0x0800 if departure.linktype == LINKTYPE_IPV4 else 0x86DD,
        filter=_addressed_to(departure.packet.layers[0].src),  # type: ignore[attr-defined]
        ignore_outgoing=True,
    )


def _addressed_to(address: IPAddress) -> Filter | None:
    """A filter for IP packets to an address, so that a busy host's other traffic is not copied to us."""
    if address.is_unspecified:
        return None
    packed = address.packed
    start = 16 if len(packed) == 4 else 24  # where the destination is in the header
    words = len(packed) // 4
    program = []
    for i in range(words):
        load, jump_if_equal = 0x20, 0x15
        word = int.from_bytes(packed[4 * i : 4 * i + 4], "big")
        program.append(Instruction(load, 0, 0, start + 4 * i))
        program.append(Instruction(jump_if_equal, 0, 2 * (words - i) - 1, word))
    give = 0x06
    program += [Instruction(give, 0, 0, 0x40000), Instruction(give, 0, 0, 0)]
    return Filter(f"ip dst {address}", 101, 0x40000, program)


def _recognise(departure: Departure, octets: bytes) -> Answer | None:
    """The packet in these octets if it answers what was sent."""
    if _is_copy(octets, departure):
        return None
    answer = Answer.parse(octets, first_header(departure.linktype, octets))
    assert isinstance(answer, Answer)
    return answer if answer.answers(departure.packet) else None


def _is_copy(octets: bytes, departure: Departure) -> bool:
    """Whether this is the request, come in over the loopback: between equal ports it looks like an answer."""
    sent = departure.octets
    if not departure.is_ip:
        return octets == sent
    # The kernel may have changed the IP header, but neither the addresses nor what follows.
    if departure.linktype == LINKTYPE_IPV4:
        return octets[12:20] == sent[12:20] and octets[octets[0] % 16 * 4 :] == sent[sent[0] % 16 * 4 :]
    return octets[8:] == sent[8:]
