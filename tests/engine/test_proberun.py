"""Runs of probes: each leaves once a round, also where the way is narrow; refusals are told."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

import pytest
from oracles import oracle

from rawkit.engine import PacketSocket, RawIPSocket
from rawkit.engine.probe import CLOSED, Board, ProbePlan
from rawkit.engine.proberun import Inlet, ProbeRun
from rawkit.lab import Lab
from rawkit.wire import TCP, Ether, IPv4

pytestmark = pytest.mark.net

KEY = bytes(16)
SPORT = 40000
PORTS = range(20000, 20300)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


def plan(lab: Lab, target: str, addresses_n: int, ports: Sequence[int], link: bytes = b"") -> ProbePlan:
    template = bytes(IPv4(src=lab.a.ipv4, dst="0.0.0.0") / TCP(sport=SPORT, flags="S"))
    return ProbePlan(template, [(ip_address(target).packed, addresses_n)], ports, KEY, link)


def open_receiver() -> PacketSocket:
    return PacketSocket(None, cooked=True, protocol=0x0800, filter=f"tcp dst port {SPORT}")


def finish(run: ProbeRun, n: int) -> None:
    """Until all have answered."""
    give_up = time.monotonic() + 30
    while run.board.left and time.monotonic() < give_up:
        run.step(n, [CLOSED], 0.01)


def test_what_a_full_queue_did_not_take_leaves_later(lab: Lab) -> None:
    tc = oracle("tc")
    narrow = "qdisc add dev veth0 root tbf rate 16kbit burst 3000 limit 3000"
    lab.a.run([tc, *narrow.split()], check=True)
    link = bytes(Ether(dst=lab.b.mac, src=lab.a.mac, ethertype=0x0800))
    board = Board(plan(lab, str(lab.b.ipv4), 1, PORTS, link), len(PORTS))
    with lab.a:
        sender, receiver = PacketSocket("veth0", protocol=0), open_receiver()
    with sender, receiver:
        run = ProbeRun(board, [sender], Inlet([receiver], [board], 256), 128)
        sent = 0
        while not run.queue_full:
            assert run.step(len(PORTS) - sent, [CLOSED], 0.01) == []
            sent += run.sent
        assert 0 < sent < 200
        assert run.cursor == sent < board.cursor
        assert not run.refused
        assert not run.round_over
        lab.a.run([tc, "qdisc", "del", "dev", "veth0", "root"], check=True)
        left = len(PORTS) - sent
        sent = 0
        while not run.round_over:
            run.step(len(PORTS), [CLOSED], 1)
            sent += run.sent
        assert sent == left
        assert {board.probes(row) for row in range(board.rows_n)} == {1}
        board.next_round()  # what was in the queue is gone with it
        finish(run, len(PORTS))
        assert board.left == 0
        assert board.counted == len(PORTS)
        assert board.timing.timed <= len(PORTS)


def test_what_is_refused_is_told_and_the_rest_goes_on(lab: Lab) -> None:
    lab.b.run(["ip", "route", "add", "local", "10.78.0.0/24", "dev", "lo"], check=True)
    lab.a.run(f"ip route add 10.78.0.0/24 via {lab.b.ipv4}".split(), check=True)
    lab.a.run(["ip", "route", "add", "prohibit", "10.78.0.100/30"], check=True)
    board = Board(plan(lab, "10.78.0.0", 256, [80]), 256)
    with lab.a:
        sender, receiver = RawIPSocket(4, 255), open_receiver()
    with sender, receiver:
        run = ProbeRun(board, [sender], Inlet([receiver], [board], 256), 128)
        refused = []
        while not run.round_over:
            run.step(256, [CLOSED], 1)
            refused += run.refused
        assert [(board.target(row)[0], error.errno) for row, error in refused] == [
            (bytes([10, 78, 0, 100 + i]), errno.EACCES) for i in range(4)
        ]
        finish(run, 0)
        assert (board.left, board.counted) == (0, 252)
