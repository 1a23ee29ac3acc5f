"""`rawkit send`: what it says and does, and its exit statuses."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from oracles import oracle

from rawkit.pcap import open_pcap
from rawkit.wire import MSS, TCP, UDP, IPv4

if TYPE_CHECKING:
    from conftest import VethPair

pytestmark = pytest.mark.net


def rawkit(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rawkit", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, **options)


def test_answer_is_a_line() -> None:
    done = rawkit("send", 'ip(dst=127.0.0.1)/icmp(id=7,seq=3)/"hello"', "--wait", "2")
    assert (done.returncode, done.stderr) == (0, "")
    sent, answer = done.stdout.splitlines()
    assert sent.startswith("sent    IP 127.0.0.1 > 127.0.0.1: ICMP echo request, id 7, seq 3")
    assert answer.startswith("answer  IP 127.0.0.1 > 127.0.0.1: ICMP echo reply, id 7, seq 3")
    assert answer.endswith(" ms)")


def test_verbose_shows_what_was_computed() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        expression = f"ip(dst=127.0.0.1)/tcp(sport=40003,dport={port},options=[mss(1460)])"
        done = rawkit("send", "-v", expression, "--wait", "2")
    assert done.returncode == 0
    sent, answer = done.stdout.split("answer  ")
    assert "MSS(1460)" in sent
    assert "auto" not in sent
    assert "flags        SYN|ACK (0x12)" in answer


def test_no_answer_is_status_1() -> None:
    done = rawkit("send", "ip(dst=127.0.0.1)/icmp(type=echo-reply)", "--wait", "100ms")
    assert done.returncode == 1
    assert done.stdout.splitlines()[1] == "no answer within 100 ms"


def test_nothing_awaited_several_sent() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(2)
        port = sock.getsockname()[1]
        done = rawkit("send", f'ip(dst=127.0.0.1)/udp(sport=9,dport={port})/"x"*3', "-c", "3", "-i", "50ms")
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) == 3
        assert [sock.recvfrom(10) for _ in range(3)] == [(b"xxx", ("127.0.0.1", 9))] * 3


def test_json() -> None:
    done = rawkit("send", "--json", "--wait", "1", "-c", "2", "-i", "10ms", "ip6(dst=::1)/icmp6(id=1)")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["type"] for record in records] == ["header", "sent", "answer", "sent", "answer"]
    assert records[0]["schema"] == "rawkit.send/1"
    assert records[2]["stamp"] == "kernel"
    assert 0 < records[2]["rtt_ns"] < 10**9
    assert records[2]["time_ns"] > records[1]["time_ns"]
    assert [layer["layer"] for layer in records[2]["layers"]] == ["IPv6", "ICMPv6Echo"]


def test_json_without_an_answer() -> None:
    done = rawkit("send", "--json", "--wait", "0.05", "ip(dst=127.0.0.1)/icmp(type=echo-reply)")
    assert done.returncode == 1
    assert json.loads(done.stdout.splitlines()[-1]) == {"type": "timeout", "timeout_ns": 50_000_000}


def test_dry_run_writes_what_would_be_sent(tmp_path: Path, veth: VethPair) -> None:
    path = tmp_path / "out.pcapng"
    expression = f'ip(dst={veth.far_ipv4},ttl=9)/tcp(sport=1,dport=2,options=[mss(1460)])/"data"'
    done = rawkit("send", expression, "-c", "2", "-i", "250ms", "--dry-run", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    with open_pcap(path) as file:
        one, two = file
    assert two.time_ns - one.time_ns == 250_000_000
    assert one.data == two.data
    packet = one.packet(strict=True)
    assert (str(packet[IPv4].src), packet[IPv4].ttl) == (veth.near_ipv4, 9)
    assert packet[TCP].options == (MSS(1460),)
    assert [verdict.state for verdict in packet.checksums()] == ["good", "good"]
    command = [
        oracle("tshark"),
        "-r",
        str(path),
        "-o",
        "ip.check_checksum:TRUE",
        "-o",
        "tcp.check_checksum:TRUE",
    ]
    fields = [
        "-T",
        "fields",
        "-e",
        "ip.checksum.status",
        "-e",
        "tcp.checksum.status",
        "-e",
        "tcp.options.mss_val",
    ]
    text = subprocess.run([*command, *fields], capture_output=True, text=True, check=True, timeout=60).stdout
    assert text.splitlines() == ["1\t1\t1460"] * 2


def test_dry_run_sends_nothing(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        expression = f"ip(dst=127.0.0.1)/udp(dport={port})"
        assert rawkit("send", expression, "--dry-run", str(tmp_path / "x.pcap")).returncode == 0
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.recv(10)
    with open_pcap(tmp_path / "x.pcap") as file:
        assert next(iter(file)).packet()[UDP].dport == port


def test_frame_on_a_named_interface(veth: VethPair) -> None:
    expression = f"eth(src={veth.near_mac.hex(':')})/arp(sender_ip={veth.near_ipv4},target_ip={veth.far_ipv4}"
    expression += f",sender_mac={veth.near_mac.hex(':')})"
    done = rawkit("send", expression, "-I", veth.near, "--wait", "2")
    assert done.returncode == 0
    assert veth.far_mac.hex(":") in done.stdout.splitlines()[1]


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ([], "Missing argument"),
        (["tcp()"], "starts with TCP"),
        (['"x"'], "starts with its payload"),
        (["eth/arp"], "on which interface"),
        (["eth/arp", "-I", "nope"], "nope"),
        (["ip(dst=198.51.100.1)/icmp"], "no route to 198.51.100.1"),
        (["ip(dst=127.0.0.1)/icmp", "--wait", "x"], "bad duration"),
        (["ip(dst=127.0.0.1)/icmp", "-c", "0"], "-c"),
        (["ip(dst=127.0.0.1)/icmp", "--wait", "1", "--dry-run", "/tmp/x"], "--dry-run"),
        (["ip(dst=127.0.0.1)/icmp", "--dry-run", "/nowhere/x.pcap"], "/nowhere/x.pcap"),
        (['ip(dst=127.0.0.1)/"x"*70000'], "does not fit"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(args: list[str], reason: str) -> None:
    done = rawkit("send", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("rawkit send: ")
    assert reason in done.stderr


def test_bad_expression_points_at_the_place() -> None:
    done = rawkit("send", "ip(dst=127.0.0.1)/tcp(dprot=80)")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "rawkit send: no field 'dprot' in TCP; did you mean 'dport'? (column 23)\n"
        "  ip(dst=127.0.0.1)/tcp(dprot=80)\n"
        "                        ^\n"
    )
