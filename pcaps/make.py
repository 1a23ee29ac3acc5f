"""Make the fixture captures again: real programs talking between the two hosts of a lab.

    python pcaps/make.py [NAME ...]           captures, and their texts
    python pcaps/make.py --texts [NAME ...]   the texts alone, from the captures there are

Needs the programs named in each recipe (curl, dig, dnsmasq, ip, ping, nc). Beside NAME.pcapng it writes
NAME.txt, what `rawkit read -t relative` prints; the tests compare. Ports, sequence numbers and times are new
each time.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rawkit
from rawkit import Lab
from rawkit.tools.capture import Capture

HERE = Path(__file__).parent


def http(lab: Lab) -> None:
    """A page fetched by curl from the lab's own server: handshake, request, response, close."""
    lab.b.serve("http")
    lab.a.run(["curl", "-s", "-o", "/dev/null", f"http://{lab.b.ipv4}/"], check=True, timeout=10)


def offload(lab: Lab) -> None:
    """The same with the link's offloads on: checksums not filled in yet, segments not cut yet."""
    lab.b.serve("http")
    lab.a.run(["curl", "-s", "-o", "/dev/null", f"http://{lab.b.ipv4}/large"], check=True, timeout=10)


def dns(lab: Lab) -> None:
    """dig asks dnsmasq for an address, over IPv4 and IPv6, and for a name that does not exist."""
    server = lab.b.spawn(
        ["dnsmasq", "-k", "-R", "-h", "-u", "root", "-C", "/dev/null", "--local=/test/",
         "--address=/www.example.test/192.0.2.80", "--address=/www.example.test/2001:db8::80"]
    )  # fmt: skip
    time.sleep(0.5)
    for words in (
        [f"@{lab.b.ipv4}", "www.example.test", "A"],
        [f"@{lab.b.ipv6}", "www.example.test", "AAAA"],
        [f"@{lab.b.ipv4}", "nowhere.test", "A"],
    ):
        lab.a.run(["dig", "+tries=1", "+time=2", *words], check=True, stdout=subprocess.DEVNULL, timeout=10)
    server.terminate()
    server.wait()


def ping(lab: Lab) -> None:
    """Three echoes of iputils ping over IPv4 and over IPv6, with ARP and ND before them."""
    for host in (lab.a, lab.b):
        # The lab's hosts know each other from the start; here they are to ask.
        host.run(["ip", "neigh", "flush", "dev", host.interface], check=True)
    for address in (lab.b.ipv4, lab.b.ipv6):
        lab.a.run(
            ["ping", "-c", "3", "-i", "0.2", str(address)], check=True, stdout=subprocess.DEVNULL, timeout=10
        )


def udp(lab: Lab) -> None:
    """nc sends three datagrams to the echo service and gets them back; a fourth meets a closed port."""
    lab.b.serve("echo")
    words = "echo one; sleep 0.1; echo two; sleep 0.1; echo three"
    lab.a.run(
        ["sh", "-c", f"({words}) | nc -u -q 1 -w 1 {lab.b.ipv4} 7"],
        check=True, stdout=subprocess.DEVNULL, timeout=10,
    )  # fmt: skip
    lab.a.run(["sh", "-c", f"echo four | nc -u -w 1 {lab.b.ipv4} 9"], stdout=subprocess.DEVNULL, timeout=10)


def retransmission(lab: Lab) -> None:
    """A fetch over a link that loses one frame in ten: duplicate acknowledgements, SACK, retransmissions."""
    lab.b.serve("http")
    lab.a.run(["curl", "-s", "-o", "/dev/null", f"http://{lab.b.ipv4}/large"], check=True, timeout=30)


RECIPES: dict[str, tuple[Callable[[Lab], None], dict[str, Any]]] = {
    "http": (http, {"delay": "1ms"}),
    "offload": (offload, {}),
    "dns": (dns, {"delay": "1ms"}),
    "ping": (ping, {"delay": "1ms"}),
    "udp": (udp, {"delay": "1ms"}),
    "retransmission": (retransmission, {"delay": "5ms", "loss": "10%", "seed": 7}),
}


def make(name: str) -> None:
    """Capture on host a what recipe `name` puts on the link."""
    recipe, link = RECIPES[name]
    path = HERE / f"{name}.pcapng"
    with Lab(**link) as lab:
        with lab.a:
            capture = Capture(lab.a.interface, "not (ip6 and icmp6 and ip6[40] == 143)")
        with capture:
            recipe(lab)
            time.sleep(0.1)
            capture.stop()
            with rawkit.create_pcap(path) as writer:
                for frame in capture:
                    writer.write(frame)
            counters = capture.counters()
    assert counters.dropped == 0, f"{name}: the kernel dropped {counters.dropped} frames"
    path.chmod(0o644)  # made by root, read by everybody
    print(f"{name}: {capture.captured} packets, {path.stat().st_size} octets")


def write_text(name: str) -> None:
    """Write what `rawkit read` says of capture `name` beside it."""
    path = HERE / f"{name}.pcapng"
    lines = subprocess.run(
        [sys.executable, "-m", "rawkit", "read", "-t", "relative", str(path)],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    path.with_suffix(".txt").write_text(lines)


if __name__ == "__main__":
    words = sys.argv[1:]
    texts_only = "--texts" in words
    for name in [word for word in words if word != "--texts"] or RECIPES:
        if not texts_only:
            make(name)
        write_text(name)
