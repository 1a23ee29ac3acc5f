"""Replay of payloads: real servers (nginx, and small ones made here) answer what captured clients said."""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from oracles import oracle

from rawkit.lab import Lab
from rawkit.lab.servers import PAGE
from rawkit.pcap import open_pcap
from rawkit.tools.conversations import Message, conversations
from rawkit.tools.flowsides import CLIENT, SERVER
from rawkit.tools.httpcompare import answers_of, differing_answers, methods_of
from rawkit.tools.payloadreplay import PayloadConfig, PayloadResult, replay_payload
from rawkit.wire import TCP, UDP, Ether, IPv4, IPv6
from rawkit.wire.fragment import fragment
from rawkit.wire.frame import Frame

PCAPS = Path(__file__).parents[2] / "pcaps"
MS = 1_000_000
LINK = Ether(src="00:00:5e:00:53:01", dst="00:00:5e:00:53:02")
HOSTS = "192.0.2.1", "192.0.2.2"


def tcp(side: int, seq: int, octets: bytes = b"", flags: int = TCP.ACK, time_ns: int = 0) -> Frame:
    ports = (5000, 7)[:: 1 - 2 * side]
    src, dst = HOSTS[:: 1 - 2 * side]
    segment = TCP(sport=ports[0], dport=ports[1], seq=seq % 2**32, flags=flags)
    return Frame(bytes(LINK / IPv4(src=src, dst=dst) / segment / octets), time_ns)


def udp(side: int, octets: bytes, time_ns: int = 0) -> Frame:
    ports = (5000, 7)[:: 1 - 2 * side]
    src, dst = ("2001:db8::1", "2001:db8::2")[:: 1 - 2 * side]
    datagram = UDP(sport=ports[0], dport=ports[1]) / octets
    return Frame(bytes(LINK / IPv6(src=src, dst=dst) / datagram), time_ns)


def talk(*said: tuple[int, bytes], gap_ns: int = MS, isn: int = 2**32 - 3) -> list[Frame]:
    """A TCP connection with a handshake, what was said, and the client's end, then the server's."""
    seqs = [isn, 77]
    frames = [tcp(CLIENT, isn, flags=TCP.SYN), tcp(SERVER, 77, flags=TCP.SYN | TCP.ACK)]
    seqs = [seq + 1 for seq in seqs]
    for side, octets in said:
        frames.append(tcp(side, seqs[side], octets))
        seqs[side] += len(octets)
    frames += [tcp(side, seqs[side], flags=TCP.FIN | TCP.ACK) for side in (CLIENT, SERVER)]
    for i, frame in enumerate(frames):
        frame.time_ns = i * gap_ns
    return frames


# ---- what was said --------------------------------------------------------------------------------


def test_the_streams_are_those_of_tshark() -> None:
    for name, n in (("http", 1), ("retransmission", None), ("offload", None)):
        path = PCAPS / f"{name}.pcapng"
        with open_pcap(path) as reader:
            found = [one for one in conversations(reader) if one.protocol == "tcp"]
        assert n is None or len(found) == n
        for number, one in enumerate(found):
            argv = [oracle("tshark"), "-n", "-r", str(path), "-q", "-z", f"follow,tcp,raw,{number}"]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
            lines = done.stdout.splitlines()[6:-1]
            streams = ["", ""]
            for line in lines:
                streams[line.startswith("\t")] += line.strip()
            ours = [b"".join(one.said(side)).hex() for side in (CLIENT, SERVER)]
            assert ours == streams
            assert one.missing == [0, 0]


def test_order_repeats_and_wrapping_numbers() -> None:
    frames = talk((CLIENT, b"abcdef"), (CLIENT, b"gh"), (SERVER, b"xy"))
    frames.insert(3, tcp(CLIENT, 2**32 - 3 + 5, b"ef" + b"gh", time_ns=1))
    frames.insert(6, frames[2])
    (one,) = conversations(frames)
    assert one.messages[0] == Message(2 * MS, CLIENT, b"abcdef")
    assert b"".join(one.said(CLIENT)) == b"abcdefgh"
    assert one.said(SERVER) == [b"xy"]
    assert [message.side for message in one.messages if not message.octets] == [CLIENT, SERVER]
    assert str(one) == "tcp 192.0.2.1:5000 > 192.0.2.2:7"
    # Backwards, and without the handshake.
    swapped = [frames[0], frames[1], frames[4], frames[2], *frames[7:]]
    assert b"".join(conversations(swapped)[0].said(CLIENT)) == b"abcdefgh"
    assert b"".join(conversations(frames[2:])[0].said(CLIENT)) == b"abcdefgh"


def test_what_is_not_in_the_capture_is_told() -> None:
    frames = talk((CLIENT, b"abc"), (CLIENT, b"lost"), (CLIENT, b"more"), (SERVER, b"xy"))
    del frames[3]
    (one,) = conversations(frames)
    assert b"".join(one.said(CLIENT)) == b"abc"
    assert one.missing == [8, 0]


def test_another_connection_between_the_same_ports() -> None:
    one, two = conversations([*talk((CLIENT, b"first")), *talk((CLIENT, b"second"), isn=5)])
    assert (one.said(CLIENT), two.said(CLIENT)) == ([b"first"], [b"second"])


def test_datagrams_fragments_and_other_link_layers() -> None:
    whole = LINK / IPv4(src=HOSTS[0], dst=HOSTS[1], id=3) / UDP(sport=9, dport=7) / bytes(3000)
    cut = [Frame(bytes(part), 5) for part in fragment(whole, 1500)]
    bare = Frame(udp(CLIENT, b"bare").data[14:], 9, linktype=101)
    one, two = conversations([*cut, udp(CLIENT, b"?", 6), udp(SERVER, b"!", 7), bare])
    assert one.said(CLIENT) == [bytes(3000)]
    assert (two.said(CLIENT), two.said(SERVER)) == ([b"?", b"bare"], [b"!"])
    assert str(two) == "udp [2001:db8::1]:5000 > [2001:db8::2]:7"
    with open_pcap(PCAPS / "dns.pcapng") as reader:
        assert all(len(one.said(CLIENT)) == len(one.said(SERVER)) == 1 for one in conversations(reader))


# ---- HTTP -----------------------------------------------------------------------------------------


def test_http_answers_are_the_same_when_status_and_content_are() -> None:
    requests = (
        b"HEAD / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /x HTTP/1.1\r\n\r\n"
    )
    assert methods_of(requests) == ["HEAD", "POST", "GET"]
    before = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"
        b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nhi"
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nrest"
    )
    after = (
        b"HTTP/1.1 200 Fine\r\nServer: other\r\n\r\n"
        b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n"
        b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nrest"
    )
    assert answers_of(methods_of(requests), before) == [(200, b""), (201, b"hi"), (200, b"rest")]
    assert differing_answers(requests, before, after) == ""
    for change, said in (
        ((b"rest", b"best"), "the content of answer 3 differs from octet 0 on (4 octets instead of 4)"),
        ((b"201", b"500"), "answer 2 has status 500 instead of 201"),
    ):
        assert differing_answers(requests, before, after.replace(*change)) == said
    assert differing_answers(requests, before, before[: before.rindex(b"HTTP")]) == "2 answers instead of 3"
    for octets in (b"220 mail\r\n", b"HTTP/1.1 xyz\r\n\r\n", after[:90]):
        assert differing_answers(requests, before, octets) is None
    assert differing_answers(b"EHLO\r\n", before, after) is None


# ---- with real servers ----------------------------------------------------------------------------


@contextmanager
def server(answer: Callable[[bytes], Iterable[bytes]], kind: int = socket.SOCK_STREAM) -> Iterator[int]:
    """The port of a server on loopback that answers what comes, until its client ends."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            sock.listen()

        def serve_one(client: socket.socket) -> None:
            with client, suppress(ConnectionError):
                while octets := client.recv(65536):
                    for part in answer(octets):
                        client.sendall(part)

        def serve() -> None:
            try:
                while kind == socket.SOCK_STREAM:
                    threading.Thread(target=serve_one, args=(sock.accept()[0],), daemon=True).start()
                while True:
                    octets, address = sock.recvfrom(65536)
                    for part in answer(octets):
                        sock.sendto(part, address)
            except OSError:
                pass

        threading.Thread(target=serve, daemon=True).start()
        yield sock.getsockname()[1]
        if kind == socket.SOCK_STREAM:
            sock.shutdown(socket.SHUT_RDWR)


def play(frames: Iterable[Frame], port: int, **options: float) -> list[PayloadResult]:
    config = PayloadConfig("127.0.0.1", port, **({"wait": 5.0} | options))  # type: ignore[arg-type]
    return replay_payload(frames, config)


def test_the_same_answers() -> None:
    frames = talk(
        (CLIENT, b"one"), (SERVER, b"ONE"), (CLIENT, b"two"), (CLIENT, b"three"), (SERVER, b"TWOTHREE")
    )
    with server(lambda octets: [octets.upper()]) as port:
        (result,) = play(frames, port)
        assert (result.verdict, result.detail, result.sent, result.received) == ("same", "", 11, 11)
        assert result.target == f"127.0.0.1 port {port}"
        results = play(frames, port, speed=0, loop=5)
        assert [result.verdict for result in results] == ["same"] * 5


def test_other_answers_are_told_with_the_place() -> None:
    frames = talk((CLIENT, b"one"), (SERVER, b"ONE"), (CLIENT, b"two"), (SERVER, b"TWO"))
    with server(lambda octets: [octets.upper().replace(b"W", b"V")]) as port:
        (result,) = play(frames, port)
        assert (result.verdict, result.detail) == ("differs", "octet 4 is 0x56 instead of 0x57")
    with server(lambda octets: [octets.upper() + b"!"]) as port:
        (result,) = play(frames[:4], port)
        assert (result.verdict, result.detail) == ("differs", "1 octets more than 3")
    with server(lambda octets: []) as port:
        (result,) = play(frames[:4], port, wait=0.2)
        assert (result.verdict, result.detail) == ("differs", "0 octets instead of 3")


def test_nobody_there() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        (result,) = play(talk((CLIENT, b"one"), (SERVER, b"ONE")), port)
        assert (result.verdict, result.detail) == ("failed", "Connection refused")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    (result,) = play([udp(CLIENT, b"?", 1), udp(SERVER, b"!", 2)], port)
    assert (result.verdict, result.detail) == ("failed", "Connection refused")


def test_a_connection_that_the_server_breaks_off() -> None:
    def answer(octets: bytes) -> Iterable[bytes]:
        raise ConnectionError

    frames = talk((CLIENT, b"one"), (SERVER, b"ONE"), (CLIENT, b"two"), (SERVER, b"TWO"))
    with server(answer) as port:
        (result,) = play(frames, port)
    assert result.verdict in ("failed", "differs")
    assert result.received == 0


def test_datagrams_are_compared_one_by_one() -> None:
    frames = [udp(CLIENT, b"a", 1), udp(SERVER, b"A", 2), udp(CLIENT, b"b", 3), udp(SERVER, b"B", 4)]
    with server(lambda octets: [octets.upper()], socket.SOCK_DGRAM) as port:
        (result,) = play(frames, port)
        assert (result.verdict, result.sent, result.received) == ("same", 2, 2)
    with server(lambda octets: [b"A"], socket.SOCK_DGRAM) as port:
        (result,) = play(frames, port)
        assert (result.verdict, result.detail) == ("differs", "datagram 2: octet 0 is 0x41 instead of 0x42")
    with server(lambda octets: [b"A"] if octets == b"a" else [], socket.SOCK_DGRAM) as port:
        (result,) = play(frames, port, wait=0.2)
        assert (result.verdict, result.detail) == ("differs", "1 datagrams instead of 2")


def test_gaps_are_kept_and_answers_awaited() -> None:
    arrived: list[tuple[float, bytes]] = []

    def answer(octets: bytes) -> list[bytes]:
        arrived.append((time.monotonic(), octets))
        if octets == b"one":
            time.sleep(0.2)
            return [b"ONE"]
        return []

    frames = talk((CLIENT, b"one"), (SERVER, b"ONE"), (CLIENT, b"two"), (CLIENT, b"three"), gap_ns=50 * MS)
    with server(answer) as port:
        (result,) = play(frames, port, speed=0.5)
    assert result.verdict == "same"
    assert [octets for _, octets in arrived] == [b"one", b"two", b"three"]
    moments = [moment for moment, _ in arrived]
    assert moments[1] - moments[0] >= 0.29  # the answer's 0.2 s, and the client's 0.1 behind it
    assert moments[2] - moments[1] >= 0.05


def test_a_few_hundred_conversations_in_one_go() -> None:
    frames = []
    for number in range(300):
        for frame in talk((CLIENT, b"%d" % number), (SERVER, b"=%d" % number), gap_ns=300):
            data = bytearray(frame.data)
            at = 34 if data[26:30] == socket.inet_aton(HOSTS[0]) else 36
            struct.pack_into(">H", data, at, 10_000 + number)
            frames.append(Frame(bytes(data), frame.time_ns))
    with server(lambda octets: [b"=" + octets]) as port:
        results = play(frames, port, wait=30)
    assert {result.verdict for result in results} == {"same"}
    assert len(results) == 300


def test_inside_a_running_loop() -> None:
    from rawkit.tools.payloadreplay import areplay_payload

    async def main(port: int) -> list[PayloadResult]:
        frames = talk((CLIENT, b"one"), (SERVER, b"ONE"))
        return await areplay_payload(frames, PayloadConfig("127.0.0.1", port, wait=5))

    with server(lambda octets: [octets.upper()]) as port:
        assert [result.verdict for result in asyncio.run(main(port))] == ["same"]


@contextmanager
def nginx(lab: Lab, folder: Path, page: bytes) -> Iterator[None]:
    """nginx on host b, port 80, with one page."""
    program = oracle("nginx")
    folder.mkdir(exist_ok=True)
    (folder / "index.html").write_bytes(page)
    (folder / "nginx.conf").write_text(
        f"user root; daemon off; master_process off; pid {folder}/pid; error_log {folder}/log;\n"
        "events { }\n"
        f"http {{ access_log off; default_type text/plain; client_body_temp_path {folder}/a; "
        f"proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; "
        f"scgi_temp_path {folder}/e; server {{ listen 80; root {folder}; }} }}\n"
    )
    with lab.b.spawn([program, "-p", str(folder), "-c", str(folder / "nginx.conf")]) as process:
        try:
            for _ in range(300):
                with lab.a, socket.socket() as probe:
                    if probe.connect_ex((str(lab.b.ipv4), 80)) == 0:
                        break
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.01)
            yield
        finally:
            process.terminate()
            process.wait()


@pytest.mark.net
def test_nginx_gives_the_captured_page(tmp_path: Path) -> None:
    with Lab() as lab:
        config = PayloadConfig(wait=10)  # to the captured server: that is host b
        with nginx(lab, tmp_path / "www", PAGE), lab.a, open_pcap(PCAPS / "http.pcapng") as reader:
            (result,) = replay_payload(reader, config)
        assert (result.verdict, result.detail) == ("same content", "")
        assert bytes(result.answer[0]).endswith(b"\r\n\r\n" + PAGE)
        assert b"Server: nginx" in result.answer[0]
        changed = PAGE[:1000] + b"?" + PAGE[1001:]
        with nginx(lab, tmp_path / "www", changed), lab.a, open_pcap(PCAPS / "http.pcapng") as reader:
            (result,) = replay_payload(reader, config)
        assert result.verdict == "differs"
        assert result.detail == (
            f"the content of answer 1 differs from octet 1000 on ({len(PAGE)} octets instead of {len(PAGE)})"
        )
