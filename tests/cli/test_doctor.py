"""`rawkit doctor` against the facts: as this user, without privilege, and with CAP_NET_RAW alone."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from oracles import has_other_users, oracle

import rawkit.tools.doctor as doctor
from rawkit.tools.doctor import WITH_NET_RAW, Check, abilities, examine

if TYPE_CHECKING:
    from conftest import VethPair

COMMANDS = ["read", "show", "ping", "scan", "capture", "send", "replay", "lab", "demo"]


def run(python: list[str] | None = None) -> list[dict[str, object]]:
    """The JSON lines of `rawkit doctor`, run by `python`."""
    argv = [*(python or [sys.executable]), "-m", "rawkit", "doctor", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def checks_of(records: list[dict[str, object]]) -> dict[str, dict[str, object]]:
    return {str(record["check"]): record for record in records if record["type"] == "check"}


def levels_of(records: list[dict[str, object]]) -> dict[str, object]:
    return {str(record["command"]): record["level"] for record in records if record["type"] == "command"}


def can_open(family: int, kind: int, protocol: int) -> bool:
    try:
        socket.socket(family, kind, protocol).close()
    except OSError:
        return False
    return True


def test_what_it_says_is_what_this_process_can_do() -> None:
    records = run()
    checks = checks_of(records)
    assert records[0] == {"type": "header", "schema": "rawkit.doctor/1"}
    assert checks["packet_socket"]["ok"] == can_open(socket.AF_PACKET, socket.SOCK_RAW, 0)
    assert checks["raw_socket"]["ok"] == can_open(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    assert checks["icmp_ipv4"]["ok"] == can_open(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
    assert os.uname().release in str(checks["kernel"]["detail"])
    assert re.search(r"version \d+\.\d+.*, /.*libpcap", str(checks["libpcap"]["detail"]))
    assert Path(str(checks["libpcap"]["detail"]).rpartition(", ")[2]).is_file()
    assert checks["engine"]["ok"] is True
    assert list(levels_of(records)) == COMMANDS


def test_the_text_shows_every_check_and_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rawkit", "doctor"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    for check in examine().values():
        assert check.name in done.stdout
    for command in COMMANDS:
        assert re.search(rf"^  (yes|partly|no) +{command} ", done.stdout, re.MULTILINE)
    assert "\x1b" not in done.stdout


# ---- other users ------------------------------------------------------------------------------


def test_without_privilege_nothing_raw_is_promised(ordinary: list[str]) -> None:
    records = run(ordinary)
    checks, levels = checks_of(records), levels_of(records)
    assert (checks["packet_socket"]["ok"], checks["raw_socket"]["ok"], checks["net_admin"]["ok"]) == (
        False,
    ) * 3
    assert (levels["capture"], levels["send"], levels["replay"], levels["scan"]) == (
        "no",
        "no",
        "no",
        "partly",
    )
    assert (levels["read"], levels["show"]) == ("yes", "yes")
    ping_open = checks["icmp_ipv4"]["ok"] or checks["icmp_ipv6"]["ok"]
    assert levels["ping"] == ("yes" if ping_open else "no")
    advice = next(record["fixes"] for record in records if record.get("command") == "capture")
    assert isinstance(advice, list)
    assert any(line.startswith("sudo setpriv ") for line in advice)


def test_the_command_line_that_grants_the_capability_grants_it() -> None:
    """Root stands in for sudo; the ids that the line takes from the shell are nobody's."""
    if not has_other_users():
        pytest.skip("the line changes user and groups, which takes root, and more than one user")
    oracle("setpriv")
    line = WITH_NET_RAW.removeprefix("sudo ").replace('"$(id -u)"', "65534").replace('"$(id -g)"', "65534")
    python = [*shlex.split(line), sys.executable]
    if subprocess.run([*python, "-c", "import rawkit"], capture_output=True).returncode != 0:
        pytest.skip("other users cannot read this Python or its packages")
    records = run(python)
    checks, levels = checks_of(records), levels_of(records)
    assert (checks["packet_socket"]["ok"], checks["raw_socket"]["ok"], checks["net_admin"]["ok"]) == (
        True,
        True,
        False,
    )
    assert {levels[command] for command in ("ping", "scan", "capture", "send", "replay")} == {"yes"}


# ---- what follows from the checks --------------------------------------------------------------

KEYS = list(examine())


def given(*, lacking: tuple[str, ...] = ()) -> Mapping[str, Check]:
    return {key: Check(key, key not in lacking, "detail", (f"fix {key}",)) for key in KEYS}


def levels(**options: tuple[str, ...]) -> dict[str, str]:
    return {ability.command: ability.level for ability in abilities(given(**options))}


RAW = ("packet_socket", "raw_socket")
ICMP = ("icmp_ipv4", "icmp_ipv6")


@pytest.mark.parametrize(
    ("lacking", "less"),
    [
        ((), {}),
        (("libpcap",), {"read": "partly"}),
        (ICMP, {}),
        (RAW, {"scan": "partly", "capture": "no", "send": "no", "replay": "no"}),
        ((*RAW, "icmp_ipv6"), {"scan": "partly", "capture": "no", "send": "no", "replay": "no"}),
        ((*RAW, *ICMP), {"ping": "no", "scan": "partly", "capture": "no", "send": "no", "replay": "no"}),
        (("namespaces",), {"lab": "no", "demo": "no"}),
        (("engine",), dict.fromkeys(COMMANDS, "no")),
        (("net_admin", "tun", "silence", "buffer"), {}),
    ],
)
def test_a_lack_costs_these_commands_and_no_others(lacking: tuple[str, ...], less: dict[str, str]) -> None:
    assert levels(lacking=lacking) == dict.fromkeys(COMMANDS, "yes") | less
    for ability in abilities(given(lacking=lacking)):
        assert (ability.level == "yes") or ability.fixes


def test_the_lab_is_advised_only_where_it_works() -> None:
    def advice(*lacking: str) -> str:
        return next(
            "\n".join(a.fixes)
            for a in abilities(given(lacking=lacking), "/x/rawkit")
            if a.command == "capture"
        )

    assert "/x/rawkit lab run -- " in advice(*RAW)
    assert "lab run" not in advice(*RAW, "namespaces")


@pytest.mark.parametrize(
    ("settings", "fixes"),
    [
        ({"kernel.unprivileged_userns_clone": "0"}, ("sudo sysctl -w kernel.unprivileged_userns_clone=1",)),
        (
            {"kernel.apparmor_restrict_unprivileged_userns": "1", "kernel.unprivileged_userns_clone": "1"},
            ("sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",),
        ),
        ({"user.max_user_namespaces": "0"}, ("sudo sysctl -w user.max_user_namespaces=10000",)),
        ({}, ()),
    ],
)
def test_refused_namespaces_name_the_setting_that_refuses(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], fixes: tuple[str, ...]
) -> None:
    from rawkit.engine import native

    class Refusing:
        RK_NS_USER, RK_NS_NET = native.lib.RK_NS_USER, native.lib.RK_NS_NET

        def rk_ns_unshare(self, namespaces: int) -> int:
            return -1

    monkeypatch.setattr(native, "lib", Refusing())
    monkeypatch.setattr(doctor, "_sysctl", lambda name: settings.get(name, ""))
    check = doctor._namespaces()
    assert (check.ok, check.fixes) == (False, fixes)
    assert check.detail.startswith("Operation not permitted")


def test_a_small_receive_buffer_is_said_with_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_sysctl", lambda name: "212992")
    check = doctor._receive_buffer()
    assert (check.ok, check.fixes) == (False, ("sudo sysctl -w net.core.rmem_max=4194304",))


def test_no_libpcap_is_said_with_the_package_that_brings_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from rawkit.engine import filter as engine_filter
    from rawkit.errors import FilterError

    def none() -> str:
        raise FilterError("no libpcap could be loaded")

    monkeypatch.setattr(engine_filter, "libpcap_version", none)
    check = doctor._libpcap()
    assert (check.ok, check.detail) == (False, "no libpcap could be loaded")
    assert check.fixes[0].endswith("-m pip install libpcap")


@pytest.mark.net
def test_interfaces_whose_captures_need_explaining_are_named(veth: VethPair) -> None:
    set_offloads = [oracle("ethtool"), "-K", veth.near]
    subprocess.run([*set_offloads, "gro", "on"], check=True, capture_output=True)
    detail = examine()["offloads"].detail
    assert detail.startswith("merged or uncut frames, unfinished checksums on ")
    assert re.search(rf"\b{veth.near} \(gro, gso, tso, tx on\)", detail)
    off = ["gro", "off", "gso", "off", "tso", "off", "tx", "off"]
    subprocess.run([*set_offloads, *off], check=True, capture_output=True)
    assert veth.near not in examine()["offloads"].detail
