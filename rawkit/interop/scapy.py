"""scapy: packets both ways, and sockets that let scapy's own functions send and receive through rawkit."""

from __future__ import annotations

import errno
import functools
import select as system_select
import time
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple

from rawkit.engine import FrameBatch, PacketSocket, RawIPSocket
from rawkit.errors import EngineError, FilterError, RawkitError
from rawkit.wire import (
    ARP,
    ICMP,
    TCP,
    UDP,
    Dot1AD,
    Dot1Q,
    Ether,
    Frame,
    Header,
    ICMPv6,
    IPv4,
    IPv6,
    IPv6Fragment,
    Packet,
)
from rawkit.wire.packet import first_header

BUFFER_LEN = 4 << 20
"""Octets of kernel buffer that a socket asks for: scapy dissects slowly and frames come in bursts."""

_ETHERNET = 1


# ---- packets ----------------------------------------------------------------------------------------


@functools.cache
def _classes() -> list[tuple[type[Header], Any]]:
    """Which class of scapy stands for which header; derived classes before their bases."""
    from scapy.layers import inet, inet6, l2

    return [
        (Ether, l2.Ether),
        (Ether, l2.Dot3),
        (Dot1AD, l2.Dot1AD),
        (Dot1Q, l2.Dot1Q),
        (ARP, l2.ARP),
        (IPv4, inet.IP),
        (IPv6, inet6.IPv6),
        (IPv6Fragment, inet6.IPv6ExtHdrFragment),
        (ICMP, inet.ICMP),
        (ICMPv6, inet6._ICMPv6),
        (TCP, inet.TCP),
        (UDP, inet.UDP),
    ]


def to_scapy(packet: Packet | Header | Frame) -> Any:
    """The packet as scapy dissects it, with the same octets.

    A `Frame` leaves its time (exact, as scapy's decimal number), its length on the wire and its interface in
    `time`, `wirelen` and `sniffed_on`. Octets that scapy would change when it builds them again, and headers
    it does not know, are in a `Raw`.
    """
    if isinstance(packet, Frame):
        from scapy.config import conf

        first = first_header(packet.linktype, packet.data)
        theirs = _scapy_class(first, packet.data) if first else None
        theirs = theirs or conf.l2types.num2layer.get(packet.linktype)
        found = _dissect(theirs, packet.data)
        if packet.time_ns:
            found.time = _seconds(packet.time_ns)
        found.wirelen = packet.wire_len
        found.sniffed_on = packet.interface or None
        return found
    octets = bytes(packet)
    layers = (packet,) if isinstance(packet, Header) else packet.layers
    return _dissect(_scapy_class(type(layers[0]), octets) if layers else None, octets)


def _scapy_class(first: type[Header], octets: bytes) -> Any:
    if issubclass(first, ICMPv6):
        from scapy.layers import inet6

        # scapy has a class for each type and none that chooses among them.
        name = inet6.icmp6typescls.get(octets[0], "ICMPv6Unknown") if octets else "ICMPv6Unknown"
        return getattr(inet6, name) if isinstance(name, str) else name
    return next((theirs for ours, theirs in _classes() if issubclass(first, ours)), None)


def _dissect(theirs: Any, octets: bytes) -> Any:
    from scapy.packet import Raw

    if theirs is not None:
        # What a first layer's fields make of hostile octets is any exception.
        try:
            packet = theirs(octets)
            if bytes(packet) == octets:
                return packet
        except Exception:
            pass
    return Raw(octets)


def from_scapy(packet: Any) -> Packet:
    """A rawkit packet with the octets that scapy builds.

    Of a packet that starts with a layer rawkit has no header for, the octets are payload.
    """
    first = next((ours for ours, theirs in _classes() if isinstance(packet, theirs)), None)
    return Packet.parse(bytes(packet), first=first)


def _seconds(time_ns: int) -> Any:
    from scapy.utils import EDecimal

    return EDecimal(f"{time_ns}e-9")


# ---- sockets ----------------------------------------------------------------------------------------


class Sockets(NamedTuple):
    """scapy socket classes over rawkit's engine, for `conf.L2socket`, `conf.L2listen` and `conf.L3socket`."""

    L2socket: Any
    L2listen: Any
    L3socket: Any


@functools.cache
def sockets() -> Sockets:
    """The classes that `use_rawkit` puts in place; by hand, they are for `opened_socket=` and `socket=`."""
    # It makes interfaces known, and puts scapy's own sockets into conf: before ours, not later.
    import scapy.arch
    import scapy.route
    import scapy.route6  # noqa: F401
    from scapy.supersocket import SuperSocket

    class RawkitL2Socket(_Layer2, SuperSocket):  # type: ignore[misc]
        desc = "read/write frames through rawkit's packet sockets"

    class RawkitL2ListenSocket(_Listen, SuperSocket):  # type: ignore[misc]
        desc = "read frames through rawkit's packet sockets, outgoing ones too"

    class RawkitL3Socket(_Layer3, SuperSocket):  # type: ignore[misc]
        desc = "read/write packets at layer 3 through rawkit's sockets"

    return Sockets(RawkitL2Socket, RawkitL2ListenSocket, RawkitL3Socket)


class Restore:
    """Gives scapy its own sockets back, when it is called or as the end of a `with` block."""

    def __init__(self, saved: list[tuple[Any, str, Any]]) -> None:
        self._saved = saved

    def __call__(self) -> None:
        while self._saved:
            place, name, value = self._saved.pop()
            setattr(place, name, value)

    def __enter__(self) -> Restore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self()


def use_rawkit() -> Restore:
    """Let scapy's functions (`sr1`, `srp`, `sniff`, `sendp`, `AsyncSniffer`, ...) use rawkit's sockets.

    It holds at once and for good, or, as `with use_rawkit(): ...`, for the length of the block; the object
    that comes back restores what was there before. Received packets have the kernel's time to the nanosecond.
    Existing sockets are not touched.
    """
    ours = sockets()
    from scapy.config import conf
    from scapy.interfaces import InterfaceProvider

    def l3socket(provider: Any, interface: Any, ipv6: bool) -> Any:
        return conf.L3socket6 if ipv6 else conf.L3socket

    changes = [
        (conf, "L2socket", ours.L2socket),
        (conf, "L2listen", ours.L2listen),
        (conf, "L3socket", ours.L3socket),
        (conf, "L3socket6", functools.partial(ours.L3socket, filter="ip6")),
        # On the loopback scapy does not ask conf but takes a socket of its own.
        (InterfaceProvider, "_l3socket", l3socket),
    ]
    saved = [(place, name, getattr(place, name)) for place, name, _ in changes]
    for place, name, value in changes:
        setattr(place, name, value)
    return Restore(saved)


class _Layer2:
    """Frames of one interface, received a batch at a time and handed out one by one.

    The methods and attributes are those of scapy's SuperSocket, from which the classes in use also derive.
    """

    _ignore_outgoing = True
    _sends = True
    iface: Any
    closed: bool

    def __init__(
        self,
        iface: Any = None,
        type: int | None = None,
        promisc: bool | None = None,
        filter: str | None = None,
        nofilter: bool = False,
        monitor: bool | None = None,
    ) -> None:
        """As scapy's sockets; `type` is an EtherType, None (scapy: ETH_P_ALL) for all.

        Raises:
            Scapy_Exception: the filter does not compile, or monitor mode is asked for.
            RawkitError: as `PacketSocket`.
        """
        from scapy.config import conf
        from scapy.error import Scapy_Exception
        from scapy.interfaces import network_name
        from scapy.layers.l2 import Ether as ScapyEther
        from scapy.utils import EDecimal

        self.closed = True  # until it is open: scapy closes whatever is deleted
        if monitor:
            raise Scapy_Exception("rawkit's sockets do not switch interfaces to monitor mode")
        if not nofilter and conf.except_filter:
            filter = f"({filter}) and not ({conf.except_filter})" if filter else f"not ({conf.except_filter})"
        self.iface = network_name(iface or conf.iface)
        self.promisc = conf.sniff_promisc if promisc is None else promisc
        options: dict[str, Any] = {
            "protocol": 3 if type is None else type,
            "filter": None if nofilter else filter or None,
            "promiscuous": bool(self.promisc),
            "ignore_outgoing": self._ignore_outgoing,
            "buffer_len": max(BUFFER_LEN, conf.bufsize),
        }
        try:
            self.ins = _open(self.iface, options)
        except FilterError as error:
            raise Scapy_Exception(f"Cannot set filter: {error}") from error
        # A socket that only sends has less to do for a frame.
        self.outs: Any = _open(self.iface, {"protocol": 0}) if self._sends else None
        self.closed = False
        self._batch = FrameBatch(256, 1 << 20)
        self._waiting: deque[tuple[bytes, Any]] = deque()
        self._ethernet = ScapyEther if self.ins.linktype == _ETHERNET else None
        self._decimal = EDecimal
        self._polled = False

    def fileno(self) -> int:
        """The descriptor to poll; -1 once closed, as with Python's sockets."""
        return -1 if self.closed else self.ins.fileno()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.ins.close()
            if self.outs is not None:
                self.outs.close()

    @staticmethod
    def select(sockets: list[Any], remain: float | None = None) -> list[Any]:
        """Those of the sockets (and scapy's control pipes) that have something, within `remain` seconds."""
        present = list(sockets)
        for own in sockets:
            if isinstance(own, _Layer3):  # with those it opened for other interfaces
                present += own._others.values()
        ready = [sock for sock in present if isinstance(sock, _Layer2) and sock._waiting]
        if not ready:
            # A socket that another thread closes meanwhile has no descriptor any more.
            polled = [sock for sock in present if sock.fileno() != -1]
            ready = system_select.select(polled, [], [], remain)[0]
            for sock in ready:
                if isinstance(sock, _Layer2):
                    sock._polled = True
        return ready

    def recv_raw(self, x: int = 0xFFFF) -> tuple[Any, bytes | None, Any]:
        """Class, octets (x at most) and time of the next frame; waits for one, unless `select` was asked.

        Three times None when what `select` had seen was for nobody.
        """
        if not self._waiting:
            batch = self._batch
            wait = 0.0 if self._polled else None
            self._polled = False
            if self.ins.receive(batch, wait):
                self._waiting.extend(zip(list(batch), [place[0] for place in batch.places()]))
        if not self._waiting:
            return None, None, None
        octets, time_ns = self._waiting.popleft()
        return self._ethernet or self._class_of(octets), octets[:x], self._decimal(f"{time_ns}e-9")

    def _class_of(self, octets: bytes) -> Any:
        from scapy.config import conf

        first = first_header(self.ins.linktype, octets)
        return _scapy_class(first, octets) if first else conf.raw_layer

    def send(self, x: Any) -> int:
        """Send a scapy packet, or bytes; returns how many octets went out."""
        octets = bytes(x)
        if octets is not x:
            with suppress(AttributeError):  # of other buffers
                x.sent_time = time.time()
        return self._send(octets)

    def _send(self, octets: bytes) -> int:
        try:
            self.outs.send(octets)
        except EngineError as error:
            from scapy.config import conf

            # Some drivers refuse frames shorter than the least Ethernet allows.
            if error.errno != errno.EINVAL or len(octets) >= conf.min_pkt_size:
                raise
            octets = octets.ljust(conf.min_pkt_size, b"\0")
            self.outs.send(octets)
        return len(octets)


class _Listen(_Layer2):
    _ignore_outgoing = False
    _sends = False

    def send(self, x: Any) -> int:
        from scapy.error import Scapy_Exception

        raise Scapy_Exception("Can't send anything with a listening socket")


class _Layer3(_Layer2):
    """Packets without link header, sent out of the interface that scapy's routing table says.

    Elsewhere than on the loopback they go out octet for octet, over a packet socket. The kernel takes in
    nothing that is sent so on the loopback; there they go over a raw IP socket.
    """

    def __init__(self, *args: Any, **kargs: Any) -> None:
        from scapy.config import conf

        self._options = kargs
        self._others: dict[str, _Layer3] = {}
        self._raw: dict[int, RawIPSocket] = {}
        super().__init__(*args, **kargs)
        self._loopback = self.iface == conf.loopback_name

    def close(self) -> None:
        for other in self._others.values():
            other.close()
        for raw in self._raw.values():
            raw.close()
        super().close()

    def recv(self, x: int = 0xFFFF, **kargs: Any) -> Any:
        """The next packet without its link header, None where `recv_raw` gives none."""
        packet = super().recv(x, **kargs)  # type: ignore[misc]  # SuperSocket's
        if packet and self._ethernet:
            packet.payload.time = packet.time
            return packet.payload
        return packet

    def send(self, x: Any) -> int:
        from scapy.config import conf
        from scapy.interfaces import network_name

        out = network_name(x.route()[0] or conf.iface)
        if out == self.iface:
            return self._send_here(x)
        if out not in self._others:
            self._others[out] = type(self)(**{**self._options, "iface": out})
        return self._others[out]._send_here(x)

    def _send_here(self, packet: Any) -> int:
        from scapy.config import conf

        try:
            return self._send_packet(packet)
        except EngineError as error:
            if error.errno != errno.EMSGSIZE or not conf.auto_fragment:
                raise
            return sum(self._send_packet(piece) for piece in packet.fragment())

    def _send_packet(self, packet: Any) -> int:
        if self._loopback:
            octets = bytes(packet)
            self._raw_socket(octets[0] >> 4 if octets else 0).send(octets)
            packet.sent_time = time.time()
            return len(octets)
        # scapy finds out the next hop's address while it builds the Ethernet header.
        octets = bytes(self._ethernet() / packet if self._ethernet else packet)
        packet.sent_time = time.time()
        return self._send(octets)

    def _raw_socket(self, version: int) -> RawIPSocket:
        if version not in (4, 6):
            raise ValueError(f"cannot send on the loopback: the packet starts with IP version {version}")
        if version not in self._raw:
            self._raw[version] = RawIPSocket(version, 255)
        return self._raw[version]


def _open(interface: str, options: dict[str, Any]) -> PacketSocket:
    try:
        return PacketSocket(interface, **options)
    except RawkitError as error:
        if type(error) is not RawkitError:
            raise
        # A link layer that rawkit cannot name: the kernel takes its header off.
        return PacketSocket(interface, cooked=True, **options)
