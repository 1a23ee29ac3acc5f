"""Labs whose links are the simulator's: the same fates for real packets; beside the kernel's own queue."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from oracles import oracle, tcpdump

from rawkit.engine.link import LinkDirection, LinkRelay
from rawkit.engine.pace import percentile
from rawkit.errors import LocalProtocolError
from rawkit.lab import Host, Lab, RoutedLab
from rawkit.net import interface
from rawkit.sim import (
    Bernoulli,
    Corrupt,
    DropTail,
    Duplicate,
    GilbertElliott,
    LinkSpec,
    Reorder,
    Schedule,
    dumbbell,
    p2p,
)
from rawkit.sim.link import Datagram
from rawkit.sim.network import Node
from rawkit.wire import UDP, IPv4

pytestmark = pytest.mark.net

PORT = 4321
EVERYTHING = (GilbertElliott(0.05, 0.4), Duplicate(0.1), Corrupt(0.1), Reorder(0.1, by_packets=2))


def udp_socket(host: Host) -> socket.socket:
    with host:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((str(host.ipv4), PORT))
    return sock


def ear(host: Host) -> socket.socket:
    """Hears IP packets as they come, whatever their checksums."""
    with host:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
        sock.bind((host.interface, 0x0800))
    sock.settimeout(2)
    return sock


def segment(number: int, a: Host, b: Host) -> bytes:
    """The octets above IP of a numbered UDP packet."""
    packet = (
        IPv4(src=a.ipv4, dst=b.ipv4)
        / UDP(sport=PORT, dport=PORT)
        / number.to_bytes(2, "big").ljust(200, b"x")
    )
    return bytes(packet)[20:]


def pass_numbered(lab: Lab, n: int) -> list[bytes]:
    """What of `n` packets comes out, above IP, in order."""
    assert lab.relay is not None
    got = []
    with closing(udp_socket(lab.a)) as near, closing(udp_socket(lab.b)), closing(ear(lab.b)) as far:
        for number in range(n):
            near.sendto(segment(number, lab.a, lab.b)[8:], (str(lab.b.ipv4), PORT))
        end = time.monotonic() + 10
        while time.monotonic() < end:
            counters = lab.relay.counters()[0]
            if counters.received == n and len(got) == counters.sent and under_way(counters) == 0:
                break
            if len(got) < counters.sent:
                got.append(far.recv(2048)[20:])
    return got


def under_way(counters: Any) -> int:
    copies: int = counters.causes.get("duplicated", 0)
    gone = counters.sent + counters.lost + counters.queue_full + counters.refused
    return counters.received + copies - gone


def in_the_simulator(link: LinkSpec, seed: int, schedule: Schedule, packets: list[bytes]) -> list[bytes]:
    class Sink(Node):
        def receive(self, datagram: Datagram) -> None:
            got.append(bytes(datagram.octets))

    got: list[bytes] = []
    network = p2p(link, seed=seed)
    schedule.attach(network.links[0])
    sink = Sink(network, "sink", "")
    network.links[0].forth.target = sink
    for number, octets in enumerate(packets):
        datagram = Datagram(octets, len(octets) + 20, network.nodes["a"], sink, 0, 0, number)
        network.clock.at(number * 1000, network.links[0].forth.send, datagram)
    network.run()
    return got


@pytest.mark.parametrize(
    ("models", "schedule"),
    [
        (EVERYTHING, ""),
        ((), "drop 3, corrupt 8 bit 100, swap 20, duplicate 30, drop a 40"),
        ((Bernoulli(0.3),), "drop 5"),
    ],
    ids=["models", "schedule", "both"],
)
def test_the_same_packets_meet_the_same_fates_here_and_there(models: Any, schedule: str) -> None:
    link, faults = LinkSpec(None, "1ms", models=models), Schedule.parse(schedule)
    with Lab(link=link, schedule=faults, seed=9) as lab:
        got = pass_numbered(lab, 150)
        sent = [segment(number, lab.a, lab.b) for number in range(150)]
        assert lab.relay is not None
        assert not [reason for reason in lab.relay.degraded() if "late" not in reason]
    expected = in_the_simulator(link, 9, faults, sent)
    assert got == expected
    assert expected != sent


def test_check_1_delay_and_rate() -> None:
    # 1500 octets at 10 Mbit/s and 20 ms: 21.2 ms, and the second comes 1.2 ms later.
    with Lab(link=LinkSpec("10Mbit/s", "20ms")) as lab:
        firsts, seconds = [], []
        with closing(udp_socket(lab.a)) as near, closing(udp_socket(lab.b)) as far:
            far.settimeout(5)
            for _ in range(5):
                start = time.monotonic_ns()
                for _ in range(2):
                    near.sendto(bytes(1472), (str(lab.b.ipv4), PORT))
                for took in (firsts, seconds):
                    far.recv(2000)
                    took.append(time.monotonic_ns() - start)
        assert lab.relay is not None
        while sum(lab.relay.lateness()[0].values()) < 10:  # it counts a frame after it has left
            time.sleep(0.01)
    for took, expected_ns in ((firsts, 21_200_000), (seconds, 22_400_000)):
        assert min(took) >= expected_ns
        assert min(took) < expected_ns + 5_000_000  # the best of five, on a machine that may be busy


@pytest.mark.slow
def test_check_1_the_median_is_at_most_150_us_late() -> None:
    with Lab(link=LinkSpec("10Mbit/s", "20ms")) as lab:
        with closing(udp_socket(lab.a)) as near, closing(udp_socket(lab.b)) as far:
            far.settimeout(5)
            took = []
            for _ in range(300):
                start = time.monotonic_ns()
                near.sendto(bytes(1472), (str(lab.b.ipv4), PORT))
                far.recv(2000)
                took.append(time.monotonic_ns() - start)
        assert lab.relay is not None
        assert percentile(lab.relay.lateness()[0], 50) <= 150_000
    assert sorted(took)[150] - 21_200_000 <= 400_000  # two processes' wakings on top


def iperf(a: Host, b: Host, *options: str) -> None:
    program = oracle("iperf3")
    server = b.spawn([program, "-s", "-1", "-p", "5201", "--forceflush"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    while "listening" not in server.stdout.readline():
        pass
    a.run(
        [program, "-c", str(b.ipv4), "-p", "5201", *options],
        stdout=subprocess.DEVNULL,
        timeout=120,
        check=True,
    )
    server.communicate(timeout=30)


# tbf counts Ethernet headers, and what is at the head of its queue: the packet that we would be sending.
# What its bucket holds lets one packet more through before the queue begins.
NEAR = LinkSpec(None, "5ms")
BOTTLENECK = LinkSpec("10Mbit/s", 0, DropTail(packets=21), frame_octets=14)
TBF = "rate 10mbit burst 1540 limit 31794"


def rate_under(lab: RoutedLab, seconds: int, *options: str) -> float:
    """Bits a second that come in at b, by its interface, while iperf3 sends; without begin and end."""

    def octets() -> tuple[float, int]:
        with lab.b:
            text = Path("/proc/thread-self/net/dev").read_text()
        return time.monotonic(), int(text.partition(f"{lab.b.interface}:")[2].split()[0])

    samples = []

    def watch() -> None:
        for pause in (1.5, seconds - 2.5):
            time.sleep(pause)
            samples.append(octets())

    watcher = threading.Thread(target=watch)
    watcher.start()
    iperf(lab.a, lab.b, "-t", str(seconds), *options)
    watcher.join()
    (began, first), (ended, last) = samples
    return (last - first) * 8 / (ended - began)


def beside_tbf(seconds: int, *options: str) -> tuple[list[float], list[float]]:
    """Rates that iperf3 reaches over our bottleneck, and over the kernel's token bucket filter in its place;
    what share of the packets each dropped.
    """
    rates, shares = [], []
    with Lab.chain(1, links={0: NEAR, 1: BOTTLENECK}) as lab:
        rates.append(rate_under(lab, seconds, *options))
        there, _ = lab.relays["r1>b"].counters()
        assert not [reason for reason in lab.relays["r1>b"].degraded() if "late" not in reason]
        shares.append(there.causes["queue full"] / there.received)
    with Lab.chain(1, links={0: NEAR}) as lab:
        router, tc = lab.nodes["r1"], oracle("tc")
        command = [tc, "qdisc", "add", "dev", "to-b", "root", "tbf", *TBF.split()]
        done = router.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no tbf here: {done.stderr.strip()}")
        rates.append(rate_under(lab, seconds, *options))
        command = [tc, "-s", "-j", "qdisc", "show", "dev", "to-b"]
        (row,) = json.loads(router.run(command, capture_output=True, text=True, check=True).stdout)
        shares.append(row["drops"] / (row["packets"] + row["drops"]))
    return rates, shares


@pytest.mark.slow
def test_check_9_a_flood_of_udp_beside_tbf() -> None:
    rates, shares = beside_tbf(10, "-u", "-b", "20M", "-l", "1472")
    assert shares[0] == pytest.approx(shares[1], rel=0.1)
    assert rates[0] == pytest.approx(rates[1], rel=0.02)


@pytest.mark.slow
def test_check_9_a_reno_flow_beside_tbf() -> None:
    rates, shares = beside_tbf(30, "-C", "reno")
    assert rates[0] == pytest.approx(rates[1], rel=0.02)
    assert shares[0] == pytest.approx(shares[1], rel=0.1)


@pytest.mark.parametrize("family", [4, 6])
def test_tcp_of_a_kernel_that_leaves_the_rest_to_the_card(family: int, tmp_path: Path) -> None:
    """Segments of 64 kB without checksums go in; packets come out, and all their checksums are right."""
    file, octets = tmp_path / "far.pcap", bytes(range(256)) * 4096 * 4
    with Lab(link=LinkSpec("200Mbit/s", "1ms"), offloads=True) as lab:
        watch = [*tcpdump(live=True), "-i", lab.b.interface, "-w", str(file), "-s", "0", "-B", "65536", "tcp"]
        capture = lab.b.spawn(watch, stderr=subprocess.PIPE, text=True)
        assert capture.stderr is not None
        assert "listening" in capture.stderr.readline()
        address = str(lab.b.ipv4 if family == 4 else lab.b.ipv6)
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        with lab.b:
            server = socket.create_server((address, PORT), family=kind)
        with lab.a:
            client = socket.create_connection((address, PORT), 10)
        accepted, _ = server.accept()
        with server, client, accepted:
            sent = got = 0
            client.setblocking(False)
            accepted.settimeout(10)
            while got < len(octets):
                if sent < len(octets):
                    with suppress(BlockingIOError):
                        sent += client.send(memoryview(octets)[sent : sent + (1 << 18)])
                piece = accepted.recv(1 << 20)
                assert piece == octets[got : got + len(piece)]
                got += len(piece)
        capture.terminate()
        capture.communicate(timeout=10)
        assert lab.relay is not None
        there, back = lab.relay.counters()
    assert there.cut > 20
    assert there.refused == back.refused == 0
    command = f"-n -o tcp.check_checksum:TRUE -T fields -e tcp.checksum.status -e frame.len -r {file}"
    rows = subprocess.run(
        [oracle("tshark"), *command.split()], capture_output=True, text=True, check=True
    ).stdout
    # tshark's states: 0 bad, 1 good. What b sends is finished by nobody yet, and goes by with it.
    states = [line.split("\t") for line in rows.splitlines()]
    data = [row for row in states if int(row[1]) > 1000]
    assert len(data) > 1000
    assert {row[0] for row in data} == {"1"}
    assert max(int(row[1]) for row in states) <= 1514


def test_a_dumbbell_is_that_of_the_simulator() -> None:
    bottleneck = LinkSpec("20Mbit/s", "3ms", DropTail(packets=50), (Bernoulli(0.2),))
    with Lab.dumbbell(2, bottleneck, seed=4) as lab:
        assert set(lab.nodes) == set(dumbbell(2, bottleneck).nodes)
        assert list(lab.relays) == ["left>right"]
        for n in (1, 2):
            done = lab.nodes[f"a{n}"].run(
                [oracle("ping"), "-c", "20", "-i", "0.01", "-W", "1", "-q", str(lab.nodes[f"b{n}"].ipv4)],
                stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            low = re.search(r"= ([\d.]+)/", done.stdout)
            assert low is not None
            assert 6 <= float(low[1]) < 20
        there, _ = lab.relays["left>right"].counters()
    assert there.causes["loss"] > 0
    assert there.received == there.sent + there.lost


def test_each_link_of_a_chain_may_be_another() -> None:
    links = {0: LinkSpec(None, "2ms"), 2: LinkSpec(None, "5ms")}
    with Lab.chain(2, links=links) as lab:
        assert list(lab.relays) == ["a>r1", "r2>b"]
        done = lab.a.run(
            [oracle("ping"), "-c", "5", "-i", "0.01", "-q", str(lab.b.ipv4)],
            stdout=subprocess.PIPE,
            text=True,
        )
    low = re.search(r"= ([\d.]+)/", done.stdout)
    assert low is not None
    assert 14 <= float(low[1]) < 25


def test_a_run_that_is_not_what_was_asked_for_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with Lab(link=LinkSpec(None, "30ms")) as lab:
        assert lab.relay is not None
        assert lab.relay.degraded() == []
        late = {1000: 98, 3_100_000: 2}
        monkeypatch.setattr(LinkRelay, "lateness", lambda self: (late, {2_900_000: 1}))
        assert lab.relay.degraded() == ["a to b: 2 of 100 frames were more than 3 ms late"]


def test_packets_beyond_what_there_is_room_for_are_told() -> None:
    # A relay from a host's interface to its own loopback is enough to be full.
    narrow = LinkDirection(delay_ns=10**10, queue_n=1)
    with Lab() as lab:
        with lab.a:
            relay = LinkRelay(interface(lab.a.interface).index, 1, narrow, narrow)
        with relay:
            command = [oracle("ping"), "-c", "3", "-i", "0.01", "-W", "0.1", "-q", str(lab.a.ipv4)]
            assert lab.b.run(command, stdout=subprocess.PIPE).returncode == 0
            end = time.monotonic() + 5
            while not relay.degraded() and time.monotonic() < end:
                time.sleep(0.01)
            assert "frames found no room" in " ".join(relay.degraded())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"link": LinkSpec(), "delay": "1ms"}, "not both"),
        ({"link_back": LinkSpec()}, "goes with link="),
        ({"schedule": Schedule.parse("drop 1")}, "goes with link="),
        ({"link": LinkSpec(mtu=600)}, "MTU 600: at least 1280"),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Lab(**arguments)


def test_a_link_that_only_the_simulator_can_be() -> None:
    with pytest.raises(LocalProtocolError, match="does not look into transport headers"):
        Lab(link=LinkSpec(), schedule=Schedule.parse("drop a SYN 0"))
