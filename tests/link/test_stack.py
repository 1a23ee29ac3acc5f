"""Whose packet it is: exchanges, listeners, ports of every kind, and beginnings that come to nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rawkit.errors import EngineError, TargetError
from rawkit.lab import Lab
from rawkit.link import Carrier, Flow, LinkDriver, RawIP, Stack, WireTrace, run
from rawkit.sim import ladder
from rawkit.tools.labrun import open_carrier
from rawkit.transport import App, Endpoint, Write
from rawkit.transport.protocols.go_back_n import GoBackN
from rawkit.transport.protocols.stop_and_wait import StopAndWait
from rawkit.wire import role
from rawkit.wire.field import field, u4, u8, u16
from rawkit.wire.header import Header

pytestmark = pytest.mark.net


class PortHeader(Header):
    kind: u8 = 0
    sport: u16 = field(0, role=role.src_port)
    dport: u16 = field(0, role=role.dst_port)


class NumberHeader(Header):
    connection: u8 = field(0, role=role.conn_id)


class OddHeader(Header):
    kind: u4 = 0
    sport: u16 = field(0, role=role.src_port)
    dport: u16 = field(0, role=role.dst_port)
    rest: u4 = 0


class Ported(Endpoint, header=PortHeader):
    """Sends what is written in one packet, and delivers what comes."""

    def on_app(self, cx: Any, operation: Any) -> None:
        cx.send(PortHeader(sport=cx.path.local_port, dport=cx.path.remote_port), operation.data)

    def on_packet(self, cx: Any, packet: Any) -> None:
        cx.deliver(packet.payload)


class Numbered(Endpoint, header=NumberHeader):
    """The same, by the connection's number."""

    def on_app(self, cx: Any, operation: Any) -> None:
        cx.send(NumberHeader(connection=cx.path.local_port), operation.data)

    def on_packet(self, cx: Any, packet: Any) -> None:
        cx.deliver(packet.payload)


class Odd(Endpoint, header=OddHeader):
    """Ports that begin in the middle of an octet."""


def until(condition: Callable[[], bool], *stacks: Stack) -> None:
    assert run(stacks, condition, 10), "it did not happen within 10 s"


class Side:
    """A stack that notes what is begun with it and delivered."""

    def __init__(self, carrier: Carrier, protocol: type[Endpoint], **options: Any) -> None:
        self.stack = Stack(carrier, protocol, **options)
        self.protocol = protocol
        self.begun: list[LinkDriver] = []

    def listen(self, port: int = 0, local: str = "", **options: Any) -> list[App]:
        """The applications of the listener, in the order in which they were made."""
        apps: list[App] = []

        def app() -> App:
            apps.append(App())
            return apps[-1]

        self.stack.listen(self.protocol, app, self.begun.append, port=port, local=local, **options)
        return apps

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stack.close()


def pair(lab: Lab, protocol: type[Endpoint], **options: Any) -> tuple[Side, Side]:
    return (
        Side(open_carrier(lab, lab.a, "raw"), protocol, **options),
        Side(open_carrier(lab, lab.b, "raw"), protocol, **options),
    )


def test_the_exchange_comes_first_then_the_listener_on_the_address_then_on_the_port(lab: Lab) -> None:
    a, b = pair(lab, Ported)
    with a, b:
        anywhere, here, other = b.listen(7), b.listen(7, "10.77.0.2"), b.listen(8)
        client = a.stack.connect(Ported(), "10.77.0.2", 7)
        client.do(Write(b"one"))
        client.do(Write(b"two"))
        until(lambda: bool(here) and len(here[0].received) == 2, a.stack, b.stack)
        assert here[0].received == [b"one", b"two"]
        assert (len(anywhere), len(here), len(other)) == (0, 1, 0)
        assert b.begun[0].path.remote_port == client.path.local_port >= 49152
        b.stack.listeners["10.77.0.2", 7].close()
        a.stack.connect(Ported(), "10.77.0.2", 7).do(Write(b"three"))
        until(lambda: bool(anywhere) and anywhere[0].received == [b"three"], a.stack, b.stack)
        client.do(Write(b"four"))  # what had begun goes on
        until(lambda: here[0].received[-1] == b"four", a.stack, b.stack)


def test_answers_find_their_way_back_by_ports(lab: Lab) -> None:
    a, b = pair(lab, Ported)
    with a, b:
        b.listen(7)
        apps = [App() for _ in range(20)]
        for n, app in enumerate(apps):
            a.stack.connect(Ported(), "10.77.0.2", 7, app).do(Write(b"%d" % n))
        until(lambda: len(b.begun) == 20, a.stack, b.stack)
        for driver in b.begun:
            driver.do(Write(b"answer to " + driver.app.received[0]))
        until(lambda: all(app.received for app in apps), a.stack, b.stack)
        assert [app.received for app in apps] == [[b"answer to %d" % n] for n in range(20)]


def test_what_belongs_to_none_is_counted_and_handed_over(lab: Lab) -> None:
    seen: list[tuple[bytes, Flow]] = []
    a, b = pair(lab, Ported, on_unmatched=lambda octets, flow: seen.append((octets, flow)))
    with a, b:
        b.listen(7)
        client = a.stack.connect(Ported(), "10.77.0.2", 9)
        client.do(Write(b"?"))
        until(lambda: bool(seen), a.stack, b.stack)
        assert seen[0][1] == Flow("10.77.0.2", 9, "10.77.0.1", client.path.local_port)
        assert b.stack.counts["unmatched"] == 1
        a.stack.carrier.send(b"abc", client.path, 0)
        until(lambda: b.stack.counts["too short"] == 1, a.stack, b.stack)


def test_a_connection_number_stands_for_itself_whatever_the_addresses(lab: Lab) -> None:
    a, b = pair(lab, Numbered)
    with a, b:
        apps = b.listen()
        for n in range(5):
            a.stack.connect(Numbered(), "10.77.0.2").do(Write(b"%d" % n))
        until(lambda: len(b.begun) == 5, a.stack, b.stack)
        assert sorted(app.received[0] for app in apps) == [b"%d" % n for n in range(5)]
        numbers = {driver.path.local_port for driver in b.begun}
        assert len(numbers) == 5
        assert max(numbers) < 256
        # Another address, the same number: the same connection.
        driver = b.begun[0]
        number = driver.path.local_port
        b.stack._arrive(bytes([number]) + b"moved", Flow("10.77.0.2", 0, "10.77.0.77", 0), 0)
        assert driver.app.received[-1] == b"moved"


def test_protocols_without_ports_get_some_where_wanted_and_else_have_one_exchange(lab: Lab) -> None:
    a, b = pair(lab, StopAndWait, ports=True)
    with a, b:
        apps = b.listen(7)
        clients = [a.stack.connect(StopAndWait(), "10.77.0.2", 7) for _ in range(3)]
        for n, client in enumerate(clients):
            client.do(Write(bytes([n]) * 3000))
        until(lambda: sum(len(data) for app in apps for data in app.received) == 9000, a.stack, b.stack)
        assert sorted(app.received[0][0] for app in apps) == [0, 1, 2]
        assert clients[0].path.room == clients[0].path.mtu - 20 - 4
    a, b = pair(lab, StopAndWait)
    with a, b:
        a.stack.connect(StopAndWait(), "10.77.0.2")
        with pytest.raises(EngineError, match="there is such an exchange already"):
            a.stack.connect(StopAndWait(), "10.77.0.2")
        with pytest.raises(TargetError, match="no ports"):
            a.stack.connect(StopAndWait(), "10.77.0.2", 7)
        with pytest.raises(TargetError, match="no ports"):
            b.listen(7)


def test_two_listeners_on_one_place_and_ports_that_are_no_octets_are_refused(lab: Lab) -> None:
    with pytest.raises(TargetError, match="whole octets"), open_carrier(lab, lab.a, "raw") as carrier:
        Stack(carrier, Odd)
    with Side(open_carrier(lab, lab.a, "udp"), GoBackN) as side:
        side.listen()
        with pytest.raises(EngineError) as refused:
            side.listen()
        assert refused.value.errno == 98
        with pytest.raises(TargetError, match="the carrier has port"):
            side.listen(1)


class Shy(Endpoint, header=PortHeader):
    """Keeps what comes to itself; with a first octet of 1 it sets a timer."""

    def on_packet(self, cx: Any, packet: Any) -> None:
        if packet.header.kind:
            cx.timer("later", after=10**12)


def test_beginnings_that_come_to_nothing_are_bounded_and_forgotten(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rawkit.link.stack.HALF_OPEN_NS", 3 * 10**8)
    with Side(open_carrier(lab, lab.b, "raw"), Shy) as b:
        b.listen(7, backlog=5)
        come = lambda port, kind: b.stack._arrive(  # noqa: E731
            bytes(PortHeader(kind=kind, sport=port, dport=7)), Flow("10.77.0.2", 0, "10.77.0.1", 0), 0
        )
        for port in range(100):
            come(port, 0)
        assert b.stack.counts["no beginning"] == 100
        assert not b.stack.drivers
        for port in range(100):
            come(port, 1)
        assert len(b.stack.drivers) == 5
        assert b.stack.counts["backlog full"] == 95
        assert not b.begun
        until(lambda: not b.stack.drivers, b.stack)
        assert b.stack.counts["never begun"] == 5


def test_exchanges_that_have_begun_are_bounded_too(lab: Lab) -> None:
    with Side(open_carrier(lab, lab.b, "raw"), Ported) as b:
        b.listen(7, most=3)
        for port in range(10):
            octets = bytes(PortHeader(sport=port, dport=7)) + b"data"
            b.stack._arrive(octets, Flow("10.77.0.2", 0, "10.77.0.1", 0), 0)
        assert len(b.begun) == 3
        assert b.stack.counts["too many exchanges"] == 7


def test_timers_run_at_the_time_it_is_and_never_early(lab: Lab) -> None:
    fired: list[tuple[int, int]] = []

    class Ticking(Endpoint, header=PortHeader):
        def on_open(self, cx: Any, role: Any) -> None:
            for n in range(1, 6):
                cx.timer(f"t{n}", after=n * 3_000_000)
            cx.timer("moved", after=1_000_000)
            cx.timer("moved", after=4_000_000)  # looked at when the earlier time comes
            cx.timer("never", after=2_000_000)
            cx.cancel("never")
            self.start = cx.now

        def on_timer(self, cx: Any, name: str, path: Any) -> None:
            due = 4_000_000 if name == "moved" else int(name[1:]) * 3_000_000
            fired.append((due, cx.now - self.start))

    with open_carrier(lab, lab.a, "raw") as carrier, Stack(carrier, Ticking) as stack:
        stack.connect(Ticking(), "10.77.0.2", 1)
        until(lambda: len(fired) == 6, stack)
        assert len({due for due, _ in fired}) == 6
        assert all(at >= due for due, at in fired)


def test_a_trace_of_one_side_claims_nothing_of_the_other(lab: Lab) -> None:
    trace = WireTrace()
    a = Side(open_carrier(lab, lab.a, "raw"), GoBackN, name="a", trace=trace)
    b = Side(open_carrier(lab, lab.b, "raw"), GoBackN)
    with a, b:
        apps = b.listen()
        a.stack.connect(GoBackN(), "10.77.0.2").do(Write(bytes(3000)))
        until(lambda: bool(apps) and sum(map(len, apps[0].received)) == 3000, a.stack, b.stack)
        run([a.stack], lambda: len(list(trace.of("arrive"))) > 2, 10)
    trace.settle()
    assert not list(trace.of("drop"))
    assert {event.where for event in trace.of("send")} == {"a", "10.77.0.2"}
    assert {event.packet for event in trace.of("arrive")} <= {event.packet for event in trace.of("send")}
    drawn = ladder(trace, GoBackN.header)
    assert "ACK|DATA seq=1" in drawn
    assert "ACK seq=0 ack=4" in drawn


def test_a_carrier_bound_to_an_address_hears_nothing_for_others(lab: Lab) -> None:
    with lab.b:
        bound = RawIP(253, "10.77.0.2", filter="src host 10.77.0.77")
    with bound, open_carrier(lab, lab.a, "raw") as a, open_carrier(lab, lab.b, "raw") as all_of_it:
        a.send(b"x" * 20, a.path(Flow("", 0, "10.77.0.2", 0)), 0)
        a.flush()
        for _ in range(10_000):
            if all_of_it.receive():
                break
        assert bound.receive() == []
