"""The wire room runs without the compiled modules and is cheap to import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BUILD_AND_PARSE = """
import sys

sys.modules["rawkit._native"] = sys.modules["rawkit._fields"] = None  # importing them now raises ImportError

from rawkit.wire import Ether, ICMPv6Echo, IPv4, IPv6, Packet, TCP

octets = bytes(Ether() / IPv4(src="192.0.2.1", dst="192.0.2.2") / TCP(dport=80) / b"abc")
packet = Packet.parse(octets, strict=True)
assert [verdict.state for verdict in packet.checksums()] == ["good", "good"]
assert bytes(packet) == octets
assert Packet.parse(bytes(IPv6() / ICMPv6Echo()), first=IPv6).checksums()[0].state == "good"
print(packet.summary())
"""

IMPORTED = """
import sys

import rawkit.wire

print(*sorted(name.partition(".")[0] for name in sys.modules))
"""

IMPORT_TIME = """
import struct, linecache, ipaddress, functools, dataclasses, typing, re, time

start = time.process_time()
import rawkit.wire

print(time.process_time() - start)
"""


HERE = Path(__file__).parent
WITHOUT_PEERS = [
    *(
        "arp",
        "edit",
        "ethernet",
        "expression",
        "fragment",
        "icmp",
        "icmpv6",
        "identity",
        "ipv4",
        "ipv6",
        "layout",
    ),
    *(
        "network_vectors",
        "packet",
        "registry",
        "role",
        "segment",
        "show",
        "show_more",
        "tcp",
        "transport_vectors",
    ),
    *("transports", "udp", "user_protocol", "walk"),
]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_the_compiled_module() -> None:
    line = "IP 192.0.2.1.0 > 192.0.2.2.80: Flags [S], seq 0, win 65535, length 3\n"
    assert run(BUILD_AND_PARSE) == line


@pytest.mark.slow
def test_everything_without_the_compiled_module() -> None:
    files = [HERE / f"test_{name}.py" for name in WITHOUT_PEERS]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        capture_output=True, text=True, env=os.environ | {"RAWKIT_TEST_PURE": "1"}, cwd=HERE.parent.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_pulls_in_nothing_heavy() -> None:
    heavy = {
        "scapy",
        "dpkt",
        "pyroute2",
        "rich",
        "numpy",
        "asyncio",
        "cffi",
        "_cffi_backend",
        "socket",
        "click",
    }
    assert heavy & set(run(IMPORTED).split()) == set()


def test_import_time() -> None:
    """About 30 ms here without the standard library, nearly all of it compiling 50 header classes."""
    run(IMPORT_TIME)  # writes the byte code
    seconds = min(float(run(IMPORT_TIME)) for _ in range(3))
    assert seconds < 0.12
