"""Theory, E.2: automatic repeat request. Efficiency formulas against simulated runs.

Tx is the time a data packet takes on the wire, d the propagation delay, a = d / Tx, R the time-out from the
start of a transmission in units of Tx. Acknowledgements take no time on the wire: their direction has no
rate.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from rawkit.sim import Bernoulli, Driver, DropTail, LinkSpec, Schedule, Transfer, explore, p2p
from rawkit.sim.checker import QUICK
from rawkit.sim.gallery import WindowBeyondHalf, WindowOfAllNumbers
from rawkit.sim.transfer import Party, Result
from rawkit.transport import Context, Endpoint, Fixed, Packet, Write
from rawkit.transport.protocols.go_back_n import GoBackN, GoBackNHeader
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat
from rawkit.transport.protocols.stop_and_wait import StopAndWait

MS = 10**6
TX = MS  # 1500 octets at 12 Mbit/s
nightly = pytest.mark.slow


def link(a: float, p_data: float = 0.0, p_ack: float = 0.0) -> tuple[LinkSpec, LinkSpec]:
    """A line on which a data packet takes 1 ms, and acknowledgements none."""
    delay = f"{int(a * 1000)}us"
    forth = LinkSpec("12Mbit/s", delay, DropTail(), (Bernoulli(p_data),) if p_data else ())
    return forth, LinkSpec(None, delay, models=(Bernoulli(p_ack),) if p_ack else ())


def utilization(
    protocol: type[Endpoint],
    options: dict[str, Any],
    packets: int,
    room: int,
    links: tuple[LinkSpec, LinkSpec],
) -> tuple[float, Result]:
    """Share of the time in which new data was on the wire, from the first data packet to the last
    delivery.
    """
    run = Transfer(
        protocol,
        options,
        octets=packets * room,
        link=links[0],
        link_back=links[1],
        trace=False,
        seed=2,
        limit_ns=10**15,
    ).run()
    assert run.complete
    assert run.server_app.finished_ns is not None
    handshake = 2 * int(links[0].delay[:-2]) * 1000  # type: ignore[index]
    return packets * TX / (run.server_app.finished_ns - handshake), run


SW_ROOM = 1500 - 20 - 6
GBN_ROOM = 1500 - 20 - 10
SR_ROOM = 1500 - 20 - 16


def test_check_10_stop_and_wait_without_errors() -> None:
    u, _ = utilization(StopAndWait, {}, 2000, SW_ROOM, link(5))
    assert u == pytest.approx(1 / (1 + 2 * 5), rel=0.001)


@pytest.mark.parametrize("packets", [4000, pytest.param(40_000, marks=nightly)])
@pytest.mark.parametrize(("p_data", "p_ack", "r"), [(0.1, 0, 11), (0.1, 0, 22), (0.05, 0.05, 11)])
def test_check_11_stop_and_wait_with_losses(p_data: float, p_ack: float, r: int, packets: int) -> None:
    p = 1 - (1 - p_data) * (1 - p_ack)
    # The time-out must come after the acknowledgement, which is there after exactly 11.
    options = {"timeout_ns": r * TX + 1000, "numbers": 256, "linger_ns": 10**9}
    u, _ = utilization(StopAndWait, options, packets, SW_ROOM, link(5, p_data, p_ack))
    expected = 1 / (1 + 2 * 5 + r * p / (1 - p))
    assert u == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("packets", "rel"), [(5000, 0.025), pytest.param(40_000, 0.01, marks=nightly)])
def test_check_12_transmissions_per_delivered_packet(packets: int, rel: float) -> None:
    options = {"timeout_ns": 12 * TX, "numbers": 256}
    _, run = utilization(StopAndWait, options, packets, SW_ROOM, link(5, 0.2))
    assert run.directions[0].offered / packets == pytest.approx(1 / (1 - 0.2), rel=rel)


@pytest.mark.parametrize("packets", [6000, pytest.param(60_000, marks=nightly)])
@pytest.mark.parametrize(
    ("two_a", "p", "r"), [(10, 0.01, 11), (10, 0.05, 11), (20, 0.01, 21), (10, 0.01, 22)]
)
def test_check_13_go_back_n(two_a: int, p: float, r: int, packets: int) -> None:
    # The window is used up just when the timer of its oldest packet expires.
    options = {"window": r, "timeout_ns": r * TX + 1000, "gap_ns": TX}
    u, _ = utilization(GoBackN, options, packets, GBN_ROOM, link(two_a / 2, p))
    assert u == pytest.approx((1 - p) / (1 - p + p * r), rel=0.02 if packets > 10_000 else 0.04)


class Slotted(Fixed):
    """A fixed window, one segment in each slot, so that those which are lost take up time too."""

    @property
    def pacing_bps(self) -> int:
        return SR_ROOM * 8 * 10**9 // TX


@pytest.mark.parametrize("packets", [3000, pytest.param(60_000, marks=nightly)])
@pytest.mark.parametrize(("p", "window"), [(0.01, 22), (0.05, 44), (0.1, 44)])
def test_check_15_selective_repeat_is_ideal_with_a_window_of_several_round_trips(
    p: float, window: int, packets: int
) -> None:
    options = {
        "window": 1 << 20,
        "control": Slotted,
        "control_options": {"cwnd": window * SR_ROOM},
        "pacing": True,
        "min_rto_ns": 500 * MS,
    }
    u, _ = utilization(SelectiveRepeat, options, packets, SR_ROOM, link(5, p))
    assert u == pytest.approx(1 - p, rel=0.01 if packets > 10_000 else 0.025)


class TextbookGoBackN(Endpoint, header=GoBackNHeader):
    """Go-back-N as in textbooks: no handshake, M numbers, a fixed timer, eight packets."""

    numbers = 4
    window = 4

    def on_app(self, cx: Context, operation: Any) -> None:
        if isinstance(operation, Write):
            self.data = operation.data
            self.base = self.next = 0
            self.transmit(cx)

    def transmit(self, cx: Context) -> None:
        while self.next < min(self.base + self.window, len(self.data)):
            cx.send(GoBackNHeader(seq=self.next % self.numbers), self.data[self.next : self.next + 1])
            self.next += 1
        if self.base < self.next:
            cx.timer("t", after=100 * MS)

    def on_timer(self, cx: Context, name: str, path: object) -> None:
        self.next = self.base
        self.transmit(cx)

    def on_packet(self, cx: Context, packet: Packet) -> None:
        if packet.payload:
            self.expected = getattr(self, "expected", 0)
            if packet.header.seq == self.expected % self.numbers:
                self.expected += 1
                cx.deliver(packet.payload)
            cx.send(GoBackNHeader(flags="ACK", ack=self.expected % self.numbers))
        else:
            n = (packet.header.ack - self.base) % self.numbers
            if n <= self.next - self.base:
                self.base += n
            if self.base == self.next == len(self.data):
                cx.cancel("t")
            elif n:
                self.transmit(cx)


class FiveNumbers(TextbookGoBackN):
    numbers = 5


def textbook_violations(protocol: type[Endpoint]) -> list[tuple[int, ...]]:
    """Which schedules of at most 3 drops in the first 16 transmissions make it deliver what was never
    sent.
    """
    bad, tried = [], 0
    for k in range(4):
        for numbers in combinations(range(16), k):
            tried += 1
            network = p2p(LinkSpec("10Mbit/s", "10ms"))
            Schedule.drops(numbers).attach(network.links[0])
            data = bytes(range(1, 9))
            app = Party("server", network.clock, b"", data, 8)
            driver: Driver
            driver, other = network.connect(
                network.nodes["a"],  # type: ignore[arg-type]
                network.nodes["b"],  # type: ignore[arg-type]
                protocol(),
                protocol(),
                None,
                app,
            )
            other.open("server")
            driver.open("client")
            driver.do(Write(data))
            network.run(10 * 10**9)
            if app.wrong:
                bad.append(numbers)
    assert tried == 697
    return bad


def test_check_16_go_back_n_with_a_window_of_all_numbers_fails_after_three_drops() -> None:
    bad = textbook_violations(TextbookGoBackN)
    assert bad[0] == (4, 5, 6)
    assert len(bad) == 5


def test_check_16_one_number_more_than_the_window_is_enough() -> None:
    assert textbook_violations(FiveNumbers) == []


@pytest.mark.parametrize(
    ("sound", "broken", "options", "chunk", "octets"),
    [
        (GoBackN, WindowOfAllNumbers, {"window": 3, "bits": 2}, 1 << 62, 9000),
        (SelectiveRepeat, WindowBeyondHalf, {"mode": "messages", "window": 2, "bits": 2}, 1000, 8000),
    ],
    ids=["go-back-n, 2^m - 1", "selective repeat, 2^(m-1)"],
)
def test_check_16_the_limits_of_windows_are_exact(
    sound: type[Endpoint], broken: type[Endpoint], options: dict[str, Any], chunk: int, octets: int
) -> None:
    at_limit = Transfer(sound, options, octets=octets, chunk=chunk, link=QUICK, trace=False)
    assert explore(at_limit, drops=2, first=16).bad == ()
    above = Transfer(broken, options, octets=octets, chunk=chunk, link=QUICK, trace=False)
    found = explore(above, drops=3, first=16, stop=True)
    assert "than what was written" in found.bad[0].violation
    assert len(found.bad[0].transfer.schedule) == 3
    assert (
        Transfer(sound, options, octets, chunk=chunk, link=QUICK, schedule=found.bad[0].transfer.schedule)
        .run()
        .complete
    )
