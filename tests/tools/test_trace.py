"""Trace over chains of routers: exact paths, both branches, extensions, MTU; traceroute is the judge."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from xml.etree import ElementTree

import pytest
from oracles import oracle

import rawkit
from rawkit.engine.sockets import PacketSocket
from rawkit.errors import NoRoute, TargetError, UnknownInterface
from rawkit.lab import Host, Lab, RoutedLab
from rawkit.lab.setup import set_sysctls
from rawkit.tools.trace import (
    Trace,
    TraceAnswer,
    TraceConfig,
    TraceEvent,
    TraceSent,
    TraceTimeout,
    trace,
)
from rawkit.wire import Ether, Header, ICMPTimeExceeded, ICMPv6TimeExceeded, IPv4, IPv6
from rawkit.wire.icmpext import ExtensionObject, InterfaceInformation, LabelEntry, MPLSStack, extended

pytestmark = pytest.mark.net

FLOWS = 16
"""All of them on one side of a diamond once in 2 ** 15 runs; the kernel's hash has a random key."""

OBJECTS = [
    MPLSStack(labels=[LabelEntry(label_value=16001, ttl=1), LabelEntry(label_value=24005, bottom=1, ttl=3)]),
    InterfaceInformation(role=0, ifindex=7, name=b"eth7\0\0\0", mtu=9000),
]
FAMILIES = pytest.mark.parametrize("version", [4, 6])


@contextmanager
def responder(
    router: Host, interface: str, objects: list[ExtensionObject], quote: int = 128
) -> Iterator[None]:
    """Answer, in the place of a router that keeps silent, what expires there: with extensions (RFC 4884).

    Without, `quote` says how many octets of the packet are quoted.
    """
    stop = threading.Event()

    def respond(sock: PacketSocket) -> None:
        while not stop.is_set():
            for frame in sock.frames(timeout=0.05):
                packet = frame.packet()
                ip = packet.layers[1]
                if isinstance(ip, IPv4) and ip.ttl == 1:
                    header: Header = IPv4(src=router.ipv4, dst=ip.src)
                    error: Header = ICMPTimeExceeded()
                elif isinstance(ip, IPv6) and ip.hop_limit == 1:
                    header, error = IPv6(src=router.ipv6, dst=ip.src), ICMPv6TimeExceeded()
                else:
                    continue
                quoted = frame.data[14 : 14 + quote]
                message = extended(error, quoted, objects) if objects else error / quoted
                ether = packet[Ether]
                sock.send(bytes(Ether(src=ether.dst, dst=ether.src) / header / message))

    with PacketSocket(interface, namespace=router.namespace, ignore_outgoing=True) as sock:
        thread = threading.Thread(target=respond, args=(sock,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@pytest.fixture(scope="module")
def chain() -> Iterator[RoutedLab]:
    """a, r1, r2 (silent), r3a and r3b side by side, r4 (labels), r5, b."""
    with ExitStack() as stack:
        lab = stack.enter_context(Lab.chain(5, parallel={3: 2}))
        for name in ("r2", "r5"):
            lab.nodes[name].keep_silent()  # type: ignore[attr-defined]
        stack.enter_context(responder(lab.nodes["r5"], "to-r4", OBJECTS))
        yield lab


def address(lab: RoutedLab, name: str, version: int) -> str:
    node = lab.nodes[name]
    return str(node.ipv4 if version == 4 else node.ipv6)


def ways(lab: RoutedLab, version: int) -> set[tuple[str | None, ...]]:
    """The two paths that there are."""
    return {
        (
            address(lab, "r1", version),
            None,
            *(address(lab, name, version) for name in (middle, "r4", "r5", "b")),
        )
        for middle in ("r3a", "r3b")
    }


def run(lab: RoutedLab, version: int = 4, **options: Any) -> tuple[Trace, list[TraceEvent]]:
    with lab.a:
        session = trace(address(lab, "b", version), timeout=options.pop("timeout", 0.6), **options)
    return session, list(session)


# ---- paths ---------------------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("method", ["udp", "tcp", "sctp"])
def test_both_branches_and_everything_on_them(chain: RoutedLab, version: int, method: str) -> None:
    session, events = run(chain, version, method=method, flows=FLOWS, count=1)
    assert session.socket_kind == "raw"
    assert session.reached
    assert {path.addresses for path in session.paths()} == ways(chain, version)
    assert (session.unmatched, session.dropped) == (0, 0)
    assert [event for event in events if isinstance(event, TraceAnswer) and event.duplicate] == []
    assert {event.rx_stamp for event in events if isinstance(event, TraceAnswer)} == {"kernel"}
    (labels,) = {node.mpls for node in session.hop(5).nodes}
    assert [(entry.label, entry.ttl, entry.bottom) for entry in labels] == [
        (16001, 1, False),
        (24005, 3, True),
    ]
    (interface,) = session.hop(5).nodes[0].interfaces
    assert (interface.role, interface.ifindex, interface.name, interface.mtu) == ("incoming", 7, "eth7", 9000)
    assert all(node.mpls == () for hop in (1, 3, 4, 6) for node in session.hop(hop).nodes)


@FAMILIES
def test_icmp_follows_one_path(chain: RoutedLab, version: int) -> None:
    session, _ = run(chain, version, method="icmp")
    (path,) = session.paths()
    assert path.addresses in ways(chain, version)
    assert [hop.received for hop in session.hops()] == [3, 0, 3, 3, 3, 3]
    assert session.hop(6).nodes[0].text == "echo reply"


@FAMILIES
def test_traceroute_sees_the_same(chain: RoutedLab, version: int) -> None:
    program = oracle("traceroute")
    session, _ = run(chain, version, count=1)
    (path,) = session.paths()
    argv = [
        *(program, "-n", "-e", "-q", "1", "-w", "1,0,0", f"-{version}", "-U"),
        *(f"--sport={path.ident}", "-p", "33434", address(chain, "b", version)),
    ]
    done = chain.a.run(argv, capture_output=True, text=True, check=True)
    seen = re.findall(r"^ *\d+  (\S+)", done.stdout, re.MULTILINE)
    # Over veth pairs a socket's own hash goes with its packets and takes the place of one over addresses and
    # ports, so that traceroute's flow with the same ports may take the other branch.
    assert tuple(None if hop == "*" else hop for hop in seen) in ways(chain, version)
    assert path.addresses in ways(chain, version)
    assert "<MPLS:L=16001,E=0,S=0,T=1/L=24005,E=0,S=1,T=3;" in done.stdout


@FAMILIES
def test_a_port_that_answers_ends_the_path(version: int) -> None:
    with Lab.chain(1) as lab:
        lab.b.serve("http,echo")
        for method, port, text in (("tcp", 80, "SYN-ACK"), ("tcp", 9, "RST"), ("udp", 7, "UDP")):
            session, _ = run(lab, version, method=method, port=port, flows=2)
            assert session.reached
            assert [len(path.addresses) for path in session.paths()] == [2, 2]
            assert session.hop(2).nodes[0].text == text
            assert session.hop(2).received == 6


@FAMILIES
def test_a_target_that_cannot_be_reached(version: int) -> None:
    with Lab.chain(2) as lab:
        nowhere = {4: "10.77.0.77", 6: "fd77::77"}[version]

        def question(netlink: Any) -> None:
            netlink.route("add", dst=nowhere, gateway=str(address(lab, "r1", version)), oif=2, flags=4)

        from rawkit.net.netlink import ask

        with lab.a:
            ask(question, "add a route")
            session = trace(nowhere, timeout=1.0, count=1)
        answers = [event for event in session if isinstance(event, TraceAnswer)]
        assert {answer.kind for answer in answers} == {"unreachable"}
        assert not session.reached
        (path,) = session.paths()
        assert path.addresses == (address(lab, "r1", version),)


def test_one_hop_and_oneself(chain: RoutedLab) -> None:
    with chain.a:
        for where in (chain.nodes["r1"].ipv4, chain.nodes["r1"].ipv6, "127.0.0.1", "::1", chain.a.ipv4):
            for method in ("udp", "icmp", "tcp"):
                session = trace(where, count=2, timeout=1.0, method=method)
                assert [event for event in session if isinstance(event, TraceTimeout)] == []
                assert [path.addresses for path in session.paths()] == [(str(where),)]


# ---- limits, MTU, order ------------------------------------------------------------------------------


def test_routers_that_limit_their_answers_are_asked_again() -> None:
    with Lab.chain(3) as lab:
        for node in lab.nodes.values():
            with node:  # as the kernel has it by default, but a tenth of a second apart: 6 at once, then 10/s
                set_sysctls({"net/ipv4/icmp_ratemask": "6168", "net/ipv4/icmp_ratelimit": "100"})
        session, events = run(lab, flows=FLOWS, count=1, retries=8, timeout=0.5)
        expected = (*(str(router.ipv4) for router in lab.routers), str(lab.b.ipv4))
        assert {path.addresses for path in session.paths()} == {expected}
        assert any(isinstance(event, TraceTimeout) and event.again for event in events)
        assert [hop.received for hop in session.hops()] == [FLOWS] * 4


@FAMILIES
@pytest.mark.parametrize("method", ["udp", "icmp"])
def test_path_mtu(version: int, method: str) -> None:
    with Lab.chain(3, mtus={1: 1400, 3: 1300}) as lab:
        for _ in range(2):  # what the kernel has learned the first time does not shorten the second
            session, _ = run(lab, version, mtu=True, count=1, method=method)
            assert [node.mtu for hop in session.hops() for node in hop.nodes] == [1500, 1400, 1400, 1300]
            assert [path.mtu for path in session.paths()] == [1300]


@FAMILIES
def test_a_router_that_does_not_say_what_is_too_big(version: int) -> None:
    """A black hole (RFC 2923 section 2.1): sizes are tried, and what gets through is told."""
    with Lab.chain(3, mtus={1: 1400}) as lab:
        lab.routers[0].keep_silent()
        session, _ = run(lab, version, mtu=True, count=1, timeout=0.5)
        expected = (None, *(address(lab, name, version) for name in ("r2", "r3", "b")))
        assert [(path.addresses, path.mtu) for path in session.paths()] == [(expected, 1280)]


def test_all_hops_are_in_flight_at_once() -> None:
    with Lab.chain(6) as lab:
        for router in lab.routers:
            router.keep_silent()
        session, events = run(lab, count=1, ahead=7, retries=0)
        first = next(i for i, event in enumerate(events) if not isinstance(event, TraceSent))
        assert [event.hop for event in events[:first] if isinstance(event, TraceSent)] == [
            1,
            2,
            3,
            4,
            5,
            6,
            7,
        ]
        assert session.paths()[0].addresses == (None,) * 6 + (str(lab.b.ipv4),)


# ---- the session ----------------------------------------------------------------------------------


def test_async_and_cancelling_leaves_nothing_behind(chain: RoutedLab) -> None:
    async def all_of_it() -> set[str]:
        events = rawkit.atrace(address(chain, "b", 4), count=1, timeout=1.0)
        return {event.address async for event in events if isinstance(event, TraceAnswer)}

    async def cut_short() -> None:
        async with asyncio.timeout(0.2):
            async for _ in trace(address(chain, "b", 4), count=None, interval=0.01, timeout=30):
                pass

    with chain.a:
        assert address(chain, "b", 4) in asyncio.run(all_of_it())
        with pytest.raises(TimeoutError):
            asyncio.run(cut_short())


def test_breaking_off_keeps_what_is_known(chain: RoutedLab) -> None:
    with chain.a, Trace(chain.b.ipv4, TraceConfig(count=None, interval_ns=1_000_000)) as session:
        for event in session:
            if isinstance(event, TraceAnswer) and event.round == 3 and event.kind == "target":
                break
    assert session.reached
    assert session.hop(1).received >= 2


def test_the_graph_of_a_diamond(chain: RoutedLab) -> None:
    session, _ = run(chain, flows=FLOWS, count=1)
    graph = session.graph()
    assert [node.hop for node in graph.nodes] == [0, 1, 2, 3, 3, 4, 5, 6]
    assert len(graph.edges) == 8
    assert [node.kind for node in graph.nodes] == [
        "source",
        "hop",
        "silent",
        "hop",
        "hop",
        "hop",
        "hop",
        "target",
    ]
    split = [edge for edge in graph.edges if edge.far.startswith("3: ")]
    assert sorted(flow for edge in split for flow in edge.flows) == list(range(1, FLOWS + 1))
    root = ElementTree.fromstring(graph.to_svg())
    assert len(root.findall(".//{*}rect")) == 8
    assert len(root.findall(".//{*}line")) == 8
    boxes = [
        tuple(float(box.get(name, "")) for name in ("x", "y", "width", "height"))
        for box in root.iter()
        if box.tag.endswith("rect")
    ]
    for one, other in itertools.combinations(boxes, 2):
        assert one[0] + one[2] < other[0] or other[0] + other[2] < one[0] or one[1] + one[3] < other[1]
    assert all(x > 0 and x + width < float(root.get("width", "")) for x, _, width, _ in boxes)
    texts = [element.text for element in root.iter() if element.text]
    assert {address(chain, name, 4) for name in ("a", "r1", "r3a", "r3b", "r4", "r5", "b")} <= set(texts)
    dot = graph.to_dot()
    assert dot.count("->") == 8
    assert "MPLS 16001" in dot


# ---- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "options", "error"),
    [
        ("224.0.0.1", {}, TargetError),
        ("0.0.0.0", {}, TargetError),
        ("10.77.0.0/30", {}, TargetError),
        ("fd77::1", {"family": 4}, TargetError),
        ("10.99.0.1", {}, NoRoute),
        ("fe80::1%nope", {}, UnknownInterface),
        ("10.77.0.2", {"interface": "nope"}, UnknownInterface),
        ("fd77::2", {"size": 40}, TargetError),
        ("10.77.0.2", {"size": 20}, ValueError),
        ("10.77.0.2", {"method": "tcp", "mtu": True}, ValueError),
        ("10.77.0.2", {"method": "icmp", "port": 80}, ValueError),
        ("10.77.0.2", {"method": "dccp"}, ValueError),
        ("10.77.0.2", {"flows": 0}, ValueError),
        ("10.77.0.2", {"first_hop": 5, "max_hops": 4}, ValueError),
        ("10.77.0.2", {"count": None}, ValueError),
        ("10.77.0.2", {"rate": 0}, ValueError),
    ],
)
def test_what_makes_no_sense(
    chain: RoutedLab, target: str, options: dict[str, Any], error: type[Exception]
) -> None:
    with chain.a, pytest.raises(error):
        trace(target, **options)


# ---- an ordinary user -------------------------------------------------------------------------------


def ordinary_trace(ordinary: list[str], *args: str) -> subprocess.CompletedProcess[str]:
    argv = [*ordinary, "-m", "rawkit", "trace", "-w", "1", *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


@FAMILIES
def test_an_ordinary_user_traces_by_udp(chain: RoutedLab, ordinary: list[str], version: int) -> None:
    with chain.a:
        done = ordinary_trace(ordinary, "--json", "-q1", f"--flows={FLOWS}", address(chain, "b", version))
    assert (done.returncode, done.stderr) == (0, "")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert next(record for record in records if record["type"] == "session")["sockets"] == "datagram"
    paths = {tuple(record["addresses"]) for record in records if record["type"] == "path"}
    assert paths == ways(chain, version)
    (hop,) = (record for record in records if record["type"] == "hop" and record["hop"] == 5)
    assert [label["label"] for label in hop["nodes"][0]["mpls"]] == [16001, 24005]
    assert hop["nodes"][0]["interfaces"][0]["name"] == "eth7"


@FAMILIES
def test_an_ordinary_user_and_routers_that_quote_little(ordinary: list[str], version: int) -> None:
    """RFC 792 asks for 8 octets behind the IP header, and without privilege those tell nothing."""
    with Lab.chain(4) as lab, ExitStack() as stack:
        for name in ("r2", "r3"):
            lab.nodes[name].keep_silent()  # type: ignore[attr-defined]
            quote = (20 if version == 4 else 40) + 8
            stack.enter_context(responder(lab.nodes[name], f"to-r{int(name[1]) - 1}", [], quote))
        with lab.a:
            done = ordinary_trace(ordinary, "--json", "-q1", "--retries=4", address(lab, "b", version))
    records = [json.loads(line) for line in done.stdout.splitlines()]
    (path,) = (record["addresses"] for record in records if record["type"] == "path")
    assert path == [address(lab, name, version) for name in ("r1", "r2", "r3", "r4", "b")]


@FAMILIES
def test_an_ordinary_user_traces_by_icmp(chain: RoutedLab, ordinary: list[str], version: int) -> None:
    with chain.a:
        done = ordinary_trace(ordinary, "--json", "-I", address(chain, "b", version))
    records = [json.loads(line) for line in done.stdout.splitlines()]
    (path,) = (record["addresses"] for record in records if record["type"] == "path")
    assert tuple(path) in ways(chain, version)


def test_an_ordinary_user_finds_the_mtu(ordinary: list[str]) -> None:
    with Lab.chain(2, mtus={1: 1400}) as lab, lab.a:
        for host in (lab.b.ipv4, lab.b.ipv6):
            done = ordinary_trace(ordinary, "--json", "--mtu", "-q1", str(host))
            records = [json.loads(line) for line in done.stdout.splitlines()]
            assert [record["mtu"] for record in records if record["type"] == "path"] == [1400]


@pytest.mark.parametrize("args", [["-T"], ["--sctp"], ["-I", "--flows", "2"]])
def test_what_an_ordinary_user_may_not(chain: RoutedLab, ordinary: list[str], args: list[str]) -> None:
    with chain.a:
        done = ordinary_trace(ordinary, *args, str(chain.b.ipv4))
    assert (done.returncode, done.stdout) == (77, "")
    assert "need CAP_NET_RAW" in done.stderr
    assert done.stderr.count("\n") == 1
