"""Sweeps: who is alive, exactly, whatever stands in the way; beside fping; nothing left behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from live import before_long
from oracles import oracle

import rawkit
import rawkit.tools.sweep as sweep_module
from rawkit.addr import parse_target
from rawkit.errors import NoRoute, TargetError
from rawkit.lab import Lab
from rawkit.lab.setup import set_sysctls
from rawkit.tools.sweep import (
    ALIVE,
    DROPPED_HERE,
    NO_ANSWER,
    NO_NEIGHBOUR,
    UNREACHABLE,
    Sweep,
    SweepConfig,
    SweepResult,
    sweep,
)

pytestmark = pytest.mark.net

ALL = "10.78.0.0/19"  # the first half is alive, then come 256 from which nothing is heard, and four
# to which there is no way: the kernel tells that five times a second
ALIVE_N = 4096
SILENT = "10.78.16.0/24"
REFUSED = "10.78.17.8/30"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        for words in (
            "local 10.78.0.0/20 dev lo",
            f"blackhole {SILENT}",
            f"unreachable {REFUSED}",
            "local fd78::/116 dev lo",
        ):
            lab.b.run(["ip", "route", "add", *words.split()], check=True)
        with lab.b:
            set_sysctls({"net/ipv4/icmp_ratelimit": "0", "net/ipv4/ip_forward": "1"})
        lab.a.run(["ip", "route", "add", ALL, "via", str(lab.b.ipv4)], check=True)
        lab.a.run(["ip", "route", "add", "fd78::/112", "via", str(lab.b.ipv6)], check=True)
        yield lab


def reasons(results: list[SweepResult]) -> Counter[str]:
    return Counter(result.reason for result in results)


@pytest.mark.parametrize("targets", ["10.78.0.0/20", "fd78::/116"])
def test_everybody_is_alive(lab: Lab, targets: str) -> None:
    """4096 addresses, from two processors where there are two; each once, with a time."""
    with lab.a:
        session = sweep(targets)
    results = list(session)
    wanted = list(map(str, parse_target(targets)))
    assert sorted(result.address for result in results) == sorted(wanted)
    assert all(result.alive and result.reporter == result.address for result in results)
    timed = [result.rtt_ns for result in results if result.rtt_ns is not None]
    assert len(timed) > 0.9 * ALIVE_N  # the rest were asked again, on a busy machine
    assert min(timed) >= 0
    assert not any(result.corrupted or result.seq != 1 for result in results)
    summary = session.summary
    assert (summary.alive, summary.received, summary.loss) == (ALIVE_N, ALIVE_N, 0)
    assert summary.median_ns is not None


def test_the_others_and_why(lab: Lab) -> None:
    targets = f"10.78.15.0/24 {SILENT} {REFUSED} 10.77.0.2 10.77.0.77 203.0.113.5 127.0.0.9"
    with lab.a:
        session = sweep(targets, timeout=0.3, retries=0)
    results = list(session)
    assert len(results) == session.config.targets.count
    by_address = {result.address: result for result in results}
    assert len(by_address) == len(results)
    assert reasons(results) == {
        "": 256 + 2,
        NO_ANSWER: 256,
        "icmp host unreachable": 4,
        NO_NEIGHBOUR: 1,
        "no route": 1,
    }
    refused = by_address["10.78.17.9"]
    assert (refused.alive, refused.reporter, refused.rtt_ns) == (False, str(lab.b.ipv4), None)
    assert by_address["10.77.0.2"].alive
    assert by_address["127.0.0.9"].alive
    assert by_address["10.77.0.77"].probes == 0
    summary = session.summary
    assert (summary.targets, summary.alive, summary.errors) == (len(results), 258, 4)
    assert (summary.sent, summary.unsent) == (len(results) - 2, 2)  # those without neighbour and route
    assert summary.loss == pytest.approx(1 - 258 / (len(results) - 2))


def test_what_this_host_does_not_send_is_no_loss(lab: Lab) -> None:
    lab.a.run(["ip", "route", "add", "prohibit", "10.79.0.0/30"], check=True)
    with lab.a:
        results = list(
            session := sweep("127.0.0.1 10.79.0.0/30 10.77.0.77-78", count=2, interval=0, timeout=0.3)
        )
    assert {result.probes for result in results if not result.alive} == {0}
    summary = session.summary
    assert (summary.asked, summary.sent, summary.unsent, summary.received) == (14, 2, 12, 2)
    assert summary.loss == 0


def test_a_narrow_link_is_not_overrun() -> None:
    """20,000 packets a second, and room for a thousand: nothing is asked twice, and everybody answers."""
    with Lab(rate=20_000, delay="2ms") as lab:
        lab.b.run(["ip", "route", "add", "local", "10.78.0.0/20", "dev", "lo"], check=True)
        lab.a.run(["ip", "route", "add", "10.78.0.0/20", "via", str(lab.b.ipv4)], check=True)
        with lab.a:
            assert sweep("10.78.0.0/20", retries=0, timeout=0.2, rate=1e6).run().alive < 4096
            summary = sweep("10.78.0.0/20", retries=0).run()
    assert (summary.alive, summary.sent) == (4096, 4096)


def test_beside_fping(lab: Lab) -> None:
    argv = [
        oracle("fping"),
        "-a",
        "-q",
        "-r",
        "1",
        "-t",
        "300",
        "-i",
        "0",
        "-g",
        "10.78.15.128",
        "10.78.16.127",
    ]
    theirs = lab.a.run(argv, capture_output=True, text=True, timeout=60).stdout.split()
    with lab.a:
        session = sweep("10.78.15.128-10.78.16.127", timeout=0.3)
    ours = [result.address for result in session if result.alive]
    assert sorted(ours) == sorted(theirs)
    assert len(ours) == 128


def test_rounds(lab: Lab) -> None:
    """Each round has its sequence number; who has answered before counts as alive."""
    with lab.a:
        session = sweep("10.78.0.0/28 10.78.16.0/30", count=3, interval=0.05, timeout=0.1, retries=0)
    results = list(session)
    assert Counter(result.seq for result in results if result.alive) == {1: 16, 2: 16, 3: 16}
    assert Counter(result.seq for result in results if not result.alive) == {1: 4, 2: 4, 3: 4}
    summary = session.summary
    assert (summary.rounds, summary.asked, summary.sent, summary.received) == (3, 60, 60, 48)
    assert (summary.targets, summary.alive) == (20, 16)


def test_silence_is_asked_again(lab: Lab) -> None:
    with lab.a:
        session = sweep("10.78.0.1 10.78.16.1", timeout=0.1, retries=2)
    assert {result.address: result.probes for result in session} == {"10.78.0.1": 1, "10.78.16.1": 3}


@pytest.mark.parametrize("report", [frozenset(), frozenset({ALIVE}), frozenset({UNREACHABLE})])
def test_what_is_not_wanted_is_counted(lab: Lab, report: frozenset[str]) -> None:
    with lab.a:
        targets = parse_target("10.78.15.0/24 10.78.16.0/28")
        session = Sweep(SweepConfig(targets, timeout_ns=100_000_000, retries=0, report=report))
    results = list(session)
    assert len(results) == 256 * (ALIVE in report) + 16 * (UNREACHABLE in report)
    assert (session.summary.received, session.summary.alive) == (256, 256)


def test_answers_dropped_here_are_no_loss(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receive buffer for a few answers, and nothing asked again: what is missing is not called lost."""
    monkeypatch.setattr(sweep_module, "_BUFFER_LEN", 1)  # the kernel makes it its minimum
    monkeypatch.setattr(sweep_module, "_EXTRA_ROUNDS", 0)
    with lab.a:
        session = sweep("10.78.0.0/22", timeout=0.1, retries=0)
    results = list(session)
    summary = session.summary
    assert summary.dropped > 0
    assert summary.received + summary.uncertain == 1024
    assert summary.loss == 0
    assert reasons(results) == {"": summary.received, DROPPED_HERE: summary.uncertain}


def test_answers_dropped_here_are_asked_for_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_module, "_BUFFER_LEN", 1)
    monkeypatch.setattr(sweep_module, "_EXTRA_ROUNDS", 100)
    with lab.a:
        session = sweep("10.78.0.0/26", timeout=0.05, retries=0)
    assert all(result.alive for result in session)
    assert (session.summary.alive, session.summary.uncertain) == (64, 0)


@pytest.mark.parametrize("source", ["10.78.0.0/28", "fd78::/124"])
def test_without_privilege(lab: Lab, ordinary: list[str], source: str) -> None:
    """By an ICMP datagram socket, whose identifier the kernel chooses; errors come through its queue."""
    program = (
        "import rawkit\n"
        f"session = rawkit.sweep({source!r}, timeout=1)\n"
        "print(set(session.socket_kinds.values()), sum(result.alive for result in session))"
    )
    done = lab.a.run([*ordinary, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "{'datagram'} 16\n", done.stderr


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_closing_early_leaves_nothing(lab: Lab) -> None:
    before = descriptors(), threading.active_count()
    with lab.a, sweep(ALL) as session:
        for _ in session:
            break
    assert before_long(lambda: descriptors() <= before[0] and threading.active_count() == before[1])
    assert list(session) == []
    session.close()
    assert session.summary.sent > 0


def test_closing_from_another_thread_ends_a_sweep_that_is_busy(lab: Lab) -> None:
    """So busy that nothing is waited for: each of the 65535 rounds begins when the one before is over."""
    config = SweepConfig(parse_target("10.78.0.0/24"), 65535, interval_ns=0, report=frozenset())
    with lab.a:
        session = Sweep(config)
    thread = threading.Thread(target=session.run)
    thread.start()
    while session.summary.rounds < 3:
        assert thread.is_alive()
    session.close()
    thread.join(10)
    assert not thread.is_alive()


def test_other_tasks_have_their_turns(lab: Lab) -> None:
    async def main() -> tuple[int, int]:
        with lab.a:
            session = Sweep(SweepConfig(parse_target("10.78.0.0/20"), report=frozenset()))
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        task = asyncio.ensure_future(other())
        async for _ in session:
            pass
        task.cancel()
        return turns, session.summary.alive

    turns, alive = asyncio.run(main())
    assert alive == ALIVE_N
    assert turns >= 10


def test_asyncio_and_cancelling(lab: Lab) -> None:
    before = descriptors(), threading.active_count()

    async def collect(session: Sweep) -> list[str]:
        return [result.address async for result in session if result.alive]

    async def main() -> list[str]:
        with lab.a:
            first, second = sweep("10.78.0.0/26"), sweep("10.78.16.1", timeout=600)
        task = asyncio.ensure_future(collect(second))
        found = await collect(first)
        while not second.summary.sent:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return found

    assert sorted(asyncio.run(main())) == sorted(map(str, parse_target("10.78.0.0/26")))
    assert before_long(lambda: descriptors() <= before[0] and threading.active_count() == before[1])


def test_a_rate_is_kept(lab: Lab) -> None:
    with lab.a:
        session = sweep("10.78.0.0/25", rate=1000)
    summary = session.run()
    assert summary.alive == 128
    assert summary.duration_ns > 127_000_000 - 50_000_000  # it may catch up on 50 ms


@pytest.mark.parametrize(
    "config",
    [
        {"count": 0},
        {"count": 65536},
        {"interval_ns": -1},
        {"timeout_ns": 0},
        {"retries": 101},
        {"size": 7},
        {"size": 65508},
        {"ttl": 0},
        {"rate": 0.0},
        {"rate": float("nan")},
        {"report": frozenset({"dead"})},
    ],
)
def test_numbers_that_make_no_sense(config: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(config)).removesuffix("_ns")):
        SweepConfig(parse_target("192.0.2.1"), **config)  # type: ignore[arg-type]


def test_targets_that_make_no_sense(lab: Lab) -> None:
    with lab.a:
        for target in ("224.0.0.1", "0.0.0.0", "nowhere.invalid", "10.77.0.255"):
            with pytest.raises(TargetError):
                sweep(target)
        with pytest.raises(NoRoute):
            sweep("203.0.113.1")
    assert rawkit.sweep is sweep


def test_sigint_in_a_loop(lab: Lab) -> None:
    program = (
        "import os, rawkit, signal\n"
        "session = rawkit.sweep('10.78.16.1', timeout=600)\n"
        "try:\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0.2)\n"
        "    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))\n"
        "    list(session)\n"
        "except KeyboardInterrupt:\n"
        "    print(session.summary.sent)\n"
    )
    done = lab.a.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.stdout == "1\n"
