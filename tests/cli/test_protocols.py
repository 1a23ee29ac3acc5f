"""`rawkit protocols`, and the pages that are made of the classes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rawkit.wire import TCP

PAGES = Path(__file__).parents[2] / "docs" / "protocols"


def rawkit(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rawkit", "protocols", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_list() -> None:
    done = rawkit()
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert lines["TCP"].endswith("[IPv4.protocol 6, IPv6.next_header 6]")
    assert "ICMPEcho" in lines
    assert lines["IPv4"].count("linktype 228") == 1
    assert "Ether.ethertype 0x0800" in lines["IPv4"]
    assert list(lines) == sorted(lines, key=str.lower)


def test_one_protocol() -> None:
    done = rawkit("tcp")
    assert done.stdout.startswith("TCP: TCP header.")
    assert TCP.diagram() in done.stdout
    assert "flags        octet 12.7, 9 bits    2         lowest bit first: FIN SYN" in done.stdout
    assert "  2  MSS " in done.stdout


def test_an_option() -> None:
    done = rawkit("mss", "nooperation")
    assert done.stdout.startswith("MSS: Maximum segment size in octets")
    assert "announced by kind 2 of TCPOption" in done.stdout
    assert "|             value             |" in done.stdout
    assert done.stdout.count("Behind kind and length:") == 1, "no fields, no picture"
    _, record = (json.loads(line) for line in rawkit("mss", "--json").stdout.splitlines())
    assert [field["name"] for field in record["fields"]] == ["value"]


def test_two_by_their_short_names() -> None:
    done = rawkit("ip", "eth")
    starts = [line.split(":")[0] for line in done.stdout.splitlines() if line.startswith(("IPv4:", "Ether:"))]
    assert starts == ["IPv4", "Ether"]
    assert "announced by linktype 1" in done.stdout


def test_json() -> None:
    header, tcp = (json.loads(line) for line in rawkit("tcp", "--json").stdout.splitlines())
    assert header == {"type": "header", "schema": "rawkit.protocols/1"}
    assert (tcp["name"], tcp["announced_by"]) == ("TCP", ["IPv4.protocol 6", "IPv6.next_header 6"])
    fields = {field["name"]: field for field in tcp["fields"]}
    assert (fields["dport"]["offset"], fields["dport"]["width"]) == (16, 16)
    assert fields["flags"]["flags"][:2] == ["FIN", "SYN"]
    assert fields["checksum"]["computed"]
    assert {k: tcp["options"][1][k] for k in ("name", "kind")} == {"name": "MSS", "kind": 2}
    assert len(rawkit("--json").stdout.splitlines()) == len(rawkit().stdout.splitlines()) + 1


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["tpc"], "did you mean 'tcp'"),
        (["q"], "'rawkit protocols' lists them"),
        (["tcp", "--write", "x"], "--write goes alone"),
    ],
)
def test_bad_input(args: list[str], reason: str) -> None:
    done = rawkit(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr


def test_the_pages_are_current(tmp_path: Path) -> None:
    """In a process of its own: tests declare protocols too."""
    assert rawkit("--write", str(tmp_path)).returncode == 0
    fresh = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.md")}
    there = {path.name: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")}
    stale = sorted(name for name in fresh.keys() | there.keys() if fresh.get(name) != there.get(name))
    assert not stale, f"docs/protocols is not what the classes say ({', '.join(stale)}): run `make docs`"


def test_pages_of_protocols_that_are_gone_are_removed(tmp_path: Path) -> None:
    (tmp_path / "own.md").write_text("a page that somebody wrote")
    rawkit("--write", str(tmp_path))
    (tmp_path / "tcp.md").rename(tmp_path / "gone.md")
    rawkit("--write", str(tmp_path))
    assert not (tmp_path / "gone.md").exists()
    assert (tmp_path / "own.md").exists()
    assert (tmp_path / "tcp.md").exists()
