"""What a run cost besides what it delivered: octets sent in all, and the queue that they made."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from rawkit.report.run import Run
from rawkit.report.series import queueing_delay


@dataclass(frozen=True)
class Costs:
    """Octets of packets, IP headers included, from the client to the server and back; and queueing delays."""

    packets: int
    sent: int
    """From the client to the server: payload, what of it was sent again, and headers."""
    payload: int
    """The payload in these, every transmission counted."""
    again_packets: int
    again: int
    """Payload that was sent again."""
    back_packets: int
    back: int
    """From the server to the client: acknowledgements."""
    delays: tuple[float, ...] = ()
    """How much longer than the fastest each packet to the server took, in seconds, sorted."""

    @property
    def headers(self) -> int:
        """Octets of headers, from the client to the server."""
        return self.sent - self.payload

    def extra(self, delivered: int) -> float:
        """Octets sent beyond those that were delivered, for each of these: 0.05 is 5 %.

        Raises:
            ZeroDivisionError: nothing was delivered.
        """
        return (self.sent - delivered) / delivered

    @property
    def mean_delay_s(self) -> float:
        """The mean queueing delay; 0 when no packet was seen at both hosts."""
        return fmean(self.delays) if self.delays else 0.0

    @property
    def p95_delay_s(self) -> float:
        """The queueing delay that 95 % of the packets did not exceed."""
        return self.delays[-(-len(self.delays) * 95 // 100) - 1] if self.delays else 0.0


def costs(run: Run) -> Costs:
    """What the packets of a run cost. Nothing counts as sent again where packets have no numbers.

    Queueing delays need a trace that saw packets at both hosts. What sending a packet takes at the link's
    rate is none, where the run has that rate.
    """
    packets = sent = payload = again_packets = again = back_packets = back = 0
    for event, facts in run.facts:
        if event.kind != "send":
            continue
        octets = len(event.octets) + (40 if ":" in event.src else 20)
        if event.where != run.hosts[0]:
            back_packets += 1
            back += octets
            continue
        packets += 1
        sent += octets
        payload += facts.reading.payload
        if facts.retransmission:
            again_packets += 1
            again += facts.reading.payload
    delays = sorted(delay for _, delay in queueing_delay(run, run.hosts[0])) if run.hosts else []
    return Costs(packets, sent, payload, again_packets, again, back_packets, back, tuple(delays))
