"""SCTP INIT and IP protocol scans, and probes of one's own, beside what nmap and tshark say."""

from __future__ import annotations

import ctypes.util
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from oracles import nmap, oracle

from rawkit.addr import parse_target
from rawkit.engine import RawIPSocket
from rawkit.lab import Host, Lab
from rawkit.lab.setup import set_sysctls
from rawkit.tools.scan import Scan, ScanConfig, probe_of, scan
from rawkit.tools.scan.dryrun import dry_run
from rawkit.tools.scan.probe import Probe, ProbeTarget
from rawkit.tools.scan.probes import PROBES
from rawkit.wire import UDP, IPv4, IPv6, Packet
from rawkit.wire.sctp import SCTP, SCTPAbort, SCTPInit, SCTPInitAck, StateCookie

net = pytest.mark.net
OPEN, SILENT = (5060, 36412), 9


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Host b speaks SCTP over IPv4 and IPv6: it listens on OPEN, and hears SILENT."""
    with Lab() as lab, ExitStack() as stack:
        with lab.b:
            set_sysctls({"net/ipv4/icmp_ratelimit": "0", "net/ipv6/icmp/ratelimit": "0"})
        for version in (4, 6):
            stack.enter_context(speaks_sctp(lab.b, version))
        yield lab


@contextmanager
def speaks_sctp(host: Host, version: int) -> Iterator[None]:
    """INIT is answered as RFC 9260 sections 5.1 and 8.4 have it, the checksum verified."""
    stop = threading.Event()
    with host:
        # Who has a socket for the protocol does not have the kernel say that it knows none.
        sock = RawIPSocket(version, 132)
    thread = threading.Thread(target=answer, args=(sock, IPv4 if version == 4 else IPv6, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        sock.close()


def answer(sock: RawIPSocket, first: type[IPv4] | type[IPv6], stop: threading.Event) -> None:
    while not stop.is_set():
        for frame in sock.frames(timeout=0.05):
            packet = Packet.parse(frame.data, first)
            ip, asked = packet[first], packet.get(SCTP)
            if asked is None or asked.dport == SILENT or any(v.state == "bad" for v in packet.checksums()):
                continue
            (init,) = asked.chunks
            if not isinstance(init, SCTPInit) or isinstance(init, SCTPInitAck):
                continue
            ack = SCTPInitAck(tag=77, tsn=1, parameters=[StateCookie(b"cookie")])
            chunk = ack if asked.dport in OPEN else SCTPAbort()
            reply = SCTP(sport=asked.dport, dport=asked.sport, tag=init.tag, chunks=[chunk])
            sock.send(bytes(first(src=ip.dst, dst=ip.src) / reply))


@net
@pytest.mark.parametrize("version", [4, 6])
def test_sctp_ports_are_what_nmap_says(version: int, lab: Lab) -> None:
    target = str(lab.b.ipv4 if version == 4 else lab.b.ipv6)
    with lab.a:
        results = list(scan(target, "7-10,5060,36410-36413", kind="sctp", retries=1, timeout=0.3))
    ours = {result.port: result.state for result in results}
    assert {port: state for port, state in ours.items() if state != "closed"} == {
        5060: "open", 36412: "open", SILENT: "filtered",
    }  # fmt: skip
    assert {r.reason for r in results} == {"init-ack", "abort", "no-answer"}
    assert {(r.probes, r.answers) for r in results} == {(1, 1), (2, 0)}
    assert all(r.ttl == 64 and r.rtt_ns is not None for r in results if r.answers)
    if version == 4:
        found = nmap(lab.a, "Y", "7-10,5060,36410-36413", [target])
        assert {(target, port): state for port, state in ours.items()} == found


USRSCTP = """
import ctypes, ctypes.util, socket, struct, sys
lib = ctypes.CDLL(ctypes.util.find_library("usrsctp"), use_errno=True)
lib.usrsctp_socket.restype = ctypes.c_void_p
lib.usrsctp_init(0, None, None)  # over raw IP
sock = ctypes.c_void_p(lib.usrsctp_socket(socket.AF_INET, socket.SOCK_STREAM, 132, None, None, 0, None))
place = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", 36412, bytes(4))
assert lib.usrsctp_bind(sock, place, len(place)) == lib.usrsctp_listen(sock, 5) == 0
print("ready", flush=True)
sys.stdin.read()
"""


@net
def test_an_sctp_stack_that_others_wrote_understands_the_probes() -> None:
    if ctypes.util.find_library("usrsctp") is None:
        pytest.skip("usrsctp is not installed (Debian: libusrsctp2)")
    with Lab() as lab:
        argv = [sys.executable, "-c", USRSCTP]
        pipe = subprocess.PIPE
        with lab.b.spawn(argv, stdin=pipe, stdout=pipe, text=True) as stack:
            assert stack.stdout.readline() == "ready\n"
            with lab.a:
                results = list(scan("10.77.0.2", "36411-36413", kind="sctp"))
            stack.stdin.close()
    assert {(r.port, r.state, r.reason) for r in results} == {
        (36411, "closed", "abort"), (36412, "open", "init-ack"), (36413, "closed", "abort"),
    }  # fmt: skip


@net
def test_sctp_probes_are_what_wireshark_reads(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "probes.pcapng"
    with lab.a:
        config = ScanConfig(parse_target("10.77.0.2 fd77::2"), (38412, 36412), kind="sctp")
        assert dry_run(config, path) == 4
    columns = ["sctp.dstport", "sctp.chunk_type", "sctp.checksum.status", "_ws.malformed"]
    argv = [oracle("tshark"), "-r", str(path), "-o", "sctp.checksum:CRC 32c", "-T", "fields"]
    argv += [word for column in columns for word in ("-e", column)]
    rows = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    good = "1"
    assert sorted(row.split("\t") for row in rows) == 2 * [["36412", "1", good, ""]] + 2 * [
        ["38412", "1", good, ""]
    ]


@net
def test_a_tag_that_is_not_the_init_s_is_no_answer(lab: Lab) -> None:
    probe = PROBES["sctp"]()
    to = ProbeTarget(lab.b.ipv4, 36412, lab.a.ipv4, 40000, 0x1122334455667788)
    request = probe.request(to)
    tag = request[SCTP].chunks[0].tag  # type: ignore[attr-defined]
    reply = SCTP(sport=36412, dport=40000, tag=tag, chunks=[SCTPInitAck(tag=1)])
    packet = IPv4(src=lab.b.ipv4, dst=lab.a.ipv4) / reply
    assert probe.is_answer(packet, request)
    assert not probe.is_answer(packet.replace(SCTP, tag=tag ^ 1), request)


@net
@pytest.mark.parametrize("version", [4, 6])
def test_ip_protocols_are_what_nmap_says(version: int, lab: Lab) -> None:
    """6 and 17 are every kernel's, 132 that of the socket above; 253 nobody's."""
    target = str(lab.b.ipv4 if version == 4 else lab.b.ipv6)
    wanted = "1,2,6,17,33,41,44,47,50,58,103,253"
    with lab.a:
        running = scan(target, wanted, kind="protocol", retries=1, timeout=0.3)
        ours = {(str(result.address), result.port): result.state for result in running}
    assert running.summary.complete
    assert ours[target, 6] == ours[target, 17] == "open"
    assert ours[target, 253] == "closed"
    assert ours == nmap(lab.a, "O", wanted, [target])


class EchoProbe(Probe):
    """UDP echo (RFC 862), as somebody might write it."""

    name = "echo"
    protocol = "udp"
    ports = (7,)

    def request(self, to: ProbeTarget) -> Packet:
        return to.ip() / UDP(sport=to.source_port, dport=to.port) / to.token.to_bytes(8, "big")


@net
def test_a_probe_of_one_s_own(lab: Lab) -> None:
    """What does not prove itself is asked twice; a server that answers once only has one answer."""
    with lab.b, socket.socket(type=socket.SOCK_DGRAM) as every, socket.socket(type=socket.SOCK_DGRAM) as once:
        every.bind(("10.77.0.2", 7))
        once.bind(("10.77.0.2", 8))

        def serve(sock: socket.socket, times: int) -> None:
            for _ in range(times):
                octets, sender = sock.recvfrom(64)
                sock.sendto(octets, sender)

        threads = [threading.Thread(target=serve, args=args) for args in ((every, 2), (once, 1))]
        for thread in threads:
            thread.start()
        with lab.a:
            running = Scan(
                ScanConfig(
                    parse_target("10.77.0.2"),
                    (7, 8, 9),
                    kind="echo",
                    probe=EchoProbe(),
                    retries=1,
                    timeout_ns=200_000_000,
                )
            )
            found = {result.port: result for result in running}
        for thread in threads:
            thread.join()
    assert {port: (r.state, r.reason, r.answers) for port, r in found.items()} == {
        7: ("open", "udp-response", 2),
        8: ("open", "udp-response", 1),
        9: ("closed", "icmp port unreachable", 1),
    }
    assert (found[7].protocol, found[7].probes, found[8].probes) == ("udp", 2, 3)
    assert running.summary.complete


@pytest.mark.parametrize(
    ("here", "there", "header_len"), [("192.0.2.1", "192.0.2.2", 20), ("2001:db8::1", "2001:db8::2", 40)]
)
def test_of_a_probe_a_router_may_quote_eight_octets(here: str, there: str, header_len: int) -> None:
    """RFC 792. What it says does not close the port."""
    probe = PROBES["sctp"]()
    request = probe.request(ProbeTarget(ip_address(there), 36412, ip_address(here), 40000, 1 << 40))
    first = type(request.layers[0])
    about = Packet.parse(bytes(request)[: header_len + 8], first)
    assert probe.port_of(about.layers, about.payload, quoted=True) == 36412
    version = request.layers[0].version  # type: ignore[attr-defined]
    state, reason = probe.verdict_of_error(version, *((3, 3) if version == 4 else (1, 4)), by_target=False)
    assert (state, reason) == ("filtered", "icmp port unreachable")


def test_a_kind_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="kind 'idle': there are auto, syn"):
        probe_of("idle")
    with pytest.raises(ValueError, match="IP protocol 256"):
        ScanConfig(parse_target("192.0.2.1"), (256,), kind="protocol")
