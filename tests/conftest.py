"""A private network for the whole test run, and what network tests share.

Before the first test this process moves into a network namespace of its own (as an ordinary user by way of a
user namespace in which it is root), so that no test can reach a real interface however wrong it is. Worker
processes (pytest -n) start inside it and take a namespace of their own each.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import oracles
import pytest

if TYPE_CHECKING:
    from rawkit.engine.namespace import Namespace

if os.environ.get("RAWKIT_TEST_PURE", "") not in ("", "0"):
    sys.modules["rawkit._fields"] = None  # type: ignore[assignment]  # importing it now raises ImportError

# A gate fails for what a change did, not for what chance found: the same examples every time, unless asked to
# explore (RAWKIT_EXPLORE=1 looks at other examples in each run, and at a hundred of each).
hypothesis.settings.register_profile("gate", derandomize=True, database=None, deadline=None, max_examples=20)
if os.environ.get("RAWKIT_EXPLORE", "") in ("", "0"):
    hypothesis.settings.load_profile("gate")

NO_NETWORK = pytest.StashKey[str]()
"""Why tests marked `net` cannot run; empty when they can."""


def pytest_configure(config: pytest.Config) -> None:
    # A shell's background job ignores these, and so would all the programs that tests start and interrupt. A
    # handler, unlike that, is not inherited.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    config.stash[NO_NETWORK] = _move_to_private_network()


def pytest_report_header(config: pytest.Config) -> str:
    reason = config.stash[NO_NETWORK]
    return f"private network: {f'none ({reason})' if reason else 'yes'}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if reason := config.stash[NO_NETWORK]:
        for item in items:
            if item.get_closest_marker("net"):
                item.add_marker(pytest.mark.skip(reason=f"no private network: {reason}"))
    if os.environ.get("RAWKIT_SLOW", "") in ("", "0") and "slow" not in config.option.markexpr:
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: runs with RAWKIT_SLOW=1 or -m slow"))


def _move_to_private_network() -> str:
    if sys.platform != "linux":
        return "needs Linux"
    try:
        from rawkit.engine.namespace import become_namespace_root
        from rawkit.engine.native import check, lib
        from rawkit.errors import EngineError
    except ImportError as error:
        return str(error)
    try:
        become_namespace_root()
        check(lib.rk_ns_unshare(lib.RK_NS_NET), "make a network namespace", needs="CAP_SYS_ADMIN")
    except EngineError as error:
        return str(error)
    loopback_up()
    return ""


def loopback_up() -> None:
    """Give the current namespace its loopback interface (a new one has it, but down)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        up_running = 0x1 | 0x40
        fcntl.ioctl(sock, 0x8914, struct.pack("16sH22x", b"lo", up_running))  # SIOCSIFFLAGS


@pytest.fixture(scope="session")
def ordinary() -> list[str]:
    """What to put before `-m rawkit`: this Python, run by an ordinary user without any capability."""
    users = [[]] if os.geteuid() != 0 else [oracles.without_privilege()]
    if oracles.has_other_users():  # the real thing, where its user may read this Python and its packages
        users.insert(0, oracles.as_nobody())
    for user in users:
        python = [*user, sys.executable]
        done = subprocess.run(
            [*python, "-c", "import rawkit._native, click, pyroute2"], capture_output=True, text=True
        )
        if done.returncode == 0:
            return python
    pytest.skip(f"no ordinary user can run this Python: {done.stderr.strip()}")


@dataclass(frozen=True)
class VethPair:
    """Two Ethernet interfaces joined by a wire: `near` in the tests' namespace, `far` in `namespace`."""

    near: str
    far: str
    namespace: Namespace
    near_index: int
    far_index: int
    near_mac: bytes
    far_mac: bytes
    near_ipv4: str = "10.77.0.1"
    far_ipv4: str = "10.77.0.2"
    near_ipv6: str = "fd77::1"
    far_ipv6: str = "fd77::2"

    def header(self, ethertype: int) -> bytes:
        """The Ethernet header of a frame from near to far."""
        return self.far_mac + self.near_mac + ethertype.to_bytes(2, "big")

    def receive_live_frames(self, on: bool = True, *, near: bool = False) -> None:
        """Switch GRO of the far end or the near one: without it the other throws redirected frames away."""
        from rawkit.engine.native import ffi  # an address that the kernel can follow

        value = ffi.new("uint32_t[2]", [0x2C, on])  # ETHTOOL_SGRO
        name = self.near if near else self.far
        request = struct.pack("=16sQ16x", name.encode(), int(ffi.cast("uintptr_t", value)))
        with (
            nullcontext() if near else self.namespace.enter(),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        ):
            fcntl.ioctl(sock, 0x8946, request)  # SIOCETHTOOL


def wait_until_up(name: str, namespace: Namespace | None) -> None:
    """Wait until an interface really sends; for a while after `ip link set up` it throws frames away."""
    from pyroute2 import IPRoute

    with namespace.enter() if namespace else nullcontext(), IPRoute() as route:
        deadline = time.monotonic() + 5
        while route.get_links(ifname=name)[0].get_attr("IFLA_OPERSTATE") != "UP":
            assert time.monotonic() < deadline, f"{name} stays down"
            time.sleep(0.005)


@pytest.fixture
def veth() -> Iterator[VethPair]:
    """A fresh pair v0 (here) and v1 (in a second namespace), up, with addresses of both families.

    The kernel talks IPv6 on it from time to time; tests that count frames count those of their own kind.
    """
    from pyroute2 import IPRoute

    from rawkit.engine.namespace import Namespace

    def configure(name: str, ipv4: str, ipv6: str) -> tuple[int, bytes]:
        with IPRoute() as route:
            index = route.link_lookup(ifname=name)[0]
            # Addresses are usable at once, without waiting for the search for duplicates.
            Path(f"/proc/sys/net/ipv6/conf/{name}/accept_dad").write_text("0")
            route.addr("add", index=index, address=ipv4, prefixlen=24)
            route.addr("add", index=index, address=ipv6, prefixlen=64)
            route.link("set", index=index, state="up")
            mac = bytes.fromhex(route.get_links(index)[0].get_attr("IFLA_ADDRESS").replace(":", ""))
            return index, mac

    with Namespace.create() as namespace:
        with IPRoute() as route:
            route.link(
                "add", ifname="v0", kind="veth", peer={"ifname": "v1", "net_ns_fd": namespace.fileno()}
            )
        near_index, near_mac = configure("v0", "10.77.0.1", "fd77::1")
        with namespace.enter():
            loopback_up()
            far_index, far_mac = configure("v1", "10.77.0.2", "fd77::2")
        wait_until_up("v0", namespace=None)
        wait_until_up("v1", namespace)
        yield VethPair("v0", "v1", namespace, near_index, far_index, near_mac, far_mac)
        with IPRoute() as route:
            for index in route.link_lookup(ifname="v0"):
                route.link("del", index=index)
