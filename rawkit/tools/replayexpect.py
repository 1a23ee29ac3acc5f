"""Replay of one side of a capture: do the answers of whoever plays the other come as they are in the file?

The clients' frames are sent, and the servers' are waited for and compared, field by field. Frames follow each
other as in the file, but no client's goes before the answers that its flow had until then. What another run
has to have of its own is adjusted on the way out: acknowledgement numbers and echoed time stamps of TCP.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from rawkit.engine import FrameBatch, PacketSocket, monotonic_ns
from rawkit.errors import EngineError, RawkitError
from rawkit.tools.answers import Answer, Comparison, Flow, Verdict, is_bare_ack
from rawkit.tools.flowsides import CLIENT, Ends, ends_of
from rawkit.tools.replay import failure_text
from rawkit.tools.replayplan import ETHERNET, MAX_SECONDS, Plan, ReplayConfig, cut_frame
from rawkit.wire.arp import ARP
from rawkit.wire.ethernet import Ether
from rawkit.wire.frame import Frame
from rawkit.wire.icmpv6 import NeighbourAdvertisement, NeighbourSolicitation, TargetLinkAddress
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.packet import Packet

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


class Expectation:
    """Sends the clients' frames of a capture and compares the answers with the servers'; `run()` does it.

    `ignore` are more fields that need not be the same, as `IPv4.ttl`. `wait` seconds without any answer in a
    flow end the waiting for those that are due. Requests for the link-layer addresses of clients that are not
    this host's are answered.

    Raises:
        UnknownInterface, PermissionDenied, EngineError
        ValueError: a `wait` that is not above 0, or more than 30 years.
    """

    def __init__(
        self, frames: Iterable[Frame], config: ReplayConfig, *, wait: float = 1.0, ignore: Iterable[str] = ()
    ) -> None:
        from rawkit.net import interface as find_interface
        from rawkit.net import interfaces

        if not 0 < wait <= MAX_SECONDS:
            raise ValueError(f"replay: waiting {wait} seconds; possible are more than 0, up to {MAX_SECONDS}")
        interface = find_interface(config.interface)
        if interface.linktype != ETHERNET:
            raise RawkitError(f"replay: {interface.name} is no Ethernet interface")
        self.report = ExpectReport(config.interface)
        self._wait_ns = round(wait * 1e9)
        self._comparison = Comparison(ignore)
        self._plan = Plan(
            frames, config, interface.mtu, lambda side, number: number if side == CLIENT else -number
        )
        self._own = {address.ip.packed for each in interfaces() for address in each.addresses}
        self._socket = PacketSocket(
            config.interface, promiscuous=True, ignore_outgoing=True, buffer_len=4 << 20
        )
        self._batch = FrameBatch(256)
        self._flows: dict[Key, Flow] = {}
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
            self.report.skipped = self._plan.skipped
            for batch, first, n, due in self._plan.chunks():
                for row in range(first, first + n):
                    if self._stopped:
                        return self.report
                    number = batch.handle.frames[row].ifindex
                    self._next(batch[row], number, due[row])
            for flow in self._flows.values():
                self._await(flow)
                self._note(flow.surplus())
        self.report.mismatches.sort(key=lambda mismatch: mismatch.number or 1 << 40)
        return self.report

    def _next(self, octets: bytes, number: int, due_ns: int) -> None:
        """A frame of the file: a client's is sent, a server's waited for."""
        ends = ends_of(octets)
        if number < 0:
            packet = Packet.parse(octets)
            if ends is not None and not is_bare_ack(packet):
                flow = self._flow(_key(ends, from_client=False))
                self.report.expected += 1
                flow.expect(Answer(-number, packet, due_ns))
                self._note(flow.judge())
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

    def _flow(self, key: Key) -> Flow:
        if key not in self._flows:
            self._flows[key] = Flow(self._comparison)
        return self._flows[key]

    def _know(self, address: bytes, mac: bytes) -> None:
        if address in self._macs:
            return
        self._macs[address] = mac
        if address in self._own:
            from ipaddress import ip_address

            self.report.own_addresses.append(str(ip_address(address)))

    def _await(self, flow: Flow) -> None:
        """Until a flow's answers have come, or as many others, or nothing has for a while."""
        until_ns = monotonic_ns() + self._wait_ns
        while (lacking := flow.lacking) > 0 and not self._stopped:
            if not self._hear_once(until_ns):
                break
            if flow.lacking < lacking:
                until_ns = monotonic_ns() + self._wait_ns
        self._note(flow.give_up())

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
        flow.arrive(Packet.parse(octets))
        self._note(flow.judge())

    def _note(self, verdicts: Iterable[Verdict]) -> None:
        for verdict in verdicts:
            answer = verdict.answer
            if answer is not None and verdict.kind != "missing":
                # What follows it in the file follows it as closely now.
                late_ns = monotonic_ns() - self._start_ns - answer.due_ns
                self._lag_ns = max(self._lag_ns, late_ns)
            if verdict.kind == "as expected":
                self.report.matched += 1
                continue
            number, packet = (0, verdict.packet) if answer is None else (answer.number, answer.packet)
            self.report.mismatches.append(
                Mismatch(number, verdict.kind, packet.summary(), verdict.differences)
            )

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
