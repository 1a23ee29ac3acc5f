"""The formats of other scanners that `rawkit scan` writes, beside those scanners and their parsers."""

from __future__ import annotations

import csv
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
from oracles import oracle

from rawkit.lab import Lab
from rawkit.lab.setup import set_sysctls

pytestmark = pytest.mark.net

SCAN = [sys.executable, "-m", "rawkit", "scan"]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Host b listens on ports 22 and 80."""
    with Lab() as lab, ExitStack() as stack:
        with lab.b:
            set_sysctls({"net/ipv4/icmp_ratelimit": "0"})
            for port in (22, 80):
                listener = stack.enter_context(socket.socket())
                listener.bind(("0.0.0.0", port))
                listener.listen()
        yield lab


def run(lab: Lab, *args: str) -> str:
    done = lab.a.run([*SCAN, *args], capture_output=True, text=True, timeout=60, check=True)
    return str(done.stdout)


def valid(path: Path) -> ElementTree.Element:
    """The XML, which follows nmap's own DTD."""
    dtd = Path(oracle("nmap")).parent.parent / "share/nmap/nmap.dtd"
    subprocess.run([oracle("xmllint"), "--noout", "--dtdvalid", dtd, path], check=True, timeout=60)
    return ElementTree.parse(path).getroot()


def ports(host: ElementTree.Element | None) -> dict[str, tuple[str, str]]:
    assert host is not None
    found = {}
    for port in host.iter("port"):
        state = port.find("state")
        assert state is not None
        found[port.attrib["portid"]] = state.attrib["state"], state.attrib["reason"]
    for extra in host.iter("extraports"):
        found[extra.attrib["state"]] = "extra", extra.attrib["count"]
    return found


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("S", "20-30,79-81"),
        ("S", "1-200"),
        ("T", "75-85"),
        ("F", "20-30"),
        ("Y", "80-82"),
        ("O", "6,17,253"),
        ("U", "53-55"),
    ],
)
def test_nmap_xml_is_nmap_s(kind: str, wanted: str, lab: Lab, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.xml", tmp_path / "theirs.xml"
    nmap = [oracle("nmap"), f"-s{kind}", "-n", "-Pn", "-p", wanted, "-oX", str(theirs), "10.77.0.2"]
    lab.a.run(nmap, capture_output=True, timeout=120, check=True)
    text = run(lab, "10.77.0.2", f"-s{kind}", "-p", wanted, "-oX", str(ours), "--timeout", "300ms")
    assert text.startswith("10.77.0.2\n"), "the table is printed all the same"
    one, other = valid(ours), valid(theirs)
    assert ports(one.find("host")) == ports(other.find("host"))
    info, nmap_info = one.find("scaninfo"), other.find("scaninfo")
    assert info is not None
    assert nmap_info is not None
    assert info.attrib == nmap_info.attrib
    hosts = one.find("runstats/hosts")
    assert hosts is not None
    # nmap -Pn takes each host to be up; we say what was seen.
    assert hosts.attrib == {"up": "1", "down": "0", "total": "1"}


def test_several_hosts_and_what_filters(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "scan.xml"
    assert run(
        lab, "10.77.0.2", "10.77.0.9", "-p", "80,81", "-oX", "-", "--csv", str(tmp_path / "c")
    ).startswith("<?")
    run(lab, "10.77.0.2", "10.77.0.9", "-p", "80,81", "-oX", str(path))
    hosts = valid(path).findall("host")
    assert [host.find("status").attrib["state"] for host in hosts] == ["up", "down"]  # type: ignore[union-attr]
    assert ports(hosts[1]) == {"80": ("filtered", "no-neighbour"), "81": ("filtered", "no-neighbour")}


def test_grepable_lines_are_nmap_s(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    nmap = [oracle("nmap"), "-sS", "-n", "-Pn", "-p", "20-30,75-85", "-oG", str(path), "10.77.0.2"]
    lab.a.run(nmap, capture_output=True, timeout=120, check=True)

    def states(text: str) -> list[str]:
        (line,) = [line for line in text.splitlines() if "Ports:" in line]
        return re.findall(r"(\d+/[a-z|]+/tcp)//", line)

    ours = run(lab, "10.77.0.2", "-p", "20-30,75-85", "-oG", "-")
    assert states(ours) == states(path.read_text())
    assert ours.count("\n") == path.read_text().count("\n") == 4


def test_json_as_masscan_writes_it(lab: Lab) -> None:
    rows = json.loads(run(lab, "10.77.0.2", "-p", "79-80", "-oJ", "-"))
    assert {row["ip"] for row in rows} == {"10.77.0.2"}
    found = {row["ports"][0]["port"]: row["ports"][0] for row in rows}
    assert found[80] == {"port": 80, "proto": "tcp", "status": "open", "reason": "syn-ack", "ttl": 64}
    assert found[79]["status"] == "closed"
    assert all(row["timestamp"].isdecimal() for row in rows)
    assert json.loads(run(lab, "10.77.0.9", "-p", "80", "-oJ", "-")) == []


def test_csv(lab: Lab, tmp_path: Path) -> None:
    zmap, full = tmp_path / "zmap", tmp_path / "full"
    run(lab, "10.77.0.2", "10.77.0.9", "-p", "79-80", "--zmap-csv", str(zmap), "--csv", str(full))
    rows = list(csv.DictReader(zmap.read_text().splitlines()))
    assert sorted((row["sport"], row["classification"], row["success"]) for row in rows) == [
        ("79", "rst", "0"),
        ("80", "synack", "1"),
    ]
    states = Counter((row["address"], row["state"]) for row in csv.DictReader(full.read_text().splitlines()))
    assert states == {("10.77.0.2", "open"): 1, ("10.77.0.2", "closed"): 1, ("10.77.0.9", "filtered"): 2}


def test_metadata_are_zmap_s(lab: Lab, tmp_path: Path) -> None:
    """Names and types; "rawkit" has the rest."""
    allow, theirs, ours = tmp_path / "allow", tmp_path / "theirs", tmp_path / "ours"
    allow.write_text("10.77.0.2/32\n")
    options = f"-p 80 -w {allow} -b /dev/null -i veth0 -G {lab.b.mac} -o {tmp_path}/z -m {theirs} -c 1 -q"
    zmap = [oracle("zmap"), *options.split(), "--disable-syslog"]
    for _ in range(5):  # on a busy machine it may send before it listens
        lab.a.run(zmap, capture_output=True, timeout=60, check=True)
        known = json.loads(theirs.read_text())
        if known["success_total"]:
            break
    run(lab, "10.77.0.2", "-p", "80", "--seed", "7", "--zmap-csv", str(ours), "--contact", "it@example.org")
    data = json.loads(Path(f"{ours}.metadata.json").read_text())
    rest = data.pop("rawkit")
    assert {name: type(value) for name, value in data.items()} == {name: type(known[name]) for name in data}
    for name in ("target_port", "total_sent", "success_total", "shard_num", "total_shards", "probe_module"):
        assert data[name] == known[name], name
    assert (data["seed"], rest["contact"], rest["complete"]) == (7, "it@example.org", True)
    datetime.strptime(data["send_start_time"], "%Y-%m-%dT%H:%M:%S%z")


def test_an_interrupted_scan_is_a_whole_file(lab: Lab, tmp_path: Path) -> None:
    path, lines = tmp_path / "scan.xml", tmp_path / "lines"
    argv = [*SCAN, "10.77.0.2", "-p", "1-2000", "--rate", "200", "-oX", str(path), "--json"]
    with lines.open("wb") as stream:
        process = lab.a.spawn(argv, stdout=stream)
        deadline = time.monotonic() + 60
        while lines.read_bytes().count(b"\n") < 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    root = valid(path)
    finished = root.find("runstats/finished")
    assert finished is not None
    assert finished.attrib["exit"] == "error"
    assert len(list(root.iter("port"))) + sum(int(e.attrib["count"]) for e in root.iter("extraports")) >= 18


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-oX", "-", "--json"], "one format only"),
        (["-oX", "-", "-oG", "-"], "one format only"),
        (["-oX", "/nonexistent/x"], "/nonexistent/x"),
    ],
)
def test_bad_output_is_refused(args: list[str], message: str, lab: Lab) -> None:
    done = lab.a.run([*SCAN, "10.77.0.2", "-p", "80", *args], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
