"""Sockets in a running asyncio loop: the same answers as without one, and nothing left after cancellation."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from oracles import calm, oracle

from rawkit.addr import MAC
from rawkit.bulk.template import Template, Values, asend_template
from rawkit.engine import (
    FrameBatch,
    PacedSender,
    PaceReport,
    PacketSocket,
    Rate,
    TransmitReport,
    monotonic_ns,
    open_transmitter,
)
from rawkit.errors import EngineError
from rawkit.wire import Ether

if TYPE_CHECKING:
    from conftest import VethPair

pytestmark = pytest.mark.net

LOCAL = 0x88B5  # EtherType for local experiments


def run_and_count(main: Callable[[], Awaitable[Any]]) -> Any:
    """What `main` gives; it must leave no descriptor open and none registered with the loop."""

    async def counted() -> Any:
        loop: Any = asyncio.get_running_loop()
        before = sorted(os.listdir("/proc/self/fd")), len(loop._selector.get_map())
        result = await main()
        assert (sorted(os.listdir("/proc/self/fd")), len(loop._selector.get_map())) == before
        return result

    return asyncio.run(counted())


class Turns:
    """A task beside others that counts how often it gets its turn; between two it sleeps so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._n = 0
        self._task = asyncio.create_task(self._count(seconds))

    async def _count(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            self._n += 1

    def end(self) -> int:
        self._task.cancel()
        return self._n


def test_frames_arrive_while_other_tasks_run(veth: VethPair) -> None:
    async def main() -> tuple[list[bytes], int]:
        ticking = Turns(0.001)
        with (
            PacketSocket(veth.near, protocol=LOCAL) as near,
            PacketSocket(veth.far, protocol=0, namespace=veth.namespace) as far,
        ):
            got = []

            async def listen() -> None:
                async for frame in near.aframes(5):
                    got.append(frame.data)
                    if len(got) == 300:
                        break

            listening = asyncio.create_task(listen())
            frame = veth.near_mac + veth.far_mac + LOCAL.to_bytes(2, "big")
            batch = FrameBatch(100)
            batch.extend([frame + i.to_bytes(46, "big") for i in range(100)])
            for _ in range(2):
                assert await far.asend_batch(batch) == 100
                await asyncio.sleep(0.005)
            for i in range(100):
                await far.asend(frame + i.to_bytes(46, "big"))
            await asyncio.wait_for(listening, 5)
        return got, ticking.end()

    got, ticks = run_and_count(main)
    assert [int.from_bytes(octets[14:], "big") for octets in got] == list(range(100)) * 3
    assert ticks > 0


def test_a_timeout_without_frames(veth: VethPair) -> None:
    async def main() -> None:
        with PacketSocket(veth.near, protocol=LOCAL) as sock:
            start = time.monotonic()
            assert await sock.areceive(FrameBatch(4), 0.1) == 0
            assert time.monotonic() - start >= 0.1
            assert [frame async for frame in sock.aframes(0)] == []

    run_and_count(main)


def test_cancelling_leaves_nothing_registered_and_the_socket_usable(veth: VethPair) -> None:
    async def main() -> None:
        with (
            PacketSocket(veth.near, protocol=LOCAL) as near,
            PacketSocket(veth.far, protocol=0, namespace=veth.namespace) as far,
        ):
            for _ in range(50):
                task = asyncio.create_task(near.areceive(FrameBatch(4)))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            frames = near.aframes()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(frames), 0.01)
            await far.asend(veth.near_mac + veth.far_mac + LOCAL.to_bytes(2, "big") + bytes(46))
            assert await near.areceive(FrameBatch(4), 5) == 1

    run_and_count(main)


def test_closing_wakes_a_task_that_waits(veth: VethPair) -> None:
    async def main() -> None:
        sock = PacketSocket(veth.near, protocol=LOCAL)
        task = asyncio.create_task(sock.areceive(FrameBatch(4)))
        await asyncio.sleep(0)
        sock.close()
        # A new socket takes the number of the old one: the wait that ended must not touch it.
        with PacketSocket(veth.near, protocol=LOCAL) as other:
            second = asyncio.create_task(other.areceive(FrameBatch(4), 0.05))
            with pytest.raises(ValueError, match="closed"):
                await asyncio.wait_for(task, 1)
            assert await second == 0

    run_and_count(main)


def test_two_tasks_cannot_wait_for_the_same(veth: VethPair) -> None:
    async def main() -> None:
        with PacketSocket(veth.near, protocol=LOCAL) as sock:
            first = asyncio.create_task(sock.areceive(FrameBatch(4), 0.05))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task"):
                await sock.areceive(FrameBatch(4))
            assert await first == 0

    run_and_count(main)


def test_a_full_queue_holds_up_neither_the_loop_nor_the_deadline(veth: VethPair) -> None:
    tbf = "qdisc replace dev v0 root tbf rate 8kbit burst 1600 limit 3000"
    if subprocess.run([oracle("tc"), *tbf.split()], capture_output=True).returncode != 0:
        pytest.skip("tc cannot set up a token bucket here")

    async def main() -> float:
        longest = 0.0

        async def watch() -> None:
            nonlocal longest
            while True:
                start = time.monotonic()
                await asyncio.sleep(0.001)
                longest = max(longest, time.monotonic() - start)

        watching = asyncio.create_task(watch())
        with PacketSocket(veth.near, protocol=0) as sock:
            batch = FrameBatch(8)
            batch.extend([veth.header(LOCAL) + bytes(1000)] * 8)
            sent = await sock.asend_batch(batch, timeout=0.3)
            assert 0 < sent < 8
            with pytest.raises(EngineError) as caught:
                await sock.asend(veth.header(LOCAL) + bytes(1000), timeout=0.2)
            assert caught.value.errno == errno.ENOBUFS
        watching.cancel()
        return longest

    assert run_and_count(main) < 0.2


def test_an_interface_that_is_removed_ends_the_wait(veth: VethPair) -> None:
    async def main() -> list[int | None]:
        seen = []
        with PacketSocket(veth.near, protocol=LOCAL) as sock:
            task = asyncio.create_task(sock.areceive(FrameBatch(4), 10))
            await asyncio.sleep(0)
            subprocess.run([oracle("ip"), "link", "del", veth.near], check=True)
            for _ in range(2):
                with pytest.raises(EngineError) as caught:
                    await task
                seen.append(caught.value.errno)
                task = asyncio.create_task(sock.areceive(FrameBatch(4), 10))
            task.cancel()
        return seen

    assert run_and_count(main) == [errno.ENETDOWN, errno.ENXIO]


# ---- sending each at its moment, and much at once -----------------------------------------------


def numbered(veth: VethPair, n: int) -> FrameBatch:
    batch = FrameBatch(n)
    batch.extend(
        [veth.far_mac + veth.near_mac + LOCAL.to_bytes(2, "big") + i.to_bytes(46, "big") for i in range(n)]
    )
    return batch


def hear(veth: VethPair) -> PacketSocket:
    return PacketSocket(veth.far, protocol=LOCAL, buffer_len=1 << 22, namespace=veth.namespace)


def numbers(far: PacketSocket) -> list[int]:
    return [int.from_bytes(frame.data[14:], "big") for frame in far.frames(timeout=0.1)]


def test_frames_leave_at_their_moments_while_other_tasks_run(veth: VethPair) -> None:
    async def main() -> tuple[PaceReport, int, int, list[int]]:
        with open_transmitter(veth.near, "packet") as near, hear(veth) as far:
            sender = PacedSender(near)
            ticking = Turns(0.001)
            start = monotonic_ns() + 10_000_000
            due = [start + i * 5_000_000 for i in range(40)]
            batch = numbered(veth, 40)
            assert await sender.asend(batch, due, timeout=0.05) < 40
            done = sender.sent
            assert await sender.asend(batch, due, done) == 40 - done
            return sender.report(), due[-1], ticking.end(), numbers(far)

    report, last_due, ticks, got = run_and_count(main)
    assert got == list(range(40))
    assert report.last_ns >= last_due
    assert ticks > 20
    if calm():
        assert report.timing_error.median_ns < 1_000_000


def test_a_rate_is_kept_while_other_tasks_run(veth: VethPair) -> None:
    async def main() -> tuple[PaceReport, list[int]]:
        with open_transmitter(veth.near, "packet") as near, hear(veth) as far:
            sender = PacedSender(near, rate=Rate(2000))
            batch = numbered(veth, 200)
            done = 0
            while done < 200:
                done += await sender.asend_batch(batch, done, timeout=0.02)
            return sender.report(), numbers(far)

    report, got = run_and_count(main)
    assert got == list(range(200))
    assert report.frames_per_second < 2000 * 1.1  # a millisecond of lag may be made up for
    if calm():
        assert report.frames_per_second > 2000 * 0.9


@pytest.mark.parametrize("backend", ["packet", "af-xdp", "auto"])
def test_much_at_once_lets_other_tasks_run_and_is_counted(veth: VethPair, backend: str) -> None:
    n = 4000
    packet = Ether(dst=MAC(veth.far_mac), src=MAC(veth.near_mac), ethertype=LOCAL) / bytes(46)
    template = Template(packet, {"ether.src": Values([MAC(veth.near_mac)])})

    async def main() -> tuple[int, TransmitReport, list[int]]:
        with open_transmitter(veth.near, backend) as near, hear(veth) as far:
            turning = Turns(0)
            assert await near.asend_batch(numbered(veth, n)) == n
            got = numbers(far)
            assert await asend_template(near, template, n) == n
            assert numbers(far) == [0] * n
            turns = turning.end()
            with pytest.raises(ValueError, match="batch that holds 5"):
                await near.asend_batch(numbered(veth, 5), 2, 4)
            return turns, near.report(), got

    turns, report, got = run_and_count(main)
    assert got == list(range(n))
    assert report.accepted == 2 * n
    assert not report.failed
    assert turns > 20  # one after every 256 frames, but for the last of a call


def test_refusals_from_a_loop(veth: VethPair) -> None:
    batch = FrameBatch(3, 1 << 13)
    head = veth.far_mac + veth.near_mac + LOCAL.to_bytes(2, "big")
    batch.extend([head + bytes(46), head + bytes(2000), head + bytes(46)])

    async def main() -> None:
        with open_transmitter(veth.near, "packet") as near:
            assert await near.asend_batch(batch) == 1
            with pytest.raises(EngineError, match="2014 octets"):
                await near.asend_batch(batch, 1)
            assert near.report().failed == {errno.EMSGSIZE: 1}
            sender = PacedSender(near)
            assert await sender.asend(batch, [0, 0, 0]) == 3
            assert sender.report().failed == {errno.EMSGSIZE: 1}
            with pytest.raises(ValueError, match="no rate"):
                await sender.asend_batch(batch)

    run_and_count(main)


def test_a_cancelled_schedule_ends_and_can_go_on(veth: VethPair) -> None:
    async def main() -> list[int]:
        with open_transmitter(veth.near, "packet") as near, hear(veth) as far:
            sender = PacedSender(near)
            now = monotonic_ns()
            batch, due = numbered(veth, 4), [now, now, now + 60_000_000_000, now]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(sender.asend(batch, due), 0.05)
            assert sender.sent == 2
            assert await sender.asend(batch, due, 3) == 1
            return numbers(far)

    assert run_and_count(main) == [0, 1, 3]
