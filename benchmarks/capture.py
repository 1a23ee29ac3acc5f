"""How much is lost, and how much processor time does a frame take, when an interface is captured?

Frames of 60 octets go from one host of a private lab to the other as fast as the packet socket, and then XDP
live frames, send them (a million in a run), and each tool in its turn writes them to a file; medians of 5
repeats, less is better. The frames are for nobody's MAC address: the receiver's kernel throws them away once
they were captured. Sender and tool have a processor each. netsniff-ng gets as much memory as rawkit takes.
Processor time is that of the tool between "live" and "all written"; what the kernel does for it in the
sender's processor counts for nobody. rawkit's numbers have to add up in every run: captured + dropped is
what arrived, and the file holds what was captured. The same with frames of 1514 octets, 6 Gbit/s and more:
there what limits all of them is how fast the kernel takes octets for a file. Then Ctrl-C on a link where
nothing passes: how long until the tool has ended (5 s stand for "not before the next frame"). The last cases
are loops in Python that touch five fields of every packet (addresses, TTL, ports), beside scapy's
sniff(store=0), for three seconds at a steady rate. "loses from" is the rate offered, in steps of two, at
which a loop first loses anything. RAWKIT_BENCH_CASES names those wanted ("packet xdp long ends loops"),
RAWKIT_BENCH_PEERS the tools beside rawkit ("tcpdump,dumpcap -B 64"). Prints one JSON object per line.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from _compare import RAWKIT

from rawkit.engine import FrameBatch, PacedSender, Rate, compile_filter, open_transmitter
from rawkit.engine.namespace import become_namespace_root
from rawkit.errors import PermissionDenied
from rawkit.lab import Lab
from rawkit.pcap import open_pcap
from rawkit.wire import UDP, Ether, IPv4

REPEATS = 5
COUNT = 1_000_000
AT_ONCE = 4096
SECONDS = 3
NOBODY = "00:00:5e:00:53:99"
FILTER = "udp dst port 9"
TOOLS = {
    "rawkit": "{rawkit} capture -i veth0 -w {file}.pcap {filter}",
    "rawkit pcapng": "{rawkit} capture -i veth0 -w {file} {filter}",
    "tcpdump": "tcpdump -i veth0 -n -w {file} {filter}",
    "tcpdump -B 65536": "tcpdump -i veth0 -n -B 65536 -w {file} {filter}",
    "dumpcap": "dumpcap -q -i veth0 -P -w {file} -f '{filter}'",
    "dumpcap -B 64": "dumpcap -q -i veth0 -B 64 -P -w {file} -f '{filter}'",
    "netsniff-ng -S 64MiB": "netsniff-ng -A -Q -s -S 64MiB --in veth0 --out {file} -f '{filter}'",
}
CASES = os.environ.get("RAWKIT_BENCH_CASES", "packet xdp long ends loops").split()
if "RAWKIT_BENCH_PEERS" in os.environ:
    wanted = os.environ["RAWKIT_BENCH_PEERS"].split(",")
    TOOLS = {name: line for name, line in TOOLS.items() if name.startswith("rawkit") or name in wanted}
RAWKIT_LOOP = f"""
import signal
import rawkit
from rawkit import UDP, IPv4

n = 0
with rawkit.capture("veth0", {FILTER!r}) as frames:
    signal.signal(signal.SIGINT, lambda *_: frames.stop())
    print("live", flush=True)
    for frame in frames:
        packet = frame.packet()
        ip, udp = packet[IPv4], packet[UDP]
        ip.src, ip.dst, ip.ttl, udp.sport, udp.dport
        n += 1
    counters = frames.counters()
assert counters.received == n + counters.dropped
print(n)
"""
SCAPY_LOOP = f"""
from scapy.all import IP, UDP, sniff

n = 0
def touch(packet):
    global n
    ip, udp = packet[IP], packet[UDP]
    ip.src, ip.dst, ip.ttl, udp.sport, udp.dport
    n += 1
live = lambda: print("live", flush=True)
sniff(iface="veth0", filter={FILTER!r}, store=0, prn=touch, started_callback=live)
print(n)
"""


def main() -> None:
    with suppress(PermissionError):
        # Whatever else runs here, all sides get a processor when they want one: children inherit it.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    become_namespace_root()
    with Lab() as lab, tempfile.TemporaryDirectory() as directory:
        lab.b.run(["ethtool", "-K", "veth0", "gro", "on"])
        os.sched_setaffinity(0, {0})
        file = Path(directory, "capture")
        short = frames_of(lab, 60)
        for backend in ("packet", "xdp"):
            if backend in CASES:
                compare_tools(lab, backend, short, file, f"to a file, {backend} backend")
        if "long" in CASES:
            compare_tools(lab, "packet", frames_of(lab, 1514), file, "to a file, 1514 octets a frame")
        if "ends" in CASES:
            compare_ends(lab, file)
        if "loops" in CASES:
            compare_loops(lab, short)


def frames_of(lab: Lab, length: int) -> FrameBatch:
    """Frames of `length` octets from one host to the other's wire."""
    packet = Ether(dst=NOBODY, src=lab.a.mac) / IPv4(src=lab.a.ipv4, dst=lab.b.ipv4) / UDP(dport=9)
    batch = FrameBatch(AT_ONCE, AT_ONCE * length)
    batch.extend([bytes(packet / bytes(length - 42))] * AT_ONCE)
    return batch


# ---- to a file


def compare_tools(lab: Lab, backend: str, batch: FrameBatch, file: Path, title: str) -> None:
    runs: dict[str, list[tuple[float, float, float]]] = {}
    for name, command in TOOLS.items():
        if name.startswith("rawkit") or shutil.which(command.split()[0]):
            runs[name] = []
        else:
            report({"case": title, "peer_name": name, "missing": "not installed"})
    try:
        for _ in range(REPEATS):
            for name in runs:
                runs[name].append(capture_once(lab, name, backend, batch, file))
    except PermissionDenied as error:
        report({"case": title, "peer_name": backend, "missing": str(error)})
        return
    figures = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in runs.items()}
    for i, (what, unit) in enumerate((("lost", "%"), ("processor time", "ns/frame"), ("sent", "frames/s"))):
        for mine in ("rawkit", "rawkit pcapng"):
            for peer in figures:
                if peer.startswith("rawkit"):
                    continue
                if mine != "rawkit" and (what, peer) != ("processor time", "tcpdump"):
                    continue
                case = f"{title}: {what}" + (", pcapng" if mine != "rawkit" else "")
                measure(case, figures[mine][i], figures[peer][i], unit, peer, better_more=what == "sent")


def capture_once(
    lab: Lab, name: str, backend: str, batch: FrameBatch, file: Path
) -> tuple[float, float, float]:
    """Percent lost, nanoseconds of processor time a frame, and frames sent a second."""
    with capturing(lab, name, file) as process:
        used = processor_ns(process.pid)
        start = time.perf_counter()
        with open_transmitter("veth0", backend, namespace=lab.a.namespace) as transmitter:
            for _ in range(-(-COUNT // AT_ONCE)):
                transmitter.send_batch(batch, timeout=60)
            took = time.perf_counter() - start
            sent = transmitter.report().accepted
        time.sleep(1.5)  # tcpdump and dumpcap are handed their last block after a second
        used = processor_ns(process.pid) - used
        output = stop(lab, process)
    written = file.with_suffix(".pcap") if name == "rawkit" else file
    with open_pcap(written) as reader:
        wanted = compile_filter(FILTER)
        got = sum(wanted.sift(frames) for frames in reader.batches())
    if name.startswith("rawkit"):
        numbers = re.search(r"(\d+) packets? captured, (\d+) received by the filter, (\d+) dropped", output)
        assert numbers is not None, output
        captured, received, dropped = map(int, numbers.groups())
        if not (captured == got == received - dropped and received == sent):
            raise SystemExit(f"{name}: sent {sent}, in the file {got}, but it says: {output}")
    return 100 * (sent - got) / sent, used / sent, sent / took


@contextmanager
def capturing(lab: Lab, name: str, file: Path) -> Iterator[subprocess.Popen[str]]:
    """A tool that captures to a file."""
    for path in (file, file.with_suffix(".pcap")):
        path.unlink(missing_ok=True)
    words = TOOLS[name].format(rawkit=RAWKIT, file=file, filter=FILTER)
    with tool(lab, re.findall(r"'[^']*'|\S+", words)) as process:
        end = time.monotonic() + 20
        while not listens(process.pid):
            if time.monotonic() > end or process.poll() is not None:
                raise SystemExit(f"{name} does not capture: {process.communicate()[0]}")
            time.sleep(0.02)
        time.sleep(0.7)
        yield process


def listens(pid: int) -> bool:
    """Whether there is a packet socket in the network of a process; a process that has ended has none."""
    with suppress(FileNotFoundError):
        return len(Path(f"/proc/{pid}/net/packet").read_text().splitlines()) > 1
    return False


@contextmanager
def tool(lab: Lab, argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    argv = ["taskset", "-c", "1", *(word.strip("'") for word in argv)]
    with lab.b.spawn(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def stop(lab: Lab, process: subprocess.Popen[str]) -> str:
    """Interrupt it, and send something that passes no filter: libpcap may sleep until a frame comes."""
    process.send_signal(signal.SIGINT)
    for _ in range(100):
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=0.2)[0]
        lab.a.run(["ping", "-c", "1", "-W", "1", str(lab.b.ipv4)], stdout=subprocess.DEVNULL)
    raise SystemExit(f"{process.args} does not end")


def processor_ns(pid: int) -> int:
    """Processor time that all threads of a process have had."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


# ---- Ctrl-C on a silent link


def compare_ends(lab: Lab, file: Path) -> None:
    names = [name for name in TOOLS if name == "rawkit" or shutil.which(TOOLS[name].split()[0])]
    took: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(REPEATS):
        for name in names:
            with capturing(lab, name, file) as process:
                ending = os.pidfd_open(
                    process.pid
                )  # Popen.wait() with a timeout sleeps up to 50 ms at a time
                start = time.perf_counter()
                process.send_signal(signal.SIGINT)
                select.select([ending], [], [], 5)
                took[name].append(1000 * (time.perf_counter() - start))
                os.close(ending)
    for name in names:
        if name != "rawkit":
            mine, theirs = statistics.median(took["rawkit"]), statistics.median(took[name])
            measure("Ctrl-C on a silent link: ended after", mine, theirs, "ms", name)


# ---- loops in Python


def compare_loops(lab: Lab, batch: FrameBatch) -> None:
    loops = {"rawkit": RAWKIT_LOOP, "scapy sniff(store=0)": SCAPY_LOOP}
    try:
        import scapy  # noqa: F401 - only whether it is there
    except ImportError:
        report({"case": "five fields in a loop", "peer_name": loops.popitem()[0], "missing": "not installed"})
    fifty: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(REPEATS):
        for name, code in loops.items():
            fifty[name].append(lost_in_loop(lab, code, 50_000, batch))
    for peer, lost in fifty.items():
        if peer != "rawkit":
            mine, theirs = statistics.median(fifty["rawkit"]), statistics.median(lost)
            measure("five fields in a loop, 50,000/s: lost", mine, theirs, "%", peer)
            first = [first_loss(lab, loops[name], batch) for name in ("rawkit", peer)]
            measure("five fields in a loop: loses from", *first, "frames/s", peer, better_more=True)


def first_loss(lab: Lab, code: str, batch: FrameBatch) -> float:
    """The lowest rate, in steps of two from 1250, at which most of three runs lose something."""
    rate = 1250
    while statistics.median(lost_in_loop(lab, code, rate, batch) for _ in range(3)) == 0 and rate < 640_000:
        rate *= 2
    return rate


def lost_in_loop(lab: Lab, code: str, rate: int, batch: FrameBatch) -> float:
    """Percent of the frames that a loop did not see."""
    with tool(lab, [sys.executable, "-P", "-c", code]) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "live\n":
            raise SystemExit(process.communicate()[0])
        time.sleep(0.3)
        left = total = rate * SECONDS
        with open_transmitter("veth0", "packet", namespace=lab.a.namespace) as transmitter:
            paced = PacedSender(transmitter, rate=Rate(rate))
            while left:
                left -= paced.send_batch(batch, 0, min(left, len(batch)))
        # Those it keeps in its buffer are not lost: it may take its time for them.
        before = -1
        while (used := processor_ns(process.pid)) - before > 10_000_000:
            before = used
            time.sleep(0.5)
        seen = int(stop(lab, process))
    return 100 * max(0, total - seen) / total


# ---- results


def measure(
    case: str, mine: float, theirs: float, unit: str, peer: str, *, better_more: bool = False
) -> None:
    line: dict[str, object] = {"case": case, "rawkit": round(mine, 3), "peer": round(theirs, 3)}
    line |= {"peer_name": peer, "unit": unit}
    better, worse = (mine, theirs) if better_more else (theirs, mine)
    if worse:
        line["ratio"] = round(better / worse, 2)
    report(line)


def report(line: dict[str, object]) -> None:
    print(json.dumps({"bench": "capture"} | line), flush=True)


if __name__ == "__main__":
    main()
