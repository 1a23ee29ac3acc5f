"""How long does a UDP scan take where the host limits its ICMP errors to one a second, and what does it find?

100 ports of a Linux host, of which 5 answer what they are asked and 95 are closed. Whole commands, one run
each: the limit is the host's, so the time hardly varies. Seconds, less is better; `untold` is how many of
the closed ports a side does not call closed, and `exact` whether it finds the open ones and no others.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import threading
import time
from contextlib import ExitStack

from _compare import RAWKIT

from rawkit.engine.namespace import become_namespace_root
from rawkit.lab import Lab
from rawkit.tools.scan.payloads import COMMON_UDP_PORTS

OPEN = {53, 123, 161, 500, 1900}
PORTS = ",".join(str(port) for port in COMMON_UDP_PORTS[:100])
SIDES = {
    "rawkit": [RAWKIT, "scan", "-sU"],
    "nmap -sU": ["nmap", "-n", "-Pn", "-sU"],
    "nmap -sU -T4": ["nmap", "-n", "-Pn", "-sU", "-T4"],
}


def main() -> None:
    become_namespace_root()
    results: dict[str, tuple[float, bool, int]] = {}
    for name, argv in SIDES.items():
        if shutil.which(argv[0]) is None:
            continue
        with Lab() as lab, ExitStack() as stack:  # a new one for each: the limit has a memory
            with lab.b:
                for port in OPEN:
                    sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    sock.bind(("0.0.0.0", port))
                    threading.Thread(target=serve, args=(sock,), daemon=True).start()
            start = time.perf_counter()
            text = lab.a.run([*argv, "-p", PORTS, str(lab.b.ipv4)], capture_output=True, text=True).stdout
            took = time.perf_counter() - start
        found = {int(port) for port in re.findall(r"^(\d+)/udp +open +", text, re.MULTILINE)}
        closed = sum(map(int, re.findall(r"(\d+) closed", text))) + len(re.findall(r"/udp +closed", text))
        results[name] = took, found == OPEN, 95 - closed
    mine = results["rawkit"]
    for name, (took, exact, untold) in results.items():
        if name != "rawkit":
            row = {"bench": "scan_udp", "case": "100 ports, one error a second", "rawkit": round(mine[0], 1)}
            row |= {"peer": round(took, 1), "peer_name": name, "unit": "s", "ratio": round(took / mine[0], 2)}
            row |= {"exact": mine[1], "peer_exact": exact, "untold": mine[2], "peer_untold": untold}
            print(json.dumps(row), flush=True)


def serve(sock: socket.socket) -> None:
    while True:
        request, sender = sock.recvfrom(2048)
        sock.sendto(request, sender)


if __name__ == "__main__":
    main()
