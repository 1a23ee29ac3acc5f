"""How fast do frames of 60 octets leave, by each backend, beside trafgen, tcpreplay, plain Python and scapy?

All send from one host of a private lab to the other, taking turns; medians of 5 repeats, more is better. The
rates of tools and backends are what the receiver's interface counts between a tenth and nine tenths
of the run, so that starting a process costs nothing; a run whose frames do not all arrive is an error. The
receiver has GRO on, without which a veth interface takes no XDP live frames. masscan is left out: it sends IP
only, which the receiver would answer. Prints one JSON object per line.
"""

from __future__ import annotations

import json
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from rawkit.engine import FrameBatch, PacketSocket, Transmitter, open_transmitter
from rawkit.engine.namespace import become_namespace_root
from rawkit.errors import RawkitError
from rawkit.lab import Lab
from rawkit.pcap import create_pcap
from rawkit.wire.frame import Frame

REPEATS = 5
COUNT = 800_000
AT_ONCE = 200_000
SINGLES = 50_000
PACKETS = 1000


def main() -> None:
    become_namespace_root()
    with Lab() as lab, tempfile.TemporaryDirectory() as directory:
        lab.b.run(["ethtool", "-K", "veth0", "gro", "on"])
        header = bytes(lab.b.mac) + bytes(lab.a.mac) + b"\x88\xb5"
        frame = header + bytes(46)
        with open_transmitter("veth0", "packet", namespace=lab.b.namespace) as counter:
            compare_tools(lab, frame, counter, Path(directory))
        with lab.a:
            compare_loops(frame)
            compare_lists(frame)


def compare_tools(lab: Lab, frame: bytes, counter: Transmitter, directory: Path) -> None:
    batch = FrameBatch(AT_ONCE, AT_ONCE * 60)
    batch.extend([frame] * AT_ONCE)

    def ours(backend: str) -> Callable[[], None]:
        def send() -> None:
            with open_transmitter("veth0", backend, namespace=lab.a.namespace) as transmitter:
                for _ in range(COUNT // AT_ONCE):
                    transmitter.send_batch(batch, timeout=10)

        return send

    def tool(argv: list[str]) -> Callable[[], None]:
        def send() -> None:
            with lab.a.spawn(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                process.wait(60)

        return send

    sides = {"rawkit packet": ours("packet"), "rawkit xdp": ours("xdp")}
    config, capture = directory / "frame.cfg", directory / "frames.pcap"
    config.write_text("{ " + ", ".join(map(str, frame)) + " }")
    with create_pcap(capture) as writer:
        for _ in range(COUNT // 100):
            writer.write(Frame(frame))
    peers = {
        "trafgen, one thread": f"trafgen --dev veth0 --conf {config} -n {COUNT} -P 1",
        "tcpreplay -K": f"tcpreplay -i veth0 --topspeed -K --loop 100 {capture}",
    }
    for name, command in peers.items():
        if shutil.which(command.split()[0]):
            sides[name] = tool(command.split())
        else:
            print(f"{name}: not installed")
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(REPEATS + 1):
        for name, send in list(sides.items()):
            try:
                rate = arrivals_per_second(send, counter, name)
            except PermissionError as error:
                print(f"{name}: {error}")
                del sides[name]
                continue
            if repeat:  # the first round warms up
                rates[name].append(rate)
    for mine in ("rawkit packet", "rawkit xdp"):
        for peer in sides:
            if mine in sides and peer not in ("rawkit xdp", mine):
                report(f"60 octets, {mine[7:]} backend", "frames/s", rates[mine], rates[peer], peer)


def arrivals_per_second(send: Callable[[], None], counter: Transmitter, name: str) -> float:
    """The rate at which the receiver's interface counted the frames of one run."""
    start = arrived(counter)
    samples: list[tuple[float, int]] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            samples.append((time.perf_counter(), arrived(counter) - start))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        send()
    finally:
        done.set()
        watcher.join()
    time.sleep(0.05)
    if (total := arrived(counter) - start) < COUNT:
        raise RawkitError(f"{name}: {total} of {COUNT} frames arrived")
    inner = [(when, n) for when, n in samples if 0.1 * COUNT <= n <= 0.9 * COUNT]
    (first, n_first), (last, n_last) = inner[0], inner[-1]
    return (n_last - n_first) / (last - first)


def arrived(counter: Transmitter) -> int:
    after = counter.report().after
    assert after is not None
    return after.rx_packets


def compare_loops(frame: bytes) -> None:
    """A Python loop of single sends of ready octets."""

    def ours() -> float:
        with PacketSocket("veth0", protocol=0) as sock:
            start = time.perf_counter()
            for _ in range(SINGLES):
                sock.send(frame)
            return SINGLES / (time.perf_counter() - start)

    def plain() -> float:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
            sock.bind(("veth0", 0))
            start = time.perf_counter()
            for _ in range(SINGLES):
                sock.send(frame)
            return SINGLES / (time.perf_counter() - start)

    alternate("single sends of octets from Python", "frames/s", ours, plain, "plain AF_PACKET loop")


def compare_lists(frame: bytes) -> None:
    """A list of packets: ready octets here, scapy's packets of the same octets there."""
    # scapy reads the interfaces when it is imported: here, on host a.
    from scapy.all import conf, sendp
    from scapy.layers.l2 import Ether

    conf.verb = 0
    octets = [frame] * PACKETS
    theirs = [Ether(frame) for _ in range(PACKETS)]

    def ours() -> float:
        with PacketSocket("veth0", protocol=0) as sock:
            start = time.perf_counter()
            batch = FrameBatch(PACKETS, PACKETS * 60)
            batch.extend(octets)
            sock.send_batch(batch, timeout=10)
            return PACKETS / (time.perf_counter() - start)

    def scapy() -> float:
        start = time.perf_counter()
        sendp(theirs, iface="veth0")
        return PACKETS / (time.perf_counter() - start)

    alternate("a list of 1000 frames", "frames/s", ours, scapy, "scapy sendp")


def alternate(
    case: str, unit: str, ours: Callable[[], float], theirs: Callable[[], float], peer_name: str
) -> None:
    results = [(ours(), theirs()) for _ in range(REPEATS + 1)][1:]  # the first round warms up
    report(case, unit, [mine for mine, _ in results], [peer for _, peer in results], peer_name)


def report(case: str, unit: str, ours: list[float], theirs: list[float], peer_name: str) -> None:
    mine, peer = statistics.median(ours), statistics.median(theirs)
    line: dict[str, object] = {"bench": "send", "case": case, "rawkit": round(mine), "peer": round(peer)}
    line |= {"peer_name": peer_name, "unit": unit, "ratio": round(mine / peer, 2)}
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
