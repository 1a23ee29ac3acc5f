"""Ping by TCP, UDP and on the link, beside the kernel of the other host; nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator

import pytest

from rawkit.errors import NoRoute, TargetError
from rawkit.lab import Lab
from rawkit.tools.pinger import PingConfig
from rawkit.tools.pingresult import PingError, PingReply, PingTimeout
from rawkit.tools.probeping import ProbePing

pytestmark = pytest.mark.net

TWICE = PingConfig(count=2, interval_ns=10_000_000, timeout_ns=5_000_000_000)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


def both(lab: Lab) -> list[str]:
    return [str(lab.b.ipv4), str(lab.b.ipv6)]


def open_ping(
    lab: Lab, targets: list[str], kind: str, port: int | None = None, config: PingConfig = TWICE
) -> ProbePing:
    with lab.a:
        return ProbePing(targets, kind, port, config)


def run(lab: Lab, session: ProbePing) -> list[PingReply | PingTimeout | PingError]:
    with lab.a:  # each round opens sockets of its own
        return list(session)


def test_tcp_open_and_closed(lab: Lab) -> None:
    with lab.b:
        listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    with listener:
        port = listener.getsockname()[1]
        session = open_ping(lab, both(lab), "tcp", port)
        events = run(lab, session)
        assert [type(event) for event in events] == [PingReply] * 4
        assert {event.detail for event in events if isinstance(event, PingReply)} == {f"port {port} open"}
        assert {event.tx_stamp for event in events if isinstance(event, PingReply)} == {"kernel"}
        assert [(summary.sent, summary.received, summary.loss) for summary in session.summaries] == [
            (2, 2, 0)
        ] * 2
        listener.settimeout(0.05)
        with pytest.raises(TimeoutError):  # the kernel reset what was half open: nothing was ever accepted
            listener.accept()
    events = run(lab, open_ping(lab, both(lab), "tcp", port))
    assert {event.detail for event in events if isinstance(event, PingReply)} == {f"port {port} closed"}


def test_udp_answers_and_closed(lab: Lab) -> None:
    lab.b.serve("echo")
    events = run(lab, open_ping(lab, both(lab), "udp", 7))
    assert {event.detail for event in events if isinstance(event, PingReply)} == {"port 7 answers"}
    assert len(events) == 4
    events = run(lab, open_ping(lab, both(lab), "udp", 9))
    assert {event.detail for event in events if isinstance(event, PingReply)} == {"port 9 closed"}
    assert len(events) == 4


def test_link(lab: Lab) -> None:
    absent = "10.77.0.99"
    config = PingConfig(count=1, timeout_ns=300_000_000)
    session = open_ping(lab, [*both(lab), absent], "arp", None, config)
    events = run(lab, session)
    assert (
        sorted(event.detail for event in events if isinstance(event, PingReply)) == [f"is at {lab.b.mac}"] * 2
    )
    assert [event.address for event in events if isinstance(event, PingTimeout)] == [absent]


def test_errors_on_the_way_are_told() -> None:
    with Lab.chain(3) as lab:
        router = lab.routers[0]
        router.run(["ip", "route", "add", "unreachable", "198.51.100.0/24"], check=True)
        lab.a.run(
            ["ip", "route", "add", "198.51.100.0/24", "via", str(router.ipv4), "dev", "veth0", "onlink"]
        )
        with lab.a:
            events = list(ProbePing(["198.51.100.1"], "tcp", 80, PingConfig(count=1)))
    (error,) = events
    assert isinstance(error, PingError)
    assert (error.icmp_type, error.icmp_code) == (3, 1)


def test_asyncio_and_cancelling_leave_nothing(lab: Lab) -> None:
    before = len(os.listdir("/proc/self/fd"))

    async def main() -> list[str]:
        session = ProbePing([str(lab.b.ipv4)], "tcp", 9, PingConfig(interval_ns=3600 * 10**9))
        found: list[str] = []

        async def listen() -> None:
            async for event in session:
                found.append(type(event).__name__)

        task = asyncio.ensure_future(listen())
        while not found:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return found

    with lab.a:
        assert asyncio.run(main()) == ["PingReply"]
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_makes_no_sense(lab: Lab) -> None:
    with lab.a:
        for kind, port in (("sctp", 1), ("tcp", None), ("udp", 70000), ("arp", 1)):
            with pytest.raises(ValueError, match="kind|port"):
                ProbePing([str(lab.b.ipv4)], kind, port)
        with pytest.raises(TargetError, match="not a neighbour"):
            list(ProbePing(["127.0.0.1"], "arp"))
        with pytest.raises(NoRoute):
            list(ProbePing(["203.0.113.1"], "tcp", 1))
