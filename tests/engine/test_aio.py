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
from oracles import oracle

from rawkit.engine import FrameBatch, PacketSocket
from rawkit.errors import EngineError

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


def test_frames_arrive_while_other_tasks_run(veth: VethPair) -> None:
    async def main() -> tuple[list[bytes], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        ticking = asyncio.create_task(tick())
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
        ticking.cancel()
        return got, ticks

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
