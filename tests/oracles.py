"""Other people's programs: those that tests compare with, and those that take a test's privileges away."""

from __future__ import annotations

import os
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rawkit.lab import Host

NOBODY = 65534


def oracle(program: str) -> str:
    """The path of `program`; without it the test is skipped, or fails under RAWKIT_REQUIRE_ORACLES=1 (CI)."""
    # An ordinary user's PATH often leaves these two out.
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    found = shutil.which(program, path=path)
    if found is None:
        reason = f"{program} is not installed (an oracle that this test compares with)"
        if os.environ.get("RAWKIT_REQUIRE_ORACLES", "") not in ("", "0"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def nmap(host: Host, letter: str, ports: str, targets: list[str]) -> dict[tuple[str, int], str]:
    """What nmap on `host` says of each port of each target (address, port), in its scan -s<letter>."""
    from rawkit.addr import parse_ports

    options = f"-s{letter} -n -Pn --max-retries 1 -p {ports} -oX -".split()
    options += ["-6"] if ":" in targets[0] else []
    done = host.run(
        [oracle("nmap"), *options, *targets], capture_output=True, text=True, timeout=120, check=True
    )
    found: dict[tuple[str, int], str] = {}
    for element in ElementTree.fromstring(done.stdout).iter("host"):
        address = element.find("address")
        assert address is not None
        states: dict[int, str] = {}
        for port in element.iter("port"):
            state = port.find("state")
            assert state is not None
            states[int(port.attrib["portid"])] = state.attrib["state"]
        extra = element.find("ports/extraports")  # all of one state, and not listed
        if extra is not None:
            rest = [port for port in parse_ports(ports) if port not in states]
            assert len(rest) == int(extra.attrib["count"])
            states |= dict.fromkeys(rest, extra.attrib["state"])
        found |= {(address.attrib["addr"], port): state for port, state in states.items()}
    return found


def calm() -> bool:
    """Whether a process that should wake up can be expected to: no more wants the processors than there are.

    How punctual something is says nothing else than that on a machine that is full.
    """
    return os.getloadavg()[0] <= 1.5 * (os.cpu_count() or 1)


def tcpdump(live: bool = False) -> list[str]:
    """The words that run tcpdump, on files or with `live` on interfaces."""
    program = [oracle("tcpdump")]
    if os.geteuid() == 0 and not has_other_users():
        if live:
            pytest.skip("tcpdump becomes another user before it captures, and there is none here")
        # Started by root it becomes another user; with `-Z root` it still sets root's groups.
        return [*without_privilege(), *program]
    return program


def has_other_users() -> bool:
    """Whether this process can become nobody. Root of an ordinary user's namespace is the only one in it."""
    return os.geteuid() == 0 and all(_is_mapped(Path(f"/proc/self/{kind}_map")) for kind in ("uid", "gid"))


def _is_mapped(path: Path) -> bool:
    rows = (map(int, line.split()) for line in path.read_text().splitlines())
    return any(first <= NOBODY < first + n for first, _, n in rows)


def with_capability(name: str) -> list[str]:
    """Words that run a command as this process's user, root, with one capability of root's."""
    return [oracle("setpriv"), *_sets(name), "--", "env"]


def as_nobody(capability: str = "") -> list[str]:
    """Words that run a command as nobody, with one capability or none. Only where one `has_other_users`."""
    ids = ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    # setpriv still has root's capabilities when it starts a program, wherever that lies; env has none.
    return [oracle("setpriv"), *ids, *_sets(capability), "--", "env"]


def _sets(capability: str) -> list[str]:
    kept = "-all" + (f",+{capability}" if capability else "")
    return ["--bounding-set", kept, "--inh-caps", kept, "--ambient-caps", kept]


def without_privilege() -> list[str]:
    """Words that run a command as user 1000 of one more user namespace, in the same network.

    It has no capability, there or here. Outside it is still this process's own user, so files are its own.
    """
    return [oracle("unshare"), "--user", "--map-user=1000", "--map-group=1000", "--"]
