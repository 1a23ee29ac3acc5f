"""Replay of one side of a capture: do the answers of whoever plays the other come as they are in the file?

The clients' frames are sent, and the servers' are waited for and compared, field by field. Frames follow each
other as in the file, but no client's goes before the answers that its flow had until then. What another run
has to have of its own is adjusted on the way out: acknowledgement numbers and echoed time stamps of TCP.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from rawkit.engine import FrameBatch, PacketSocket, monotonic_ns
from rawkit.errors import EngineError, RawkitError
from rawkit.tools.flowsides import CLIENT, Ends, ends_of
from rawkit.tools.replay import failure_text
from rawkit.tools.replayplan import ETHERNET, Plan, ReplayConfig, cut_frame
from rawkit.transport.ranges import RangeSet
from rawkit.transport.seqspace import SeqSpace
from rawkit.wire.arp import ARP
from rawkit.wire.edit import FieldDifference, diff
from rawkit.wire.ethernet import Ether
from rawkit.wire.field import AUTO
from rawkit.wire.frame import Frame
from rawkit.wire.icmpv6 import NeighbourAdvertisement, NeighbourSolicitation, TargetLinkAddress
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.packet import Packet
from rawkit.wire.tcp import TCP, Timestamps

IGNORED = ("Ether.dst", "Ether.src", "IPv4.id", "IPv6.flow_label", "TCP.window", "trailer")
"""Fields that another run may have otherwise, besides checksums, which have to be as good as before."""

_SEQ = SeqSpace(32)

Key = tuple[int, bytes, bytes, int, int]
"""A flow: protocol, the client's address and the server's, and their ports."""


@dataclass
class Mismatch:
    """An answer that is not what it was.

    `number` counts the packets of the file from 1; 0 for an answer that nothing in the file stands for.
    `kind` is "differs", "missing" or "unexpected".
    """

    number: int
    kind: str
    summary: str
    differences: list[str] = field(default_factory=list)


@dataclass
class ExpectReport:
    """What became of it: of `expected` answers `matched` came as they were.

    `failed` and `skipped` are what could not be sent, by cause; `other` packets belonged to no flow of the
    file. `own_addresses` of clients are this host's: its kernel answers as well, and resets connections.
    """

    interface: str
    sent: int = 0
    expected: int = 0
    matched: int = 0
    other: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    own_addresses: list[str] = field(default_factory=list)
    mismatches: list[Mismatch] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether everything was sent, and all answers came as they were, and no others."""
        return not (self.mismatches or self.failed or self.skipped)

    def to_dict(self) -> dict[str, object]:
        """As plain values, without the single mismatches."""
        names = (
            "interface", "sent", "expected", "matched", "other", "failed", "skipped", "own_addresses",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names} | {"mismatched": len(self.mismatches)}


@dataclass(eq=False)
class _Answer:
    """One that is waited for."""

    number: int
    packet: Packet
    due_ns: int


class _Flow:
    """What is waited for in a flow, and how its numbers differ from the file's."""

    def __init__(self) -> None:
        self.waiting: deque[_Answer] = deque()
        self.early: deque[Packet] = deque()
        """What came and is not, or not yet, what is waited for."""
        self.shift: int | None = None
        """What the server's sequence numbers are more than in the file."""
        self.stamps: dict[int, int] = {}
        """The server's time stamps, by those of the file."""
        self._base: int | None = None
        self._came = RangeSet()

    def is_repeated(self, header: TCP, octets_n: int) -> bool:
        """Whether all of a segment has come before; notes it."""
        length = octets_n + bool(header.flags & TCP.SYN) + bool(header.flags & TCP.FIN)
        if self._base is None:
            self._base = int(header.seq)
        start = _SEQ.unwrap((header.seq - self._base) % _SEQ.size, 0)
        return length > 0 and self._came.add(start, start + length) == 0

    def adjusted(self, packet: Packet) -> Packet:
        """A client's segment for the server as it is now."""
        header = packet[TCP]
        if self.shift is None or not header.flags & TCP.ACK:
            return packet
        options = [
            option.replace(echo=self.stamps.get(option.echo, option.echo))
            if isinstance(option, Timestamps)
            else option
            for option in header.options
        ]
        was_good = all(verdict.state != "bad" for verdict in packet.checksums() if verdict.layer is TCP)
        checksum = AUTO if was_good else header.checksum
        ack = _SEQ.add(header.ack, self.shift)
        return packet.replace(TCP, ack=ack, options=options, checksum=checksum)

    def as_in_file(self, packet: Packet, wanted: Packet) -> Packet:
        """A server's segment with the numbers that it would have in the file."""
        header, before = packet.get(TCP), wanted.get(TCP)
        if header is None or before is None:
            return packet
        shift = _SEQ.distance(before.seq, header.seq) if self.shift is None else self.shift
        stamps = {type(option): option for option in before.options}
        options = [
            stamps.get(Timestamps, option) if isinstance(option, Timestamps) else option
            for option in header.options
        ]
        return packet.replace(TCP, seq=_SEQ.add(header.seq, -shift), options=options)

    def learn(self, packet: Packet, wanted: Packet) -> None:
        """Take the numbers of an answer for the ones in the file."""
        header, before = packet.get(TCP), wanted.get(TCP)
        if header is None or before is None:
            return
        if self.shift is None:
            self.shift = _SEQ.distance(before.seq, header.seq)
        now, then = _stamp(header), _stamp(before)
        if now is not None and then is not None:
            self.stamps[then] = now


def _stamp(header: TCP) -> int | None:
    return next((option.value for option in header.options if isinstance(option, Timestamps)), None)


def _is_bare_ack(packet: Packet) -> bool:
    """Whether it only acknowledges: how often hosts do that depends on the moment."""
    header = packet.get(TCP)
    return header is not None and header.flags == TCP.ACK and not packet.payload


class Expectation:
    """Sends the clients' frames of a capture and compares the answers with the servers'; `run()` does it.

    `ignore` are more fields that need not be the same, as `IPv4.ttl`. `wait` seconds without any answer in a
    flow end the waiting for those that are due. Requests for the link-layer addresses of clients that are not
    this host's are answered.

    Raises:
        UnknownInterface, PermissionDenied, EngineError
    """

    def __init__(
        self, frames: Iterable[Frame], config: ReplayConfig, *, wait: float = 1.0, ignore: Iterable[str] = ()
    ) -> None:
        from rawkit.net import interface as find_interface
        from rawkit.net import interfaces

        interface = find_interface(config.interface)
        if interface.linktype != ETHERNET:
            raise RawkitError(f"replay: {interface.name} is no Ethernet interface")
        self.report = ExpectReport(config.interface)
        self._config = config
        self._wait_ns = round(wait * 1e9)
        self._ignored = {name.casefold() for name in (*IGNORED, *ignore)}
        self._plan = Plan(
            frames, config, interface.mtu, lambda side, number: number if side == CLIENT else -number
        )
        self._own = {address.ip.packed for each in interfaces() for address in each.addresses}
        self._socket = PacketSocket(
            config.interface, promiscuous=True, ignore_outgoing=True, buffer_len=4 << 20
        )
        self._batch = FrameBatch(256)
        self._flows: dict[Key, _Flow] = {}
        self._macs: dict[bytes, bytes] = {}
        self._lag_ns = 0
        self._start_ns = 0
        self._stopped = False

    def stop(self) -> None:
        """Let `run` end soon; may be called from anywhere."""
        self._stopped = True

    def run(self) -> ExpectReport:
        """Send and compare all; the report."""
        with self._socket:
            self._start_ns = monotonic_ns()
            for batch, first, n, due in self._plan.chunks():
                for row in range(first, first + n):
                    if self._stopped:
                        break
                    number = batch.handle.frames[row].ifindex
                    self._next(batch[row], number, due[row])
            for flow in self._flows.values():
                self._await(flow)
                for packet in flow.early:
                    self._mismatch(0, "unexpected", packet, [])
        self.report.skipped = self._plan.skipped
        self.report.mismatches.sort(key=lambda mismatch: mismatch.number or 1 << 40)
        return self.report

    def _next(self, octets: bytes, number: int, due_ns: int) -> None:
        """A frame of the file: a client's is sent, a server's waited for."""
        ends = ends_of(octets)
        if number < 0:
            packet = Packet.parse(octets)
            if ends is not None and not _is_bare_ack(packet):
                self._expect(self._flow(_key(ends, from_client=False)), _Answer(-number, packet, due_ns))
            return
        if ends is not None:
            flow = self._flow(_key(ends, from_client=True))
            self._await(flow)
            if ends.protocol == _TCP:
                octets = bytes(flow.adjusted(Packet.parse(octets)))
            self._know(ends.src, octets[6:12])
        self._hear(self._start_ns + self._lag_ns + due_ns)
        try:
            self._socket.send(octets, timeout=1.0)
            self.report.sent += 1
        except EngineError as error:
            reason = failure_text(error.errno or 0)
            self.report.failed[reason] = self.report.failed.get(reason, 0) + 1

    def _expect(self, flow: _Flow, answer: _Answer) -> None:
        self.report.expected += 1
        for packet in flow.early:
            if not self._differences(flow, packet, answer.packet):
                flow.early.remove(packet)
                self._matched(flow, packet, answer)
                return
        flow.waiting.append(answer)

    def _flow(self, key: Key) -> _Flow:
        return self._flows.setdefault(key, _Flow())

    def _know(self, address: bytes, mac: bytes) -> None:
        if address in self._macs:
            return
        self._macs[address] = mac
        if address in self._own:
            from ipaddress import ip_address

            self.report.own_addresses.append(str(ip_address(address)))

    def _await(self, flow: _Flow) -> None:
        """Until a flow's answers have come, or as many others, or nothing has for a while."""
        until_ns = monotonic_ns() + self._wait_ns
        while (left := len(flow.waiting) - len(flow.early)) > 0 and not self._stopped:
            if not self._hear_once(until_ns):
                break
            if len(flow.waiting) - len(flow.early) < left:
                until_ns = monotonic_ns() + self._wait_ns
        while flow.waiting:
            answer = flow.waiting.popleft()
            if not flow.early:
                self._mismatch(answer.number, "missing", answer.packet, [])
                continue
            packet = flow.early.popleft()
            self._mismatch(
                answer.number, "differs", answer.packet, self._differences(flow, packet, answer.packet)
            )
            flow.learn(packet, answer.packet)

    def _hear(self, until_ns: int) -> None:
        """Take in what comes until a moment."""
        while not self._stopped and self._hear_once(until_ns):
            pass

    def _hear_once(self, until_ns: int) -> bool:
        """Take in what is there, or comes next; false when the moment has come."""
        timeout = min(max(until_ns - monotonic_ns(), 0) / 1e9, 0.1)
        if self._socket.receive(self._batch, timeout):
            for octets, record in zip(list(self._batch), self._batch.records()):
                # The kernel merges segments on their way; on a wire each would have come alone.
                merged = record.gso_len > 0
                for piece in (
                    cut_frame(Frame(octets, gso_len=record.gso_len), len(octets)) if merged else [octets]
                ):
                    self._take(piece)
        return monotonic_ns() < until_ns

    def _take(self, octets: bytes) -> None:
        ends = ends_of(octets)
        if ends is not None and self._tells_address(ends, octets):
            return
        flow = None if ends is None else self._flows.get(_key(ends, from_client=False))
        if flow is None:
            self.report.other += 1
            return
        packet = Packet.parse(octets)
        header = packet.get(TCP)
        if _is_bare_ack(packet) or (header is not None and flow.is_repeated(header, len(packet.payload))):
            return
        for answer in flow.waiting:
            if not self._differences(flow, packet, answer.packet):
                flow.waiting.remove(answer)
                self._matched(flow, packet, answer)
                return
        flow.early.append(packet)

    def _matched(self, flow: _Flow, packet: Packet, answer: _Answer) -> None:
        self.report.matched += 1
        flow.learn(packet, answer.packet)
        # What follows it in the file follows it as closely now.
        self._lag_ns = max(self._lag_ns, monotonic_ns() - self._start_ns - answer.due_ns)

    def _mismatch(self, number: int, kind: str, packet: Packet, differences: list[str]) -> None:
        self.report.mismatches.append(Mismatch(number, kind, packet.summary(), differences))

    def _differences(self, flow: _Flow, packet: Packet, wanted: Packet) -> list[str]:
        found = [
            str(one) for one in diff(wanted, flow.as_in_file(packet, wanted)) if not self._is_ignored(one)
        ]
        bad, bad_before = (
            {v.layer.__name__ for v in p.checksums() if v.state == "bad"} for p in (packet, wanted)
        )
        return found + [f"{name}: its checksum is bad" for name in sorted(bad - bad_before)]

    def _is_ignored(self, difference: FieldDifference) -> bool:
        return difference.path.casefold() in self._ignored or difference.field == "checksum"

    def _tells_address(self, ends: Ends, octets: bytes) -> bool:
        """Answer whoever asks for a client's link-layer address, unless this host's kernel does."""
        if ends.protocol not in (_ARP, _ICMP6):
            return False
        packet = Packet.parse(octets)
        arp, asked = packet.get(ARP), packet.get(NeighbourSolicitation)
        target = arp.target_ip.packed if arp is not None and arp.op == 1 else b""
        if asked is not None:
            target = asked.target.packed
        mac = self._macs.get(target)
        if mac is None or target in self._own:
            return False
        link = Ether(src=mac, dst=octets[6:12])
        if arp is not None:
            reply = link / ARP(
                op=2,
                sender_mac=mac,
                sender_ip=arp.target_ip,
                target_mac=arp.sender_mac,
                target_ip=arp.sender_ip,
            )
        else:
            assert asked is not None
            reply = (
                link
                / IPv6(src=asked.target, dst=packet[IPv6].src, hop_limit=255)
                / NeighbourAdvertisement(
                    flags="OVERRIDE|SOLICITED", target=asked.target, options=[TargetLinkAddress(address=mac)]
                )
            )
        self._socket.send(bytes(reply), timeout=1.0)
        return True


_ARP, _TCP, _ICMP6 = 0, 6, 58


def _key(ends: Ends, *, from_client: bool) -> Key:
    if from_client:
        return ends.protocol, ends.src, ends.dst, ends.sport, ends.dport
    return ends.protocol, ends.dst, ends.src, ends.dport, ends.sport
