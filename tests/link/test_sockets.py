"""Blocking sockets and asyncio streams over real carriers: verbs, errors, many at once."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from link.wired import address

from rawkit.errors import EngineError
from rawkit.lab import Lab
from rawkit.link import DatagramSocket, Socket
from rawkit.link.aio import open_connection, start_server
from rawkit.tools.labrun import open_carrier
from rawkit.transport import Endpoint
from rawkit.transport.protocols.go_back_n import GoBackN
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat
from rawkit.transport.protocols.stop_and_wait import StopAndWait
from rawkit.transport.streams import Writer

pytestmark = pytest.mark.net

PROTOCOLS: list[Callable[[], Endpoint]] = [lambda: StopAndWait(numbers=256), GoBackN, SelectiveRepeat]
NAMES = ["sw", "gbn", "sr"]


def serve(server: Socket, handler: Callable[[Socket], None], n: int = 1) -> threading.Thread:
    """A thread that accepts `n` times and handles each in a thread of its own."""

    def run() -> None:
        threads = []
        for _ in range(n):
            child, _ = server.accept()
            threads.append(threading.Thread(target=handler, args=(child,)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def echo(child: Socket) -> None:
    with child:
        child.settimeout(30)
        while data := child.recv(65536):
            child.sendall(data)


@pytest.mark.parametrize("over", ["raw", "udp"])
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=NAMES)
def test_an_echo_with_accept_and_connect(lab: Lab, over: str, protocol: Callable[[], Endpoint]) -> None:
    with (
        open_carrier(lab, lab.b, over) as far,
        open_carrier(lab, lab.a, over) as near,
        Socket(protocol, far) as server,
        Socket(protocol, near) as client,
    ):
        server.listen()
        thread = serve(server, echo)
        client.settimeout(30)
        client.connect(("10.77.0.2", server.getsockname()[1]))
        assert client.getpeername()[0] == "10.77.0.2"
        assert client.getsockname()[0] == "10.77.0.1"
        data = os.urandom(20_000)
        client.sendall(data)
        client.shutdown()
        got = bytearray()
        while piece := client.recv(3000):
            assert len(piece) <= 3000
            got += piece
        assert bytes(got) == data
        client.wait_closed()
        assert client.info().state == "closed"
        thread.join()


@pytest.mark.parametrize("bulk", [False, True])
def test_a_megabyte_with_flow_control(lab: Lab, bulk: bool) -> None:
    """The receiver reads late: what was not read keeps the sender back, and all arrives."""

    def protocol() -> Endpoint:
        return SelectiveRepeat(auto_read=False, window=50_000)

    data = os.urandom(1_000_000)
    with (
        open_carrier(lab, lab.b, "raw") as far,
        open_carrier(lab, lab.a, "raw") as near,
        Socket(protocol, far, bulk=bulk) as server,
        Socket(protocol, near, bulk=bulk) as client,
    ):
        server.listen()
        client.settimeout(30)
        client.connect(("10.77.0.2", 0))
        server.settimeout(30)
        child, _ = server.accept()
        with child:
            child.settimeout(30)
            sender = threading.Thread(target=client.sendall, args=(data,))
            sender.start()
            while client.info().octets_written < 200_000:
                time.sleep(0.001)
            assert child.info().octets_delivered <= 50_000
            digest, n = hashlib.sha256(), 0
            while n < len(data):
                piece = child.recv(65536)
                digest.update(piece)
                n += len(piece)
            sender.join()
            info = client.info()
        assert digest.digest() == hashlib.sha256(data).digest()
        assert info.state == "open"
        assert info.cwnd
        assert info.srtt
        assert info.octets_written == len(data)
        assert info.packets_sent > 600
        assert info.path_mtu <= 1500


def test_errors_are_those_of_sockets(lab: Lab) -> None:
    with open_carrier(lab, lab.a, "raw") as carrier:
        with Socket(GoBackN, carrier) as sock:
            for call in (lambda: sock.recv(1), lambda: sock.send(b"x"), sock.getpeername):
                with pytest.raises(OSError) as refused:  # noqa: PT011
                    call()
                assert refused.value.errno == errno.ENOTCONN
            with pytest.raises(OSError, match="does not listen"):
                sock.accept()
            with pytest.raises(ConnectionRefusedError):
                sock.connect(("10.77.0.2", 0))
            with pytest.raises(EngineError, match="find a way"):
                sock.connect(("192.0.2.1", 0))
        assert repr(sock) == "<Socket over raw, closed>"
        with pytest.raises(OSError) as closed:  # noqa: PT011
            sock.recv(1)
        assert closed.value.errno == errno.EBADF
        with Socket(GoBackN, carrier) as server:
            server.listen()
            server.settimeout(0)
            with pytest.raises(BlockingIOError):
                server.accept()
            server.settimeout(0.01)
            with pytest.raises(TimeoutError):
                server.accept()
            with Socket(GoBackN, carrier) as second, pytest.raises(OSError, match="Address already in use"):
                second.listen()


def test_udp_refuses_too_and_silence_times_out(lab: Lab) -> None:
    with open_carrier(lab, lab.a, "udp") as carrier, open_carrier(lab, lab.b, "udp") as silent:
        with Socket(GoBackN, carrier) as sock:
            with pytest.raises(ConnectionRefusedError):
                sock.connect(("10.77.0.2", 1))
            sock.settimeout(0.05)
            with pytest.raises(TimeoutError):
                sock.connect(("10.77.0.2", silent.port))  # type: ignore[attr-defined]
            sock.settimeout(0)
        with (
            Socket(lambda: GoBackN(tries=1, timeout_ns=10**7), carrier) as sock,
            pytest.raises(TimeoutError, match="no answer"),
        ):
            sock.connect(("10.77.0.2", silent.port))  # type: ignore[attr-defined]


def test_a_reset_a_broken_pipe_and_a_closed_carrier(lab: Lab) -> None:
    far, near = open_carrier(lab, lab.b, "raw"), open_carrier(lab, lab.a, "raw")
    with far, near:
        server, client = Socket(SelectiveRepeat, far), Socket(SelectiveRepeat, near)
        server.listen()
        client.connect(("10.77.0.2", 0))
        child, peer = server.accept()
        assert peer[0] == "10.77.0.1"
        child.abort()
        client.settimeout(30)
        with pytest.raises(ConnectionResetError, match="by the peer"):
            client.recv(1)
        client.close()
        client = Socket(SelectiveRepeat, near)
        client.connect(("10.77.0.2", 0))
        client.shutdown()
        with pytest.raises(BrokenPipeError):
            client.send(b"x")
        waiting: list[BaseException] = []

        server.accept()[0].close()

        def accept() -> None:
            try:
                server.accept()
            except OSError as error:
                waiting.append(error)

        thread = threading.Thread(target=accept)
        thread.start()
        far.close()
        thread.join()
        assert waiting
        client.close()
        server.close()


def test_data_written_before_the_carrier_is_closed_still_arrives(lossy: Lab) -> None:
    data = os.urandom(100_000)
    got = bytearray()

    def take(child: Socket) -> None:
        with child:
            child.settimeout(30)
            while piece := child.recv(65536):
                got.extend(piece)

    with open_carrier(lossy, lossy.b, "raw") as far, Socket(SelectiveRepeat, far) as server:
        server.listen()
        thread = serve(server, take)
        with open_carrier(lossy, lossy.a, "raw") as near, Socket(SelectiveRepeat, near) as client:
            client.settimeout(30)
            client.connect(("10.77.0.2", 0))
            client.sendall(data)
        thread.join()
    assert bytes(got) == data


@pytest.mark.parametrize("over", ["raw", "udp"])
def test_a_hundred_connections_at_once(lab: Lab, over: str) -> None:
    n, size = 100, 5000

    def upper(child: Socket) -> None:
        with child:
            child.settimeout(60)
            data = bytearray()
            while piece := child.recv(65536):
                data += piece
            child.sendall(bytes(data).upper())

    answers: dict[int, bytes] = {}
    far, near = open_carrier(lab, lab.b, over), open_carrier(lab, lab.a, over)
    extra = [open_carrier(lab, lab.a, over) for _ in range(n - 1)] if over == "udp" else []
    carriers = [near, *extra] if over == "udp" else [near] * n
    with far, near, Socket(SelectiveRepeat, far, ports=True) as server:
        server.bind(("", 0 if over == "udp" else 80))
        server.listen(n)
        thread = serve(server, upper, n)
        port = server.getsockname()[1]

        def ask(i: int) -> None:
            with Socket(SelectiveRepeat, carriers[i], ports=True) as client:
                client.settimeout(60)
                client.connect(("10.77.0.2", port))
                client.sendall(b"%03d" % i + b"abcde" * (size // 5))
                client.shutdown()
                got = bytearray()
                while piece := client.recv(65536):
                    got += piece
                answers[i] = bytes(got)
                client.wait_closed()

        clients = [threading.Thread(target=ask, args=(i,)) for i in range(n)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        thread.join()
    for carrier in extra:
        carrier.close()
    assert answers == {i: b"%03d" % i + b"ABCDE" * (size // 5) for i in range(n)}


@pytest.mark.parametrize("n", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_one_datagram_socket_answers_many_clients(lab: Lab, n: int) -> None:
    def protocol() -> Endpoint:
        return SelectiveRepeat(mode="messages", window=64)

    with (
        open_carrier(lab, lab.b, "raw") as far,
        open_carrier(lab, lab.a, "raw") as near,
        DatagramSocket(protocol, far, 53, ports=True) as server,
    ):
        server.settimeout(60)

        def answer() -> None:
            for _ in range(n):
                message, peer = server.recvfrom()
                server.sendto(message.upper(), peer)

        thread = threading.Thread(target=answer)
        thread.start()
        clients = []
        for i in range(n):
            client = Socket(protocol, near, ports=True)
            client.settimeout(60)
            client.connect(("10.77.0.2", 53))
            client.send(b"client %d" % i)
            clients.append(client)
        for i, client in enumerate(clients):
            assert client.recv_message() == b"CLIENT %d" % i
        thread.join()
        assert len(server.peers) == n
        assert server.dropped == 0
        for client in clients:
            client.close()


@pytest.mark.parametrize("over", ["raw", "udp"])
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=NAMES)
def test_stream_code_of_the_simulator_runs_here(lab: Lab, over: str, protocol: Any) -> None:
    """What `tests/sim/test_loop.py` runs in virtual time."""
    text = b"".join(b"line %d\n" % i for i in range(200))

    async def serve(reader: asyncio.StreamReader, writer: Writer) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> bytes:
        with open_carrier(lab, lab.b, over) as far, open_carrier(lab, lab.a, over) as near:
            server = await start_server(far, "", protocol, serve)
            reader, writer = await open_connection(near, "", ("10.77.0.2", server.port), protocol)
            assert writer.get_extra_info("peername")[0] == "10.77.0.2"
            writer.write(text)
            writer.close()
            answer = await reader.read()
            await writer.wait_closed()
            return answer

    assert asyncio.run(asyncio.wait_for(main(), 60)) == text.upper()


def test_streams_are_refused_where_nobody_is_and_end_with_their_carrier(lab: Lab) -> None:
    async def serve(reader: asyncio.StreamReader, writer: Writer) -> None:
        await reader.read()

    async def main() -> None:
        near = open_carrier(lab, lab.a, "raw")
        with near, pytest.raises(ConnectionRefusedError):
            await open_connection(near, "", "10.77.0.2", GoBackN)
        with open_carrier(lab, lab.b, "raw") as far:
            async with await start_server(far, "", GoBackN, serve):
                with pytest.raises(OSError, match="already in use"):
                    await start_server(far, "", GoBackN, serve)
                near = open_carrier(lab, lab.a, "raw")
                reader, writer = await open_connection(near, "", "10.77.0.2", GoBackN)
                writer.write(b"x" * 1000)
                await writer.drain()
                near.close()
                with pytest.raises(ConnectionAbortedError):
                    await reader.read()

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("version", [4, 6])
def test_asyncio_bulk_with_drain(lab: Lab, version: int) -> None:
    data = os.urandom(2_000_000)

    async def serve(reader: asyncio.StreamReader, writer: Writer) -> None:
        digest = hashlib.sha256()
        while piece := await reader.read(65536):
            digest.update(piece)
        writer.write(digest.digest())
        writer.close()

    async def main() -> bytes:
        with (
            open_carrier(lab, lab.b, "udp", version) as far,
            open_carrier(lab, lab.a, "udp", version) as near,
        ):
            server = await start_server(far, "", SelectiveRepeat, serve, bulk=version == 6)
            where = address(lab, "b", version), server.port
            reader, writer = await open_connection(near, "", where, SelectiveRepeat)
            most = 0
            for at in range(0, len(data), 50_000):
                writer.write(data[at : at + 50_000])
                await writer.drain()
                most = max(most, writer._driver.endpoint.backlog)
            writer.close()
            assert most <= 256 * 1024
            return await reader.read()

    assert asyncio.run(asyncio.wait_for(main(), 60)) == hashlib.sha256(data).digest()
