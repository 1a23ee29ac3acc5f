"""What every reliable transport promises, as functions from a result to what is wrong with it ("" for
nothing).
"""

from __future__ import annotations

from itertools import pairwise

from rawkit.errors import ProtocolError
from rawkit.sim.ladders import describe
from rawkit.sim.transfer import Result
from rawkit.transport.events import Closed, Reset
from rawkit.units import parse_duration


def no_mistake(result: Result) -> str:
    """The protocol's code raised nothing: no packet above the MTU, no timer in the past, nothing after
    done.
    """
    error = result.error
    if error is None:
        return ""
    name = "" if isinstance(error, ProtocolError) else f"{type(error).__name__}: "
    return f"the protocol's code raised at {result.network.now} ns: {name}{error}"


def safety(result: Result) -> str:
    """What was delivered is what was written: in order, exactly once, nothing else, the end only at the
    end.
    """
    return result.server_app.wrong or result.client_app.wrong


def liveness(result: Result) -> str:
    """Everything arrived."""
    for side in (result.server_app, result.client_app):
        if side.got < len(side.expects):
            idle = result.network.clock.next_ns is None
            still = "and nothing is under way" if idle else "at the time limit"
            return f"the {side.name} got {side.got} of {len(side.expects)} octets, {still}"
    return ""


def no_livelock(result: Result) -> str:
    """The number of transmissions is bounded by data and faults."""
    transfer = result.transfer
    room = transfer.link.mtu - 20 - transfer.protocol.header.min_len
    units = sum(-(-n // min(room, transfer.chunk)) for n in (transfer.octets, transfer.back))
    most = 12 * (units + 12) * (2 + result.faults)
    sent = result.transmissions
    return f"{sent} transmissions for {units} units of data and {result.faults} faults" if sent > most else ""


def orderly_end(result: Result) -> str:
    """Both sides were told that it is over, and neither that it broke."""
    for side in (result.client_app, result.server_app):
        broken = next((notice for notice in side.notices if isinstance(notice, Reset)), None)
        if broken is not None:
            return f"the {side.name} was reset: {broken.reason}"
        if not any(isinstance(notice, Closed) for notice in side.notices):
            return f"the {side.name} was never told that all is over"
    return ""


def quiescence(result: Result) -> str:
    """After the end nothing remains: no timer, no packet, no endpoint."""
    for driver in (result.client, result.server):
        if driver.timers:
            return f"timers still run on {driver.name}: {', '.join(driver.timers)}"
        if not driver.done:
            return f"the endpoint on {driver.name} is not done"
    return "" if result.network.clock.next_ns is None else "packets are still under way"


STANDARD_PROPERTIES = (no_mistake, safety, liveness, orderly_end, no_livelock, quiescence)
"""In the order of how much they matter."""


def backs_off(result: Result) -> str:
    """A packet that is sent again and again is sent ever less often (RFC 6298 section 5.5)."""
    header = result.transfer.protocol.header
    for driver in (result.client, result.server):
        times: dict[bytes, list[int]] = {}
        for event in result.trace.of("send"):
            # Only what carries data: the same acknowledgement may go out for many packets.
            if event.where == driver.name and len(event.octets) > header.min_len:
                times.setdefault(event.octets, []).append(event.time_ns)
        for octets, sent in times.items():
            gaps = [later - earlier for earlier, later in pairwise(sent)]
            if len(gaps) >= 3 and min(gaps) > 10**6 and 2 * gaps[-1] < 3 * gaps[0]:
                what = describe(octets, header)
                return f"{driver.name} sent {what} {len(sent)} times and never waited longer than at first"
    return ""


def frugal(result: Result) -> str:
    """Where nothing is lost, most is sent once."""
    header = result.transfer.protocol.header
    sends = [event.octets for event in result.trace.of("send") if len(event.octets) > header.min_len]
    again = len(sends) - len(set(sends))
    if result.faults or again * 2 <= len(sends):
        return ""
    return f"nothing was lost, but of {len(sends)} packets with data {again} were repetitions"


def one_reduction_per_window(result: Result) -> str:
    """The congestion window falls for a loss event, and once for all losses of a window.

    It judges protocols that plot `cwnd` and remark "loss" where they find some.
    """
    cwnd: dict[str, float] = {}
    before: dict[str, float] = {}
    last_loss: dict[str, int] = {}
    round_trip = result.transfer.link.delay
    for event in result.trace.of("note", "metric"):
        where = event.where
        if event.kind == "note" and event.detail == "loss":
            if event.time_ns - last_loss.get(where, -(10**18)) < parse_duration(round_trip):
                return f"{where} reduced its window twice within a round trip, at {event.time_ns} ns"
            last_loss[where] = event.time_ns
            before[where] = cwnd.get(where, 0)
        elif event.kind == "metric" and "cwnd" in event.fields:
            cwnd[where] = event.fields["cwnd"]
            # Two segments are the least that it falls to (RFC 5681 section 3.1, equation 4).
            if cwnd[where] >= before.get(where, 1e18) and cwnd[where] > 2 * result.transfer.link.mtu:
                return f"{where} found a loss, and its window stayed at {cwnd[where]:.0f} octets"
            before.pop(where, None)
    return ""


CONGESTION_PROPERTIES = (backs_off, frugal, one_reduction_per_window)
"""How a protocol treats the network; for those with an adaptive timer and a congestion window."""
