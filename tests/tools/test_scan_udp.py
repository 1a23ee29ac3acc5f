"""UDP scans between the hosts of a lab, whose kernel limits its ICMP errors as it is told to."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from oracles import oracle

from rawkit.lab import Lab
from rawkit.pcap import create_pcap
from rawkit.tools.scan import Scan, ScanConfig, parse_target, scan
from rawkit.tools.scan.asking import _Limit
from rawkit.tools.scan.payloads import PAYLOADS, payload
from rawkit.wire import UDP, Frame, IPv4

net = pytest.mark.net
SERVED = (53, 123, 161)
SILENT = 9
PORTS = (7, 9, 13, 17, 19, 37, 42, 49, 53, 67, 68, 69, 80, 88, 111, 120, 123, 135, 136, 161)


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Host b answers datagrams to SERVED, and hears those to SILENT."""
    with Lab() as lab, ExitStack() as stack:
        stop = threading.Event()
        with lab.b:
            for port in (*SERVED, SILENT):
                sock = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
                sock.bind(("::", port))
                sock.settimeout(0.1)
                if port != SILENT:
                    thread = threading.Thread(target=serve, args=(sock, stop))
                    thread.start()
                    stack.callback(thread.join)
        stack.callback(stop.set)
        yield lab


def serve(sock: socket.socket, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            request, sender = sock.recvfrom(2048)
        except TimeoutError:
            continue
        sock.sendto(request, sender)


def limit_errors(lab: Lab, milliseconds: int) -> None:
    """The time between two ICMP errors of host b to the same host, as far as there were none before."""
    with lab.b:
        Path("/proc/sys/net/ipv4/icmp_ratelimit").write_text(str(milliseconds))
        Path("/proc/sys/net/ipv6/icmp/ratelimit").write_text(str(milliseconds))


@net
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("milliseconds", [0, 200])
def test_every_port_is_what_it_is_however_few_errors_there_are(
    lab: Lab, version: int, milliseconds: int
) -> None:
    limit_errors(lab, milliseconds)
    told: list[str] = []
    target = lab.b.ipv4 if version == 4 else lab.b.ipv6
    with lab.a:
        running = Scan(ScanConfig(parse_target(str(target)), PORTS, kind="udp"), notify=told.append)
        found = {result.port: result for result in running}
    expected = dict.fromkeys((53, 123, 161), "open") | {SILENT: "open|filtered"}
    assert {port: result.state for port, result in found.items() if result.state != "closed"} == expected
    assert len(found) == len(PORTS)
    assert {result.protocol for result in found.values()} == {"udp"}
    assert (found[53].reason, found[53].ttl, found[53].reporter) == ("udp-response", 64, target)
    assert found[13].reason == "icmp port unreachable"
    assert running.summary.complete
    # Where there was a limit to find: on a machine that is busy itself there may be none.
    assert all(line.startswith(f"{target} sends an ICMP error every 0.") for line in told)
    assert len(told) <= (milliseconds > 0)


def test_the_time_between_errors_is_that_of_those_that_were_waited_for() -> None:
    limit = _Limit(deque(), 0, 0)
    for now_ns in (10**6, 2 * 10**6, 3 * 10**6):  # left over: one for each probe
        limit.asked_n = 1
        limit.error(now_ns)
    for second in (1, 2):
        limit.asked_n = 20
        limit.error(second * 10**9)
    assert limit.gap_ns == 0
    limit.asked_n = 20
    limit.error(3 * 10**9)
    assert limit.gap_ns == 10**9
    assert 3.9e9 < limit.due_ns < 4e9


@net
def test_a_host_without_errors_is_asked_as_often_as_retries_say(lab: Lab) -> None:
    with lab.a:
        running = scan(lab.b.ipv4, str(SILENT), kind="udp", retries=1, timeout=0.1)
        found = {result.port: (result.state, result.probes) for result in running}
    assert found == {SILENT: ("open|filtered", 2)}


@net
def test_an_ordinary_user_on_loopback(lab: Lab) -> None:
    """The sockets are the kernel's own."""
    with lab.b:
        found = Counter(result.state for result in scan("127.0.0.1", "53,54,123", kind="udp"))
    assert found == {"open": 2, "closed": 1}


def test_payloads_are_what_wireshark_knows(tmp_path: Path) -> None:
    path = tmp_path / "payloads.pcap"
    every = [(port, octets) for port, several in PAYLOADS.items() for octets in several]
    with create_pcap(path, linktype=101) as writer:
        for number, (port, octets) in enumerate(every):
            udp = UDP(sport=50000 + number, dport=port)
            packet = IPv4(src=f"192.0.2.{number + 1}", dst="198.51.100.1") / udp
            writer.write(Frame(bytes(packet / octets), number, linktype=101))
    fields = ["-T", "fields", "-e", "frame.protocols", "-e", "_ws.malformed"]
    argv = [oracle("tshark"), "-r", str(path), *fields]
    rows = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    found = [(port, *row.split("\t")) for (port, _), row in zip(every, rows, strict=True)]
    # It reads no QUIC of a version that nobody has, nor a single octet for SQL servers.
    assert {port for port, _, malformed in found if malformed} <= {443, 8443, 1434}
    known = {
        53: "dns", 69: "tftp", 111: "rpc", 123: "ntp", 137: "nbns", 161: "snmp", 389: "cldap", 500: "isakmp",
        520: "rip", 623: "asf", 1900: "ssdp", 2049: "rpc", 3478: "stun", 4500: "isakmp", 5060: "sip",
        5351: "portcontrol", 5353: "mdns", 5355: "llmnr", 5683: "coap", 47808: "bacapp",
    }  # fmt: skip
    assert {port: protocols.split(":")[-1] for port, protocols, _ in found if port in known} == known


def test_several_payloads_take_turns_and_strangers_get_the_contact() -> None:
    assert [payload(161, number) for number in range(4)] == [*PAYLOADS[161], PAYLOADS[161][0]]
    assert payload(9, 0) == b""
    assert payload(9, 1, b"it@example.org") == b"it@example.org"
