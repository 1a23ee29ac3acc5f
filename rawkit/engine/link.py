"""The link relay: an emulated wire between two interfaces, which does what a simulated one does, in C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple
from warnings import warn

from rawkit.engine.native import check, ffi, lib
from rawkit.engine.pace import histogram

_SEED_MASK = 2**64 - 1
_CAUSES = (
    "delivered", "duplicated", "corrupted", "marked", "loss", "loss in a burst", "blackhole", "schedule",
    "damaged IP header", "too large", "queue full", "queue management", "suspended", "no room",
)  # fmt: skip
"""What became of packets, in the order of RK_EMU_DELIVERED and following."""
_NO_LOSSES = ("delivered", "duplicated", "corrupted", "marked")
_IN_THE_QUEUE = ("queue full", "queue management", "no room")
_LATE_NS = 10**6
"""Lateness below this says nothing against a run."""


class FateModel(NamedTuple):
    """One of the models of `rawkit.sim.models` in numbers: `struct rk_emu_model` in csrc/rk.h.

    `kind` is "bernoulli", "gilbert_elliott", "periodic", "burst", "numbers", "blackhole", "corrupt",
    "duplicate", "reorder" or "jitter", `key` that of its random numbers.
    """

    kind: str
    key: int = 0
    n: int = 0
    m: int = 0
    from_ns: int = 0
    to_ns: int = 0
    p: float = 0.0
    r: float = 0.0
    h: float = 0.0
    k: float = 0.0
    numbers: Sequence[int] = ()


class LinkFault(NamedTuple):
    """A fault of a schedule: `action` is "drop", "delay", "swap", "copy" or "flip"; `by` is "both" (the n-th
    packet of both directions), "direction" (of this one) or "time". `amount` is ns, packets or a bit.
    """

    action: str
    by: str
    n: int = 0
    amount: int = 0
    from_ns: int = 0
    to_ns: int = 0


class LinkQueue(NamedTuple):
    """One of the queues of `rawkit.sim.queues` in numbers: `kind` is "drop_tail", "ecn_threshold", "red" or
    "codel"; the rest as in `struct rk_emu_spec` (-1: no limit).
    """

    kind: str = "drop_tail"
    limit: int = -1
    limit_octets: int = -1
    limit_ns: int = -1
    mark_from: int = 0
    low: float = 0.0
    high: float = 0.0
    most: float = 0.0
    weight: float = 0.0
    queue_key: int = 0
    target_ns: int = 0
    interval_ns: int = 0
    queue_mtu: int = 0


_ENDLESS = LinkQueue()


@dataclass(frozen=True, slots=True)
class LinkDirection:
    """What one direction of a link does to frames.

    `delay_ns` is how long each is held, `loss` the probability (0..1) that it is lost, `seed` the start of
    the generator that decides, `queue_n` how many frames may be under way at once. `interval_ns` is how long
    each keeps the wire's entrance busy: those that come meanwhile wait, as at a bottleneck.

    The rest is what a `rawkit.sim.LinkSpec` may ask for: `rates` (bits per second, -1: infinitely fast) and
    `delays` (ns) are values from a time (ns) on, the first from 0; `opportunities_ms` a delivery trace in
    place of rates. Sizes are octets of IP packets.
    """

    delay_ns: int = 0
    loss: float = 0.0
    seed: int = 0
    queue_n: int = 10_000
    interval_ns: int = 0
    models: tuple[FateModel, ...] = ()
    faults: tuple[LinkFault, ...] = ()
    rates: tuple[tuple[int, int], ...] = ()
    delays: tuple[tuple[int, int], ...] = ()
    opportunities_ms: tuple[int, ...] = ()
    queue: LinkQueue = _ENDLESS
    mtu: int = 65_535
    frame_octets: int = 0
    jitter_ns: int = 0
    jitter_key: int = 0


def emu_spec(direction: LinkDirection) -> tuple[dict[str, Any], list[Any]]:
    """A direction as `struct rk_emu_spec`, for cffi, and the arrays that have to live as long."""
    arrays = []

    def array(kind: str, rows: Sequence[Any]) -> Any:
        arrays.append(ffi.new(f"{kind}[]", rows))
        return arrays[-1]

    def model(row: FateModel) -> dict[str, Any]:
        kind = getattr(lib, f"RK_EMU_{row.kind.upper()}")
        return row._asdict() | {
            "kind": kind,
            "numbers": array("uint64_t", row.numbers),
            "numbers_n": len(row.numbers),
        }

    def fault(row: LinkFault) -> dict[str, Any]:
        action, by = (getattr(lib, f"RK_EMU_{word.upper()}") for word in (row.action, f"by_{row.by}"))
        return row._asdict() | {"action": action, "by": by}

    d = direction
    # By the kind of `by`, and then by number, as the engine wants them: it looks for a packet's once.
    faults = sorted(map(fault, d.faults), key=lambda row: (row["by"], row["n"]))
    models = list(d.models)
    if d.loss != 0:
        models.insert(0, FateModel("bernoulli", d.seed & _SEED_MASK, p=d.loss))
    delays = d.delays or ((0, d.delay_ns),)
    spec = {
        **d.queue._asdict(),
        "queue": getattr(lib, f"RK_EMU_{d.queue.kind.upper()}"),
        "models": array("struct rk_emu_model", [model(row) for row in models]),
        "models_n": len(models),
        "faults": array("struct rk_emu_fault", faults),
        "faults_n": len(faults),
        "rates": array("struct rk_emu_step", d.rates),
        "rates_n": len(d.rates),
        "delays": array("struct rk_emu_step", delays),
        "delays_n": len(delays),
        "opportunities_ms": array("int64_t", d.opportunities_ms),
        "opportunities_n": len(d.opportunities_ms),
        "capacity": d.queue_n,
        "frame_ns": d.interval_ns,
        "mtu": d.mtu,
        "frame_octets": d.frame_octets,
        "jitter_ns": d.jitter_ns,
        "jitter_key": d.jitter_key,
    }
    del spec["kind"]
    return spec, arrays


@dataclass(frozen=True, slots=True)
class LinkCounters:
    """What became of the frames of one direction.

    `received` = `sent` + `lost` + `queue_full` + `refused` (by the kernel, on sending) + those still under
    way, but for copies, of which `causes["duplicated"]` were made. `overflow` counts frames that the kernel
    dropped before the relay saw them, `cut` segments larger than a packet that became several frames.
    `causes` counts packets by what became of them, in the words of `rawkit.sim`; what a link says for itself
    (ARP, neighbour discovery, groups) is not among them.
    """

    received: int
    sent: int
    lost: int
    queue_full: int
    refused: int
    overflow: int
    cut: int = field(default=0, compare=False)
    causes: Mapping[str, int] = field(default_factory=dict, compare=False)


class LinkRelay:
    """A running relay between two interfaces of the calling thread's namespace, until closed.

    Raises:
        PermissionDenied: CAP_NET_RAW is missing.
        UnknownInterface: an index belongs to no interface.
        EngineError: a direction is out of range (EINVAL), or no memory for its queue.
    """

    def __init__(
        self,
        ifindex_a: int,
        ifindex_b: int,
        a_to_b: LinkDirection,
        b_to_a: LinkDirection,
        spin_ns: int = 0,
    ) -> None:
        """For the last `spin_ns` before a frame is due the relay's thread does not sleep."""
        self._handle: Any = None
        self._results: list[int] = []
        self._subject = f"interfaces {ifindex_a} and {ifindex_b}"
        self._directions = a_to_b, b_to_a
        out = ffi.new("struct rk_link **")
        specs, arrays = zip(*map(emu_spec, self._directions))
        check(
            lib.rk_link_open(out, ifindex_a, ifindex_b, ffi.new("struct rk_emu_spec[2]", specs), spin_ns),
            "open link relay",
            self._subject,
            needs="CAP_NET_RAW",
        )
        del arrays  # copied
        self._handle = out[0]
        self._thread = threading.Thread(
            target=_run, args=(self._handle, self._results), name="rawkit link relay", daemon=True
        )
        self._thread.start()

    def _open(self) -> Any:
        if self._handle is None:
            raise ValueError("the link relay is closed")
        return self._handle

    def counters(self) -> tuple[LinkCounters, LinkCounters]:
        """What happened so far, a to b and b to a.

        Raises:
            ValueError: the relay is closed.
        """
        out = ffi.new("struct rk_link_counters[2]")
        lib.rk_link_read(self._open(), out)
        a_to_b, b_to_a = map(_counters, out)
        return a_to_b, b_to_a

    def lateness(self) -> tuple[dict[int, int], dict[int, int]]:
        """How many frames were sent so many nanoseconds after their moment, a to b and b to a; rounded down
        to 8 significant bits.

        Raises:
            ValueError: the relay is closed.
        """
        late = ffi.new("uint64_t[]", lib.RK_PACE_BINS)

        def of(direction: int) -> dict[int, int]:
            lib.rk_link_lateness(self._open(), direction, late)
            return histogram(ffi.unpack(late, lib.RK_PACE_BINS))

        return of(0), of(1)

    def degraded(self) -> list[str]:
        """Why the run so far is not what was asked for; empty when it is.

        The machine did not keep time: of a direction's frames more than one in a hundred were later than a
        tenth of its delay, and than a millisecond. Or frames were lost in this machine and not on the link.

        Raises:
            ValueError: the relay is closed.
        """
        reasons = []
        for name, direction, counters, late in zip(
            ("a to b", "b to a"), self._directions, self.counters(), self.lateness()
        ):
            delay_ns = min((delay for _, delay in direction.delays), default=direction.delay_ns)
            limit_ns, n = max(delay_ns // 10, _LATE_NS), sum(late.values())
            late_n = sum(count for late_ns, count in late.items() if late_ns > limit_ns)
            if late_n * 100 > n:
                reasons.append(f"{name}: {late_n} of {n} frames were more than {limit_ns / 1e6:g} ms late")
            for n, what in (
                (counters.overflow, "did not reach the relay"),
                (counters.refused, "could not be sent on"),
                (counters.causes.get("no room", 0), "found no room, beyond the queue's own limit"),
            ):
                if n:
                    reasons.append(f"{name}: {n} frames {what}")
        return reasons

    def close(self) -> None:
        """Stop; frames under way are gone. Closing twice is harmless.

        Raises:
            UnknownInterface, EngineError: the relay had ended before, because an interface went away.
        """
        handle, self._handle = self._handle, None
        if handle is None:
            return
        lib.rk_link_stop(handle)
        self._thread.join()
        lib.rk_link_close(handle)
        check(self._results[0], "relay frames", self._subject)

    def __enter__(self) -> LinkRelay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._handle is not None:
            warn(f"unclosed link relay between {self._subject}", ResourceWarning, source=self, stacklevel=1)
            self.close()


def _counters(c: Any) -> LinkCounters:
    causes = {name: n for name, n in zip(_CAUSES, c.causes) if n}
    queue_full = sum(causes.get(name, 0) for name in _IN_THE_QUEUE)
    lost = sum(n for name, n in causes.items() if name not in (*_NO_LOSSES, *_IN_THE_QUEUE))
    return LinkCounters(c.received, c.sent, lost, queue_full, c.refused, c.overflow, c.cut, causes)


def _run(handle: Any, results: list[int]) -> None:
    """The relay's thread. Knows nothing of the LinkRelay, so that a forgotten one is still collected."""
    # Signals are for the threads that can act on them: Python's handlers run in the main thread, which one
    # delivered here would not wake.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    results.append(lib.rk_link_run(handle))
