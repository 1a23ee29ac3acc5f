"""asyncio in virtual time, and ordinary stream code over simulated endpoints."""

from __future__ import annotations

import asyncio

import pytest

from rawkit.errors import LocalProtocolError
from rawkit.sim import Bernoulli, DropTail, Host, LinkSpec, Network, p2p
from rawkit.sim.loop import open_connection, run, start_server
from rawkit.transport.protocols.go_back_n import GoBackN
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat
from rawkit.transport.protocols.stop_and_wait import StopAndWait
from rawkit.transport.streams import Writer

PROTOCOLS = [lambda: StopAndWait(numbers=256), GoBackN, SelectiveRepeat]


def pair(*models: Bernoulli, seed: int = 1) -> tuple[Network, Host, Host]:
    network = p2p(LinkSpec("10Mbit/s", "20ms", DropTail(packets=100), models), seed=seed, trace=True)
    a, b = network.nodes["a"], network.nodes["b"]
    assert isinstance(a, Host)
    assert isinstance(b, Host)
    return network, a, b


def test_an_hour_costs_nothing_and_order_is_by_time_and_then_by_asking() -> None:
    network, _, _ = pair()
    seen: list[str] = []

    async def note(name: str, delay: float) -> None:
        await asyncio.sleep(delay)
        seen.append(f"{name} {asyncio.get_running_loop().time():g}")

    async def main() -> str:
        await asyncio.gather(note("c", 3600), note("a", 1.5), note("b", 1.5))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.sleep(20)
        return "done"

    assert run(network, main()) == "done"
    assert seen == ["a 1.5", "b 1.5", "c 3600"]
    assert network.now == 3610 * 10**9


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["sw", "gbn", "sr"])
def test_stream_code_runs_over_lossy_links(protocol: type[GoBackN]) -> None:
    network, a, b = pair(Bernoulli(0.1))
    text = b"".join(b"line %d\n" % i for i in range(500))

    async def serve(reader: asyncio.StreamReader, writer: Writer) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> bytes:
        await start_server(network, b, protocol, serve)
        reader, writer = await open_connection(network, a, b, protocol)
        assert writer.get_extra_info("peername")[0] == b.address
        writer.write(text)
        writer.close()
        answer = await reader.read()
        await writer.wait_closed()
        return answer

    assert run(network, main()) == text.upper()


def test_several_connections_at_once_and_the_same_run_twice() -> None:
    def once() -> str:
        network, a, b = pair(Bernoulli(0.05))

        async def serve(reader: asyncio.StreamReader, writer: Writer) -> None:
            writer.write(b"%d" % len(await reader.read()))
            writer.close()

        async def ask(n: int) -> bytes:
            reader, writer = await open_connection(network, a, b, SelectiveRepeat)
            writer.write(bytes(n))
            writer.close()
            return await reader.read()

        async def main() -> list[bytes]:
            await start_server(network, b, SelectiveRepeat, serve)
            return await asyncio.gather(*(ask(n * 1000) for n in range(1, 6)))

        assert run(network, main()) == [b"1000", b"2000", b"3000", b"4000", b"5000"]
        assert network.trace is not None
        return network.trace.digest()

    assert once() == once()


def test_no_answer_and_no_server_are_errors_that_stream_code_knows() -> None:
    network, a, b = pair(Bernoulli(1.0))

    async def serve(reader: asyncio.StreamReader, writer: Writer) -> None:
        writer.close()

    async def main() -> None:
        with pytest.raises(ConnectionRefusedError, match="no server on b"):
            await open_connection(network, a, b, GoBackN)
        await start_server(network, b, GoBackN, serve)
        with pytest.raises(ConnectionResetError, match="no answer"):
            await open_connection(network, a, b, GoBackN)

    run(network, main())


def test_a_run_that_cannot_go_on_says_so_and_what_a_task_raises_ends_it() -> None:
    network, _, _ = pair()

    async def stuck() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(LocalProtocolError, match="everything waits for something that cannot happen"):
        run(network, stuck())

    async def fails() -> None:
        raise KeyError("lost")

    async def main() -> None:
        await fails()

    with pytest.raises(KeyError, match="lost"):
        run(network, main())


def test_what_needs_the_outside_raises() -> None:
    network, _, _ = pair()

    async def main() -> None:
        with pytest.raises(NotImplementedError):
            await asyncio.to_thread(print)
        with pytest.raises(NotImplementedError):
            await asyncio.open_connection("192.0.2.1", 80)

    run(network, main())
