"""Edited files: every fixture through `edit_pcap`, judged by tshark, and what cannot be edited."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from oracles import oracle

from rawkit.pcap import open_pcap
from rawkit.tools.editfile import UnknownLink, edit_pcap
from rawkit.tools.rewrite import Rewrite, parse_port_map, parse_prefix_map

PCAPS = Path(__file__).parents[2] / "pcaps"
FIXTURES = sorted(PCAPS.glob("*.pcapng"))
WANTED = Rewrite(
    prefixes=(
        parse_prefix_map("192.0.2.0/24=10.77.0.0/16"),
        parse_prefix_map("198.51.100.0/24=203.0.113.0/24"),
        parse_prefix_map("10.0.0.0/8=172.31.0.0/16"),
        parse_prefix_map("2001:db8::/32=fd77:1:2:3::/64"),
        parse_prefix_map("fe80::/64=fe80:0:0:7::/64"),
        parse_prefix_map("fd77::/16=2001:db8::/32"),
    ),
    ports=(*parse_port_map("80=8080"), *parse_port_map("53=5353"), *parse_port_map("50000-50009=40000")),
    ttl=33,
    dscp=46,
)


def edited(path: Path, out: Path) -> bool:
    """False for a file with packets that cannot be edited."""
    try:
        with open_pcap(path) as reader:
            done = edit_pcap(reader, out, WANTED)
    except UnknownLink:
        return False
    assert done.changed
    return True


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_what_is_not_in_packets_stays(path: Path, tmp_path: Path) -> None:
    out = tmp_path / path.name
    if not edited(path, out):
        pytest.skip("a link type that cannot be edited")
    with open_pcap(path) as before, open_pcap(out) as after:
        pairs = list(zip(before, after, strict=True))
        assert before.interfaces == after.interfaces
        assert before.section == after.section
        assert before.statistics == after.statistics
    for was, now in pairs:
        assert (was.time_ns, was.wire_len, was.interface) == (now.time_ns, now.wire_len, now.interface)
        assert (was.direction, was.comments, was.gso_len) == (now.direction, now.comments, now.gso_len)
        assert len(was.data) == len(now.data)


def statuses(path: Path) -> list[list[str]]:
    """The status of every checksum of every packet, as tshark finds it: 0 is bad."""
    names = ("ip", "tcp", "udp", "icmp", "icmpv6", "igmp", "sctp", "dccp")
    checked = ("ip", "tcp", "udp", "dccp", "udplite")
    options = [word for name in checked for word in ("-o", f"{name}.check_checksum:TRUE")]
    fields = [word for name in names for word in ("-e", f"{name}.checksum.status")]
    command = [oracle("tshark"), "-n", "-r", str(path), "-o", "sctp.checksum:CRC32C", *options]
    done = subprocess.run(
        [*command, "-T", "fields", *fields], capture_output=True, text=True, timeout=120, check=True
    )
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_tshark_finds_no_bad_checksum_that_was_not_bad_before(tmp_path: Path) -> None:
    good = 0
    for path in FIXTURES:
        out = tmp_path / path.name
        if not edited(path, out):
            continue
        before, after = statuses(path), statuses(out)
        for number, (was, now) in enumerate(zip(before, after, strict=True), 1):
            assert ",".join(now).count("0") <= ",".join(was).count("0"), (path.name, number, was, now)
            good += ",".join(now).count("1")
    assert good > 200
