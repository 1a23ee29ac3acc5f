"""The contract of endpoints: events in, actions out, nothing from outside; what is no packet is dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawkit.errors import FieldError, LocalProtocolError
from rawkit.transport import (
    Close,
    Closed,
    Connected,
    Context,
    Endpoint,
    Packet,
    Path,
    Substream,
    Write,
    draw,
    stream_key,
)
from rawkit.transport import events as ev
from rawkit.transport.protocols.go_back_n import GoBackN, GoBackNHeader
from rawkit.transport.protocols.nack_multicast import NackMulticast
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat, SelectiveRepeatHeader
from rawkit.transport.protocols.stop_and_wait import StopAndWait, StopAndWaitHeader
from rawkit.wire import TCP, UDP, Header, IPv4
from rawkit.wire.field import AUTO, auto, crc32c, field, inet_checksum, payload_length, u8, u16, u32

LOWER = IPv4(src="192.0.2.1", dst="192.0.2.2", protocol=253)
BACK = IPv4(src="192.0.2.2", dst="192.0.2.1", protocol=253)


def a_path(**changes: Any) -> Path:
    return Path("192.0.2.1", "192.0.2.2", lower=LOWER, lower_back=BACK, **changes)


class Echo(Endpoint, header=StopAndWaitHeader):
    """Asks for one of everything."""

    def on_open(self, cx: Context, role: ev.Role) -> None:
        cx.timer("a", after=5)
        cx.timer("b", at=cx.now + 7)
        cx.cancel("a")
        cx.trace("opened", role=role)

    def on_packet(self, cx: Context, packet: Packet) -> None:
        cx.send(StopAndWaitHeader(seq=packet.header.seq), packet.payload, ecn=packet.ecn)
        cx.deliver(packet.payload)
        cx.metric(size=len(packet.payload))

    def on_timer(self, cx: Context, name: str, path: Path) -> None:
        cx.event(Connected())

    def on_app(self, cx: Context, operation: Any) -> None:
        cx.send(StopAndWaitHeader(), operation.data, at=cx.now + 3)

    def on_path(self, cx: Context, event: ev.PathEvent) -> None:
        cx.done()


def test_what_a_handler_asks_for_comes_back_in_order() -> None:
    path = a_path()
    echo = Echo()
    assert echo.feed(100, ev.Open("client", path)) == [
        ev.SetTimer("a", 105, path),
        ev.SetTimer("b", 107, path),
        ev.CancelTimer("a", path),
        ev.Note("opened", {"role": "client"}),
    ]
    octets = bytes(StopAndWaitHeader(seq=9)._pack(b"hello", None, None)) + b"hello"
    assert echo.feed(200, ev.Arrival(octets, path, 3)) == [
        ev.Send(octets, path, 3, 0),
        ev.Deliver(b"hello"),
        ev.Metric({"size": 5}),
    ]
    assert echo.feed(300, ev.Fired("b", path)) == [ev.Tell(Connected())]
    (sent,) = echo.feed(400, Write(b"x"))
    assert (sent.octets[-1:], sent.at_ns) == (b"x", 403)
    assert echo.feed(500, ev.Unreachable(path, "port unreachable")) == [ev.Done()]


def test_an_endpoint_that_lingers_says_so_once_and_is_done_after_the_last_question() -> None:
    class Lingering(Echo, header=StopAndWaitHeader):
        def on_packet(self, cx: Context, packet: Packet) -> None:
            cx.linger(50)

    path, endpoint = a_path(), Lingering()
    question = ev.Arrival(bytes(StopAndWaitHeader()), path)
    endpoint.feed(0, ev.Open("server", path))
    assert endpoint.feed(0, ev.Fired("linger", path)) == [ev.Tell(Connected())]  # a timer like any other
    assert endpoint.feed(100, question) == [ev.Tell(Closed()), ev.SetTimer("linger", 150, path)]
    assert endpoint.feed(120, question) == [ev.SetTimer("linger", 170, path)]
    assert endpoint.feed(170, ev.Fired("linger", path)) == [ev.Done()]


@pytest.mark.parametrize("n", [0, 1, 1474, 1475, 4000])
def test_pieces_fit_the_path_and_are_the_data(n: int) -> None:
    path, endpoint, data = a_path(), Echo(), bytes(i % 251 for i in range(n))
    pieces = list(endpoint.pieces(path, data))
    assert b"".join(pieces) == data
    assert [len(piece) for piece in pieces[:-1]] == [1474] * (-(-n // 1474) - 1)
    assert all(endpoint.feed(0, Write(piece)) for piece in pieces)


def test_octets_that_are_no_packet_are_dropped_and_counted_by_reason() -> None:
    path, echo = a_path(), Echo()
    good = StopAndWaitHeader(seq=9)._pack(b"hello", None, None) + b"hello"
    for octets in (b"", good[:5], good[:-1], good[:-1] + b"x", good + b"y", bytes(11)):
        echo.feed(0, ev.Arrival(octets, path))
    assert echo.dropped == {"truncated": 2, "checksum": 4}


def test_a_wrong_subclass_or_request_is_the_authors_mistake() -> None:
    with pytest.raises(TypeError, match="Mine: which header"):
        type("Mine", (Endpoint,), {})

    class Wrong(Echo):
        def on_app(self, cx: Context, operation: Any) -> None:
            if operation == "past":
                cx.timer("t", at=cx.now - 1)
            elif operation == "both":
                cx.timer("t", at=5, after=5)
            elif operation == "large":
                cx.send(StopAndWaitHeader(), bytes(1475))
            elif operation == "value":
                cx.send(StopAndWaitHeader(seq=256))
            elif operation == "late":
                cx.done()
                cx.deliver(b"")
            else:
                self.kept = cx

    wrong = Wrong()
    wrong.feed(100, ev.Open("client", a_path()))
    for operation, message in (
        ("past", "timer 't': 1 ns in the past"),
        ("both", "give one of at= and after="),
        ("large", "a packet of 1481 octets, there is room for 1480"),
        ("late", "after done"),
    ):
        with pytest.raises(LocalProtocolError, match=message):
            wrong.feed(100, operation)
    with pytest.raises(FieldError, match="seq: 256 does not fit 8 bits"):
        wrong.feed(100, "value")


class Plain(Header):
    number: u8 = 0


class Sum(Header):
    number: u8 = 0
    unused: u8 = 0
    checksum: u16 = auto(inet_checksum)


class SumWithAddresses(Header):
    number: u16 = 0
    checksum: u16 = auto(inet_checksum, pseudo_header=True)


class Crc(Header):
    number: u32 = 0
    checksum: u32 = auto(crc32c)
    length: u16 = auto(payload_length)


class Two(Header):
    number: u32 = 0
    head: u16 = auto(inet_checksum, payload=False)
    whole: u32 = auto(crc32c)
    kind: u8 = field(0, names={1: "x"})


class NamesOfTheEncoder(Header):
    pack: u8 = field(...)
    value: u8 = 0
    path: u16 = 0
    payload: u16 = auto(payload_length)
    checksum: u16 = auto(inet_checksum)


VALUES = st.one_of(st.integers(-1, 1 << 33), st.sampled_from(["ACK", "nonsense", None, 1.5, AUTO, [(1, 2)]]))


@pytest.mark.parametrize(
    "header",
    [
        Plain,
        Sum,
        SumWithAddresses,
        Crc,
        Two,
        NamesOfTheEncoder,
        UDP,
        TCP,
        GoBackNHeader,
        SelectiveRepeatHeader,
    ],
)
@given(payload=st.binary(max_size=41), data=st.data())
def test_encoding_in_one_step_gives_and_raises_what_the_header_does(  # type: ignore[no-untyped-def]
    header, payload, data
) -> None:
    class Any_(Endpoint, header=header):
        """Only its encoder is wanted."""

    names = [row.name for row in header.fields]
    required = [row.name for row in header.fields if row.spec.default is ...]
    chosen = dict.fromkeys(required, 1) | data.draw(
        st.dictionaries(st.sampled_from(names), VALUES, max_size=3)
    )
    path = a_path()

    def outcome(make: Callable[[], bytes]) -> bytes | str:
        try:
            return make()
        except (FieldError, TypeError) as error:
            return repr(error)

    in_two = outcome(lambda: header(**chosen)._pack(payload, path.lower, None) + payload)
    assert outcome(lambda: Any_().encode(path, payload, **chosen)) == in_two


@pytest.mark.parametrize("header", [Sum, SumWithAddresses, Crc, Two])
@given(number=st.integers(0, 255), payload=st.binary(max_size=40), data=st.data())
def test_checksums_of_every_kind_are_filled_in_and_verified(  # type: ignore[no-untyped-def]
    header, number, payload, data
) -> None:
    class Note(Endpoint, header=header):
        def on_open(self, cx: Context, role: ev.Role) -> None:
            self.got: list[tuple[int, bytes]] = []

        def on_app(self, cx: Context, operation: Any) -> None:
            cx.send(header(number=number), operation)

        def on_packet(self, cx: Context, packet: Packet) -> None:
            self.got.append((packet.header.number, packet.payload))

    here = a_path()
    there = Path(here.remote, here.local, lower=BACK, lower_back=LOWER)
    sender, receiver = Note(), Note()
    sender.feed(0, ev.Open("client", here))
    receiver.feed(0, ev.Open("server", there))
    ((octets, *_),) = sender.feed(0, payload)
    receiver.feed(0, ev.Arrival(octets, there))
    assert receiver.got == [(number, payload)]
    bit = data.draw(st.integers(0, len(octets) * 8 - 1))
    damaged = bytearray(octets)
    damaged[bit // 8] ^= 0x80 >> bit % 8
    receiver.feed(0, ev.Arrival(bytes(damaged), there))
    if bytes(damaged) != octets and (header is not Crc or bit < 64):
        assert receiver.got == [(number, payload)]


def test_a_header_without_checksum_lets_everything_pass() -> None:
    class Trusting(Echo, header=Plain):
        def on_packet(self, cx: Context, packet: Packet) -> None:
            cx.deliver(packet.payload)

    trusting = Trusting()
    trusting.feed(0, ev.Open("client", a_path()))
    assert trusting.feed(0, ev.Arrival(b"\x05abc", a_path())) == [ev.Deliver(b"abc")]


PROTOCOLS = [StopAndWait, GoBackN, SelectiveRepeat]


def check_hostile(protocol: type[Endpoint], seed: int, n: int, role: ev.Role) -> None:
    """Feed `n` random packets, half of them sound but absurd; nothing may raise or grow."""
    stream, path = Substream(seed, protocol.__name__), a_path()
    endpoint = protocol()
    endpoint.feed(0, ev.Open(role, path))
    endpoint.feed(0, Write(bytes(1200)))
    fields = [(row.name, row.width) for row in protocol.header.fields if row.spec.rule is None and row.width]
    for now in range(1, n + 1):
        if stream.below(2):
            octets = stream.octets(stream.below(40))
        else:
            values = {}
            for name, width in fields:
                # Near 0, where the endpoint's own numbers are, and anywhere.
                values[name] = stream.below(1 << min(width, 3 if stream.below(2) else width))
            payload = stream.octets(stream.below(20))
            octets = protocol.header(**values)._pack(payload, BACK, None) + payload
        actions = endpoint.feed(now, ev.Arrival(octets, path))
        assert len(actions) < 200
        if any(isinstance(action, ev.Done) for action in actions):
            endpoint = protocol()
            endpoint.feed(now, ev.Open(role, path))
            endpoint.feed(now, Write(bytes(1200)))


FUZZED = [*PROTOCOLS, NackMulticast]


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("protocol", FUZZED)
def test_random_packets_never_raise(protocol: type[Endpoint], role: ev.Role) -> None:
    check_hostile(protocol, 1, 5000, role)


@pytest.mark.slow
@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("protocol", FUZZED)
def test_a_million_random_packets_never_raise(protocol: type[Endpoint], role: ev.Role) -> None:
    check_hostile(protocol, 2, 1_000_000, role)


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("protocol", FUZZED)
@given(octets=st.binary(max_size=60))
def test_arbitrary_octets_never_raise(protocol: type[Endpoint], role: ev.Role, octets: bytes) -> None:
    endpoint, path = protocol(), a_path()
    endpoint.feed(0, ev.Open(role, path))
    endpoint.feed(1, ev.Arrival(octets, path))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_writing_after_the_end_is_refused(protocol: type[Endpoint]) -> None:
    endpoint = protocol()
    endpoint.feed(0, ev.Open("client", a_path()))
    endpoint.feed(0, Close())
    with pytest.raises(LocalProtocolError, match="Write after Close"):
        endpoint.feed(0, Write(b"x"))


def test_splitmix64_gives_the_published_numbers() -> None:
    # The reference implementation (Vigna, splitmix64.c) with the seed 1234567.
    assert [draw(1234567, n) for n in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_streams_depend_on_their_names_only() -> None:
    assert stream_key(1, "a") != stream_key(1, "b") != stream_key("1", "b")
    one, other = Substream(1, "x"), Substream(1, "x")
    assert [one.random() for _ in range(5)] == [other.random() for _ in range(5)]
    numbers = [one.below(10) for _ in range(20_000)]
    assert all(numbers.count(n) == pytest.approx(2000, rel=0.1) for n in range(10))
    assert sum(one.exponential(3.0) for _ in range(20_000)) / 20_000 == pytest.approx(3.0, rel=0.03)
    assert len(one.octets(13)) == 13
