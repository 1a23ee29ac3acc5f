"""Scans on loopback and between the hosts of a lab, where what listens, drops and refuses is known."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from live import before_long
from oracles import calm, nmap, oracle

from rawkit.addr import MAC, parse_target
from rawkit.engine import FrameBatch, PacketSocket, RawIPSocket, compile_filter
from rawkit.engine.probe import KEY_LEN, Board, ProbePlan
from rawkit.errors import EngineError, NoRoute, RawkitError, TargetError, UnknownInterface
from rawkit.lab import Host, Lab
from rawkit.tools.scan import (
    COMMON_PORTS,
    PUBLIC_HOST_RATE,
    PUBLIC_RATE_MAX,
    PortResult,
    Scan,
    ScanConfig,
    ascan,
    packets,
    public_count,
    scan,
)
from rawkit.tools.scan.checkpoint import Checkpoint, Progress
from rawkit.tools.scan.connect import _attempts
from rawkit.tools.scan.dryrun import dry_run
from rawkit.tools.scan.icmp import icmp_reason
from rawkit.tools.scan.legs import refuse_groups
from rawkit.tools.scan.syn import reserve_port, template
from rawkit.wire import MSS, TCP, UDP, Ether, ICMPEcho, ICMPv6Echo, IPv4, IPv6, Packet

MS = 1_000_000
net = pytest.mark.net


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture
def listening() -> Iterator[Callable[..., socket.socket]]:
    """`listening(host, port)`: a socket that accepts, or with `drop` one that hears nothing."""
    with ExitStack() as stack:

        def listen(host: Host, port: int, drop: bool = False) -> socket.socket:
            with host:
                listener = stack.enter_context(socket.socket(socket.AF_INET6))
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                if drop:
                    drop_all(listener)
                listener.bind(("::", port))
                listener.listen(64)
            return listener

        yield listen


def drop_all(sock: socket.socket) -> None:
    """Attach a classic BPF program that accepts no octet: SYNs vanish as in a firewall."""
    import ctypes

    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    so_attach_filter = 26
    sock.setsockopt(socket.SOL_SOCKET, so_attach_filter, struct.pack("HP", 1, ctypes.addressof(program)))


def ask_kernel(host: Host, question: Callable[[Any], object]) -> None:
    from pyroute2 import IPRoute

    with host, IPRoute() as route:
        question(route)


def states(results: list[PortResult]) -> dict[int, str]:
    found = {result.port: result.state for result in results}
    assert len(found) == len(results), "a port was reported twice"
    return found


# ---- packets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["192.0.2.1", "2001:db8::1"])
def test_templates_are_what_the_headers_build(source: str) -> None:
    """But for what is filled in for each probe: IPv4's and IPv6's length, and the checksums."""
    address = ip_address(source)
    cls = {4: IPv4, 6: IPv6}[address.version]
    length = "total_length" if address.version == 4 else "payload_length"
    zeros = {length: 0} | ({"checksum": 0} if address.version == 4 else {})
    header = cls(src=source, dst=ip_address(bytes(len(address.packed))), **zeros)
    for flags, options in (("S", [MSS({4: 1460, 6: 1440}[address.version])]), ("FPU", []), ("", [])):
        tcp = TCP(sport=4660, dport=0, flags=flags, window=1024, checksum=0, options=options)
        expected = bytes(header / tcp)
        assert packets.ip(address, packets.TCP, packets.tcp(4660, flags, address.version)) == expected
    echo_of = {4: ICMPEcho, 6: ICMPv6Echo}[address.version]
    expected = bytes(
        cls(src=source, dst=header.dst, **zeros, **{"ttl" if address.version == 4 else "hop_limit": 9})
        / echo_of(id=7, checksum=0)
        / b"12345678x"
    )
    protocol = packets.ICMP if address.version == 4 else packets.ICMPV6
    assert packets.ip(address, protocol, packets.echo(7, address.version, b"12345678x"), 9) == expected
    mac = MAC("00:00:5e:00:53:01")
    link = Ether(dst="00:00:5e:00:53:02", src=mac, ethertype={4: 0x0800, 6: 0x86DD}[address.version])
    assert packets.ether(MAC("00:00:5e:00:53:02"), mac, address.version) == bytes(link)
    with_id = cls(src=source, dst=header.dst, **zeros, **({"id": 9} if address.version == 4 else {}))
    segment = packets.tcp(4660, "", address.version)
    assert packets.ip(address, packets.TCP, segment, identification=9) == bytes(with_id / tcp)


@pytest.mark.parametrize("version", [4, 6])
def test_the_filter_for_answers_judges_as_libpcaps(version: int) -> None:
    text = f"(tcp dst port 40000) or {'icmp' if version == 4 else 'icmp6'}"
    ours, theirs = packets.answers(40000, version, 256), compile_filter(text, 101, 256)
    ip: Any = IPv4(src="192.0.2.1", dst="192.0.2.2") if version == 4 else IPv6(src="::1", dst="::2")
    segments = [TCP(sport=a, dport=b, flags="RA") for a in (80, 40000) for b in (40000, 39999, 40001, 80)]
    packets_ = [
        ip / upper for upper in (*segments, UDP(sport=80, dport=40000), ICMPEcho(id=1), ICMPv6Echo(id=1))
    ]
    if version == 4:
        long = IPv4(src="192.0.2.1", dst="192.0.2.2", options=bytes([1, 1, 1, 0]))
        packets_ += [long / segment for segment in segments]
        packets_ += [ip.replace(fragment_offset=n) / segments[0] for n in (1, 0x1FFF)]
        packets_ += [ip.replace(flags="MF") / segments[0]]
    octets = [bytes(packet) for packet in packets_]
    octets += [packet[:n] for packet in octets for n in (0, 7, 20, 22, 23, 40, 43)]
    judged = [ours.matches(packet) for packet in octets]
    assert judged == [theirs.matches(packet) for packet in octets]
    assert 0 < sum(judged[: len(packets_)]) < len(packets_)


# ---- configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("targets", "public"),
    [
        ("10.0.0.0/8 127.0.0.1 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16 ::1 fc00::/7", 0),
        ("fe80::1%veth0", 0),
        ("192.0.2.0/24", 256),
        ("9.255.255.0-10.0.0.5", 256),
        ("172.32.0.0/24 2001:db8::/120", 512),
    ],
)
def test_public_addresses_are_counted(targets: str, public: int) -> None:
    assert public_count(parse_target(targets, limit=1 << 128)) == public


def test_special_ranges_are_left_out_of_a_scan_of_public_space() -> None:
    rest, notes = refuse_groups(parse_target("0.0.0.0/0", limit=1 << 32))
    assert ip_address("8.8.8.8") in rest
    for special in ("10.1.1.1", "127.0.0.1", "192.0.2.1", "224.0.0.1", "255.255.255.255", "100.64.0.1"):
        assert ip_address(special) not in rest
    assert 3.6e9 < rest.count < 3.8e9
    assert "addresses left out" in notes[0]
    few = parse_target("192.0.2.0/24 8.8.8.0/24")
    assert refuse_groups(few) == (few, ())


def test_public_targets_are_probed_slowly_unless_a_rate_is_given() -> None:
    private, public = parse_target("10.0.0.1"), parse_target("10.0.0.1 192.0.2.1")
    assert ScanConfig(private).effective_rate is None
    assert ScanConfig(public).effective_rate == 2 * PUBLIC_HOST_RATE  # each of the two gets half
    assert ScanConfig(private, host_rate=20).effective_rate == 20
    assert ScanConfig(parse_target("10.0.0.0/24"), host_rate=20).effective_rate == 5120
    assert ScanConfig(public, host_rate=20).effective_rate == 40
    assert ScanConfig(public, host_rate=20, rate=30).effective_rate == 30
    network = parse_target("10.0.0.0/24 192.0.2.0/24")
    assert ScanConfig(network).effective_rate == 2 * PUBLIC_RATE_MAX  # to the public half of it
    assert ScanConfig(public, rate=5e4).effective_rate == 5e4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "idle"}, "kind 'idle'"),
        ({"rate": 0}, "rate 0"),
        ({"rate": float("nan")}, "rate nan"),
        ({"retries": -1}, "retries -1"),
        ({"timeout": 0}, "timeout of 0 s"),
        ({"timeout": float("nan")}, "timeout of nan s"),
        ({"source_port": 65536}, "source port 65536"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 1, "shard": (3, 2)}, "shard 3/2"),
        ({"shard": (1, 2)}, "shards need one seed"),
        ({"kind": "connect", "seed": 1, "shard": (1, 2)}, "no shards"),
        ({"kind": "connect", "source_port": 5}, "source_port is for SYN scans"),
        ({"ports": [65536]}, "bad port 65536"),
        ({"ports": "9-1"}, "ends before it begins"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scan("127.0.0.1", **options)


def test_common_ports_have_no_doubles_and_are_sorted() -> None:
    assert list(COMMON_PORTS) == sorted(set(COMMON_PORTS))
    assert {22, 80, 443} < set(COMMON_PORTS)


def test_icmp_errors_in_words() -> None:
    assert icmp_reason(4, 3, 10) == "icmp host prohibited"
    assert icmp_reason(4, 11, 0) == "icmp time exceeded"
    assert icmp_reason(6, 1, 4) == "icmp port unreachable"
    assert icmp_reason(6, 1, 99) == "icmp type 1 code 99"


@pytest.mark.parametrize(
    ("spans", "ports", "changes", "message"),
    [
        ([(b"\1\0\0\0", 1)], [1], {"key": bytes(KEY_LEN - 1)}, "a key of 16 octets is needed"),
        ([(b"\1\0\0\0", 2)], [1], {"next_hops": bytes(6)}, "next hops: 6 octets for 2 addresses"),
        ([(b"\1\0\0\0", 2)], [2, 1], {}, "ports have to ascend"),
        ([(b"\1\0\0\0", 2), (b"\1\0\0\1", 2)], [1], {}, "spans have to ascend"),
        ([(bytes(16), 1 << 50)], list(range(65536)), {}, "more than 2\\*\\*63"),
    ],
)
def test_a_plan_that_does_not_fit_together(
    spans: list[tuple[bytes, int]], ports: list[int], changes: dict[str, bytes], message: str
) -> None:
    arguments = {"key": bytes(KEY_LEN), "link": bytes(14)} | changes
    with pytest.raises(ValueError, match=message):
        ProbePlan(template(ip_address("192.0.2.1"), 1), spans, ports, **arguments)


def test_boards_of_a_large_plan() -> None:
    """Every probe is on one board, whatever the order; a plan of 2^56 probes takes no memory."""
    first = ip_address("10.0.0.0").packed
    plan = ProbePlan(template(ip_address("192.0.2.1"), 1), [(first, 1000)], [80, 443], bytes(16), seed=1)
    boards = [Board(plan, min(300, 2000 - start), start) for start in range(0, 2000, 300)]
    targets = [board.target(row) for board in boards for row in range(board.rows_n)]
    assert sorted(targets) == [
        ((int.from_bytes(first) + i).to_bytes(4), p) for i in range(1000) for p in (80, 443)
    ]
    assert targets != sorted(targets)
    shards = [Board(plan, 1000, k, 2) for k in range(2)]
    assert sorted(board.target(row) for board in shards for row in range(1000)) == sorted(targets)
    wide = ip_address("2001:db8::").packed
    huge = ProbePlan(
        template(ip_address("2001:db8::1"), 1), [(wide, 1 << 40)], list(range(65536)), bytes(16), seed=1
    )
    assert huge.probes_n == 1 << 56
    board = Board(huge, 10, (1 << 56) - 10)
    assert list(board.unanswered()) == list(range(10))
    assert len({board.target(row) for row in range(10)}) == 10


# ---- loopback ---------------------------------------------------------------------------------------


@net
@pytest.mark.parametrize("kind", ["syn", "connect"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_loopback(kind: str, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen()
        port = listener.getsockname()[1]
        running = scan(address, range(port - 50, port + 50), kind=kind)
        results = {result.port: result for result in running}
    found = results.pop(port)
    assert (found.state, found.reason, found.probes) == (
        "open",
        "syn-ack" if kind == "syn" else "connected",
        1,
    )
    assert found.reporter == found.address == ip_address(address)
    assert found.rtt_ns is not None
    assert 0 <= found.rtt_ns < 500 * MS
    assert found.ttl == (64 if kind == "syn" else None)
    # A connect from a port of this host's to the very same port is answered, by itself.
    reasons = {"rst"} if kind == "syn" else {"refused", "self-connect"}
    assert {r.state for r in results.values()} == {"closed"}
    assert {r.reason for r in results.values()} <= reasons
    summary = running.summary
    assert (summary.complete, summary.open, summary.closed, summary.filtered) == (True, 1, 99, 0)
    assert (summary.probes, summary.duplicates, summary.dropped) == (100, 0, 0)


@net
def test_a_port_of_the_scan_itself_is_closed() -> None:
    """The held source port is bound, but nobody listens."""
    guard, port = reserve_port()
    guard.close()
    (result,) = scan("127.0.0.1", [port], kind="syn", source_port=port)
    assert (result.state, result.reason) == ("closed", "rst")


@net
def test_a_source_port_in_use_is_refused() -> None:
    guard, port = reserve_port()
    with guard, pytest.raises(EngineError, match=f"reserve source port on {port}: Address already in use"):
        scan("127.0.0.1", [1], kind="syn", source_port=port)


@net
@pytest.mark.parametrize("kind", ["syn", "connect", "udp", "sctp"])
def test_a_host_s_own_rate_is_kept(kind: str) -> None:
    start = time.monotonic()
    list(scan("127.0.0.1", "1-11", kind=kind, host_rate=50, retries=0, timeout=0.01))
    assert time.monotonic() - start >= 0.19  # between the first and the last


def test_connections_take_turns_between_hosts() -> None:
    config = ScanConfig(parse_target("10.0.0.0/24 10.0.1.0"), (1, 2), kind="connect")
    order = [(str(attempt.address), attempt.port) for attempt in _attempts(config)]
    assert len(set(order)) == len(order) == 2 * 257
    first, second = (i for i, (address, _) in enumerate(order) if address == "10.0.1.0")
    assert second - first >= 128


@net
def test_sockets_are_gone_when_the_scan_ends_or_is_given_up() -> None:
    def fds() -> int:
        return len(os.listdir("/proc/self/fd"))

    list(scan("127.0.0.1", "1-3", kind="sctp", retries=0))  # a module may open something of its own
    before = fds()
    for kind in ("syn", "connect", "sctp", "udp"):
        list(scan("127.0.0.1", "1-3", kind=kind, retries=0, timeout=0.2))
        assert before_long(lambda: fds() <= before)
        with scan("127.0.0.1", "1-1000", kind=kind):
            pass
        assert before_long(lambda: fds() <= before)
        with scan("127.0.0.1", "1-1000", kind=kind, retries=0, timeout=0.2, discovery=True) as running:
            next(running)
        assert before_long(lambda: fds() <= before)
        assert not running.summary.complete
        assert list(running) == []


# ---- connect scans ----------------------------------------------------------------------------------


@net
def test_a_socket_connected_to_itself_is_no_open_port(lab: Lab) -> None:
    """With one local port to choose from, the kernel connects a socket to itself (RFC 9293, 3.5)."""
    with lab.a:
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40000")
        with socket.socket() as control:
            control.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            control.connect(("127.0.0.1", 40000))  # "open", says the kernel
        (result,) = scan("127.0.0.1", [40000], kind="connect")
    assert (result.state, result.reason) == ("closed", "self-connect")


@net
def test_connect_scan_with_few_descriptors_looks_at_every_port(
    lab: Lab, listening: Callable[..., socket.socket]
) -> None:
    listening(lab.b, 80)
    listening(lab.b, 777, drop=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        with lab.a:
            running = scan(lab.b.ipv4, "1-1000", kind="connect", retries=0, timeout=0.3)
        next_fd = os.dup(0)
        os.close(next_fd)
        # Fewer than the scan counted on: it was made before the limit fell.
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_fd + 12, hard))
        with lab.a:
            found = states(list(running))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert Counter(found.values()) == {"closed": 998, "open": 1, "filtered": 1}
    assert (found[80], found[777]) == ("open", "filtered")


@net
def test_connect_scan_does_not_wander_into_another_network(lab: Lab) -> None:
    with lab.a:
        running = scan("127.0.0.1", "1-100", kind="connect")
        next(running)
    with pytest.raises(RawkitError, match="left the network namespace"):
        list(running)


@net
def test_without_raw_sockets_it_connects_and_says_so(
    lab: Lab, listening: Callable[..., socket.socket]
) -> None:
    listening(lab.b, 80)
    script = (
        "from rawkit.tools.scan import scan\n"
        f"running = scan('{lab.b.ipv4}', '79-81')\n"
        "print(running.kind, [(r.port, r.state) for r in running], running.summary.fallback)\n"
    )
    done = lab.a.run(
        [*unprivileged(), sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout.startswith("connect [(79, 'closed'), (80, 'open'), (81, 'closed')] open packet socket")
    assert "needs CAP_NET_RAW" in done.stdout


def unprivileged() -> list[str]:
    """Behind this, a program has no capability, whoever runs it."""
    return [oracle("setpriv"), "--bounding-set", "-all", "--inh-caps", "-all", "--"]


# ---- the lab ----------------------------------------------------------------------------------------


@net
def test_all_ports_of_a_host(lab: Lab, listening: Callable[..., socket.socket]) -> None:
    ports = {1, 65535, *range(1000, 59000, 3277)}
    assert len(ports) == 20
    for port in ports:
        listening(lab.b, port)
    with lab.a:
        running = scan(lab.b.ipv4, "-", kind="syn")
    found = states(list(running))
    assert {port for port, state in found.items() if state == "open"} == ports
    assert Counter(found.values()) == {"open": 20, "closed": 65515}
    assert running.summary.complete
    assert running.summary.duration_ns < 5_000 * MS or not calm()  # 500 ms on an idle machine


@net
def test_ipv6_ports_of_a_host(lab: Lab, listening: Callable[..., socket.socket]) -> None:
    ports = {1, 80, 4096, 5000}
    for port in ports:
        listening(lab.b, port)
    with lab.a:
        running = scan(lab.b.ipv6, "1-5000", kind="syn")
    found = states(list(running))
    assert {port for port, state in found.items() if state == "open"} == ports
    assert Counter(found.values()) == {"open": 4, "closed": 4996}


@net
def test_link_local_target(lab: Lab, listening: Callable[..., socket.socket]) -> None:
    listening(lab.b, 80)
    from rawkit.net import interface

    with lab.b:
        (address,) = [a.ip for a in interface("veth0").addresses if a.ip.is_link_local]
    for kind in ("syn", "connect"):
        with lab.a:
            found = states(list(scan(f"{str(address).partition('%')[0]}%veth0", "79-81", kind=kind)))
        assert found == {79: "closed", 80: "open", 81: "closed"}
    for kind, ports, wanted in (
        ("udp", "9", {9: ("closed", "icmp port unreachable")}),
        ("protocol", "6,253", {6: ("open", "proto-response"), 253: ("closed", "icmp parameter problem")}),
    ):
        with lab.a:
            results = list(scan(f"{str(address).partition('%')[0]}%veth0", ports, kind=kind))
        assert {result.port: (result.state, result.reason) for result in results} == wanted
        assert all(result.reporter == result.address for result in results)


@net
def test_several_hosts_of_both_families(lab: Lab, listening: Callable[..., socket.socket]) -> None:
    """Its own address and the other host's, an address that nobody has, and a network's broadcast address."""
    listening(lab.b, 80)
    with lab.a:
        running = scan(
            f"10.77.0.0/30 {lab.b.ipv6}", [80, 81], kind="syn", exclude="10.77.0.3", retries=0, timeout=0.2
        )
    found = {(str(r.address), r.port): (r.state, r.probes > 0) for r in running}
    assert found == {
        ("10.77.0.1", 80): ("closed", True),
        ("10.77.0.1", 81): ("closed", True),
        ("10.77.0.2", 80): ("open", True),
        ("10.77.0.2", 81): ("closed", True),
        ("fd77::2", 80): ("open", True),
        ("fd77::2", 81): ("closed", True),
    }
    assert running.summary.notes == ("10.77.0.0 left out: a broadcast address of 10.77.0.0/24",)


@net
@pytest.mark.parametrize("kind", ["syn", "connect"])
def test_what_came_while_its_user_was_busy_came_in_time(kind: str) -> None:
    with Lab(delay="20ms") as lab, lab.a:
        found = []
        for result in scan(lab.b.ipv4, "1-10", kind=kind, rate=500, retries=0, timeout=0.2):
            found.append(result)
            time.sleep(0.4 if len(found) == 1 else 0)
    assert Counter(states(found).values()) == {"closed": 10}


@net
@pytest.mark.parametrize("kind", ["syn", "connect"])
def test_dropped_probes_are_filtered_after_all_retries(
    kind: str, lab: Lab, listening: Callable[..., socket.socket]
) -> None:
    listening(lab.b, 80)
    listening(lab.b, 81, drop=True)
    with lab.a:
        running = scan(lab.b.ipv4, "80-82", kind=kind, retries=1, timeout=0.1)
        results = {result.port: result for result in running}
    assert {port: result.state for port, result in results.items()} == {
        80: "open",
        81: "filtered",
        82: "closed",
    }
    silent = results[81]
    assert (silent.reason, silent.probes, silent.reporter, silent.ttl, silent.rtt_ns) == (
        "no-answer",
        2,
        None,
        None,
        None,
    )
    assert running.summary.probes == 4


@net
@pytest.mark.parametrize(
    ("version", "prefix", "target"), [(4, "10.99.0.0/24", "10.99.0.1"), (6, "fd99::/64", "fd99::1")]
)
def test_an_icmp_error_says_who_filters(version: int, prefix: str, target: str, lab: Lab) -> None:
    router = lab.b.ipv4 if version == 4 else lab.b.ipv6
    with lab.b:
        Path(f"/proc/sys/net/ipv{version}/conf/all/forwarding").write_text("1")
        Path("/proc/sys/net/ipv6/icmp/ratelimit").write_text("0")  # else one error a second
    ask_kernel(lab.b, lambda route: route.route("add", dst=prefix, type="prohibit"))
    ask_kernel(lab.a, lambda route: route.route("add", dst=prefix, gateway=str(router)))
    with lab.a:
        (result,) = scan(target, [80], kind="syn", retries=0)
        # An error that comes while connect() is still sending is lost; the kernel's next SYN goes after 1 s.
        (connected,) = scan(target, [80], kind="connect", retries=0, timeout=3)
    assert (result.state, result.reason, result.reporter) == ("filtered", "icmp admin prohibited", router)
    assert str(result.address) == target
    assert result.ttl == 64
    assert connected.state == "filtered"
    assert connected.reason in ("host unreachable", "prohibited")


@net
def test_addresses_that_nobody_has(
    lab: Lab, listening: Callable[..., socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One on the link, one behind a router that is not there; then whole prefixes, all asked at once."""
    import rawkit.tools.scan.legs as legs

    monkeypatch.setattr(legs, "_NEIGHBOUR_TIMEOUT", 0.2)
    ask_kernel(lab.a, lambda route: route.route("add", dst="10.98.0.0/24", gateway="10.77.0.77"))
    listening(lab.b, 80)
    with lab.a:
        lone = list(scan("10.77.0.9 10.98.0.1", [80], kind="syn"))
        prefix = list(scan("10.77.0.0/24", [79, 80], kind="syn"))
        prefix6 = list(scan("fd77::/120", [79, 80], kind="syn"))
    absent = ("filtered", "no neighbour", 0)
    assert {(r.state, r.reason, r.probes) for r in lone} == {absent}
    for results, there, n in ((prefix, "10.77.0.2", 254), (prefix6, "fd77::2", 256)):
        assert Counter((r.state, r.reason, r.probes) for r in results) == {
            absent: 2 * (n - 2),
            ("closed", "rst", 1): 3,  # its own address has no listener
            ("open", "syn-ack", 1): 1,
        }
        assert [str(r.address) for r in results if r.state == "open"] == [there]


@net
def test_targets_without_a_route(lab: Lab) -> None:
    with lab.a:
        with pytest.raises(NoRoute, match=r"no route to 192\.0\.2\.1"):
            scan("192.0.2.1", [80], kind="syn")
        results = list(scan(f"192.0.2.1 {lab.b.ipv4}", [80], kind="syn"))
        connected = list(scan(f"192.0.2.1 {lab.b.ipv4}", [80], kind="connect"))
    assert [(r.state, r.reason, r.probes) for r in results] == [
        ("filtered", "no route", 0),
        ("closed", "rst", 1),
    ]
    assert [(r.state, r.reason) for r in connected] == [
        ("filtered", "network unreachable"),
        ("closed", "refused"),
    ]


@net
@pytest.mark.parametrize(
    "target",
    [
        "224.0.0.1",
        "255.255.255.255",
        "0.0.0.0",
        "ff02::1",
        "::",
        "10.77.0.255",
        "10.77.0.0",
        "223.255.255.0/20",
    ],
)
def test_groups_are_not_scanned(target: str, lab: Lab) -> None:
    if target == "223.255.255.0/20":
        target = "223.255.255.250-224.0.0.3"
    with lab.a, pytest.raises(TargetError, match="not scanned"):
        scan(target, [80])


@net
@pytest.mark.parametrize("kind", ["syn", "connect"])
def test_an_unknown_interface_is_refused(kind: str) -> None:
    with pytest.raises(UnknownInterface, match="nope0"):
        list(scan("127.0.0.1", [80], kind=kind, interface="nope0"))


@net
@pytest.mark.parametrize("kind", ["syn", "connect"])
def test_the_interface_can_be_chosen(kind: str, lab: Lab, listening: Callable[..., socket.socket]) -> None:
    listening(lab.b, 80)
    with lab.a:
        found = states(list(scan(lab.b.ipv4, "79-81", kind=kind, interface="veth0")))
    assert found == {79: "closed", 80: "open", 81: "closed"}


@net
def test_retries_find_what_losses_hide(listening: Callable[..., socket.socket]) -> None:
    with Lab(loss=0.05, delay="5ms", seed=4) as lab:
        ports = set(range(100, 2001, 100))
        for port in ports:
            listening(lab.b, port)
        with lab.a:
            running = scan(lab.b.ipv4, "1-2000", kind="syn", retries=6)
        results = list(running)
        assert lab.relay is not None
        assert sum(direction.lost for direction in lab.relay.counters()) > 50
    found = states(results)
    assert {port for port, state in found.items() if state == "open"} == ports
    assert Counter(found.values())["closed"] == 1980
    assert running.summary.probes > 2050
    repeated = [result for result in results if result.probes > 1]
    assert repeated
    assert {result.rtt_ns for result in repeated} == {None}
    assert min(r.rtt_ns for r in results if r.rtt_ns is not None) >= 10 * MS


@net
def test_a_lossy_bottleneck_hides_next_to_nothing_and_what_it_hides_is_estimated() -> None:
    """5 % lost each way, 20 ms, 20,000 frames a second: with the default settings."""
    with Lab(delay="20ms", loss=0.05, seed=2, rate=20_000) as lab:
        lab.b.run(["ip", "route", "add", "local", "10.78.0.0/16", "dev", "lo"], check=True)
        lab.a.run(["ip", "route", "add", "10.78.0.0/16", "via", str(lab.b.ipv4)], check=True)
        with lab.b, socket.create_server(("0.0.0.0", 80)), lab.a:
            running = scan("10.78.0.0/21", "80,81")
            found = Counter(result.state for result in running)
    missing = 2048 - found["open"]
    assert missing <= 2
    missed = running.summary.missed
    assert missed is not None
    assert missed.low <= missing <= missed.high
    assert missed.high <= 10


@net
@pytest.mark.parametrize("kind", ["syn", "connect", "udp"])
def test_async_for_lets_the_loop_go_on(kind: str, lab: Lab, listening: Callable[..., socket.socket]) -> None:
    listening(lab.b, 80)
    listening(lab.b, 81, drop=True)

    async def inside() -> tuple[dict[int, str], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticker = asyncio.create_task(tick())
        results = [r async for r in ascan(lab.b.ipv4, "79-81", kind=kind, retries=0, timeout=0.3)]
        ticker.cancel()
        return states(results), ticks

    with lab.a:
        found, ticks = asyncio.run(inside())
    if kind == "udp":
        assert set(found.values()) == {"closed"}
    else:
        assert found == {79: "closed", 80: "open", 81: "filtered"}
        assert ticks >= 5


@net
def test_a_cancelled_scan_leaves_nothing_behind(lab: Lab) -> None:
    async def inside() -> None:
        async def scan_all() -> None:
            async for _ in ascan("10.77.0.2-200", "1-1000", rate=100):
                pass

        task = asyncio.create_task(scan_all())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with lab.a:
        asyncio.run(inside())  # what it imports and opens once
        before = set(os.listdir("/proc/self/fd"))
        asyncio.run(inside())
    assert before_long(lambda: set(os.listdir("/proc/self/fd")) <= before)


@net
def test_forged_answers_are_ignored(lab: Lab, listening: Callable[..., socket.socket]) -> None:
    """SYN-ACKs and RSTs from the right address and port, to the right port, that do not know the cookie."""
    listening(lab.b, 81, drop=True)
    header = IPv4(src=lab.b.ipv4, dst=lab.a.ipv4)
    forged = [
        bytes(header / TCP(sport=81, dport=45000, flags=flags, seq=7, ack=ack))
        for flags in ("SA", "RA")
        for ack in (0, 1, 0xDEADBEEF)
    ]
    stop = threading.Event()

    def forge() -> None:
        with RawIPSocket(4, 255, namespace=lab.b.namespace) as sock:
            while not stop.wait(0.002):
                for packet in forged:
                    sock.send(packet)

    with lab.a:
        heard = PacketSocket("veth0", filter="tcp dst port 45000")
        running = scan(lab.b.ipv4, [81], kind="syn", source_port=45000, retries=1, timeout=0.2)
    thread = threading.Thread(target=forge)
    thread.start()
    with heard:
        (result,) = running
        stop.set()
        thread.join()
        assert heard.counters().received > 100
    assert (result.state, result.reason, result.probes) == ("filtered", "no-answer", 2)
    assert running.summary.duplicates == 0


@net
@pytest.mark.parametrize("rate", [500, 4000])
def test_the_rate_on_the_wire(rate: int, lab: Lab) -> None:
    n = rate  # one second's worth
    with PacketSocket(
        "veth0",
        filter="dst host 10.77.0.2 and tcp[tcpflags] == tcp-syn",
        buffer_len=32 << 20,
        namespace=lab.b.namespace,
    ) as wire:
        with lab.a:
            running = scan(lab.b.ipv4, range(1, n + 1), kind="syn", rate=rate)
        assert Counter(states(list(running)).values()) == {"closed": n}
        batch = FrameBatch(8192)
        times = []
        while wire.receive(batch, 0.1):
            times += [record.time_ns for record in batch.records()]
    assert len(times) == n
    seen = (n - 1) / ((max(times) - min(times)) / 1e9)
    assert seen < 1.02 * rate
    assert seen > 0.95 * rate or not calm()


@net
def test_a_small_receive_buffer_loses_no_port(
    lab: Lab, listening: Callable[..., socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drops are noticed by the socket's counter, and their ports are probed again."""
    import rawkit.tools.scan.syn as syn

    monkeypatch.setattr(syn, "_BUFFER_LEN", 4096)
    monkeypatch.setattr(syn, "_ANSWER_LEN", 1)  # far too optimistic about what fits
    listening(lab.b, 2000)
    with lab.a:
        running = scan(lab.b.ipv4, "1-4000", kind="syn", retries=3)
    found = states(list(running))
    assert running.summary.dropped > 0
    assert Counter(found.values()) == {"open": 1, "closed": 3999}


@net
def test_the_seed_chooses_the_order(lab: Lab, tmp_path: Path) -> None:
    from rawkit.pcap import open_pcap

    def order(seed: int) -> list[int]:
        with lab.a:
            dry_run(
                ScanConfig(parse_target(str(lab.b.ipv4)), tuple(range(1, 200)), seed=seed),
                tmp_path / "p.pcap",
            )
        with open_pcap(tmp_path / "p.pcap") as file:
            return [frame.packet()[TCP].dport for frame in file]

    assert order(5) == order(5) != order(6)


@net
@pytest.mark.parametrize("shards", [2, 3, 7])
def test_shards_together_are_the_whole(shards: int, lab: Lab, tmp_path: Path) -> None:
    from rawkit.pcap import open_pcap

    def probes(shard: tuple[int, int]) -> list[tuple[str, int]]:
        targets = parse_target(f"{lab.b.ipv4} 10.77.0.9-10.77.0.12 {lab.b.ipv6}")
        config = ScanConfig(targets, tuple(range(1, 30)), seed=5, shard=shard)
        with lab.a:
            dry_run(config, tmp_path / "p.pcap")
        with open_pcap(tmp_path / "p.pcap") as file:
            packets = [frame.packet() for frame in file]
        return [(str(packet.layers[0].dst), packet[TCP].dport) for packet in packets]  # type: ignore[attr-defined]

    whole = probes((1, 1))
    parts = [probes((k, shards)) for k in range(1, shards + 1)]
    assert sorted(probe for part in parts for probe in part) == sorted(whole)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@net
def test_results_of_shards(lab: Lab, listening: Callable[..., socket.socket]) -> None:
    """Addresses that nobody has, and those that no route leads to, are in one of them too."""
    listening(lab.b, 80)
    targets, ports = ["10.77.0.1-10.77.0.6", "198.51.100.1"], "78-82"
    found: list[tuple[str, int, str, str]] = []
    complete = []
    for k in (1, 2):
        with lab.a, scan(targets, ports, kind="syn", rate=5000, retries=0, seed=9, shard=(k, 2)) as running:
            found += [(str(r.address), r.port, r.state, r.reason) for r in running]
        complete.append(running.summary.complete)
    with lab.a:
        whole = list(scan(targets, ports, kind="syn", rate=5000, retries=0))
    assert sorted(found) == sorted((str(r.address), r.port, r.state, r.reason) for r in whole)
    assert complete == [True, True]


@net
def test_a_killed_scan_goes_on_where_it_was(
    lab: Lab, listening: Callable[..., socket.socket], tmp_path: Path
) -> None:
    """Together the two runs tell of every port, and only what was under way is probed twice."""
    listening(lab.b, 2000)
    state, out = tmp_path / "state", tmp_path / "out"
    argv = [sys.executable, "-m", "rawkit", "scan", str(lab.b.ipv4), "-p", "1-6000", "--rate", "3000"]
    argv += ["--json", "--resume", str(state)]
    with PacketSocket(
        "veth0",
        filter="dst host 10.77.0.2 and tcp[tcpflags] == tcp-syn",
        buffer_len=32 << 20,
        namespace=lab.b.namespace,
    ) as wire:
        with out.open("wb") as stream:
            first = lab.a.spawn(argv, stdout=stream)
            deadline = time.monotonic() + 60
            while out.read_bytes().count(b"\n") < 2000 and time.monotonic() < deadline:
                time.sleep(0.01)
            first.kill()
            first.wait(10)
            assert 2000 <= out.read_bytes().count(b"\n") < 6000
            assert state.exists()
            lab.a.run(argv, stdout=stream, check=True, timeout=60)
        probed: Counter[int] = Counter()
        batch = FrameBatch(8192)
        while wire.receive(batch, 0.1):
            probed.update(Packet.parse(octets)[TCP].dport for octets in batch)
    assert not state.exists()
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    told = {row["port"]: row["state"] for row in rows if row["type"] == "port"}
    assert told == {port: "open" if port == 2000 else "closed" for port in range(1, 6001)}
    summary = rows[-1]
    assert (summary["type"], summary["complete"]) == ("summary", True)
    assert (summary["closed"], summary["open"]) == (5999, 1)
    assert set(probed) == set(range(1, 6001))
    assert max(probed.values()) == 2
    # What left in the last 100 ms, and as much again for a machine that is slow to save.
    assert sum(n - 1 for n in probed.values()) < 1500


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no state of a scan"),
        (b"[1, 2]", "is no state of a scan"),
        (b"\xff\xfe", "is no state of a scan"),
        (b'{"schema": "rawkit.scan-state/1", "scan": "x"}', "belongs to a scan of other targets"),
    ],
)
def test_a_state_that_is_none(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(RawkitError, match=message):
        Checkpoint(tmp_path / "state").load(ScanConfig(parse_target("127.0.0.1")))


def test_a_damaged_state(tmp_path: Path) -> None:
    config, checkpoint = ScanConfig(parse_target("127.0.0.1")), Checkpoint(tmp_path / "state")
    progress = Progress(5, 1, 2, 3, 4, b"\0\1\2", {"open": 1})
    checkpoint.save(config, progress, 0)
    assert checkpoint.load(config) == progress
    assert not checkpoint.is_due(99_999_999)
    assert checkpoint.is_due(100_000_000)
    text = (tmp_path / "state").read_text()
    for damaged in (text.replace('"states": "', '"states": "A'), text.replace('"round"', '"ground"')):
        (tmp_path / "state").write_text(damaged)
        with pytest.raises(RawkitError, match="damaged"):
            checkpoint.load(config)
    checkpoint.remove()
    assert checkpoint.load(config) is None
    with pytest.raises(RawkitError, match="No such file"):
        Checkpoint(tmp_path / "missing" / "state").save(config, progress, 0)


@net
def test_closed_ports_may_be_counted_only(lab: Lab, listening: Callable[..., socket.socket]) -> None:
    listening(lab.b, 80)
    with (
        lab.a,
        Scan(
            ScanConfig(parse_target(str(lab.b.ipv4)), tuple(range(1, 301)), "syn", report_closed=False)
        ) as s,
    ):
        assert [(result.port, result.state) for result in s] == [(80, "open")]
    assert (s.summary.closed, s.summary.open, s.summary.complete) == (299, 1, True)


@net
def test_a_scan_in_several_parts(
    lab: Lab, listening: Callable[..., socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part keeps to its own addresses; answers to an earlier part do not count for a later one."""
    import rawkit.tools.scan.syn as syn

    monkeypatch.setattr(syn, "_PROBES_MAX", 3)
    listening(lab.b, 80)
    with lab.a:
        results = list(scan("127.0.0.1-127.0.0.7 10.77.0.2", [79, 80], kind="syn"))
    assert len({(r.address, r.port) for r in results}) == len(results) == 16
    assert Counter(r.state for r in results) == {"closed": 15, "open": 1}


@net
def test_dry_run_writes_the_probes_and_sends_nothing(lab: Lab, tmp_path: Path) -> None:
    from rawkit.pcap import open_pcap

    path = tmp_path / "probes.pcapng"
    targets = parse_target(f"{lab.b.ipv4} {lab.b.ipv6}")
    with PacketSocket("veth0", filter="tcp or arp", namespace=lab.a.namespace) as wire:
        with lab.a:
            assert (
                dry_run(ScanConfig(targets, tuple(range(1, 101)), rate=1000, source_port=45001), path) == 200
            )
        assert wire.receive(FrameBatch(), 0.05) == 0
    with open_pcap(path) as file:
        frames = list(file)
    packets = [frame.packet(strict=True) for frame in frames]
    for half in (packets[:100], packets[100:]):
        ports = [packet[TCP].dport for packet in half]
        assert ports != sorted(ports) == [*range(1, 101)]
    assert {packet[TCP].sport for packet in packets} == {45001}
    assert {verdict.state for frame in frames for verdict in frame.checksums()} == {"good"}
    assert {str(packet.layers[0].dst) for packet in packets} == {str(lab.b.ipv4), str(lab.b.ipv6)}  # type: ignore[attr-defined]
    assert frames[100].time_ns - frames[0].time_ns == 100 * MS


# ---- oracle -----------------------------------------------------------------------------------------


@net
@pytest.mark.parametrize(
    ("kind", "letter", "expected"),
    [
        ("syn", "S", {"open": 3, "filtered": 1, "closed": 196}),
        ("ack", "A", {"unfiltered": 199, "filtered": 1}),
        ("window", "W", {"closed": 199, "filtered": 1}),
        ("fin", "F", {"open|filtered": 4, "closed": 196}),
        pytest.param("null", "N", {"open|filtered": 4, "closed": 196}, marks=pytest.mark.slow),
        pytest.param("xmas", "X", {"open|filtered": 4, "closed": 196}, marks=pytest.mark.slow),
        ("maimon", "M", {"open|filtered": 1, "closed": 199}),  # Linux resets what acknowledges nothing
    ],
)
def test_nmap_agrees(
    kind: str, letter: str, expected: dict[str, int], lab: Lab, listening: Callable[..., socket.socket]
) -> None:
    for port in (22, 80, 143):
        listening(lab.b, port)
    listening(lab.b, 145, drop=True)
    with lab.a, scan(lab.b.ipv4, "1-200", kind=kind, timeout=0.3) as running:
        ours = states(list(running))
    assert ours == {
        port: state for (_, port), state in nmap(lab.a, letter, "1-200", [str(lab.b.ipv4)]).items()
    }
    assert Counter(ours.values()) == expected
    assert running.summary.complete
