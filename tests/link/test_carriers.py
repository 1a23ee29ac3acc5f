"""What carriers make and take: IP packets, fragments, ICMP errors, neighbours, losses in this host."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from typing import Any

import pytest
from link.wired import address

from rawkit.errors import EngineError, TargetError
from rawkit.lab import Lab
from rawkit.link import L2, UDP, Carrier, Flow, RawIP, Stack, run
from rawkit.link.carrier import LEAST_MTU
from rawkit.link.wholeip import WholeIP
from rawkit.net import neighbour
from rawkit.tools.labrun import open_carrier
from rawkit.transport import App, Close, MtuChanged, Unreachable, Write
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat
from rawkit.transport.protocols.stop_and_wait import StopAndWait
from rawkit.wire import IPv4, IPv6, Packet, checksum
from rawkit.wire.header import Header

pytestmark = pytest.mark.net


class Bench(WholeIP):
    """A carrier with nothing behind it, to look at the octets."""

    descriptors = receive = send = flush = count_overflow = None  # type: ignore[assignment]


Bench.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]


class Noting(SelectiveRepeat):
    """Notes what the network says of its path."""

    def on_open(self, cx: Any, role: Any) -> None:
        self.said: list[Any] = []
        super().on_open(cx, role)

    def on_path(self, cx: Any, event: Any) -> None:
        self.said.append(event)
        super().on_path(cx, event)


def until(condition: Callable[[], bool], *stacks: Stack) -> None:
    assert run(stacks, condition, 10), "it did not happen within 10 s"


# ---- IP packets made here ------------------------------------------------------------------------------


@pytest.mark.parametrize(("local", "remote"), [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")])
def test_packets_made_here_have_right_lengths_and_checksums_and_come_back_as_they_were(
    local: str, remote: str
) -> None:
    near, far = Bench(local, 253), Bench(remote, 253)
    with near, far:
        near._way = lambda address, _: (local, 1500)  # type: ignore[method-assign]
        path = near.path(Flow("", 0, remote, 0))
        first: type[Header] = IPv4 if near.version == 4 else IPv6
        for payload in (b"", b"x", bytes(range(256)) * 4):
            packet = near.wrap(payload, path, 1)
            parsed = Packet.parse(packet, first=first)
            assert parsed.error is None
            assert {verdict.state for verdict in parsed.checksums()} <= {"good"}
            assert bytes(parsed.payload) == payload
            assert far.unwrap(packet) == (payload, Flow(remote, 0, local, 0), 1)
            assert near.unwrap(packet) is None  # it is for somebody else


@pytest.mark.parametrize("own", ["192.0.2.1", "2001:db8::1"])
def test_no_octets_whatever_make_reading_packets_fail(own: str) -> None:
    chance = random.Random(3)
    with Bench(own, 253) as carrier:
        carrier._way = lambda address, _: (own, 1500)  # type: ignore[method-assign]
        whole = carrier.wrap(bytes(40), carrier.path(Flow("", 0, own, 0)), 0)
        for number in range(3000):
            octets = bytearray(whole)
            for _ in range(number % 5):
                octets[chance.randrange(len(octets))] = chance.randrange(256)
            if number % 3 == 0:
                octets = octets[: chance.randrange(len(octets))]
            elif number % 7 == 0:
                octets = bytearray(chance.randbytes(chance.randrange(80)))
            found = carrier.unwrap(bytes(octets))
            assert found is None or len(found[0]) <= 40
        assert carrier.unwrap(whole) is not None


# ---- between hosts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", ["raw", "packet"])
@pytest.mark.parametrize("version", [4, 6])
def test_fragments_come_as_the_packet_that_they_were(lab: Lab, over: str, version: int) -> None:
    payload = bytes(range(250)) * 16
    with open_carrier(lab, lab.b, over, version) as carrier:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        target = carrier.local or address(lab, "b", version)
        found: list[tuple[bytes, Flow, int]] = []
        with lab.a, socket.socket(family, socket.SOCK_RAW, 253) as kernel:
            kernel.sendto(payload, (target, 0))
            for _ in range(1000):
                found += carrier.receive()
                if found:
                    break
                carrier.flush()
                neighbour(target, "veth0", timeout=0.01)
        assert [(octets, flow.remote) for octets, flow, _ in found] == [(payload, address(lab, "a", version))]


@pytest.mark.parametrize("version", [4, 6])
def test_the_kernel_finds_the_address_of_a_carrier_on_the_link(lab: Lab, version: int) -> None:
    with open_carrier(lab, lab.b, "packet", version) as carrier:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        with lab.a, socket.socket(family, socket.SOCK_DGRAM) as kernel:
            kernel.sendto(b"?", (carrier.local, 9))
            found = None
            for _ in range(1000):
                carrier.receive()
                found = neighbour(carrier.local, "veth0", timeout=0.01)
                if found is not None:
                    break
        assert found == lab.b.mac


def test_off_the_link_a_gateway_is_needed(lab: Lab) -> None:
    with lab.b, L2("veth0", "10.77.0.9/24") as carrier, pytest.raises(EngineError, match="off the link"):
        carrier.path(Flow("", 0, "192.0.2.1", 0))


def test_nobody_at_an_address_of_the_link_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rawkit.link.l2._ASK_AGAIN_NS", 10**6)
    carrier = open_carrier(lab, lab.a, "packet")
    with Stack(carrier, StopAndWait) as stack:
        endpoint = StopAndWait(timeout_ns=2 * 10**6)
        said: list[Any] = []
        endpoint.on_path = lambda cx, event: said.append(event)  # type: ignore[method-assign]
        stack.connect(endpoint, "10.77.0.200")
        until(lambda: bool(said), stack)
        assert isinstance(said[0], Unreachable)
        assert "host unreachable" in said[0].reason


@pytest.mark.parametrize(
    ("over", "version", "reason"),
    [
        ("raw", 4, "protocol unreachable"),
        ("raw", 6, "parameter problem, code 1"),
        ("udp", 4, "port unreachable"),
        ("udp", 6, "port unreachable"),
    ],
)
def test_icmp_errors_reach_the_endpoint_that_they_quote(
    lab: Lab, over: str, version: int, reason: str
) -> None:
    carrier = open_carrier(lab, lab.a, over, version)
    with Stack(carrier, Noting) as stack:
        endpoint = Noting()
        stack.connect(endpoint, address(lab, "b", version), 4000 if over == "udp" else 0)
        until(lambda: bool(endpoint.said), stack)
        assert endpoint.said[0].reason == reason


def test_an_error_about_the_exchange_of_another_reaches_nobody(lab: Lab) -> None:
    with open_carrier(lab, lab.a, "raw") as other, Stack(open_carrier(lab, lab.a, "raw"), Noting) as stack:
        path = other.path(Flow("", 0, "10.77.0.2", 0))
        other.send(bytes(16), path, 0)
        other.flush()
        until(lambda: stack.counts["trouble of others"] == 1, stack)


@pytest.fixture
def narrow() -> Any:
    """A router in between, behind which packets of 1300 octets pass; no kernel knows of it yet."""
    with Lab.chain(1, mtus={1: 1300}) as chain:
        yield chain


@pytest.mark.parametrize("over", ["raw", "udp"])
@pytest.mark.parametrize("version", [4, 6])
def test_a_narrow_path_is_found_by_the_icmp_errors_of_its_routers(
    narrow: Any, over: str, version: int
) -> None:
    data = bytes(range(250)) * 80
    app = App()
    near, far = open_carrier(narrow, narrow.a, over, version), open_carrier(narrow, narrow.b, over, version)
    with Stack(near, Noting) as a, Stack(far, Noting) as b:
        b.listen(Noting, lambda: app, lambda driver: None)
        endpoint = Noting()
        remote = str(narrow.b.ipv4 if version == 4 else narrow.b.ipv6)
        driver = a.connect(endpoint, remote, getattr(far, "port", 0))
        assert driver.path.mtu == 1500
        driver.do(Write(data))
        driver.do(Close())
        until(lambda: sum(map(len, app.received)) == len(data), a, b)
        assert b"".join(app.received) == data
        changes = {event.mtu for event in endpoint.said if isinstance(event, MtuChanged)}
        assert changes == {1300}
        assert driver.path.mtu == 1300


def test_no_error_takes_a_path_below_the_least(lab: Lab) -> None:
    with Stack(open_carrier(lab, lab.a, "raw"), Noting) as stack:
        driver = stack.connect(Noting(), "10.77.0.2")
        quoted = bytes(IPv4(src="10.77.0.1", dst="10.77.0.2", protocol=253) / bytes(8))
        with lab.b, socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as liar:
            body = bytes([3, 4, 0, 0, 0, 0, 0, 68]) + quoted
            value = (0xFFFF ^ checksum.add(0, body)).to_bytes(2, "big")
            liar.sendto(body[:2] + value + body[4:], ("10.77.0.1", 0))
        until(lambda: driver.path.mtu < 1500, stack)
        assert driver.path.mtu == LEAST_MTU[4]


@pytest.mark.parametrize("over", ["raw", "udp"])
def test_what_a_full_buffer_loses_is_counted_here(lab: Lab, over: str) -> None:
    with lab.b:
        small: Carrier = RawIP(253, buffer_len=20_000) if over == "raw" else UDP(buffer_len=20_000)
    with small, open_carrier(lab, lab.a, over) as sender:
        path = sender.path(Flow("", 0, "10.77.0.2", getattr(small, "port", 0)))
        for _ in range(200):
            sender.send(bytes(1000), path, 0)
            sender.flush()
        sent, got = 200, 0
        for _ in range(1000):
            got += len(small.receive())
            small.count_overflow()
            if got + small.lost["overflow"] == sent:
                break
            sender.send(bytes(1000), path, 0)  # UDP tells with the next packet
            sender.flush()
            sent += 1
        assert 0 < got < sent
        assert small.lost["overflow"] == sent - got


def test_ecn_codepoints_arrive(lab: Lab) -> None:
    for over in ("raw", "udp", "packet"):
        for version in (4, 6):
            with open_carrier(lab, lab.b, over, version) as b, open_carrier(lab, lab.a, over, version) as a:
                remote = b.local or address(lab, "b", version)
                path = a.path(Flow("", 0, remote, getattr(b, "port", 0)))
                found: list[tuple[bytes, Flow, int]] = []
                for ecn in range(4):
                    a.send(b"%d" % ecn, path, ecn)
                for _ in range(10_000):
                    a.flush()
                    a.receive()
                    found += b.receive()
                    if len(found) == 4:
                        break
                assert [(octets, ecn) for octets, _, ecn in found] == [(b"%d" % n, n) for n in range(4)]


def test_bad_addresses_and_numbers_are_refused_by_name(lab: Lab) -> None:
    for bad in (lambda: RawIP(0), lambda: RawIP(253, "10.77.0.1", version=6)):
        with lab.a, pytest.raises(TargetError):
            bad()
    with open_carrier(lab, lab.a, "raw") as carrier:
        for remote in ("here", "fd77::2"):
            with pytest.raises(TargetError, match=remote):
                carrier.path(Flow("", 0, remote, 0))
        with pytest.raises(EngineError, match="find a way"):
            carrier.path(Flow("", 0, "192.0.2.1", 0))
