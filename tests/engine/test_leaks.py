"""Opening and closing every kind of handle again and again leaves no descriptor open and no memory behind."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rawkit.engine import FrameBatch, LinkRelay, Namespace, PacketSocket, RawIPSocket, open_transmitter
from rawkit.engine.link import LinkDirection
from rawkit.errors import EngineError
from rawkit.tools.exchange import Exchange
from rawkit.wire import ICMPEcho, IPv4

if TYPE_CHECKING:
    from conftest import VethPair

pytestmark = pytest.mark.net

ROUNDS = 10_000
GROWTH = 1 << 20  # octets

numbers = count()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def packet_socket(veth: VethPair) -> None:
    with PacketSocket(veth.near, filter="tcp port 80") as sock:
        sock.receive(FrameBatch(4), 0)


def raw_socket(veth: VethPair) -> None:
    with RawIPSocket(4, 1, filter="icmp") as sock:
        sock.receive(FrameBatch(4), 0)


def packet_transmitter(veth: VethPair) -> None:
    with open_transmitter(veth.near, "packet"):
        pass


def xsk_transmitter(veth: VethPair) -> None:
    with open_transmitter(veth.near, "af-xdp"):
        pass


def live_transmitter(veth: VethPair) -> None:
    with open_transmitter(veth.near, "xdp"):
        pass


def link_relay(veth: VethPair) -> None:
    with LinkRelay(veth.near_index, 1, LinkDirection(), LinkDirection()):
        pass


def namespace(veth: VethPair) -> None:
    with Namespace.create() as made, made.enter():
        pass


def exchange(veth: VethPair) -> None:
    with Exchange([IPv4(dst="127.0.0.1") / ICMPEcho(id=1, seq=next(numbers) % 65536)]) as session:
        assert len(list(session)) == 2


def cancelled_wait(veth: VethPair) -> None:
    async def main() -> None:
        with RawIPSocket(4, 253) as sock:
            task = asyncio.ensure_future(sock.areceive(FrameBatch(4)))
            await asyncio.sleep(0)
            task.cancel()

    asyncio.run(main())


# How often in a normal run: the kernel takes 10 ms and more to close some of them.
HANDLES: list[tuple[Callable[[VethPair], None], int]] = [
    (packet_socket, 10),
    (raw_socket, 500),
    (packet_transmitter, 10),
    (xsk_transmitter, 5),
    (live_transmitter, 5),
    (link_relay, 5),
    (namespace, 15),
    (exchange, 5),
    (cancelled_wait, 200),
]


def check(veth: VethPair, use: Callable[[VethPair], None], rounds: int) -> None:
    for _ in range(min(rounds, 5)):
        use(veth)
    open_before, octets_before = descriptors(), resident()
    for _ in range(rounds):
        use(veth)
    assert descriptors() == open_before
    if "asan" not in os.environ.get("LD_PRELOAD", ""):  # which keeps what was freed
        assert resident() - octets_before < GROWTH


@pytest.mark.parametrize(("use", "rounds"), HANDLES, ids=lambda value: getattr(value, "__name__", ""))
def test_nothing_is_left(veth: VethPair, use: Callable[[VethPair], None], rounds: int) -> None:
    if use is live_transmitter:
        skip_without_live_frames(veth)
    check(veth, use, rounds)


@pytest.mark.slow
@pytest.mark.parametrize("use", [use for use, _ in HANDLES], ids=lambda use: use.__name__)
def test_nothing_is_left_after_ten_thousand(veth: VethPair, use: Callable[[VethPair], None]) -> None:
    if use is live_transmitter:
        skip_without_live_frames(veth)
    check(veth, use, ROUNDS)


def skip_without_live_frames(veth: VethPair) -> None:
    try:
        live_transmitter(veth)
    except EngineError as error:
        pytest.skip(f"no XDP live frames here: {error}")


def test_what_fails_half_way_is_closed(veth: VethPair) -> None:
    before = descriptors()
    attempts: list[Callable[[], Any]] = [
        partial(PacketSocket, veth.near, filter="ip", protocol=0x0800, buffer_len=-1),
        partial(PacketSocket, "nope"),
        partial(open_transmitter, "nope"),
        partial(LinkRelay, 99999, 99998, LinkDirection(), LinkDirection()),
        partial(Exchange, [IPv4(dst="127.0.0.1") / ICMPEcho(), IPv4(dst="203.0.113.1") / ICMPEcho()]),
    ]
    for attempt in attempts:
        with pytest.raises((EngineError, LookupError, OSError, OverflowError)):
            attempt()
    assert descriptors() == before
