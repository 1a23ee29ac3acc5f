"""`rawkit show`: a packet from a file, an expression, or octets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rawkit.pcap import create_pcap
from rawkit.wire import TCP, UDP, Ether, Frame, IPv4, IPv6, Packet
from rawkit.wire.expression import parse_expression

ECHO = "4500001c00000000400166df7f0000017f0000010800f7ff00000000"


def rawkit(*args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rawkit", *args]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=30)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Two frames: UDP over IPv4, TCP over IPv6."""
    path = tmp_path / "two.pcapng"
    with create_pcap(path) as writer:
        for packet in (
            Ether() / IPv4(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=1, dport=2) / b"one",
            Ether() / IPv6(src="2001:db8::1", dst="2001:db8::2") / TCP(dport=80) / b"two",
        ):
            writer.write(Frame(bytes(packet)))
    return path


def test_file(capture: Path) -> None:
    done = rawkit("show", str(capture))
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in done.stdout.splitlines() if not line.startswith(" ")] == [
        "Ether",
        "IPv4",
        "UDP",
        "payload 3 octets",
    ]
    assert "[good]" in done.stdout


def test_number_and_dump(capture: Path) -> None:
    done = rawkit("show", str(capture), "-n", "2", "-x")
    assert "TCP" in done.stdout
    assert "2001:db8::2" in done.stdout
    assert "0000  ff ff ff ff ff ff 00 00  00 00 00 00 86 dd 60 00" in done.stdout


def test_expression_shows_computed_values() -> None:
    done = rawkit("show", "ip(dst=192.0.2.1)/udp(dport=53)/0xc0de")
    assert done.returncode == 0
    assert "total_length     30" in done.stdout
    assert "length    10" in done.stdout
    assert "auto" not in done.stdout


def test_file_to_expression_and_back(capture: Path) -> None:
    done = rawkit("show", str(capture), "-e")
    text = done.stdout.strip()
    assert text == 'eth()/ip(src=192.0.2.1,dst=192.0.2.2)/udp(sport=1,dport=2)/"one"'
    assert bytes(parse_expression(text)) == bytes(
        Ether() / IPv4(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=1, dport=2) / b"one"
    )


@pytest.mark.parametrize(
    "digits",
    [
        ECHO,
        ECHO.upper(),
        "0x" + ECHO,
        bytes.fromhex(ECHO).hex(":"),
        "0x0000:  4500 001c 0000 0000 4001 66df 7f00 0001\n\t0x0010:  7f00 0001 0800 f7ff 0000 0000",
    ],
)
def test_hex(digits: str) -> None:
    for done in (rawkit("show", "--hex", digits), rawkit("show", "--hex", "-", stdin=digits)):
        assert done.returncode == 0
        assert "ICMPEcho" in done.stdout
        assert "[bad, should be 0x7cdf]" in done.stdout


@pytest.mark.parametrize(
    ("packet", "name"),
    [
        (Packet([IPv4(src="192.0.2.1"), UDP()]), "IPv4"),
        (Packet([IPv6(src="2001:db8::1"), UDP()]), "IPv6"),
        (Ether(dst="45:00:00:00:00:00") / IPv4(src="192.0.2.1"), "Ether"),
        (Ether(dst="60:00:00:00:ff:ff") / IPv4(src="192.0.2.1"), "Ether"),
    ],
)
def test_first_header_is_guessed(packet: Packet, name: str) -> None:
    assert rawkit("show", "--hex", bytes(packet).hex()).stdout.splitlines()[0] == name


def test_first_header_is_named() -> None:
    done = rawkit("show", "--hex", ECHO, "--first", "ether")
    assert done.stdout.startswith("Ether\n")


def test_damage_is_said() -> None:
    done = rawkit("show", "--hex", ECHO[:30], "--first", "ip")
    assert done.returncode == 0
    assert "damaged: IPv4: need 20 octets at offset 0, have 15" in done.stdout


def test_json(capture: Path) -> None:
    done = rawkit("show", str(capture), "-n", "2", "--json")
    header, packet = (json.loads(line) for line in done.stdout.splitlines())
    assert header == {"type": "header", "schema": "rawkit.show/1"}
    assert packet["type"] == "packet"
    assert [layer["layer"] for layer in packet["layers"]] == ["Ether", "IPv6", "TCP"]
    assert bytes(parse_expression(packet["expression"])).hex() == packet["octets"]


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ([], "name one of"),
        (["ip()", "--hex", ECHO], "name one of"),
        (["ip()", "--first", "ip"], "--first goes with --hex"),
        (["missing.pcapng"], "missing.pcapng: No such file"),
        (["--hex", "45zz"], "'z' is no hexadecimal digit"),
        (["--hex", "450"], "3 digits"),
        (["--hex", ""], "0 digits"),
        (["--hex", ECHO, "--first", "tcp"], "--first"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(args: list[str], reason: str) -> None:
    done = rawkit("show", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("rawkit show: ")
    assert reason in done.stderr


def test_a_packet_the_file_does_not_have(capture: Path) -> None:
    done = rawkit("show", str(capture), "-n", "3")
    assert done.returncode == 2
    assert "has no packet number 3, there are 2" in done.stderr


def test_a_file_that_is_no_capture(tmp_path: Path) -> None:
    path = tmp_path / "text.pcap"
    path.write_text("this is no capture file at all")
    done = rawkit("show", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


def test_bad_expression_points_at_the_place() -> None:
    done = rawkit("show", "ipp(dst=127.0.0.1)")
    assert done.returncode == 2
    assert done.stderr == (
        "rawkit show: no header 'ipp'; did you mean 'ip'? (column 1)\n  ipp(dst=127.0.0.1)\n  ^\n"
    )


def test_terminal_is_not_steered() -> None:
    packet = IPv4(src="192.0.2.1") / UDP() / b"\x1b[2J"
    for options in ([], ["-e"], ["-x"]):
        assert "\x1b" not in rawkit("show", "--hex", bytes(packet).hex(), *options).stdout


def test_fields_below_the_octets() -> None:
    done = rawkit("show", "ip(src=192.0.2.1)/udp(dport=53)/0xc0de", "-x")
    assert done.stdout.splitlines()[-1] == "15  001c  payload"
    assert "\n 9  000c  IPv4.src\n" in done.stdout


def test_as_scapy_shows_it() -> None:
    done = rawkit("show", "ip(dst=192.0.2.1)/udp(dport=53)", "--with", "scapy")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("###[ IP ]###")
    assert "dport     = domain" in done.stdout


def test_wireshark_names(capture: Path) -> None:
    done = rawkit("show", str(capture), "--json", "--names", "wireshark")
    packet = json.loads(done.stdout.splitlines()[1])
    assert packet["layers"][2]["udp.dstport"] == 2
    assert packet["frame.len"] == 45
    assert rawkit("show", str(capture), "--names", "wireshark").returncode == 2
