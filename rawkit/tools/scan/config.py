"""What a scan is asked to do, and what it finds: frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rawkit.addr import IPAddress, TargetSet, parse_target
from rawkit.tools.scan.missed import Missed

if TYPE_CHECKING:
    from rawkit.tools.scan.probe import Probe

OPEN = "open"
CLOSED = "closed"
FILTERED = "filtered"
UNFILTERED = "unfiltered"
"""Packets reach the port; whether anything listens there the scan cannot tell."""
OPEN_FILTERED = "open|filtered"
"""Nothing came back, which open ports do as well as filtered ones."""
STATES = (OPEN, OPEN_FILTERED, UNFILTERED, CLOSED, FILTERED)

NO_ANSWER = "no-answer"
NO_NEIGHBOUR = "no neighbour"
"""Nobody on the link has this address, or that of the router to it: nothing was sent to it."""
NO_ROUTE = "no route"

AUTO = "auto"
SYN = "syn"
CONNECT = "connect"
UDP = "udp"
KIND_NAMES = (
    AUTO, SYN, CONNECT, UDP, "ack", "window", "fin", "null", "xmas", "maimon", "sctp", "protocol",
)  # fmt: skip
"""Rawkit's own kinds; others are the names of probes that somebody adds (`scan.probe`)."""
BULK_KINDS = (AUTO, SYN, "ack", "window", "fin", "null", "xmas", "maimon")
"""Those whose probes C makes, and that have shards and can be resumed."""

RUN_MAX = 64
"""How many probes leave together: what one system call takes."""

PUBLIC_RATE = 1000.0
"""Probes per second towards addresses outside private ranges, for what does not watch how answers keep up."""

PUBLIC_RATE_MAX = 10_000.0
"""Probes per second towards addresses outside private ranges at most, unless a rate is given."""
PUBLIC_HOST_RATE = 300.0
"""And to each of them."""

COMMON_PORTS = (
    7, 13, 19, *range(21, 24), 25, 37, 43, 49, 53, 70, 79, 80, 81, 88, 110, 111, 113, 119, 135, 139, 143, 161,
    179, 199, 264, 389, 443, 445, 464, 465, 500, 502, *range(512, 516), 543, 544, 548, 554, 587, 593, 623,
    631, 636, 666, 749, 853, 873, 902, 989, 990, 993, 995, 1080, 1194, 1433, 1434, 1521, 1701, 1720, 1723,
    1883, 1900, 2000, 2049, 2082, 2083, 2121, 2181, 2222, 2375, 2376, 2379, 2380, 3000, 3128, 3260, 3268,
    3269, 3306, 3389, 3690, 4000, 4222, 4369, 4443, 4444, 4505, 4506, 4786, 4848, 5000, 5001, 5003, 5044,
    5060, 5061, 5222, 5269, 5355, 5357, 5432, 5555, 5601, 5671, 5672, 5683, 5800, 5900, 5901, 5938, 5984,
    5985, 5986, 6000, 6001, 6379, 6443, 6514, *range(6660, 6670), 6697, 7000, 7001, 7070, 7077, 7474, 7547,
    7687, 7777, *range(8000, 8003), 8008, 8009, *range(8080, 8084), *range(8086, 8090), 8123, 8140, 8200,
    8222, 8291, 8333, 8443, 8500, 8554, 8600, 8834, 8883, 8888, *range(9000, 9003), 9042, *range(9090, 9094),
    9100, 9160, 9200, 9300, 9418, 9443, 9600, 9999, 10000, 10050, 10051, 10250, 10255, 11211, 15672, 16010,
    18080, 20000, 25565, 26257, *range(27017, 27020), 28015, 32400, 33060, 47808, 50000, 50070, 51413, 61613,
    61616,
)  # fmt: skip
"""Ports that services commonly listen on, for scans that name none."""


def probe_of(kind: str) -> Probe | None:
    """A new probe of the kind of a scan, None where C makes the probes, or the kernel's sockets.

    Raises ValueError when there is no such kind, RawkitError for one of an entry point that cannot be used.
    """
    if kind in (*BULK_KINDS, CONNECT, UDP):
        return None
    from rawkit.tools.scan.probe import find_probe, probe_names

    found = find_probe(kind)
    if found is None:
        raise ValueError(f"kind {kind!r}: there are {', '.join((*KIND_NAMES, *probe_names()))}")
    return found


NO_LIMIT = 1 << 128
"""For `parse_target`, where a set is only asked whether it has an address."""

_PRIVATE = parse_target(
    "10.0.0.0/8 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16 ::1 fc00::/7 fe80::/10",
    limit=NO_LIMIT,
)
"""Addresses that lead nowhere outside (RFC 1918, RFC 3927, RFC 4193, RFC 4291)."""


def public_count(targets: TargetSet) -> int:
    """How many of the addresses lie outside the private, link-local and loopback ranges."""
    inside = 0
    for span in targets.spans:
        for private in _PRIVATE.spans:
            if span.version == private.version:  # a zone only ever belongs to a link-local address
                inside += max(0, min(span.last, private.last) - max(span.first, private.first) + 1)
    return targets.count - inside


def rate_max(targets: TargetSet) -> float | None:
    """Probes per second, unless a rate is given: None for no limit, where no address is public.

    They are spread over all addresses alike, so those that are private make room for more.
    """
    public, every = public_count(targets), targets.count
    return min(PUBLIC_HOST_RATE * every, PUBLIC_RATE_MAX * every / public) if public else None


@dataclass(frozen=True)
class ScanConfig:
    """A scan: every port of every target, once.

    `kind` is one of KIND_NAMES (see `scan.kinds`, `scan.probes`), or the name of an entry point's probe (see
    `scan.probe`); `probe` is one that needs no entry point. "auto" is "syn" where raw sockets are permitted,
    else "connect". What is said of SYN scans holds for all BULK_KINDS. `rate` is in probes per
    second; None sends as fast as answers keep up (`pace.AutoPace`), within PUBLIC_RATE_MAX and
    PUBLIC_HOST_RATE for targets outside the private ranges; `host_rate` is such a limit for each target,
    whichever ranges it is in. A probe without answer is sent again `retries`
    times, and up to as often once more while that goes on to find what was lost before. `timeout_ns` is how
    long to wait for answers; less when those seen so far came fast. `interface` is the one to send from
    (empty: as routed). `source_port` is where SYN probes come from (0: any that is free). They leave in an
    order that `seed` (64 bits) chooses, None in another each time. `shard` (k, n) makes the k-th of n parts
    of a SYN scan that together are the whole, if they have the same seed. Without `report_closed` a SYN scan
    counts closed ports in its summary, and makes no results of them.

    `discovery` looks first which hosts are there (`scan.discover`), and asks the ports of those only. None
    does so where it saves more than it costs: with 16 targets and 8 ports or more, where raw sockets are
    permitted, and neither for shards nor for scans that can be resumed; SYN scans then leave targets on a
    link to their own questions there (ARP), which come in any case.

    Raises ValueError for a number out of range.
    """

    targets: TargetSet
    ports: tuple[int, ...] = COMMON_PORTS
    kind: str = AUTO
    rate: float | None = None
    retries: int = 2
    timeout_ns: int = 1_000_000_000
    interface: str = ""
    source_port: int = 0
    seed: int | None = None
    shard: tuple[int, int] = (1, 1)
    report_closed: bool = True
    contact: str = ""
    probe: Probe | None = None
    discovery: bool | None = None
    host_rate: float | None = None

    def __post_init__(self) -> None:
        if self.probe is None:
            object.__setattr__(self, "probe", probe_of(self.kind))
        if self.kind == "protocol" and max(self.ports) > 255:
            raise ValueError(f"IP protocol {max(self.ports)}: there are 0..255")
        if self.rate is not None and not 0 < self.rate < 1e9:
            raise ValueError(f"rate {self.rate}: probes per second are more than 0 and less than 10**9")
        if self.host_rate is not None and not 0 < self.host_rate < 1e9:
            raise ValueError(f"host rate {self.host_rate}: more than 0 and less than 10**9 probes per second")
        if not 0 <= self.retries <= 100:
            raise ValueError(f"retries {self.retries}: 0..100")
        if not 0 < self.timeout_ns <= 3600 * 10**9:
            raise ValueError(f"timeout of {self.timeout_ns / 1e9:g} s: more than 0, an hour at most")
        if not 0 <= self.source_port <= 65535:
            raise ValueError(f"source port {self.source_port}: 0..65535")
        if self.seed is not None and not 0 <= self.seed < 1 << 64:
            raise ValueError(f"seed {self.seed}: 0..2**64-1")
        if not 1 <= self.shard[0] <= self.shard[1]:
            raise ValueError(f"shard {self.shard[0]}/{self.shard[1]}: from 1/n to n/n")
        if self.shard[1] > 1 and self.seed is None:
            raise ValueError("shards need one seed, the same for all of them")
        if self.shard[1] > 1 and self.kind not in BULK_KINDS:
            name = self.kind.upper() if self.kind in (UDP, "sctp") else self.kind
            raise ValueError(f"{name} scans have no shards: those are for SYN scans")
        if self.source_port and self.kind == CONNECT:
            raise ValueError(
                "a connect scan leaves its source ports to the kernel: source_port is for SYN scans"
            )

    @property
    def effective_rate(self) -> float | None:
        """Probes per second at most; None: as fast as answers keep up."""
        return self.limit(self.targets)

    def limit(self, targets: TargetSet) -> float | None:
        """As `effective_rate`, while no more than these are asked, all of them alike."""
        rate = rate_max(targets) if self.rate is None else self.rate
        if self.host_rate is None:
            return rate
        together = self.host_rate * targets.count
        return together if rate is None else min(rate, together)


class PortResult(NamedTuple):
    """What one port of one target turned out to be.

    `state` is one of STATES; `reason` what says so: "syn-ack", "rst", "no-answer", "no
    neighbour", "no route", an ICMP error in words, for connect scans "connected" or "refused". `reporter` is
    who answered: the target, or whoever sent the ICMP error; None when nobody did or it is not known. `ttl`
    is that of the answer (the hop limit for IPv6). `rtt_ns` is the time from handing the probe to the kernel
    to the kernel's stamp on the answer, for connect scans to when it was noticed; None where it is not known,
    or several probes could have caused the answer. SYN probes leave in batches of up to 64, all timed from
    the first. `probes` is how many were sent, `answers` how many came before the result was told: an open
    port whose answer does not prove itself is asked twice, and has 2 if it answered twice.
    """

    address: IPAddress
    port: int
    state: str
    reason: str
    ttl: int | None = None
    reporter: IPAddress | None = None
    rtt_ns: int | None = None
    probes: int = 1
    protocol: str = "tcp"
    answers: int = 0


class ScanSummary(NamedTuple):
    """Totals. When the scan is `complete`, all ports of all targets, or the shard's part, are in one of them.

    `fallback` says why a connect scan was made where a SYN scan was possible to ask for; empty otherwise.
    `duplicates` are further answers for ports already known, `dropped` are answers that the kernel lost for
    lack of buffer space (their ports were probed again), `refused` are probes that the kernel would not send.
    `down` hosts did not answer when it was asked who is there, and their ports are in none of the others.
    `missed` is an estimate of how many open ports were missed because probes or answers got lost, from what
    repetitions found; None where there is none (nothing answered, or it was no SYN scan from its beginning).
    `notes` say which of the targets were left out, and why.
    """

    kind: str
    targets: int
    ports: int
    complete: bool
    open: int = 0
    closed: int = 0
    filtered: int = 0
    unfiltered: int = 0
    open_filtered: int = 0
    probes: int = 0
    duplicates: int = 0
    dropped: int = 0
    refused: int = 0
    down: int = 0
    duration_ns: int = 0
    missed: Missed | None = None
    fallback: str = ""
    notes: tuple[str, ...] = ()
