"""Which ports `--top` means: by nmap's own services file, beside nmap, and by our own list."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from oracles import oracle

from rawkit.addr import parse_ports
from rawkit.errors import RawkitError
from rawkit.lab import Lab
from rawkit.tools.scan.services import services_file, top_ports

FILE = """# a comment
http\t80/tcp\t0.48\t# World Wide Web
telnet\t23/tcp\t0.22
domain\t53/udp\t0.21
https\t443/tcp\t0.21
unranked\t1/tcp
diameter\t3868/sctp\t0.00001
"""


@pytest.mark.net
@pytest.mark.parametrize(("protocol", "n"), [("tcp", 100), ("tcp", 1000), ("udp", 20), ("sctp", 10)])
def test_they_are_nmap_s(protocol: str, n: int) -> None:
    """nmap says which ports it scans."""
    path = services_file()
    if not path:
        pytest.skip("nmap has no services file where it is looked for")
    letter = {"tcp": "S", "udp": "U", "sctp": "Y"}[protocol]
    argv = [oracle("nmap"), f"-s{letter}", *f"-n -Pn -v --top-ports {n} -oG - 127.0.0.1".split()]
    with Lab() as lab:
        done = lab.a.run(argv, capture_output=True, text=True, timeout=60, check=True)
    (ranges,) = re.findall(rf"{protocol.upper()}\({n};([\d,-]+)\)", done.stdout)
    assert top_ports(n, protocol, path) == parse_ports(ranges)


def test_a_file_of_one_s_own(tmp_path: Path) -> None:
    path = tmp_path / "services"
    path.write_text(FILE)
    assert top_ports(2, "tcp", str(path)) == (23, 80)
    assert top_ports(3, "tcp", str(path)) == (23, 80, 443)
    assert top_ports(1, "udp", str(path)) == (53,)
    assert top_ports(1, "sctp", str(path)) == (3868,)
    with pytest.raises(ValueError, match=f"the top 4 tcp ports: {path} has a ranking of 3"):
        top_ports(4, "tcp", str(path))
    path.write_text("http 80/tcp often\n")
    with pytest.raises(RawkitError, match="is no file of services as nmap has it: 'http 80/tcp often'"):
        top_ports(1, "tcp", str(path))
    with pytest.raises(RawkitError, match="No such file"):
        top_ports(1, "tcp", str(tmp_path / "nothing"))


def test_the_first_file_of_those_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NMAPDIR", raising=False)
    (tmp_path / ".nmap").mkdir()
    (mine := tmp_path / ".nmap/nmap-services").write_text(FILE)
    assert services_file() == str(mine)
    (tmp_path / "other").mkdir()
    (other := tmp_path / "other/nmap-services").write_text(FILE)
    monkeypatch.setenv("NMAPDIR", str(other.parent))
    assert services_file() == str(other)


def test_our_own_list() -> None:
    assert top_ports(3) == (22, 80, 443)
    assert top_ports(4, "udp") == (53, 123, 137, 161)
    assert len(top_ports(100)) == len(top_ports(100, "udp")) == 100
    with pytest.raises(ValueError, match="the top 1000 tcp ports: there is a ranking of"):
        top_ports(1000)
    with pytest.raises(ValueError, match="top 1 sctp"):
        top_ports(1, "sctp")
