"""What firewalls do, and what nmap calls it: three hosts around a router, two of them with nftables rules."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from oracles import nmap

from rawkit.lab import Lab, RoutedLab
from rawkit.tools.scan import scan

pytestmark = pytest.mark.net

DROP, RESET = -1, -2
# By port: what becomes of packets for it, or the code of an ICMP "unreachable" (RFC 792, RFC 1812).
RULES = {2: DROP, 3: RESET, 4: 0, 5: 1, 6: 2, 7: 3, 8: 9, 9: 10, 10: 13}
OPEN, OPEN_BUT_DROPPED = 1, 11
REASONS = {
    2: "no-answer",
    3: "rst",
    4: "icmp net unreachable",
    5: "icmp host unreachable",
    6: "icmp protocol unreachable",
    7: "icmp port unreachable",
    8: "icmp net prohibited",
    9: "icmp host prohibited",
    10: "icmp admin prohibited",
}


def set_rules(rules: dict[int, int]) -> None:
    """Rules for what comes in, in the namespace this thread is in."""
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.nftables.expressions import genex, verdict
    from pyroute2.nftables.main import NFTables

    def is_for(port: int) -> list[Any]:
        wanted = {"attrs": [("NFTA_DATA_VALUE", struct.pack(">H", port))]}
        return [
            genex("payload", {"dreg": 1, "base": 2, "offset": 2, "len": 2}),  # of the transport header
            genex("cmp", {"sreg": 1, "op": 0, "data": wanted}),
        ]

    try:
        with NFTables(nfgen_family=2) as tables:
            tables.table("add", name="rawkit")
            tables.chain("add", table="rawkit", name="in", hook="input", type="filter", policy=1)
            for port, rule in rules.items():
                if rule == DROP:
                    act = verdict(0)
                else:
                    act = [genex("reject", {"type": int(rule == RESET), "icmp_code": max(rule, 0)})]
                tables.rule("add", table="rawkit", chain="in", expressions=(is_for(port), act))
    except NetlinkError as error:
        pytest.skip(f"no nftables here: {error}")


@pytest.fixture(scope="module")
def lab() -> Iterator[RoutedLab]:
    with Lab.star(3) as lab, ExitStack() as stack:
        first, second = lab.hosts[1:]
        for host, rules in ((first, RULES), (second, {port + 20: rule for port, rule in RULES.items()})):
            shift = 20 * (host is second)
            with host:
                set_rules(rules | {OPEN_BUT_DROPPED + shift: DROP})
                for port in (OPEN + shift, OPEN_BUT_DROPPED + shift):
                    listener = stack.enter_context(socket.socket())
                    listener.bind(("0.0.0.0", port))
                    listener.listen()
        yield lab


@pytest.mark.parametrize(
    ("kind", "letter"),
    [
        ("syn", "S"), ("ack", "A"), ("fin", "F"), ("connect", "T"), ("sctp", "Y"), ("udp", "U"),
        *(
            pytest.param(*kind, marks=pytest.mark.slow)
            for kind in (("window", "W"), ("null", "N"), ("xmas", "X"), ("maimon", "M"))
        ),
    ],
)  # fmt: skip
def test_nmap_agrees_on_every_port_behind_rules(kind: str, letter: str, lab: RoutedLab) -> None:
    scanner, *others = lab.hosts
    targets = [str(host.ipv4) for host in others]
    with scanner:
        results = list(scan(targets, "1-12,21-32", kind=kind, retries=1, timeout=0.5))
    ours = {(str(result.address), result.port): result.state for result in results}
    assert len(ours) == len(results) == 48
    assert ours == nmap(scanner, letter, "1-12,21-32", targets)
    if kind == "syn":
        assert sum(state == "open" for state in ours.values()) == 2
        first = {r.port: r.reason for r in results if str(r.address) == targets[0]}
        assert {port: first[port] for port in REASONS} == REASONS
