"""The link addresses of many neighbours at once: ARP (RFC 826) and neighbour discovery (RFC 4861).

A prefix on the link may have thousands of addresses that nobody has. The kernel would look for each of them
with a packet in hand, and its queues for those would fill up; asking here takes all of them at the same time.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from ipaddress import IPv4Address, IPv6Address

from rawkit.addr import MAC, IPAddress
from rawkit.clock import Clock
from rawkit.engine import FrameBatch, PacketSocket
from rawkit.tools.scan.config import RUN_MAX
from rawkit.tools.scan.pace import RatePace
from rawkit.tools.scan.waiting import Wait, blocking
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

_RATE_MAX = 5000.0  # questions per second: each is a broadcast, and every host has to look at it
_WAIT_MAX_NS = 300_000_000
_ROUNDS_MAX = 3  # as the kernel has it (net.ipv4.neigh.*.mcast_solicit)
_BUFFER_LEN = 4 << 20
_INBOX_N = 256


class NeighbourFinder:
    """Asks on one Ethernet interface, from an address of this host on it. Close it when done."""

    def __init__(self, ifindex: int, mac: MAC, source: IPAddress) -> None:
        self.asked = 0
        """How many questions were sent."""
        self._mac = mac
        self._source = source
        # For one EtherType the socket hears what comes in, not the questions that go out.
        protocol, filter = (
            (0x0806, "arp[6:2] == 2") if source.version == 4 else (0x86DD, "icmp6 and ip6[40] == 136")
        )
        self._sock = PacketSocket(ifindex, protocol=protocol, filter=filter, buffer_len=_BUFFER_LEN)
        self._outbox = FrameBatch(RUN_MAX, RUN_MAX * 128)
        self._inbox = FrameBatch(_INBOX_N)

    def close(self) -> None:
        self._sock.close()

    def find(
        self, addresses: Sequence[IPAddress], clock: Clock, rate: float | None, retries: int, timeout_ns: int
    ) -> dict[IPAddress, MAC]:
        """As `steps`, waiting in this thread."""
        return blocking(self.steps(addresses, clock, rate, retries, timeout_ns))

    def steps(
        self, addresses: Sequence[IPAddress], clock: Clock, rate: float | None, retries: int, timeout_ns: int
    ) -> Generator[Wait, None, dict[IPAddress, MAC]]:
        """The MAC addresses of those that answer.

        `rate` in questions per second, `retries` and `timeout_ns` are used as far as they make sense on a
        link: 5000 a second, three rounds, 300 ms after each.
        """
        wanted = {address.packed: address for address in addresses}
        found: dict[IPAddress, MAC] = {}
        pace = RatePace(min(rate or _RATE_MAX, _RATE_MAX))
        for _ in range(min(retries + 1, _ROUNDS_MAX)):
            missing = [address for address in addresses if address not in found]
            asked = 0
            last_ns = clock.now_ns()
            while len(found) < len(wanted):
                now_ns = clock.now_ns()
                over = False
                if asked < len(missing):
                    part = missing[asked : asked + min(pace.allowed(now_ns), RUN_MAX)]
                    wait_until_ns = now_ns if part else pace.due_ns()
                    if part:
                        self._outbox.clear()
                        self._outbox.extend(map(self._question, part))
                        sent = self._sock.send_batch(self._outbox, timeout=5.0)
                        pace.sent(sent, now_ns)
                        asked += sent
                        self.asked += sent
                        last_ns = now_ns
                else:
                    wait_until_ns = last_ns + min(timeout_ns, _WAIT_MAX_NS)
                    over = now_ns >= wait_until_ns  # but for what has arrived, unseen so far
                yield Wait((self._sock.fileno(),), max(0, wait_until_ns - now_ns) / 1e9)
                if self._sock.receive(self._inbox, 0):
                    for octets in self._inbox:
                        packed, mac = _answer(Packet.parse(octets))
                        if packed in wanted:
                            found.setdefault(wanted[packed], mac)
                if over:
                    break
        return found

    def _question(self, address: IPAddress) -> bytes:
        if isinstance(address, IPv4Address):
            return bytes(
                Ether(src=self._mac)
                / ARP(sender_mac=self._mac, sender_ip=self._source.packed, target_ip=address)
            )
        # The solicited-node multicast address (RFC 4291 section 2.7.1), and its MAC address (RFC 2464
        # section 7).
        group = IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | int(address) & 0xFFFFFF)
        return bytes(
            Ether(dst=MAC(b"\x33\x33" + group.packed[-4:]), src=self._mac)
            / IPv6(src=IPv6Address(int(self._source)), dst=group, hop_limit=255)
            / NeighbourSolicitation(
                target=IPv6Address(int(address)), options=[SourceLinkAddress(address=self._mac)]
            )
        )


def _answer(packet: Packet) -> tuple[bytes, MAC]:
    """Whose link address a packet tells, and that address; (b"", ...) for none."""
    if arp := packet.get(ARP):
        return arp.sender_ip.packed, arp.sender_mac
    advertisement = packet.get(NeighbourAdvertisement)
    if advertisement is None:
        return b"", MAC(0)
    for option in advertisement.options:
        if isinstance(option, TargetLinkAddress):
            return advertisement.target.packed, option.address
    return advertisement.target.packed, packet[Ether].src
