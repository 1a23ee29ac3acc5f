"""Privileges are given up for good, as the kernel sees it; and CAP_NET_RAW alone is enough for commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import oracles
import pytest
from oracles import NOBODY, oracle

from rawkit.engine import FrameBatch, PacketSocket
from rawkit.errors import PrivilegeError
from rawkit.lab import Lab
from rawkit.pcap import create_pcap
from rawkit.privileges import drop_privileges
from rawkit.wire import UDP, Ether, Frame, IPv4

pytestmark = pytest.mark.net


@pytest.fixture
def other_users() -> None:
    if not oracles.has_other_users():
        pytest.skip("root of this namespace is the only user in it")


def in_child(check: Callable[[], Any]) -> Any:
    """What `check` gives, run in a child process, whose privileges may go."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = json.dumps(check())
        except BaseException as error:
            answer = json.dumps(f"{type(error).__name__}: {error}")
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(text)


@pytest.mark.usefixtures("other_users")
def test_sockets_go_on_and_nothing_can_be_regained() -> None:
    def check() -> list[object]:
        with PacketSocket("lo", protocol=0x88B5) as sock:
            drop_privileges("nobody")
            sock.send(bytes(12) + b"\x88\xb5" + bytes(46))
            received = sock.receive(FrameBatch(4), 2)
            refused = []
            attempts: list[Callable[[], Any]] = [
                lambda: PacketSocket("lo"),
                lambda: os.setresuid(0, 0, 0),
                lambda: os.setresgid(-1, 0, -1),
                lambda: os.setgroups([0]),
                lambda: Path("/etc/shadow").read_bytes(),
            ]
            for attempt in attempts:
                try:
                    attempt()
                except PermissionError:
                    refused.append(True)
            return [received, os.getresuid(), os.getresgid(), os.getgroups(), len(refused)]

    assert in_child(check) == [1, [NOBODY] * 3, [NOBODY] * 3, [], 5]


@pytest.mark.usefixtures("other_users")
def test_programs_started_later_gain_nothing() -> None:
    """Neither by a set-user-id bit nor by file capabilities."""
    oracle("setpriv")

    def check() -> str:
        drop_privileges(str(NOBODY))
        return subprocess.run([oracle("setpriv"), "--dump"], capture_output=True, text=True).stdout

    told = dict(line.split(": ", 1) for line in in_child(check).splitlines() if ": " in line)
    assert (told["uid"], told["euid"], told["no_new_privs"]) == (str(NOBODY), str(NOBODY), "1")
    sets = (
        "Supplementary groups",
        "Inheritable capabilities",
        "Ambient capabilities",
        "Capability bounding set",
    )
    assert {name: told[name] for name in sets} == dict.fromkeys(sets, "[none]")


@pytest.mark.usefixtures("other_users")
def test_whoever_is_not_root_is_told_and_nothing_is_half_done() -> None:
    def check() -> str:
        os.setresuid(1000, 1000, 1000)
        drop_privileges("nobody")
        return "dropped"

    assert in_child(check).startswith(
        "PrivilegeError: cannot clear the capability bounding set: Operation not"
    )


@pytest.mark.usefixtures("other_users")
@pytest.mark.parametrize(
    ("operation", "step"),
    [
        ("setgroups", "leave all supplementary groups"),
        ("setresgid", "become group 65534"),
        ("setresuid", "become user nobody"),
    ],
)
def test_a_step_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, operation: str, step: str) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(1, "no")

    monkeypatch.setattr(os, operation, fail)
    assert in_child(lambda: drop_privileges("nobody")) == (
        f"PrivilegeError: cannot {step}: Operation not permitted"
    )


@pytest.mark.usefixtures("other_users")
@pytest.mark.parametrize(
    ("operation", "left"),
    [("setgroups", "Groups is"), ("setresgid", "Gid is 0"), ("setresuid", "Uid is 0 0 0 0")],
)
def test_what_only_seemed_to_work_is_found_out(
    monkeypatch: pytest.MonkeyPatch, operation: str, left: str
) -> None:
    def check() -> None:
        os.setgroups([1, 2])
        monkeypatch.setattr(os, operation, lambda *_: None)
        drop_privileges("nobody")

    assert left in in_child(check)


@pytest.mark.parametrize("user", ["no such user", "root", "0", "99999999999999999999"])
def test_users_that_are_none(user: str) -> None:
    with pytest.raises(PrivilegeError, match="user"):
        drop_privileges(user)


def test_with_threads_it_is_refused() -> None:
    import threading

    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()
    try:
        with pytest.raises(PrivilegeError, match="threads"):
            drop_privileges("nobody")
    finally:
        go.set()
        thread.join()


# ---- CAP_NET_RAW and nothing else ------------------------------------------------------------------


@pytest.fixture(scope="module")
def net_raw() -> list[str]:
    """What to put before `-m rawkit`: this Python with CAP_NET_RAW alone, run by nobody where nobody can."""
    users = [oracles.with_capability("net_raw")]
    if oracles.has_other_users():
        users.insert(0, oracles.as_nobody("net_raw"))
    for user in users:
        python = [*user, sys.executable]
        done = subprocess.run([*python, "-c", "import rawkit._native, click, pyroute2"], capture_output=True)
        if done.returncode == 0:
            return python
    pytest.skip(f"no user without privileges can run this Python: {done.stderr.decode().strip()}")


@pytest.mark.parametrize(
    "words",
    [
        "ping -c 2 -i 1ms {address}",
        "ping -c 1 {address6}",
        "scan {address} -p 80,81 --type syn",
        "send ip(dst={address})/icmp() --wait 3",
        "send eth(src={mac})/arp(sender_mac={mac},sender_ip=10.77.0.1,target_ip={address}) -I veth0 --wait 3",
    ],
)
def test_the_capability_is_enough(net_raw: list[str], words: str) -> None:
    with Lab() as lab:
        lab.b.serve("http")
        known = {"address": lab.b.ipv4, "address6": lab.b.ipv6, "mac": lab.a.mac}
        argv = [word.format(**known) for word in words.split()]
        done = lab.a.run([*net_raw, "-m", "rawkit", *argv], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


def test_the_capability_is_enough_to_capture_and_to_replay(net_raw: list[str], tmp_path: Path) -> None:
    with Lab() as lab:
        source = tmp_path / "source.pcap"
        frame = bytes(
            Ether(src=lab.a.mac, dst=lab.b.mac) / IPv4(src=lab.a.ipv4, dst=lab.b.ipv4) / UDP(dport=9)
        )
        with create_pcap(source) as writer:
            writer.write(Frame(frame))
        capture = lab.b.spawn(
            [*net_raw, "-m", "rawkit", "capture", "-i", "veth0", "-c", "1", "--json", "udp port 9"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert capture.stderr is not None
        assert b"capturing on" in capture.stderr.readline()
        with source.open("rb") as octets:  # handed over, wherever the file lies
            done = lab.a.run(
                [*net_raw, "-m", "rawkit", "replay", "-", "-i", "veth0"], stdin=octets, capture_output=True
            )
        assert done.returncode == 0, done.stderr
        out, _ = capture.communicate(timeout=30)
        assert capture.returncode == 0
        assert "10.77.0.1.0 > 10.77.0.2.9: UDP" in json.loads(out.splitlines()[1])["summary"]
