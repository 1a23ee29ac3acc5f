"""An address of one's own on an Ethernet: whole frames, ARP and neighbour discovery included."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_interface

from rawkit.engine.batch import FrameBatch
from rawkit.engine.native import monotonic_ns
from rawkit.engine.sockets import PacketSocket
from rawkit.errors import EngineError, FieldError, HeaderError, TargetError
from rawkit.link.carrier import AT_ONCE, BUFFER_LEN, KNOWN_MAX, Flow, IPAddress, Trouble
from rawkit.link.wholeip import WholeIP
from rawkit.net import interface as find_interface
from rawkit.transport.events import Path
from rawkit.wire import (
    ARP,
    Ether,
    IPv6,
    NeighbourAdvertisement,
    NeighbourSolicitation,
    Packet,
    SourceLinkAddress,
    TargetLinkAddress,
)

_ARENA_LEN = 1 << 20
_WAIT_S = 0.005
_WAITING_MAX = 64
"""Packets that wait for one neighbour's address."""
_ASK_AGAIN_NS = 10**9  # RetransTimer of RFC 4861 section 10
_ASKED_MAX = 3
_KNOWN_NS = 60 * 10**9
"""How long a neighbour's address is believed; a packet from it renews that."""
_TYPE = {4: b"\x08\x00", 6: b"\x86\xdd"}


@dataclass(slots=True)
class _Neighbour:
    mac: bytes = b""  # empty while it is asked for
    until_ns: int = 0
    asked_ns: int = 0
    asked: int = 0
    waiting: list[tuple[bytes, Path]] = field(default_factory=list)


class L2(WholeIP):
    """A host of its own on an Ethernet interface, with the interface's MAC address and an IP address that no
    host has, written with its prefix ("192.0.2.9/24"). It answers ARP and neighbour solicitations for it.

    The kernel sees the packets too, and drops them as not its own, unless this host forwards packets.
    `gateway` is for addresses off the link.

    Raises:
        PermissionDenied: CAP_NET_RAW is missing.
        UnknownInterface: there is no such interface.
        TargetError: a bad address, or an interface without MAC addresses.
    """

    name = "packet"

    def __init__(
        self,
        interface: str,
        local: str,
        number: int = 253,
        *,
        gateway: str = "",
        buffer_len: int = BUFFER_LEN,
    ) -> None:
        try:
            own = ip_interface(local)
            self._gateway = ip_address(gateway) if gateway else None
        except ValueError as error:
            raise TargetError(str(error)) from None
        super().__init__(str(own.ip), number)
        self._network = own.network
        out = find_interface(interface)
        if out.mac is None:
            raise TargetError(f"{interface} has no MAC address")
        self.interface, self._mtu, self._mac = interface, out.mtu, bytes(out.mac)
        filter = (
            f"arp or (ip and dst host {self.local})"
            if self.version == 4
            else f"ip6 and (dst host {self.local} or (icmp6 and ip6[40] = 135))"
        )
        try:
            # Solicitations go to a multicast address, which a network card may keep from us.
            self._socket = PacketSocket(
                interface,
                filter=filter,
                ignore_outgoing=True,
                promiscuous=self.version == 6,
                buffer_len=buffer_len,
            )
        except BaseException:
            super()._close()
            raise
        self._in = FrameBatch(AT_ONCE, _ARENA_LEN)
        self._out = FrameBatch(AT_ONCE, AT_ONCE * (self._mtu + 18))
        self._queue: list[bytes] = []
        self._neighbours: dict[str, _Neighbour] = {}

    def _way(self, remote: IPAddress, local: str) -> tuple[str, int]:
        self._next_hop(remote)
        return self.local, self._mtu

    def _next_hop(self, remote: IPAddress) -> str:
        if remote in self._network:
            return str(remote)
        if self._gateway is None:
            raise EngineError(errno.ENETUNREACH, "find a way", f"to {remote}", "it is off the link: gateway=")
        return str(self._gateway)

    def descriptors(self) -> list[int]:
        return [self._socket.fileno()]

    # ---- receiving --------------------------------------------------------------------------------

    def receive(self) -> list[tuple[bytes, Flow, int]]:
        found = []
        wanted = _TYPE[self.version]
        if self._socket.receive(self._in, 0):
            for frame in self._in:
                if frame[12:14] == wanted:
                    arrived = self.unwrap(frame[14:])
                    if arrived is not None:
                        found.append(arrived)
                        self._renew(arrived[1].remote, frame[6:12])
                    elif self.version == 6 and len(frame) > 54 and frame[54] in (135, 136):
                        self._hear(frame)
                elif frame[12:14] == b"\x08\x06":
                    self._hear(frame)
        return found

    def _renew(self, address: str, mac: bytes) -> None:
        known = self._neighbours.get(address)
        if known is not None and known.mac == mac:
            known.until_ns = monotonic_ns() + _KNOWN_NS

    def _hear(self, frame: bytes) -> None:
        """ARP, or neighbour discovery: learn from it, answer it."""
        try:
            packet = Packet.parse(frame)
            asked = packet.get(ARP) or packet.get(NeighbourSolicitation)
            if isinstance(asked, ARP):
                if str(asked.target_ip) == self.local:
                    self._learn(str(asked.sender_ip), bytes(asked.sender_mac), asks=asked.op == ARP.REQUEST)
            elif asked is not None and asked.target == IPv6Address(self.local):
                for option in asked.options:
                    if isinstance(option, SourceLinkAddress):
                        self._learn(str(packet[IPv6].src), bytes(option.address), asks=True)
            elif (told := packet.get(NeighbourAdvertisement)) is not None and packet[IPv6].hop_limit == 255:
                for option in told.options:
                    if isinstance(option, TargetLinkAddress) and str(told.target) in self._neighbours:
                        self._learn(str(told.target), bytes(option.address), asks=False)
        except (HeaderError, FieldError):
            return

    def _learn(self, address: str, mac: bytes, *, asks: bool) -> None:
        if len(self._neighbours) >= KNOWN_MAX:
            self._neighbours.clear()
        neighbour = self._neighbours.setdefault(address, _Neighbour())
        neighbour.mac, neighbour.asked = mac, 0
        neighbour.until_ns = monotonic_ns() + _KNOWN_NS
        if asks:
            self._queue.append(self._answer(address, mac))
        self._queue += [mac + self._mac + _TYPE[self.version] + packet for packet, _ in neighbour.waiting]
        neighbour.waiting.clear()
        self.flush()

    def _answer(self, address: str, mac: bytes) -> bytes:
        if self.version == 4:
            return bytes(
                Ether(dst=mac, src=self._mac)
                / ARP(op=2, sender_mac=self._mac, sender_ip=self.local, target_mac=mac, target_ip=address)
            )
        told = NeighbourAdvertisement(
            flags="SOLICITED OVERRIDE", target=self.local, options=[TargetLinkAddress(address=self._mac)]
        )
        return bytes(Ether(dst=mac, src=self._mac) / IPv6(src=self.local, dst=address, hop_limit=255) / told)

    # ---- sending ----------------------------------------------------------------------------------

    def send(self, octets: bytes, path: Path, ecn: int) -> None:
        hop = self._next_hop(ip_address(path.remote)) if path.remote not in self._neighbours else path.remote
        neighbour = self._neighbours.setdefault(hop, _Neighbour())
        packet = self.wrap(octets, path, ecn)
        if neighbour.mac:
            self._queue.append(neighbour.mac + self._mac + _TYPE[self.version] + packet)
            if monotonic_ns() > neighbour.until_ns:
                self._ask(hop, neighbour, path)
        elif len(neighbour.waiting) < _WAITING_MAX:
            neighbour.waiting.append((packet, path))
            self._ask(hop, neighbour, path)
        else:
            self.lost["neighbour unknown"] += 1

    def _ask(self, hop: str, neighbour: _Neighbour, path: Path) -> None:
        now = monotonic_ns()
        if neighbour.asked and now - neighbour.asked_ns < _ASK_AGAIN_NS:
            return
        if neighbour.asked >= _ASKED_MAX:
            self._give_up(hop, neighbour)
            return
        neighbour.asked += 1
        neighbour.asked_ns = now
        if self.version == 4:
            question = Ether(dst="ff:ff:ff:ff:ff:ff", src=self._mac) / ARP(
                sender_mac=self._mac, sender_ip=self.local, target_ip=hop
            )
        else:
            # The solicited-node multicast address (RFC 4291 section 2.7.1), and its MAC address (RFC 2464).
            low = IPv6Address(hop).packed[13:]
            group = IPv6Address(bytes.fromhex("ff0200000000000000000001ff") + low)
            question = (
                Ether(dst=b"\x33\x33\xff" + low, src=self._mac)
                / IPv6(src=self.local, dst=group, hop_limit=255)
                / NeighbourSolicitation(target=hop, options=[SourceLinkAddress(address=self._mac)])
            )
        self._queue.append(bytes(question))

    def _give_up(self, hop: str, neighbour: _Neighbour) -> None:
        self.lost["neighbour unknown"] += len(neighbour.waiting)
        for path in {id(path): path for _, path in neighbour.waiting}.values():
            flow = Flow(path.local, path.local_port, path.remote, path.remote_port)
            self.troubles.append(Trouble(flow, b"", "host unreachable: no answer for its link address"))
        del self._neighbours[hop]

    def flush(self) -> None:
        queue, self._queue = self._queue, []
        for at in range(0, len(queue), AT_ONCE):
            self._send_out(queue[at : at + AT_ONCE])

    def _send_out(self, frames: list[bytes]) -> None:
        batch = self._out
        batch.clear()
        batch.extend(frames)
        first = 0
        while first < len(frames):
            try:
                sent = self._socket.send_batch(batch, first, timeout=_WAIT_S)
            except EngineError as error:
                self.lost[os.strerror(error.errno or errno.EIO)] += 1
                sent = 1
            else:
                if sent == 0:
                    self.lost["send buffer full"] += len(frames) - first
                    return
            first += sent

    def count_overflow(self) -> None:
        self.lost["overflow"] = self._socket.counters().dropped

    def _close(self) -> None:
        self._socket.close()
        super()._close()
