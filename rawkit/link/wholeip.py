"""What carriers share that make and read whole IP packets, for an address that the kernel does not own."""

from __future__ import annotations

from rawkit.engine.native import monotonic_ns
from rawkit.errors import HeaderError, TargetError
from rawkit.link.carrier import Carrier, Flow, Heads, Pairs, finished, ip_header, read_icmp
from rawkit.link.guard import GUARDED
from rawkit.transport.events import Path
from rawkit.wire import checksum
from rawkit.wire.fragment import Reassembler
from rawkit.wire.header import Header
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.packet import Packet

_ICMP = {4: 1, 6: 58}
_FRAGMENT = 44  # IPv6's extension header
_FIRST: dict[int, type[Header]] = {4: IPv4, 6: IPv6}


class WholeIP(Carrier):
    """A carrier that is a host of its own, with one address: `wrap` makes IP packets, `unwrap` reads them.

    Fragments are put together, ICMP errors are told as troubles; packets of other protocols, and for other
    addresses, are passed over. Nothing is ever answered but by endpoints.
    """

    silence = "an address that the kernel does not own"

    def __init__(self, local: str, number: int) -> None:
        super().__init__(local, None, number)
        if not self.local:
            raise TargetError("this carrier needs an address of its own")
        self.header_len = 20 if self.version == 4 else 40
        self._own = ip_header(self.local, self.local, number)._pack(b"", None, None)[-self._size :]
        self._pairs = Pairs()
        self._heads = Heads(self._head)
        self._reassembler = Reassembler()

    @property
    def _size(self) -> int:
        """Octets of an address."""
        return 4 if self.version == 4 else 16

    def _head(self, path: Path, ecn: int) -> bytes:
        more = {"flags": "DF", "ecn": ecn} if self.version == 4 else {"traffic_class": ecn}
        octets = bytes(ip_header(path.local, path.remote, self.number, **more))
        return octets[:2] + bytes(2) + octets[4:10] + bytes(2) + octets[12:] if self.version == 4 else octets

    def wrap(self, octets: bytes, path: Path, ecn: int) -> bytes:
        """The IP packet with these octets behind the header, lengths and checksum filled in."""
        head = self._heads.head(path, ecn)
        if self.version == 6:
            return head[:4] + len(octets).to_bytes(2, "big") + head[6:] + octets
        total = 20 + len(octets)
        value = 0xFFFF ^ checksum.add(total, head)
        return b"".join(
            (head[:2], total.to_bytes(2, "big"), head[4:10], value.to_bytes(2, "big"), head[12:], octets)
        )

    def unwrap(self, packet: bytes) -> tuple[bytes, Flow, int] | None:
        """What an IP packet brings for this carrier; None where it is nothing, or only a part.

        Whatever the octets are, it does not raise.
        """
        if len(packet) < self.header_len or packet[0] >> 4 != self.version:
            return None
        if self.version == 4:
            at, end = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
            if not 20 <= at <= end <= len(packet) or packet[16:20] != self._own:
                return None
            if checksum.add(0, packet[:at]) != 0xFFFF:
                self.lost["damaged IP header"] += 1
                return None
            if packet[6] & 0x3F or packet[7]:
                return self._assemble(packet)
            kind, addresses, ecn = packet[9], packet[12:20], packet[1] & 3
        else:
            at, end = 40, 40 + int.from_bytes(packet[4:6], "big")
            if end > len(packet) or packet[24:40] != self._own:
                return None
            kind, addresses, ecn = packet[6], packet[8:40], packet[1] >> 4 & 3
            if kind == _FRAGMENT:
                return self._assemble(packet)
        if kind == self.number:
            octets = packet[at:end]
            if kind in GUARDED:
                octets = finished(octets, addresses, kind)
            return octets, self._pairs.flow(addresses), ecn
        if kind == _ICMP[self.version]:
            trouble = read_icmp(packet[:end], self.number)
            if trouble is not None:
                self.troubles.append(trouble)
        return None

    def _assemble(self, packet: bytes) -> tuple[bytes, Flow, int] | None:
        try:
            whole = self._reassembler.feed(Packet.parse(packet, first=_FIRST[self.version]), monotonic_ns())
        except HeaderError:
            return None
        return None if whole is None else self.unwrap(bytes(whole))

    def forget(self, path: Path) -> None:
        self._heads.forget(path)
