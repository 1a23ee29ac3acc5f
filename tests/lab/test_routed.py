"""Labs of several links: who is where, which ways packets take, what makes no sense. traceroute judges."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest
from oracles import oracle

from rawkit.lab import Lab, Link, RoutedLab

pytestmark = pytest.mark.net


@pytest.fixture(scope="module")
def chain() -> Iterator[RoutedLab]:
    with Lab.chain(4, parallel={2: 2}, mtus={3: 1400}) as lab:
        yield lab


def traceroute(lab: RoutedLab, address: object, *options: str, wait: str = "5") -> list[str]:
    """What answers at each hop from host a, "*" where nothing does."""
    argv = [oracle("traceroute"), "-n", "-q", "1", "-w", f"{wait},0,0", *options, str(address)]
    done = lab.a.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return re.findall(r"^ *\d+  (\S+)", done.stdout, re.MULTILINE)


def test_nodes_are_as_documented(chain: RoutedLab) -> None:
    assert list(chain.nodes) == ["a", "b", "r1", "r2a", "r2b", "r3", "r4"]
    assert [(str(host.ipv4), str(host.ipv6)) for host in chain.hosts] == [
        ("10.77.0.1", "fd77::1"),
        ("10.77.0.2", "fd77::2"),
    ]
    assert [str(router.ipv4) for router in chain.routers] == [f"10.77.1.{n}" for n in range(1, 6)]
    assert [str(router.ipv6) for router in chain.routers] == [f"fd77:1::{n}" for n in range(1, 6)]
    assert (chain.a.interface, chain.nodes["r1"].interface) == ("veth0", "to-a")


@pytest.mark.parametrize("version", [4, 6])
def test_flows_take_both_ways_and_each_flow_one(chain: RoutedLab, version: int) -> None:
    def address(name: str) -> str:
        node = chain.nodes[name]
        return str(node.ipv4 if version == 4 else node.ipv6)

    # With a port of each direction given, traceroute's probes are all of one flow.
    paths = [
        tuple(traceroute(chain, address("b"), f"-{version}", "-U", f"--sport={sport}"))
        for sport in range(40000, 40016)
    ]
    ways = {tuple(map(address, ["r1", middle, "r3", "r4", "b"])) for middle in ("r2a", "r2b")}
    assert set(paths) == ways


def test_links_have_their_mtu(chain: RoutedLab) -> None:
    ping = oracle("ping")
    argv = [ping, "-c", "1", "-W", "1", "-M", "do", "-s", str(1500 - 28), str(chain.b.ipv4)]
    done = chain.a.run(argv, capture_output=True, text=True)
    assert f"From {chain.nodes['r3'].ipv4} icmp_seq=1 Frag needed and DF set (mtu = 1400)" in done.stdout


def test_a_silent_router_still_forwards() -> None:
    with Lab.chain(3) as lab:
        lab.routers[1].keep_silent()
        r1, _, r3 = lab.routers
        assert traceroute(lab, lab.b.ipv4, wait="1") == [str(r1.ipv4), "*", str(r3.ipv4), str(lab.b.ipv4)]
        assert traceroute(lab, lab.b.ipv6, wait="1") == [str(r1.ipv6), "*", str(r3.ipv6), str(lab.b.ipv6)]


def test_everybody_in_a_star_reaches_everybody() -> None:
    with Lab.star(3) as lab:
        assert [host.name for host in lab.hosts] == ["h1", "h2", "h3"]
        ping = oracle("ping")
        for host in lab.hosts:
            for other in lab.hosts:
                for address in (other.ipv4, other.ipv6):
                    assert host.run([ping, "-c1", "-W1", str(address)], capture_output=True).returncode == 0
        with lab.hosts[0], socket.create_server((str(lab.a.ipv4), 0)) as server:
            port = server.getsockname()[1]
            with lab.b, socket.create_connection((str(lab.a.ipv4), port), timeout=5) as connection:
                assert connection.getsockname()[0] == str(lab.b.ipv4)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((["a"], ["r"], []), "no way from a to r"),
        ((["a", "a"], [], []), "two nodes of one name"),
        (([], ["r"], []), "needs a host"),
        ((["a", "b"], [], [Link("a", "c")]), "'c', which is no node"),
        ((["a", "b"], [], [Link("a", "b"), Link("b", "a")]), "second link"),
        ((["a"], [], [Link("a", "a")]), "itself"),
        ((["a", "b"], [], [Link("a", "b", 1279)]), "MTU 1279"),
        ((["a", "thirteenchars"], [], [Link("a", "thirteenchars")]), "'thirteenchars'"),
        (([f"h{i}" for i in range(255)], [], []), "255 hosts"),
    ],
)
def test_graphs_that_make_no_sense(arguments: tuple[list[str], list[str], list[Link]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RoutedLab(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"n": 0},
        {"n": 3, "parallel": {4: 2}},
        {"n": 3, "parallel": {1: 0}},
        {"n": 3, "mtus": {4: 1400}},
    ],
)
def test_chains_that_make_no_sense(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"chain of 0|places are|links are"):
        Lab.chain(**arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="star of 0"):
        Lab.star(0)
