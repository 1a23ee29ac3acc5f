"""Who is there: on the link, behind a router with firewalls, without privilege; beside nmap -sn."""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from oracles import oracle, without_privilege

import rawkit
from rawkit.addr import TargetSet, parse_target
from rawkit.lab import Host, Lab, RoutedLab
from rawkit.tools.scan import Scan, ScanConfig, scan
from rawkit.tools.scan.discover import Discovery

pytestmark = pytest.mark.net

ICMP, TCP = 1, 6
SCAN = [sys.executable, "-m", "rawkit", "scan"]


def drop(host: Host, *rules: tuple[int, int] | None) -> None:
    """Let the host drop what comes in of these protocols and ports (0: any); None: all of it."""
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.nftables.expressions import genex, verdict
    from pyroute2.nftables.main import NFTables

    def equals(base: int, offset: int, octets: bytes) -> list[Any]:
        wanted = {"attrs": [("NFTA_DATA_VALUE", octets)]}
        place = {"dreg": 1, "base": base, "offset": offset, "len": len(octets)}
        return [genex("payload", place), genex("cmp", {"sreg": 1, "op": 0, "data": wanted})]

    try:
        with host, NFTables(nfgen_family=2) as tables:
            tables.table("add", name="rawkit")
            tables.chain("add", table="rawkit", name="in", hook="input", type="filter", policy=1)
            for rule in rules:
                which: list[Any] = []
                if rule is not None:
                    which = equals(1, 9, bytes([rule[0]]))
                    which += equals(2, 2, struct.pack(">H", rule[1])) if rule[1] else []
                tables.rule("add", table="rawkit", chain="in", expressions=(which, verdict(0)))
    except NetlinkError as error:
        pytest.skip(f"no nftables here: {error}")


@pytest.fixture(scope="module")
def star() -> Iterator[RoutedLab]:
    """A scanner and four others behind a router: one answers all, one no echo, one neither echo nor port
    443, one nothing."""
    with Lab.star(5) as lab:
        _, _, no_echo, only_80, silent = lab.hosts
        drop(no_echo, (ICMP, 0))
        drop(only_80, (ICMP, 0), (TCP, 443))
        drop(silent, None)
        yield lab


def nmap_up(host: Host, targets: list[str]) -> set[str]:
    argv = [oracle("nmap"), "-sn", "-n", "--max-retries", "1", "-oX", "-", *targets]
    done = host.run(argv, capture_output=True, text=True, timeout=120, check=True)
    hosts = ElementTree.fromstring(done.stdout).iter("host")
    return {
        host.find("address").attrib["addr"]  # type: ignore[union-attr]
        for host in hosts
        if host.find("status").attrib["state"] == "up"  # type: ignore[union-attr]
    }


def test_behind_a_router_nmap_finds_the_same_hosts(star: RoutedLab) -> None:
    scanner, *others = star.hosts
    targets = [str(host.ipv4) for host in others]
    with scanner:
        running = Discovery(ScanConfig(parse_target(targets), retries=1, timeout_ns=300_000_000))
        found = {str(result.address): result for result in running}
    assert [(found[t].state, found[t].reason) for t in targets] == [
        ("up", "echo-reply"),
        ("up", "rst"),
        ("up", "rst"),
        ("down", "no-answer"),
    ]
    assert [found[t].probes for t in targets] == [1, 3, 5, 6]
    assert [found[t].ttl for t in targets] == [63, 63, 63, None]
    assert {t for t in targets if found[t].state == "up"} == nmap_up(scanner, targets)
    summary = running.summary
    assert (summary.complete, summary.up, summary.down, summary.probes) == (True, 3, 1, 15)


def test_ports_of_hosts_that_are_not_there_are_left_alone(star: RoutedLab) -> None:
    scanner, *others = star.hosts
    targets = TargetSet([span for host in others for span in parse_target(str(host.ipv4)).spans])
    told: list[str] = []
    config = ScanConfig(targets, (79, 80), discovery=True, retries=1, timeout_ns=300_000_000)
    with scanner, Scan(config, notify=told.append) as running:
        states = {(result.address, result.port): result.state for result in running}
    assert states == {(host.ipv4, port): "closed" for host in others[:3] for port in (79, 80)}
    assert running.seed is not None
    assert running.origin
    summary = running.summary
    assert (summary.complete, summary.down, summary.closed, summary.targets) == (True, 1, 6, 4)
    assert told == ["3 of 4 hosts are there; -Pn scans the others all the same"]


def test_it_is_looked_first_where_many_targets_have_many_ports(star: RoutedLab) -> None:
    scanner, other = star.hosts[:2]
    network = f"{other.ipv4}/28"
    for ports, discovery, down in (("1-8", None, True), ("1-8", False, False), ("1-7", None, False)):
        with scanner:
            running = scan(network, ports, discovery=discovery, retries=0, timeout=0.1)
            results = list(running)
        assert (running.summary.down > 0) is down
        assert running.summary.complete
        assert len(results) == (running.summary.targets - running.summary.down) * len(running.config.ports)


@pytest.fixture(scope="module")
def pair() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.mark.parametrize("version", [4, 6])
def test_on_the_link_who_has_an_address_answers_for_it(version: int, pair: Lab) -> None:
    """Whatever the host's firewall says."""
    targets = "10.77.0.1-4" if version == 4 else "fd77::1-fd77::4"
    with pair.a:
        found = {
            str(r.address): (r.state, r.reason, r.mac)
            for r in Discovery(ScanConfig(parse_target(targets), retries=0))
        }
    here, there = ("10.77.0.1", "10.77.0.2") if version == 4 else ("fd77::1", "fd77::2")
    reason = "arp-response" if version == 4 else "nd-response"
    assert found.pop(here) == ("up", "echo-reply", None)
    assert found.pop(there) == ("up", reason, pair.b.mac)
    assert set(found.values()) == {("down", "no neighbour", None)}
    assert len(found) == 2
    if version == 4:
        assert nmap_up(pair.a, ["10.77.0.1-4"]) == {here, there}


def test_in_an_asyncio_loop(pair: Lab) -> None:
    async def up() -> list[str]:
        with pair.a:
            running = rawkit.find_hosts("10.77.0.2-4 127.0.0.1", exclude="10.77.0.3", retries=0)
            return [str(result.address) async for result in running if result.state == "up"]

    assert sorted(asyncio.run(up())) == ["10.77.0.2", "127.0.0.1"]


def test_the_command(pair: Lab, tmp_path: Path) -> None:
    path = tmp_path / "hosts.xml"
    argv = [*SCAN, "-sn", "10.77.0.2-3", "-oX", str(path), "-oG", str(tmp_path / "lines")]
    done = pair.a.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout == f"10.77.0.2        arp-response    {pair.b.mac}\n"
    assert done.stderr.startswith("1 of 2 hosts up, 1 down, in ")
    dtd = Path(oracle("nmap")).parent.parent / "share/nmap/nmap.dtd"
    subprocess.run([oracle("xmllint"), "--noout", "--dtdvalid", dtd, path], check=True, timeout=60)
    states = [status.attrib["state"] for status in ElementTree.parse(path).getroot().iter("status")]
    assert states == ["up", "down"]
    assert "Host: 10.77.0.2 ()\tStatus: Up\n" in (tmp_path / "lines").read_text()


def test_without_privilege_connections_have_to_do(pair: Lab) -> None:
    with ExitStack() as stack:
        with pair.b:
            listener = stack.enter_context(socket.socket())
            listener.bind(("10.77.0.2", 80))
            listener.listen()
        argv = [*without_privilege(), *SCAN, "-sn", "10.77.0.2"]
        done = pair.a.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.startswith("10.77.0.2        ")
    assert "connected" in done.stdout
    assert done.stderr.startswith("connections to ports 80 and 443 only: ")
