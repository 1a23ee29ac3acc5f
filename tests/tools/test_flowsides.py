"""Which side sent a frame, beside tcpprep; and a replay out of two interfaces."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from oracles import oracle
from pyroute2 import IPRoute

from rawkit.pcap import create_pcap, open_pcap
from rawkit.tools.capture import Capture
from rawkit.tools.flowsides import CLIENT, SERVER, FlowSides, ends_of
from rawkit.tools.replay import Replay
from rawkit.tools.replayplan import ReplayConfig
from rawkit.wire import ARP, TCP, UDP, Dot1Q, Ether, Header, ICMPEcho, IPv4, IPv6, Packet
from rawkit.wire.fragment import fragment
from rawkit.wire.frame import Frame

if TYPE_CHECKING:
    from conftest import VethPair

PCAPS = Path(__file__).parents[2] / "pcaps"
ETHER = Ether(src="00:00:5e:00:53:01", dst="00:00:5e:00:53:02")
A, B = "192.0.2.1", "192.0.2.2"


def sides(*packets: Packet) -> list[int]:
    flows = FlowSides()
    return [flows.side(bytes(packet)) for packet in packets]


def both_ways(upper: Header, back: Header, v6: bool = False, links: Packet | Header = ETHER) -> list[Packet]:
    if v6:
        there, here = IPv6(src="2001:db8::1", dst="2001:db8::2"), IPv6(src="2001:db8::2", dst="2001:db8::1")
        return [links / there / upper, links / here / back]
    return [links / IPv4(src=A, dst=B) / upper, links / IPv4(src=B, dst=A) / back]


@pytest.mark.parametrize("v6", [False, True])
def test_who_is_the_client(v6: bool) -> None:
    syn, answer = TCP(sport=5000, dport=8080), TCP(sport=8080, dport=5000, flags=TCP.SYN | TCP.ACK)
    assert sides(*both_ways(syn, answer, v6)) == [CLIENT, SERVER]
    assert sides(*both_ways(syn, answer, v6, ETHER / Dot1Q(vid=1))) == [CLIENT, SERVER]
    assert sides(*reversed(both_ways(syn, answer, v6))) == [SERVER, CLIENT]
    dns, reply = UDP(sport=5000, dport=53), UDP(sport=53, dport=5000)
    assert sides(*reversed(both_ways(dns, reply, v6))) == [SERVER, CLIENT]
    assert sides(*both_ways(UDP(sport=5000, dport=6000), UDP(sport=6000, dport=5000), v6)) == [CLIENT, SERVER]


def test_two_hosts_may_be_each_others_clients() -> None:
    one = both_ways(TCP(sport=5000, dport=80), TCP(sport=80, dport=5000, flags=TCP.ACK))
    other = both_ways(TCP(sport=80, dport=7000, flags=TCP.ACK), TCP(sport=7000, dport=80))
    assert sides(*one, *other) == [CLIENT, SERVER, SERVER, CLIENT]


def test_the_quick_way_says_the_same() -> None:
    """Of all fixtures, each frame twice, also as fragments."""
    quick, slow = FlowSides(), FlowSides()
    met = 0
    for path in sorted(PCAPS.glob("*.pcapng")):
        with open_pcap(path) as reader:
            frames = [frame for frame in reader if frame.linktype == 1]
        for frame in frames * 2:
            parts = [frame.data]
            if len(frame.data) > 600 and frame.data[12:15] == b"\x08\x00\x45":
                cut = frame.packet().replace(IPv4, flags=0)
                parts += [bytes(part) for part in fragment(cut, 500)]
            for octets in parts:
                ends = ends_of(octets)
                assert quick.side(octets) == (CLIENT if ends is None else slow.side_of(ends))
                met += 1
    assert met > 500


def test_what_has_no_ports_goes_by_the_hosts() -> None:
    query = ETHER / IPv4(src=A, dst=B, id=3) / UDP(sport=5000, dport=53) / bytes(2000)
    parts = fragment(query, 1500)
    ping = ETHER / IPv4(src=B, dst=A) / ICMPEcho()
    router = ETHER / IPv4(src="192.0.2.9", dst=A) / ICMPEcho()
    asked = ETHER / ARP(sender_ip=B, target_ip=A)
    assert sides(*parts, ping, router, asked) == [CLIENT] * len(parts) + [SERVER, SERVER, SERVER]
    assert sides(ETHER / b"", Packet([ETHER.replace(ethertype=0x0800)], b"E")) == [CLIENT, CLIENT]


@pytest.mark.parametrize("name", ["http", "retransmission", "dns"])
def test_tcpprep_says_the_same(name: str, tmp_path: Path) -> None:
    source, cache = tmp_path / "in.pcap", tmp_path / "cache"
    with open_pcap(PCAPS / f"{name}.pcapng") as reader, create_pcap(source, linktype=1) as writer:
        # It takes all of IPv6 for a client's.
        frames = [frame for frame in reader if frame.data[12:14] == b"\x08\x00"]
        for frame in frames:
            writer.write(Frame(frame.data, frame.time_ns))
    command = [oracle("tcpprep"), "--auto=first", f"--pcap={source}", f"--cachefile={cache}"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    told = subprocess.run(
        [oracle("tcpprep"), f"--print-info={cache}"], capture_output=True, text=True, timeout=60
    )
    wanted = re.findall(r"Packet \d+ -> (\w+)", told.stdout)
    flows = FlowSides()
    assert [["Primary", "Secondary"][flows.side(frame.data)] for frame in frames] == wanted


@pytest.mark.net
def test_the_two_directions_leave_by_two_interfaces(veth: VethPair) -> None:
    with IPRoute() as route:
        route.link("add", ifname="w0", kind="veth", peer={"ifname": "w1"})
        try:
            for name in ("w0", "w1"):
                route.link("set", ifname=name, state="up")
            with veth.namespace.enter():
                first = Capture(veth.far, "tcp")
            with first, Capture("w1", "tcp") as second:
                packets = both_ways(
                    TCP(sport=5000, dport=80), TCP(sport=80, dport=5000, flags=TCP.SYN | TCP.ACK)
                )
                frames = [Frame(bytes(packet), i * 1000) for i, packet in enumerate(packets * 20)]
                run = Replay(frames, ReplayConfig(veth.near, interface2="w0"))
                for _ in run:
                    pass
                assert (run.report.sent, run.report.failed) == (40, {})
                first.stop()
                second.stop()
                assert [frame.data for frame in first] == [bytes(packets[0])] * 20
                assert [frame.data for frame in second] == [bytes(packets[1])] * 20
        finally:
            route.link("del", ifname="w0")
