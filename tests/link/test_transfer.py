"""The reference protocols over real carriers, between two hosts."""

from __future__ import annotations

import pytest
from link.wired import PROTOCOLS, send
from live import set_link

from rawkit.lab import Lab
from rawkit.link import Flow
from rawkit.tools.labrun import open_carrier

pytestmark = pytest.mark.net

OVER = ["raw", "udp", "packet"]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_octets_arrive_both_ways_and_both_sides_close(
    lab: Lab, over: str, version: int, protocol: str
) -> None:
    outcome = send(lab, over, version, protocol, octets=50_000, back=20_000)
    assert outcome.complete
    assert outcome.closed
    assert outcome.client_app.got == 20_000
    assert not sum(outcome.lost.values())


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_octets_arrive_over_a_link_that_loses_packets(
    lossy: Lab, over: str, version: int, protocol: str
) -> None:
    outcome = send(lossy, over, version, protocol, octets=60_000)
    assert outcome.complete
    assert outcome.closed


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_octets_arrive_between_tun_devices(forwarding: Lab, version: int, protocol: str) -> None:
    outcome = send(forwarding, "tun", version, protocol, octets=60_000, back=10_000)
    assert outcome.complete
    assert outcome.closed
    assert not sum(outcome.lost.values())


@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("version", [4, 6])
def test_octets_arrive_in_bulk_with_fewer_acknowledgements(lab: Lab, over: str, version: int) -> None:
    outcome = send(lab, over, version, "selective repeat", octets=1_000_000, back=100_000, bulk=True)
    assert outcome.complete
    assert outcome.closed
    assert outcome.server is not None
    assert outcome.server.received > 600
    assert outcome.server.sent < outcome.server.received * 3 // 4  # one each, and those with data, otherwise


def test_octets_arrive_in_bulk_over_a_link_that_loses_packets(lossy: Lab) -> None:
    outcome = send(lossy, "udp", 4, "selective repeat", octets=1_000_000, bulk=True)
    assert outcome.complete
    assert outcome.closed


@pytest.mark.parametrize("over", OVER)
def test_octets_arrive_in_jumbo_frames(over: str) -> None:
    with Lab() as lab:
        for host in (lab.a, lab.b):
            with host:
                set_link("veth0", mtu=9000)
        outcome = send(lab, over, 4, "selective repeat", octets=4_000_000)
        # And as many at once as a carrier takes.
        with open_carrier(lab, lab.a, over) as near, open_carrier(lab, lab.b, over) as far:
            path = near.path(Flow("", 0, far.local or "10.77.0.2", getattr(far, "port", 0)))
            came = 0
            near.send(b"first", path, 0)  # finds out who that is, where the carrier has to
            for n in range(10_000):
                near.flush()
                near.receive()
                came += len(far.receive())
                if n == 100:
                    for _ in range(256):
                        near.send(bytes(8900), path, 0)
                if came == 257:
                    break
            assert came == 257
    assert outcome.complete
    assert outcome.client.sent < 700
    assert not sum(outcome.lost.values())


def test_a_trace_joins_both_ends_and_shows_what_was_lost(lossy: Lab) -> None:
    outcome = send(lossy, "raw", 4, "selective repeat", octets=300_000, trace=True)
    assert outcome.complete
    assert outcome.trace is not None
    assert lossy.relay is not None
    sent = {event.packet: event for event in outcome.trace.of("send")}
    arrived = {event.packet: event for event in outcome.trace.of("arrive")}
    lost = {event.packet for event in outcome.trace.of("drop")}
    assert len(sent) == outcome.client.sent + outcome.server.sent  # type: ignore[union-attr]
    assert lost
    assert not lost & arrived.keys()
    under_way = sent.keys() - lost - arrived.keys()  # when the run ended
    slowest = max(event.time_ns - sent[number].time_ns for number, event in arrived.items())
    end = outcome.trace.events[-1].time_ns
    assert all(sent[number].time_ns + slowest >= end for number in under_way)
    for number, event in arrived.items():
        assert event.octets == sent[number].octets
        assert 2 * 10**6 <= event.time_ns - sent[number].time_ns < 10**9  # the link's delay
    kinds = {event.kind for event in outcome.trace}
    assert kinds >= {"send", "arrive", "drop", "deliver", "tell", "app", "metric"}
    assert outcome.trace.events[0].time_ns == 0
