"""The pytest plug-in, in runs of pytest of its own: fixtures, what a failure shows, ordinary users, xdist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from oracles import oracle

from rawkit.pcap import open_pcap

pytestmark = pytest.mark.net

ROOT = Path(__file__).parents[2]
OPTIONS = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-q", "-rs"]

GOOD = """
import socket
import pytest
from rawkit.testing import assert_packets, ether, icmp, ip, tcp, udp
from rawkit.wire import UDP

def say(lab, text=b"hello"):
    with lab.a, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(text, (str(lab.b.ipv4), 9))

def test_what_is_sent_arrives(lab, capture):
    seen = capture(lab.b, "udp port 9")
    say(lab)
    (packet,) = assert_packets(seen, [ip(src=lab.a.ipv4, ttl=64) / udp(dport=9) / b"hello"])
    assert packet[UDP].sport > 0
    say(lab, b"more")
    assert_packets(seen, [udp() / b"hello", udp() / b"more"])
    assert [packet.payload for packet in seen] == [b"hello", b"more"]
    assert seen.counters() == (2, 0)

@pytest.mark.lab(delay="5ms", loss="0%", seed=3)
def test_the_link_is_as_the_marker_says(lab, capture):
    near, far = capture(lab.a, "udp"), capture(lab.b, "udp", direction="in")
    say(lab)
    (sent,), (arrived,) = near.wait(1), far.wait(1)
    assert arrived.time_ns - sent.time_ns >= 5_000_000
    assert lab.seed == 3

@pytest.mark.lab(chain=2)
def test_behind_two_routers(lab, capture):
    seen = capture(lab.b, "udp")
    with lab.a, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", (str(lab.b.ipv4), 9))
    assert_packets(seen, [ip(ttl=62)])

@pytest.mark.lab(star=3)
def test_three_hosts(lab):
    assert [host.name for host in lab.hosts] == ["h1", "h2", "h3"]

def test_a_capture_file_is_replayed(lab, capture, replay, pcap_fixture):
    path = pcap_fixture("small")
    assert path == pcap_fixture("small.pcapng")
    seen = capture(lab.b)
    report = replay(path, lab.a, topspeed=True)
    assert report.sent == 3
    assert_packets(seen, [udp(dport=5000 + i) for i in range(3)], exact=False)
    assert_packets(path, [udp(dport=5000 + i) for i in range(3)])
    with pytest.raises(FileNotFoundError, match="no capture file 'large' in .*; there are: .*small.pcapng"):
        pcap_fixture("large")
"""

BAD = """
import socket
from rawkit.testing import assert_packets, ip, udp

def test_it_fails(lab, capture):
    seen = capture(lab.b, "udp port 9")
    capture(lab.a, "tcp")
    with lab.a, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"hello", (str(lab.b.ipv4), 9))
        assert_packets(seen, [ip(ttl=63) / udp(dport=9)])

def test_it_passes(lab, capture):
    capture(lab.b, "udp port 9")
"""

INI = """
[pytest]
filterwarnings = error
"""


def run(folder: Path, *options: str, python: list[str] | None = None) -> str:
    """What pytest prints in a run of its own in this folder."""
    argv = [*(python or [sys.executable]), "-m", "pytest", *OPTIONS, *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=120, env=environment)
    return done.stdout + done.stderr


def project(folder: Path, code: str, ini: str = INI) -> Path:
    """A project with one test file and one capture file."""
    from rawkit.pcap import create_pcap
    from rawkit.wire import UDP, Ether, Frame, IPv4

    (folder / "pytest.ini").write_text(ini)
    (folder / "test_it.py").write_text(code)
    (folder / "pcaps").mkdir()
    with create_pcap(folder / "pcaps" / "small.pcapng") as writer:
        for i in range(3):
            packet = Ether() / IPv4(src="192.0.2.1", dst="192.0.2.2") / UDP(dport=5000 + i) / b"data"
            writer.write(Frame(bytes(packet), time_ns=10**18 + i))
    return folder


def test_the_fixtures_in_use_and_the_example_in_the_docs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "testing.md").read_text(), re.DOTALL)
    oracle("ping")
    folder = project(tmp_path, GOOD)
    (folder / "test_docs.py").write_text(code)
    (folder / "pcaps" / "dns.pcapng").symlink_to(ROOT / "pcaps" / "dns.pcapng")
    output = run(folder)
    assert "8 passed" in output, output


def test_a_failure_shows_fields_and_octets_and_where_the_capture_is(tmp_path: Path) -> None:
    output = run(project(tmp_path, BAD), "--rawkit-dir", "kept")
    assert "1 failed, 1 passed" in output, output
    assert re.search(r"^E +ip\.ttl: expected 63, got 64$", output, re.MULTILINE)
    assert re.search(r"^E +0020 .* 68 65 6c 6c 6f +\S*hello$", output, re.MULTILINE)
    title, first, second = output.partition("packets captured (rawkit)")[2].splitlines()[:3]
    assert set(title) <= {" ", "-"}
    assert first.startswith("veth0 of host b, filter 'udp port 9': 1 frames, 0 dropped: ")
    assert second.startswith("veth0 of host a, filter 'tcp': 0 frames, 0 dropped: ")
    path = Path(first.rpartition(": ")[2])
    assert path == tmp_path / "kept" / "test_it.py_test_it_fails-1.pcapng"
    assert sorted(kept.name for kept in path.parent.iterdir()) == [path.name, path.name.replace("-1.", "-2.")]
    with open_pcap(path) as reader:
        (frame,) = reader
        assert (frame.packet().payload, reader.interfaces[0].filter) == (b"hello", "udp port 9")
    read = subprocess.run([oracle("tshark"), "-r", path], capture_output=True, text=True, check=True)
    assert "UDP" in read.stdout


NAMESPACE = INI + "rawkit_namespace = session\n"


@pytest.mark.parametrize(
    ("ini", "options", "wanted"),
    [
        (NAMESPACE, ("-n", "2", "-k", "arrives or three"), "2 passed"),
        pytest.param(INI, (), "5 passed", marks=pytest.mark.slow),
        pytest.param(
            INI, ("-n", "1", "-k", "three"), "SKIPPED.*rawkit_namespace = session", marks=pytest.mark.slow
        ),
        pytest.param(
            INI + "rawkit_require_lab = true\n",
            ("-n", "1", "-k", "three"),
            "1 error",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["xdist", "alone", "xdist unprepared", "a lab is required"],
)
def test_as_an_ordinary_user(ordinary: list[str], ini: str, options: tuple[str, ...], wanted: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as room:  # nobody could not get to what pytest makes
        folder = project(Path(room), GOOD, ini)
        for path in (folder, folder / "pcaps"):
            path.chmod(0o777)
        for path in folder.rglob("*.*"):
            path.chmod(0o644)
        output = run(folder, *options, f"--basetemp={room}/temporary", python=ordinary)
    if "sysctl" in output or "user namespaces are not allowed" in output:
        pytest.skip("ordinary users may make no namespaces here")
    assert re.search(wanted, output), output


@pytest.mark.slow
def test_workers_of_xdist_as_root(tmp_path: Path) -> None:
    output = run(project(tmp_path, GOOD), "-n", "2")
    assert "5 passed" in output, output


def test_other_projects_notice_nothing(tmp_path: Path) -> None:
    """The plug-in is loaded, and nothing of rawkit but that; names of the project's own come first."""
    code = """
import sys, threading
import pytest

@pytest.fixture
def lab():
    return "mine"

def test_nothing_was_imported(lab):
    assert lab == "mine"
    loaded = {name for name in sys.modules if name.split(".")[0] == "rawkit"}
    assert loaded == {"rawkit", "rawkit.late", "rawkit.testing", "rawkit.testing.plugin",
                      "rawkit.testing.compare", "rawkit.testing.patterns", "rawkit.testing.recording"}
    assert not {"cffi", "_cffi_backend", "click", "pyroute2", "scapy", "numpy"} & sys.modules.keys()
    assert threading.active_count() == 1
"""
    output = run(project(tmp_path, code, "[pytest]\nfilterwarnings = error\naddopts = --strict-markers\n"))
    assert "1 passed" in output, output


def test_a_setting_that_is_none_is_refused(tmp_path: Path) -> None:
    output = run(project(tmp_path, GOOD, INI + "rawkit_namespace = never\n"))
    assert "rawkit_namespace is 'never'; it must be 'lab' or 'session'" in output
