"""`rawkit transport run`: the newcomer's file, unchanged, between the lab's hosts, for an ordinary user."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from report.test_dissector import expected
from report.tshark import columns

from rawkit.pcap import open_pcap
from rawkit.tools.scaffold import scaffold
from rawkit.wire.ipv4 import IPv4

pytestmark = pytest.mark.net


@pytest.fixture(scope="module")
def courier() -> Iterator[Path]:
    """The file that `rawkit transport new courier` writes, where any user may read and write."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o777)
        file = Path(place) / "courier.py"
        file.write_text(scaffold("courier"))
        yield file


def run(python: list[str], courier: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*python, "-m", "rawkit", "transport", "run", "courier.py:Courier", *arguments]
    return subprocess.run(command, cwd=courier.parent, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("over", ["raw", "udp"])
def test_over_each_carrier_as_an_ordinary_user(ordinary: list[str], courier: Path, over: str) -> None:
    done = run(ordinary, courier, "--over", over, "--octets", "6000", "--back", "3000", "--json")
    assert done.returncode == 0, done.stderr
    header, result = map(json.loads, done.stdout.splitlines())
    assert header["schema"] == "rawkit.transport.run/1"
    assert result["complete"]
    assert result["closed"]
    assert result["octets"] == 6000
    assert result["over"] == over


def test_the_capture_has_every_packet_and_tshark_reads_it_as_we_do(
    ordinary: list[str], courier: Path
) -> None:
    # What the kernels say of themselves counts for the seed too, so enough is sent that something is lost.
    arguments = ("--octets", "20000", "--capture", "run.pcapng", "--ladder", "--loss", "25%")
    done = run(ordinary, courier, *arguments)
    assert done.returncode == 0, done.stderr
    assert "Courier over raw: complete, closed in order" in done.stdout
    assert "did not arrive" in done.stdout
    space: dict[str, object] = {"__name__": "courier"}
    exec(compile(courier.read_text(), "courier.py", "exec"), space)
    header = space["CourierHeader"]
    sums, seen = 0, []
    with open_pcap(courier.parent / "run.pcapng") as file:
        for frame in file:
            packet = frame.packet()
            if IPv4 in packet and packet[IPv4].protocol == 253:
                octets = bytes(packet.payload)
                seen.append(expected(header, octets, "courier"))  # type: ignore[arg-type]
                parsed, _, _ = header._parse(octets, 0, len(octets))  # type: ignore[attr-defined]
                if not parsed.flags & 1 and frame.data[26:30] == bytes([10, 77, 0, 1]):
                    assert parsed.length == len(octets) - 6
                    sums += parsed.length
    assert sums >= 20000
    command = [*ordinary, "-m", "rawkit", "transport", "dissector", "courier.py:Courier"]
    made = subprocess.run(command, cwd=courier.parent, capture_output=True, text=True, timeout=60, check=True)
    script = courier.parent / "courier.lua"
    script.write_text(made.stdout)
    rows = columns(courier.parent / "run.pcapng", [script], list(seen[0]), "-Y", "ip.proto==253")
    assert [{name: [int(value, 0) for value in row[name]] for name in row} for row in rows] == seen


def test_what_cannot_be_is_refused(courier: Path, ordinary: list[str]) -> None:
    done = run(ordinary, courier, "--over", "pigeon")
    assert done.returncode == 2
    assert "pigeon" in done.stderr
