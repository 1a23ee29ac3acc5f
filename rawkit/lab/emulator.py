"""A simulated link for real frames: `rawkit.sim.LinkSpec` and its models in the numbers of the link relay."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from rawkit.engine.link import FateModel, LinkDirection, LinkFault, LinkQueue
from rawkit.errors import LocalProtocolError
from rawkit.sim.link import LinkSpec, keyed
from rawkit.sim.models import (
    Bernoulli,
    Blackhole,
    Burst,
    Corrupt,
    Duplicate,
    GilbertElliott,
    Jitter,
    Numbers,
    Periodic,
    Reorder,
)
from rawkit.sim.queues import CoDel, DropTail, EcnThreshold, Red
from rawkit.sim.rates import Mahimahi
from rawkit.sim.schedule import Fault, Schedule
from rawkit.transport.chance import stream_key
from rawkit.units import parse_duration, parse_rate

CAPACITY = 100_000
"""Packets under way in one direction at most, the queue's own limit apart."""

_INFINITE = -1


def emulated(
    spec: LinkSpec, source: str, target: str, seed: int, schedule: Schedule | None = None
) -> LinkDirection:
    """The direction from `source` to `target` of a link, for the relay.

    Its k-th packet meets the fate of the k-th packet of that direction in a `rawkit.sim.Network` with this
    seed; `schedule` is what is attached to the link.

    Raises:
        LocalProtocolError: a model or a queue that only the simulator has, or a fault by a header's flag.
    """
    name = f"{source}>{target}"
    changes = [(parse_duration(at), change) for at, change in spec.changes]
    rates: list[tuple[int, int]] = []
    trace: tuple[int, ...] = ()
    if isinstance(spec.rate, Mahimahi):
        trace = tuple(spec.rate.at_ms)
    else:
        steps = [(0, spec.rate), *((at, change["rate"]) for at, change in changes if "rate" in change)]
        if len(steps) > 1 or spec.rate is not None:
            rates = [(at, _rate(value)) for at, value in steps]
    delays = [(0, spec.delay), *((at, change["delay"]) for at, change in changes if "delay" in change)]
    return LinkDirection(
        queue_n=CAPACITY,
        models=tuple(_model(model, key) for model, key in keyed(spec.models, seed, name)),
        faults=tuple(_fault(fault) for fault in schedule or () if fault.sender in ("", source)),
        rates=tuple(sorted(rates, key=lambda step: step[0])),
        delays=tuple(sorted((at, parse_duration(value)) for at, value in delays)),
        opportunities_ms=trace,
        queue=_queue(spec.queue, stream_key(seed, name, "queue")),
        mtu=spec.mtu,
        frame_octets=spec.frame_octets,
        jitter_ns=parse_duration(spec.jitter),
        jitter_key=stream_key(seed, name, "jitter"),
    )


def _rate(value: str | float | None) -> int:
    return _INFINITE if value is None else 0 if value == 0 else parse_rate(value)


def _fault(fault: Fault) -> LinkFault:
    if fault.flag:
        raise LocalProtocolError(f"{fault}: an emulated link does not look into transport headers")
    action = {"duplicate": "copy", "corrupt": "flip"}.get(fault.action, fault.action)
    by = "time" if fault.span else "direction" if fault.sender else "both"
    amount = fault.overtaken if fault.action == "swap" else fault.amount
    return LinkFault(action, by, fault.n, amount, *(fault.span or (0, 0)))


@singledispatch
def _model(model: Any, key: int) -> FateModel:
    raise LocalProtocolError(f"an emulated link has no model {type(model).__name__}")


@_model.register
def _(model: Bernoulli, key: int) -> FateModel:
    return FateModel("bernoulli", key, p=model.p)


@_model.register
def _(model: GilbertElliott, key: int) -> FateModel:
    return FateModel("gilbert_elliott", key, p=model.p, r=model.r, h=model.h, k=model.k)


@_model.register
def _(model: Periodic, key: int) -> FateModel:
    return FateModel("periodic", key, n=model.n)


@_model.register
def _(model: Burst, key: int) -> FateModel:
    return FateModel("burst", key, n=model.every, m=model.length)


@_model.register
def _(model: Numbers, key: int) -> FateModel:
    return FateModel("numbers", key, numbers=sorted(model.numbers))


@_model.register
def _(model: Blackhole, key: int) -> FateModel:
    return FateModel("blackhole", key, from_ns=parse_duration(model.start), to_ns=parse_duration(model.end))


@_model.register
def _(model: Corrupt, key: int) -> FateModel:
    return FateModel("corrupt", key, p=model.p, r=model.ber)


@_model.register
def _(model: Duplicate, key: int) -> FateModel:
    return FateModel("duplicate", key, p=model.p, from_ns=parse_duration(model.gap))


@_model.register
def _(model: Reorder, key: int) -> FateModel:
    return FateModel("reorder", key, p=model.p, n=model.by_packets, from_ns=parse_duration(model.by_time))


@_model.register
def _(model: Jitter, key: int) -> FateModel:
    return FateModel("jitter", key, from_ns=parse_duration(model.most))


@singledispatch
def _queue(queue: Any, key: int) -> LinkQueue:
    raise LocalProtocolError(f"an emulated link has no queue {type(queue).__name__}")


@_queue.register
def _(queue: DropTail, key: int) -> LinkQueue:
    limit_ns = None if queue.time is None else parse_duration(queue.time)
    limits = (-1 if limit is None else limit for limit in (queue.packets, queue.octets, limit_ns))
    return LinkQueue("drop_tail", *limits)


@_queue.register
def _(queue: EcnThreshold, key: int) -> LinkQueue:
    return LinkQueue("ecn_threshold", queue.limit, mark_from=queue.packets)


@_queue.register
def _(queue: Red, key: int) -> LinkQueue:
    return LinkQueue(
        "red",
        queue.limit,
        low=queue.low,
        high=queue.high,
        most=queue.most,
        weight=queue.weight,
        queue_key=key,
    )


@_queue.register
def _(queue: CoDel, key: int) -> LinkQueue:
    target, interval = parse_duration(queue.target), parse_duration(queue.interval)
    return LinkQueue("codel", queue.limit, target_ns=target, interval_ns=interval, queue_mtu=queue.mtu)
