"""What a trace is asked to do, what happens, and what is known in the end: frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rawkit.tools.traceprobes import METHODS

MAX_FLOWS = 64
_DEFAULT_SIZE = {4: 60, 6: 80}
_MAX_SIZE = 65535

Kind = Literal["hop", "target", "unreachable", "too big"]


@dataclass(frozen=True, slots=True)
class TraceConfig:
    """What to send, and how long to wait.

    `method` is "udp", "icmp", "tcp" (SYN) or "sctp" (INIT), `port` the destination's (None: 33434 for UDP,
    else 80). Each of `flows` flows sends `count` probes with each hop limit from `first_hop` to `max_hops`, a
    round of all hop limits every `interval_ns`; `count` None goes on without end. An answer is waited for
    `timeout_ns` at most (see `tools.tracer`); `retries` probes follow one that goes unanswered where that may
    be a limit (see `tools.tracer`). `rate` is probes per second at most, `ahead` how many hops beyond those
    known are probed at the same time. `size` is that of the IP packet in octets (None: 60, IPv6 80; TCP and
    SCTP have theirs). With `mtu`, probes start as large as the first link takes, and shrink as routers ask,
    or where they are lost without a word. `family` 4 or 6 takes only addresses of that IP version.
    `interface` names the interface to send and hear on, "" leaves it to the routing table.

    Raises: ValueError, naming the field.
    """

    method: str = "udp"
    port: int | None = None
    flows: int = 1
    first_hop: int = 1
    max_hops: int = 30
    count: int | None = 3
    interval_ns: int = 0
    timeout_ns: int = 2_000_000_000
    retries: int = 2
    rate: float = 1000.0
    ahead: int = 8
    size: int | None = None
    mtu: bool = False
    family: int = 0
    interface: str = ""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method {self.method!r}: must be one of {', '.join(METHODS)}")
        probes = METHODS[self.method]
        if self.port is not None and not probes.default_port:
            raise ValueError(f"port {self.port}: {self.method} has no ports")
        if self.port is not None and not 1 <= self.port <= 65535:
            raise ValueError(f"port {self.port}: must be 1..65535")
        if not 1 <= self.flows <= MAX_FLOWS:
            raise ValueError(f"{self.flows} flows: must be 1..{MAX_FLOWS}")
        if not 1 <= self.first_hop <= self.max_hops <= 255:
            raise ValueError(f"hops {self.first_hop} to {self.max_hops}: must be 1..255, in this order")
        if self.count is not None and self.count < 1:
            raise ValueError(f"count {self.count}: at least 1")
        if self.interval_ns < 0 or (self.interval_ns == 0 and self.count is None):
            raise ValueError(f"interval of {self.interval_ns} ns: must be positive where there is no end")
        if self.timeout_ns <= 0:
            raise ValueError(f"timeout of {self.timeout_ns} ns: must be positive")
        if self.retries < 0:
            raise ValueError(f"{self.retries} retries: must not be negative")
        if not 0 < self.rate <= 1e6:
            raise ValueError(f"rate of {self.rate} probes per second: must be above 0, and 1000000 at most")
        if self.ahead < 1:
            raise ValueError(f"{self.ahead} hops ahead: at least 1")
        if self.family not in (0, 4, 6):
            raise ValueError(f"family {self.family}: must be 4, 6 or 0 for both")
        if not probes.sized and (self.size is not None or self.mtu):
            raise ValueError(f"size: that of {self.method} probes is fixed")
        if self.size is not None and self.mtu:
            raise ValueError("size: is found out with mtu")
        if self.size is not None and not probes.size_min(4) <= self.size <= _MAX_SIZE:
            at_least = f"{probes.size_min(4)} (IPv6: {probes.size_min(6)})"
            raise ValueError(f"size {self.size}: must be {at_least}..{_MAX_SIZE} octets")

    def start_size(self, version: int, mtu: int) -> int:
        """Octets of the first probes, where packets of `mtu` octets leave this host."""
        if self.mtu:
            return min(mtu, _MAX_SIZE)
        probes = METHODS[self.method]
        return max(self.size or (_DEFAULT_SIZE[version] if probes.sized else 0), probes.size_min(version))


# ---- what happens ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TraceLabel:
    """One entry of the label stack that a probe arrived at a router with (RFC 4950, RFC 3032)."""

    label: int
    traffic_class: int
    bottom: bool
    ttl: int


@dataclass(frozen=True, slots=True)
class TraceInterface:
    """An interface that a router says a probe touched (RFC 5837); what it does not say is None."""

    role: str
    ifindex: int | None
    address: str | None
    name: str | None
    mtu: int | None


@dataclass(frozen=True, slots=True)
class TraceSent:
    """A probe left at `time_ns` (since 1970): in round `round`, from 1, for the `attempt`-th time."""

    flow: int
    hop: int
    round: int
    attempt: int
    size: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class TraceAnswer:
    """An answer to a probe of `flow` (from 1) with the hop limit `hop`.

    `kind` is "hop" (its time was exceeded at `address`), "target" (it got there), "unreachable" (`address`
    says that it goes no further) or "too big" (with the `mtu` that would fit); `text` says it in words, and
    for an ICMP message `icmp_type` and `icmp_code` in numbers. `ttl` is the answer's own hop limit, as it
    came. `mpls` and `interfaces` are what ICMP extensions tell. Times, and who stamped what, are as in
    `PingReply`.
    """

    flow: int
    hop: int
    round: int
    attempt: int
    address: str
    kind: Kind
    text: str
    icmp_type: int | None
    icmp_code: int | None
    rtt_ns: int
    ttl: int
    size: int
    time_ns: int
    rx_stamp: str
    tx_stamp: str
    mtu: int | None = None
    mpls: tuple[TraceLabel, ...] = ()
    interfaces: tuple[TraceInterface, ...] = ()
    duplicate: bool = False
    late: bool = False


@dataclass(frozen=True, slots=True)
class TraceTimeout:
    """Nothing answered a probe within `timeout_ns`; `again` says that it is sent once more."""

    flow: int
    hop: int
    round: int
    attempt: int
    timeout_ns: int
    again: bool


@dataclass(frozen=True, slots=True)
class TraceError:
    """A probe could not be sent."""

    flow: int
    hop: int
    round: int
    attempt: int
    text: str


TraceEvent = TraceSent | TraceAnswer | TraceTimeout | TraceError


@dataclass(frozen=True, slots=True)
class TraceNode:
    """An address that answers at a hop: for which flows, how often, how fast. Times are nanoseconds.

    `mtu` is the size of the largest probe that got here, None where sizes were not tried. `kind`, `text`,
    came. `mpls` and `interfaces` are what ICMP extensions tell. Times, and who stamped what, are as in
    `PingReply`.
    """

    address: str
    flows: tuple[int, ...]
    kind: Kind
    text: str
    received: int
    last_ns: int
    min_ns: int
    avg_ns: int
    max_ns: int
    mdev_ns: int
    jitter_ns: int
    ttl: int
    mtu: int | None
    mpls: tuple[TraceLabel, ...]
    interfaces: tuple[TraceInterface, ...]


@dataclass(frozen=True, slots=True)
class TraceHop:
    """All that is known of the hops at one distance: probes sent, answered, lost (`loss` is their share of
    those decided), and who answers, the most frequent first.
    """

    hop: int
    sent: int
    received: int
    lost: int
    loss: float
    nodes: tuple[TraceNode, ...]


@dataclass(frozen=True, slots=True)
class TracePath:
    """The way of one flow: who answered at each hop from `first_hop` on, None where nobody did.

    `ident` is what its probes have in common: the source port, or the ICMP identifier. `reached`: the last is
    the target. `mtu` is the size of the largest packet that got as far as that, None
    where sizes were not tried.
    """

    flow: int
    ident: int
    first_hop: int
    addresses: tuple[str | None, ...]
    reached: bool
    mtu: int | None
