"""How fast do frames of 60 octets leave, beside trafgen, tcpreplay, masscan, plain Python and scapy?

All send from one host of a private lab to the other, taking turns; medians of 5 repeats, more is better. The
rates of tools and backends are what the receiver's interface counts between a tenth and nine tenths of the
run, so that starting a process costs nothing; a run whose frames do not all arrive is an error. "the same
frame" is sent over and over; "address and port vary" comes from a template, made while it is sent, both
checksums right. The frames are for nobody's MAC address: the receiver throws them away at once. It has GRO,
without which a veth interface takes no XDP live frames. masscan sends 54 octets, and is ended when all have
arrived: it waits for answers. Beside the backends stands what the kernel allows any packet socket,
and an AF_XDP socket ("xsk"): limit_send.c does nothing but send, by sendmmsg, by a ring as trafgen does and
by one whose frames are copied, by io_uring.
Prints one JSON object per line.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from _compare import go_first

from rawkit.bulk.template import Counter, Permutation, Template, send_template
from rawkit.engine import FrameBatch, PacketSocket, open_transmitter
from rawkit.engine.namespace import become_namespace_root
from rawkit.errors import PermissionDenied, RawkitError
from rawkit.lab import Lab
from rawkit.pcap import create_pcap
from rawkit.wire import UDP, Ether, IPv4
from rawkit.wire.frame import Frame

REPEATS = 5
COUNT = 12 << 16  # masscan's targets are a /16 at 12 ports
AT_ONCE = 4096
SINGLES = 2000
SINGLE_BLOCKS = 50
PACKETS = 1000
NOBODY = "00:00:5e:00:53:99"
LIMIT = Path(__file__).parent / "limit_send.c"


def main() -> None:
    go_first()
    become_namespace_root()
    with Lab() as lab, tempfile.TemporaryDirectory() as directory:
        lab.b.run(["ethtool", "-K", "veth0", "gro", "on"])
        header = Ether(dst=NOBODY, src=lab.a.mac) / IPv4(src=lab.a.ipv4, dst=lab.b.ipv4)
        template = Template(
            header / UDP(sport=4000, dport=9) / bytes(18),
            {"ip.dst": Counter("10.78.0.0", stop="10.79.0.0"), "udp.dport": Permutation(1, 65536, seed=1)},
        )
        frame = bytes(template.packet)
        with lab.b:
            counter = os.open(
                "/proc/thread-self/net/dev", os.O_RDONLY
            )  # of this namespace, wherever it is read
        compare_tools(lab, frame, template, counter, Path(directory))
        with lab.a:
            compare_loops(frame)
            compare_lists(frame)


def compare_tools(lab: Lab, frame: bytes, template: Template, counter: int, directory: Path) -> None:
    batch = FrameBatch(AT_ONCE, AT_ONCE * 60)
    batch.extend([frame] * AT_ONCE)

    def fixed(backend: str) -> Callable[[], None]:
        def send() -> None:
            with open_transmitter("veth0", backend, namespace=lab.a.namespace) as transmitter:
                for _ in range(COUNT // AT_ONCE):
                    transmitter.send_batch(batch, timeout=10)

        return send

    def varying(backend: str) -> Callable[[], None]:
        def send() -> None:
            with open_transmitter("veth0", backend, namespace=lab.a.namespace) as transmitter:
                send_template(transmitter, template, COUNT, timeout=60)

        return send

    def tool(argv: list[str]) -> Callable[[], None]:
        def send() -> None:
            start = arrived(counter)
            with lab.a.spawn(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                while process.poll() is None and arrived(counter) - start < COUNT:
                    time.sleep(0.01)
                process.terminate()

        return send

    sides = {
        "packet": fixed("packet"),
        "packet, varying": varying("packet"),
        "af-xdp": fixed("af-xdp"),
        "af-xdp, varying": varying("af-xdp"),
        "xdp": fixed("xdp"),
        "xdp, varying": varying("xdp"),
    }
    config, capture = directory / "frame.cfg", directory / "frames.pcap"
    config.write_text("{ " + ", ".join(map(str, frame)) + " }")
    with create_pcap(capture) as writer:
        for _ in range(COUNT // 96):
            writer.write(Frame(frame))
    peers = {
        "trafgen, one thread": f"trafgen --dev veth0 --conf {config} -n {COUNT} -P 1 -q",
        "tcpreplay -K": f"tcpreplay -i veth0 --topspeed -K --loop 96 {capture}",
        "masscan": f"masscan 10.79.0.0/16 -p 1-12 --rate 10000000 -e veth0 --router-mac {NOBODY}"
        f" --adapter-ip {lab.a.ipv4} --wait 0",
    }
    if shutil.which("cc"):
        subprocess.run(["cc", "-O2", "-o", directory / "limit_send", LIMIT], check=True)
        for way in ("sendmmsg", "ring", "copied", "uring", "xsk"):
            peers[f"C limit, {way}"] = f"{directory}/limit_send veth0 {frame.hex()} {COUNT} {way}"
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
            except PermissionDenied as error:
                print(f"{name}: {error}")
                del sides[name], rates[name]
                continue
            if repeat:  # the first round warms up
                rates[name].append(rate)
    for mine in ("packet", "af-xdp", "xdp"):
        if mine not in rates:
            continue
        for peer in (*peers, "packet"):
            if peer in rates and peer != mine:
                report(f"the same frame, {mine} backend", rates[mine], rates[peer], peer)
        report(
            f"address and port vary, {mine} backend", rates[f"{mine}, varying"], rates[mine], "the same frame"
        )


def arrivals_per_second(send: Callable[[], None], counter: int, name: str) -> float:
    """The rate of one run, of which enough was seen."""
    for _ in range(5):
        samples = watch_run(send, counter, name)
        inner = [(when, n) for when, n in samples if 0.1 * COUNT <= n <= 0.9 * COUNT]
        if len(inner) >= 10:
            (first, n_first), (last, n_last) = inner[0], inner[-1]
            return (n_last - n_first) / (last - first)
    raise RawkitError(f"{name}: this machine is too busy to watch it")


def watch_run(send: Callable[[], None], counter: int, name: str) -> list[tuple[float, int]]:
    """How many frames the receiver's interface had counted, every few milliseconds of one run."""
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
    return samples


def arrived(counter: int) -> int:
    """Frames received by the interface: read without the lock that making other interfaces holds."""
    return int(os.pread(counter, 4096, 0).split(b"veth0:")[1].split()[1])


def compare_loops(frame: bytes) -> None:
    """A Python loop of single sends of ready octets, in short blocks that take turns."""
    with (
        PacketSocket("veth0", protocol=0) as mine,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as plain,
    ):
        plain.bind(("veth0", 0))

        def ours() -> float:
            start = time.perf_counter()
            for _ in range(SINGLES):
                mine.send(frame)
            return SINGLES / (time.perf_counter() - start)

        def theirs() -> float:
            start = time.perf_counter()
            for _ in range(SINGLES):
                plain.send(frame)
            return SINGLES / (time.perf_counter() - start)

        alternate("single sends of octets from Python", ours, theirs, "plain AF_PACKET loop", SINGLE_BLOCKS)


def compare_lists(frame: bytes) -> None:
    """A list of packets: ready octets here, scapy's packets of the same octets there."""
    try:
        # scapy reads the interfaces when it is imported: here, on host a.
        from scapy.all import conf, sendp
        from scapy.layers.l2 import Ether as ScapyEther
    except ImportError:
        print("scapy: not installed")
        return
    conf.verb = 0
    octets = [frame] * PACKETS
    packets = [ScapyEther(frame) for _ in range(PACKETS)]

    def ours() -> float:
        with PacketSocket("veth0", protocol=0) as sock:
            start = time.perf_counter()
            batch = FrameBatch(PACKETS, PACKETS * 60)
            batch.extend(octets)
            sock.send_batch(batch, timeout=10)
            return PACKETS / (time.perf_counter() - start)

    def theirs() -> float:
        start = time.perf_counter()
        sendp(packets, iface="veth0")
        return PACKETS / (time.perf_counter() - start)

    alternate("a list of 1000 frames", ours, theirs, "scapy sendp", REPEATS)


def alternate(
    case: str, ours: Callable[[], float], theirs: Callable[[], float], peer_name: str, repeats: int
) -> None:
    results = [(ours(), theirs()) for _ in range(repeats + 1)][1:]  # the first round warms up
    report(case, [mine for mine, _ in results], [peer for _, peer in results], peer_name)


def report(case: str, ours: list[float], theirs: list[float], peer_name: str) -> None:
    mine, peer = statistics.median(ours), statistics.median(theirs)
    line: dict[str, object] = {"bench": "send", "case": case, "rawkit": round(mine), "peer": round(peer)}
    line |= {"peer_name": peer_name, "unit": "frames/s", "ratio": round(mine / peer, 2)}
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
