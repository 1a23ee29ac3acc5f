"""Transport protocols and the kernel's TCP on the same emulated link: one after another, or side by side.

All are watched in the same way: what passes the interfaces of both hosts is captured, by the kernel's clock.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from rawkit.engine.native import monotonic_ns
from rawkit.lab import Lab
from rawkit.link.wiretrace import WireTrace
from rawkit.tools.kerneltcp import kernel_transfer
from rawkit.tools.labrun import Watch, run_in_lab
from rawkit.transport.endpoint import Endpoint
from rawkit.transport.trace import TraceEvent
from rawkit.wire.frame import Frame
from rawkit.wire.ipv4 import IPv4

KERNEL_CONTROLS = ("reno", "cubic", "bbr")
ETHERNET_LEN = 14
FIRST_NUMBER, FIRST_PORT = 253, 5001  # of IP protocols downwards, of TCP ports upwards


@dataclass(frozen=True)
class Contender:
    """Who sends: endpoints that `protocol` makes for both sides, over raw IP; or without it the kernel's TCP,
    with the congestion control `control`.
    """

    name: str
    protocol: Callable[[], Endpoint] | None = None
    control: str = ""


@dataclass
class Passage:
    """What came of one contender's transfer from host a to host b."""

    contender: Contender
    octets: int
    """That were to be sent."""
    received: int = 0
    """That arrived at the application, in order."""
    began_ns: int = 0
    """When it began, in ns since 1970."""
    finished_ns: int | None = None
    """When the last octet was delivered; None when not all were."""
    events: list[TraceEvent] = field(default_factory=list)
    """Its packets at both hosts' interfaces, and what its endpoints delivered and reported of themselves;
    times count from `began_ns`."""
    endpoint: Endpoint | None = None
    """The sender's, of a protocol; it knows how its packets are to be read."""
    degraded: list[str] = field(default_factory=list)
    """Why the run was not what was asked for; empty when it was."""

    @property
    def complete(self) -> bool:
        """Whether all that was sent arrived, and nothing else."""
        return self.finished_ns is not None

    @property
    def goodput_bps(self) -> float:
        """Octets delivered, as bits per second from the beginning to the last of them."""
        return self.received * 8e9 / (self.delivered[-1][0] - self.began_ns) if self.received else 0.0

    @property
    def delivered(self) -> list[tuple[int, int]]:
        """When octets were delivered, in ns since 1970, and how many."""
        return [
            (self.began_ns + event.time_ns, len(event.octets))
            for event in self.events
            if event.kind == "deliver" and event.where == "b"
        ]


def side_by_side(
    contenders: Sequence[Contender],
    lab: Lab,
    *,
    octets: int = 2_000_000,
    seed: int = 0,
    timeout: float = 60.0,
) -> list[Passage]:
    """Let contenders, or one alone, send `octets` octets each over the link of a lab, all at the same time.

    Packets meet the fates that their numbers on the link have: a lab of its own for each comparison.

    Raises:
        OSError: the kernel has no such congestion control (ENOENT).
        PermissionDenied, EngineError: packets cannot be sent or captured here.
    """
    passages = [Passage(contender, octets) for contender in contenders]
    watches, seen = [], []
    with ExitStack() as stack:
        for i, contender in enumerate(contenders):
            what = f"ip proto {FIRST_NUMBER - i}" if contender.protocol else f"tcp port {FIRST_PORT + i}"
            for host in (lab.a, lab.b):
                seen.append(list[Frame]())
                with host:
                    watches.append(Watch(host.interface, seen[-1].append, what))
                stack.callback(watches[-1].stop)
        pool = stack.enter_context(ThreadPoolExecutor(len(contenders)))
        ends = [pool.submit(_send, lab, i, passage, seed, timeout) for i, passage in enumerate(passages)]
        for end in ends:
            end.result()
    degraded = lab.relay.degraded() if lab.relay else []
    for i, passage in enumerate(passages):
        own = slice(2 * i, 2 * i + 2)
        packets = _packets(*seen[own])
        said = ((passage.began_ns + event.time_ns, event) for event in passage.events)
        both = heapq.merge(packets, said, key=lambda each: each[0])
        passage.events = [event._replace(time_ns=max(at - passage.began_ns, 0)) for at, event in both]
        passage.degraded = [*degraded]
        if missing := sum(watch.dropped for watch in watches[own]):
            passage.degraded.append(f"{missing} frames were not captured")
    return passages


def _packets(at_a: list[Frame], at_b: list[Frame]) -> list[tuple[int, TraceEvent]]:
    """The packets of frames seen at two hosts, each with its time in ns since 1970."""
    trace = WireTrace()
    frames = heapq.merge((("a", frame) for frame in at_a), (("b", frame) for frame in at_b),
                         key=lambda each: each[1].time_ns)  # fmt: skip
    start_ns = None
    for host, frame in frames:
        ip, at, end = IPv4._parse(frame.data, ETHERNET_LEN, len(frame.data))
        note = trace.sent if frame.direction == "out" else trace.arrived
        note(frame.time_ns, host, str(ip.src), str(ip.dst), frame.data[at:end], ip.ecn)
        start_ns = start_ns or frame.time_ns
    trace.settle()
    return [((start_ns or 0) + event.time_ns, event) for event in trace]


def _send(lab: Lab, i: int, passage: Passage, seed: int, timeout: float) -> None:
    """One contender's transfer, in a thread of its own."""
    contender, octets = passage.contender, passage.octets
    since_1970_ns = time.time_ns() - monotonic_ns()
    events: Iterable[TraceEvent]
    if contender.protocol is None:
        kernel = kernel_transfer(lab, octets, control=contender.control, port=FIRST_PORT + i, timeout=timeout)
        events, began_ns, passage.received = kernel.trace, kernel.began_ns, kernel.received
        complete, finished_ns = kernel.received == octets, kernel.finished_ns
    else:
        outcome = run_in_lab(
            contender.protocol,
            lab,
            number=FIRST_NUMBER - i,
            octets=octets,
            seed=seed,
            timeout=timeout,
            trace=True,
        )
        assert outcome.trace is not None
        events, began_ns, passage.received = outcome.trace, outcome.began_ns, outcome.server_app.got
        end_ns = outcome.server_app.finished_ns
        complete, finished_ns = outcome.complete, end_ns and end_ns - began_ns
        passage.endpoint = outcome.client.endpoint
    passage.began_ns = began_ns + since_1970_ns
    passage.finished_ns = passage.began_ns + finished_ns if complete and finished_ns else None
    passage.events = [event for event in events if event.kind in ("deliver", "metric")]


def shared_rates_bps(passages: Sequence[Passage]) -> list[float]:
    """What was delivered to each, in bits per second, while all of them were under way."""
    delivered = [passage.delivered for passage in passages]
    start_ns = max(passage.began_ns for passage in passages)
    end_ns = min(each[-1][0] if each else start_ns for each in delivered)
    if end_ns <= start_ns:
        return [0.0] * len(passages)
    return [
        sum(octets for at_ns, octets in each if start_ns < at_ns <= end_ns) * 8e9 / (end_ns - start_ns)
        for each in delivered
    ]


def jain(rates: Sequence[float]) -> float:
    """Jain's fairness index (Jain, Chiu, Hawe 1984): 1 when all are equal, 1/n when one has everything.

    Raises:
        ValueError: there are no rates, or all are 0.
    """
    squares = len(rates) * sum(rate * rate for rate in rates)
    if not squares:
        raise ValueError("fairness of nothing: all rates are 0")
    return sum(rates) ** 2 / squares


def kernel_controls() -> list[str]:
    """Which of `KERNEL_CONTROLS` this kernel has ready."""
    with open("/proc/sys/net/ipv4/tcp_available_congestion_control", encoding="ascii") as file:
        ready = file.read().split()
    return [control for control in KERNEL_CONTROLS if control in ready]
