"""Ping without I/O: which echo request to send when, whether a packet is an answer, and the totals.

An answer is credited when its source is the address asked, its identifier and sequence number are ours,
and its payload begins with a cookie drawn at random for the session: nobody who has not seen a request can
make one up. A payload that starts right and goes on wrong was damaged on the way, and the reply says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from rawkit.addr import IPAddress
from rawkit.tools.pingresult import MAX_SIZE as MAX_SIZE
from rawkit.tools.pingresult import PingError as PingError
from rawkit.tools.pingresult import PingReply as PingReply
from rawkit.tools.pingresult import PingSummary as PingSummary
from rawkit.tools.pingresult import PingTarget as PingTarget
from rawkit.tools.pingresult import PingTimeout as PingTimeout
from rawkit.tools.pingresult import Tally
from rawkit.tools.pingresult import percentile as percentile
from rawkit.tools.roundtrip import Moment, round_trip
from rawkit.wire import checksum as _checksum
from rawkit.wire.icmp import ICMP, ICMPEcho
from rawkit.wire.icmpv6 import ICMPv6, ICMPv6Echo
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6

FRAGMENT = {"dont": 0, "want": 1, "do": 2, "probe": 3}
"""What may happen to long requests, as values of IP_MTU_DISCOVER (ip(7))."""

COOKIE_LEN = 8
REMEMBERED_NS = 60_000_000_000
"""How long after its timeout a request is remembered, so that a late answer is known as one."""
REMEMBERED_N = 1 << 17


@dataclass(frozen=True, slots=True)
class PingConfig:
    """What to send, and how long to wait.

    `count` requests go to each target (None: without end), one every `interval_ns`; requests to different
    targets are `gap_ns` apart at least, so that many targets stretch the interval. An answer is waited
    for `timeout_ns`. `size` is the payload in octets; below 8 the cookie has less room, and replies are
    easier to forge. `ttl` is the time to live or hop limit. `family` 4 or 6 takes only addresses of that IP
    version, 0 both. `interface` names the interface to send and hear on, "" leaves it to the routing table.

    `broadcast` allows one target that stands for many hosts, every one of which may answer. `adaptive` sends
    the next request as soon as the last one was answered. After `deadline_ns` all ends, 0 is never. `tos` is
    the octet that was type of service, or the traffic class. `pattern` fills the payload, over and over.
    `fragment` is what may happen to long requests: "do" forbids fragments and heeds the path MTU, "probe"
    forbids them and does not, "want" makes them here, "dont" lets routers too; "" leaves it to the system.

    Raises: ValueError, naming the field.
    """

    count: int | None = None
    interval_ns: int = 1_000_000_000
    timeout_ns: int = 1_000_000_000
    size: int = 56
    ttl: int = 64
    family: int = 0
    interface: str = ""
    gap_ns: int = 1_000_000
    broadcast: bool = False
    adaptive: bool = False
    deadline_ns: int = 0
    tos: int = 0
    pattern: bytes = b""
    fragment: str = ""

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ValueError(f"count {self.count}: at least 1")
        if self.interval_ns <= 0:
            raise ValueError(f"interval of {self.interval_ns} ns: must be positive")
        if self.timeout_ns <= 0:
            raise ValueError(f"timeout of {self.timeout_ns} ns: must be positive")
        if not 0 <= self.size <= MAX_SIZE[6]:
            raise ValueError(
                f"size {self.size}: must be 0..{MAX_SIZE[4]} octets for IPv4, {MAX_SIZE[6]} for IPv6"
            )
        if not 1 <= self.ttl <= 255:
            raise ValueError(f"ttl {self.ttl}: must be 1..255")
        if self.family not in (0, 4, 6):
            raise ValueError(f"family {self.family}: must be 4, 6 or 0 for both")
        if self.gap_ns < 0:
            raise ValueError(f"gap of {self.gap_ns} ns: must not be negative")
        if self.broadcast and self.interval_ns < 1_000_000_000:
            raise ValueError(f"interval of {self.interval_ns / 1e9:g} s: at least 1 s where many may answer")
        if self.deadline_ns < 0:
            raise ValueError(f"deadline of {self.deadline_ns} ns: must not be negative")
        if not 0 <= self.tos <= 255:
            raise ValueError(f"tos {self.tos}: must be 0..255")
        if not 0 <= len(self.pattern) <= 16:
            raise ValueError(f"pattern of {len(self.pattern)} octets: at most 16")
        if self.fragment not in ("", *FRAGMENT):
            raise ValueError(f"fragment {self.fragment!r}: must be one of {', '.join(FRAGMENT)}")


PingEvent = PingReply | PingTimeout | PingError


# ---- the core, without I/O -------------------------------------------------------------------------


def is_group(address: IPAddress) -> bool:
    """Whether an address stands for many hosts, whatever networks there are."""
    return address.is_multicast or address == IPv4Address("255.255.255.255")


@dataclass(frozen=True, slots=True)
class Probe:
    """An echo request to send: `octets` are the whole IP packet."""

    index: int
    seq: int
    octets: bytes


@dataclass(slots=True)
class _Sent:
    """What became of a request."""

    index: int
    seq: int
    moment: Moment
    departed_ns: int | None = None
    state: Literal["waiting", "answered", "lost", "failed"] = "waiting"
    dropped: int = 0
    """How many packets this host had dropped for lack of buffer space when it was sent."""
    heard: set[str] = field(default_factory=set)
    """Who answered a request to many; it is waited for others until its time is up."""


class Pinger:
    """What to send next and when, whether a packet is an answer, and the totals.

    `identifiers` is the ICMP identifier for each IP version in use, `cookie` 8 octets that nobody can
    guess. Times are those of the monotonic clock, in nanoseconds; the schedule starts at the first call
    of `next_probe`.
    """

    def __init__(
        self,
        targets: Sequence[PingTarget],
        config: PingConfig,
        identifiers: Mapping[int, int],
        cookie: bytes,
    ) -> None:
        self.targets = tuple(targets)
        self.config = config
        self._identifiers = identifiers
        self._cookie = cookie
        pattern = config.pattern or bytes(range(256))
        self._filler = bytes(pattern[i % len(pattern)] for i in range(COOKIE_LEN + 4, config.size))
        # Where many were asked, any source may answer.
        self._group = 0 if config.broadcast else None
        self._index = {target.address.packed: i for i, target in enumerate(self.targets)}
        self._tallies = [Tally() for _ in self.targets]
        self._sent: dict[tuple[int, int], _Sent] = {}
        self._waiting: deque[_Sent] = deque()
        self._number = 0
        self._due_ns: int | None = None
        self._now_ns = 0
        self.dropped = 0
        """How many packets this host has dropped for lack of buffer space so far; the driver says so."""

    # ---- sending

    def due_ns(self) -> int | None:
        """When there is something to do next: to send, or to give up waiting. None: it is all over.

        Before anything was sent this is 0.
        """
        while self._waiting and self._waiting[0].state != "waiting":
            self._waiting.popleft()
        times = []
        if self._more():
            times.append(self._due_ns or 0)
        if self._waiting:
            times.append(self._waiting[0].moment.monotonic_ns + self.config.timeout_ns)
        return min(times, default=None)

    def _more(self) -> bool:
        count = self.config.count
        return count is None or self._number < count * len(self.targets)

    def next_probe(self, now_ns: int) -> Probe | None:
        """The request to send now; None when none is due. Each must be followed by `sent` or `failed`."""
        if not self._more() or (self._due_ns is not None and now_ns < self._due_ns):
            return None
        n = len(self.targets)
        gap_ns = self.config.gap_ns if n > 1 else 0
        interval_ns = max(self.config.interval_ns, n * gap_ns)
        seq, index = divmod(self._number, n)
        self._number += 1
        due_ns = now_ns if self._due_ns is None else self._due_ns
        # After a pause (the process was stopped) what was missed is not caught up with.
        if now_ns - due_ns > interval_ns:
            due_ns = now_ns
        self._due_ns = due_ns + (gap_ns if index < n - 1 else interval_ns - (n - 1) * gap_ns)
        return Probe(index, seq + 1, self._request(index, seq + 1))

    def payload(self, seq: int) -> bytes:
        """What the request `seq` carries: cookie, sequence number, and a pattern that is known."""
        return (self._cookie + (seq & 0xFFFFFFFF).to_bytes(4, "big") + self._filler)[: self.config.size]

    def _request(self, index: int, seq: int) -> bytes:
        address = self.targets[index].address
        identifier = self._identifiers[address.version]
        if isinstance(address, IPv4Address):
            header = IPv4(
                dst=address, ttl=self.config.ttl, dscp=self.config.tos >> 2, ecn=self.config.tos & 3
            )
            return bytes(header / ICMPEcho(id=identifier, seq=seq & 0xFFFF) / self.payload(seq))
        header6 = IPv6(dst=address.packed, hop_limit=self.config.ttl, traffic_class=self.config.tos)
        return bytes(header6 / ICMPv6Echo(id=identifier, seq=seq & 0xFFFF) / self.payload(seq))

    def sent(self, probe: Probe, moment: Moment) -> None:
        """The probe is on its way; `moment` was taken right before it was sent."""
        self._now_ns = moment.monotonic_ns
        tally = self._tallies[probe.index]
        tally.sent += 1
        if tally.first_ns is None:
            tally.first_ns = moment.monotonic_ns
        entry = _Sent(probe.index, probe.seq, moment, dropped=self.dropped)
        self._sent[probe.index, probe.seq] = entry
        self._waiting.append(entry)
        self._forget(moment.monotonic_ns)

    def departed(self, probe: Probe, time_ns: int) -> None:
        """The kernel's own stamp on a probe that was sent."""
        entry = self._sent.get((probe.index, probe.seq))
        # One from before it was sent is another probe's, or the clock was set.
        if entry is not None and time_ns >= entry.moment.realtime_ns:
            entry.departed_ns = time_ns

    def failed(self, probe: Probe, moment: Moment, reason: str) -> PingError:
        """The probe could not be sent."""
        self.sent(probe, moment)
        entry = self._waiting.pop()
        entry.state = "failed"
        self._tallies[probe.index].errors += 1
        self._tallies[probe.index].silent()
        target = self.targets[probe.index]
        return PingError(
            target.name, str(target.address), probe.seq, "", None, None, reason, moment.realtime_ns
        )

    def _forget(self, now_ns: int) -> None:
        """Let go of requests whose answer would be too late even to be called late."""
        keep_ns = self.config.timeout_ns + REMEMBERED_NS
        while self._sent:
            key, entry = next(iter(self._sent.items()))
            if now_ns - entry.moment.monotonic_ns <= keep_ns and len(self._sent) <= REMEMBERED_N:
                return
            if entry.state == "waiting":
                return
            del self._sent[key]

    # ---- receiving

    def expired(self, now: Moment) -> list[PingTimeout]:
        """The requests whose time is up."""
        self._now_ns = max(self._now_ns, now.monotonic_ns)
        found = []
        while self._waiting:
            entry = self._waiting[0]
            if entry.state == "waiting":
                if now.monotonic_ns - entry.moment.monotonic_ns < self.config.timeout_ns:
                    break
                if entry.heard:
                    entry.state = "answered"
                    self._waiting.popleft()
                    continue
                entry.state = "lost"
                uncertain = entry.dropped < self.dropped
                self._tallies[entry.index].silent(uncertain)
                target = self.targets[entry.index]
                found.append(
                    PingTimeout(
                        target.name,
                        str(target.address),
                        entry.seq,
                        self.config.timeout_ns,
                        now.realtime_ns,
                        uncertain,
                    )
                )
            self._waiting.popleft()
        return found

    def received(self, packet: bytes, seen: Moment, kernel_ns: int | None) -> PingReply | PingError | None:
        """What an IP packet means for us; None when it is no answer to any request of this session.

        `seen` was taken after it arrived, `kernel_ns` is the kernel's stamp on it, if there is one.
        """
        self._now_ns = max(self._now_ns, seen.monotonic_ns)
        message = _icmp_message(packet)
        if message is None:
            return None
        version, src, _, hop_limit, octets = message
        if octets[0] == (0 if version == 4 else 129):
            return self._reply(version, src, hop_limit, octets, seen, kernel_ns)
        if octets[0] in ((3, 11, 12) if version == 4 else (1, 2, 3, 4)):
            return self._error(version, src, octets, seen, kernel_ns)
        return None

    def _reply(
        self, version: int, src: bytes, hop_limit: int, octets: bytes, seen: Moment, kernel_ns: int | None
    ) -> PingReply | None:
        index = self._index.get(src, self._group)
        if index is None or int.from_bytes(octets[4:6], "big") != self._identifiers.get(version):
            return None
        payload = octets[8:]
        entry = self._match(index, int.from_bytes(octets[6:8], "big"), payload)
        if entry is None or not self._has_cookie(payload, min(COOKIE_LEN, self.config.size)):
            return None
        target, tally = self.targets[index], self._tallies[index]
        trip = round_trip(entry.moment, seen, kernel_ns, entry.departed_ns)
        duplicate, late = entry.state == "answered", entry.state == "lost"
        first, address = not duplicate, str(target.address)
        if index == self._group:
            address = str(IPv4Address(src) if version == 4 else IPv6Address(src))
            duplicate, first = address in entry.heard, not entry.heard
            entry.heard.add(address)
        # ICMPv6 checksums cover addresses; the kernel checks them before a raw socket sees the packet.
        corrupted = payload != self.payload(entry.seq) or (version == 4 and _checksum.checksum(octets) != 0)
        reordered = False
        if first:
            tally.add(trip.rtt_ns)
            tally.late += late
            reordered = tally.answered(entry.seq, late)
            if index != self._group:
                entry.state = "answered"
            if self.config.adaptive and self._due_ns is not None:
                self._due_ns = min(self._due_ns, self._now_ns)
        else:
            tally.duplicates += 1
        tally.corrupted += corrupted
        return PingReply(
            target.name,
            address,
            entry.seq,
            trip.rtt_ns,
            hop_limit,
            len(octets),
            seen.realtime_ns if kernel_ns is None else kernel_ns,
            trip.stamp,
            trip.tx_stamp,
            duplicate=duplicate,
            late=late,
            corrupted=corrupted,
            reordered=reordered,
        )

    def _error(
        self, version: int, reporter: bytes, octets: bytes, seen: Moment, kernel_ns: int | None
    ) -> PingError | None:
        quoted = _icmp_message(octets[8:], cut=True)
        if quoted is None:
            return None
        quoted_version, _, dst, _, inner = quoted
        index = self._index.get(dst)
        request = 8 if version == 4 else 128
        if quoted_version != version or index is None or inner[0] != request:
            return None
        if int.from_bytes(inner[4:6], "big") != self._identifiers.get(version):
            return None
        # A router may quote no more than the ICMP header (RFC 792): then there is no cookie to look at.
        payload = inner[8:]
        quoted_len = min(COOKIE_LEN, self.config.size, len(payload))
        entry = self._match(index, int.from_bytes(inner[6:8], "big"), payload)
        if (
            entry is None
            or not self._has_cookie(payload, quoted_len)
            or entry.state in ("answered", "failed")
        ):
            return None
        entry.state = "failed"
        self._tallies[index].errors += 1
        self._tallies[index].silent()
        kind, code = octets[0], octets[1]
        header = ICMP(type=kind, code=code) if version == 4 else ICMPv6(type=kind, code=code)
        target = self.targets[index]
        return PingError(
            target.name,
            str(target.address),
            entry.seq,
            str(IPv4Address(reporter) if version == 4 else IPv6Address(reporter)),
            kind,
            code,
            header.type_text(),
            seen.realtime_ns if kernel_ns is None else kernel_ns,
        )

    def _has_cookie(self, payload: bytes, length: int) -> bool:
        return len(payload) >= length and payload[:length] == self._cookie[:length]

    def _match(self, index: int, seq: int, payload: bytes) -> _Sent | None:
        """The request that an ICMP sequence number of 16 bits belongs to."""
        if self.config.size >= COOKIE_LEN + 4 and len(payload) >= COOKIE_LEN + 4:
            whole = int.from_bytes(payload[COOKIE_LEN : COOKIE_LEN + 4], "big")
            if whole & 0xFFFF == seq and (index, whole) in self._sent:
                return self._sent[index, whole]
        # No room for all of the number, or it was damaged: the latest request it can be.
        last = self._tallies[index].sent
        return self._sent.get((index, last - ((last - seq) & 0xFFFF)))

    # ---- totals

    def summaries(self) -> list[PingSummary]:
        """The totals so far, one for each target."""
        return [tally.summary(target, self._now_ns) for target, tally in zip(self.targets, self._tallies)]


def _icmp_message(packet: bytes, cut: bool = False) -> tuple[int, bytes, bytes, int, bytes] | None:
    """IP version, source, destination, hop limit and ICMP message (8 octets at least) of a packet.

    None when it is something else. `cut`: the packet may end before its length field says (a quotation).
    """
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        start, protocol = (packet[0] & 15) * 4, packet[9]
        end = int.from_bytes(packet[2:4], "big")
        fragment = int.from_bytes(packet[6:8], "big") & (0x1FFF if cut else 0x3FFF)
        if start < 20 or protocol != 1 or fragment:
            return None
        facts = (4, packet[12:16], packet[16:20], packet[8])
    elif len(packet) >= 40 and packet[0] >> 4 == 6 and packet[6] == 58:
        start, end = 40, 40 + int.from_bytes(packet[4:6], "big")
        facts = (6, packet[8:24], packet[24:40], packet[7])
    else:
        return None
    if end > len(packet) and not cut:
        return None
    message = packet[start:end]
    return (*facts, message) if len(message) >= 8 else None
