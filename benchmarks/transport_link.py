"""How fast does selective repeat carry octets between two hosts, packet by packet?

One transfer in one direction between the hosts of a private lab, without losses, MTU 1500: each end is a
process of its own. Every packet's header is built, summed and parsed in Python, and acknowledged. aioquic
(QUIC in Python, its cipher in C) runs in an environment of its own, made for this; it encrypts, selective
repeat does not. The kernel's TCP has segmentation offload. Medians of REPEATS, taken in turn. With "bulk"
packets that follow each other reach the receiving endpoint as one, and are acknowledged as one.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _compare import go_first

from rawkit.lab import Lab
from rawkit.link import Stack, run
from rawkit.tools.labrun import open_carrier
from rawkit.transport import App, Close, Closed, Driver, PeerClosed, Writable, Write
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat

REPEATS = 5
OCTETS = 40_000_000
QUIC_OCTETS = 10_000_000


class Source(App):
    """Writes OCTETS octets, as fast as it may."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.over = OCTETS, False

    def on_notice(self, driver: Driver, notice: Any) -> None:
        if isinstance(notice, Writable) and self.left:
            piece = min(self.left, notice.octets)
            self.left -= piece
            driver.do(Write(bytes(piece)))
            if not self.left:
                driver.do(Close())
        self.over = self.over or isinstance(notice, Closed)


class Sink(App):
    """Counts octets."""

    def __init__(self) -> None:
        super().__init__()
        self.n, self.over = 0, False

    def on_data(self, driver: Driver, data: bytes) -> None:
        self.n += len(data)

    def on_notice(self, driver: Driver, notice: Any) -> None:
        if isinstance(notice, PeerClosed):
            self.over = True
            driver.do(Close())


def selective_repeat(lab: Lab, over: str, bulk: bool = False) -> float:
    """Megabits per second, from the first packet to the last acknowledgement."""
    far, near = open_carrier(lab, lab.b, over), open_carrier(lab, lab.a, over)
    child = os.fork()
    if child == 0:
        stack, sink = Stack(far, SelectiveRepeat, bulk=bulk), Sink()
        stack.listen(SelectiveRepeat, lambda: sink, lambda driver: None)
        run([stack], lambda: sink.over, 60)
        run([stack], timeout=0.2)  # the peer's last questions
        os._exit(sink.n != OCTETS)
    with Stack(near, SelectiveRepeat, bulk=bulk) as stack:
        source = Source()
        start = time.perf_counter()
        stack.connect(SelectiveRepeat(), far.local or "10.77.0.2", getattr(far, "port", 0), source)
        if not run([stack], lambda: source.over, 60):
            raise SystemExit(f"{over}: the transfer did not end")
        took = time.perf_counter() - start
    far.close()
    if os.waitpid(child, 0)[1]:
        raise SystemExit(f"{over}: octets are missing")
    return OCTETS * 8e-6 / took


def kernel(lab: Lab) -> float:
    with lab.b, socket.create_server(("10.77.0.2", 0)) as server:
        port = server.getsockname()[1]
        child = os.fork()
        if child == 0:
            connection, _ = server.accept()
            n = 0
            while piece := connection.recv(1 << 20):
                n += len(piece)
            connection.sendall(b"%d" % n)
            os._exit(0)
    with lab.a, socket.create_connection(("10.77.0.2", port)) as client:
        start = time.perf_counter()
        client.sendall(bytes(OCTETS))
        client.shutdown(socket.SHUT_WR)
        assert int(client.recv(100)) == OCTETS
        took = time.perf_counter() - start
    os.waitpid(child, 0)
    return OCTETS * 8e-6 / took


def quic(lab: Lab, python: str) -> float:
    script = str(Path(__file__).with_name("_aioquic_bulk.py"))
    with lab.b.spawn([python, script, "server", "10.77.0.2"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        argv = [python, script, "client", "10.77.0.2", str(QUIC_OCTETS)]
        took = float(lab.a.run(argv, capture_output=True, text=True, check=True).stdout)
        server.kill()
    return QUIC_OCTETS * 8e-6 / took


def quic_python(directory: str) -> str | None:
    """A Python with aioquic, None where there is no way to have one."""
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    python = str(Path(directory) / "bin" / "python")
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", "aioquic"], capture_output=True)
    return python if done.returncode == 0 else None


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        python = quic_python(directory)
        if python is None:
            print(json.dumps({"bench": "transport_link", "peer_name": "aioquic", "missing": "no package"}))
        go_first()
        measure(python)


def measure(python: str | None) -> None:
    overs = ["udp", "raw", "packet"] + (["tun"] if os.access("/dev/net/tun", os.R_OK | os.W_OK) else [])
    algorithm = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    found: dict[str, list[float]] = {}
    with Lab() as lab:
        sides: dict[str, Callable[[], float]] = {f"kernel TCP, {algorithm}": lambda: kernel(lab)}
        if python is not None:
            sides["aioquic"] = lambda: quic(lab, python)
        for over in overs:
            sides[over] = lambda over=over: selective_repeat(lab, over)  # type: ignore[misc]
            sides[f"{over}, bulk"] = lambda over=over: selective_repeat(lab, over, bulk=True)  # type: ignore[misc]
        for _ in range(REPEATS):
            for name, side in sides.items():
                found.setdefault(name, []).append(side())
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    ours = [*overs, *(f"{over}, bulk" for over in overs)]
    for over in ours:
        for peer in (name for name in medians if name not in ours):
            line = {
                "bench": "transport_link",
                "case": f"over {over}",
                "rawkit": round(medians[over]),
                "peer": round(medians[peer]),
                "peer_name": peer,
                "unit": "Mbit/s",
                "ratio": round(medians[over] / medians[peer], 2),
            }
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
