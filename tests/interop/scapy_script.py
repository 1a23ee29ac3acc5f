"""A script of a scapy user; with the argument "rawkit" scapy's functions use rawkit's sockets.

Run on host a of the lab by test_sockets.py, which compares what it prints both ways: one JSON object.
"""

import json
import logging
import sys
import threading
import time

logging.getLogger("scapy").setLevel(logging.ERROR)

from scapy.all import (  # noqa: E402
    ARP,
    ICMP,
    IP,
    TCP,
    UDP,
    AsyncSniffer,
    Dot1Q,
    Ether,
    ICMPv6EchoRequest,
    IPv6,
    Raw,
    conf,
    send,
    sendp,
    sniff,
    sr,
    sr1,
    srp1,
)

if "rawkit" in sys.argv:
    from rawkit.interop.scapy import use_rawkit

    use_rawkit()
conf.verb = 0
IFACE = "veth0"
B4, B6 = "10.77.0.2", "fd77::2"
answers = {"sockets": [conf.L2socket.__name__, conf.L2listen.__name__, conf.L3socket.__name__]}


def known(packet):
    """What is the same from run to run."""
    if packet is None:
        return None
    names = [layer.__name__ for layer in packet.layers()]
    ends = [packet[0].src, packet[0].dst]
    flags = str(packet[TCP].flags) if TCP in packet else ""
    load = packet[Raw].load if Raw in packet else b""
    assert abs(time.time() - float(packet.time)) < 5, packet.time
    return [names, ends, flags, len(load), load[:8].hex()]


answers["echo"] = known(sr1(IP(dst=B4) / ICMP(id=5, seq=6) / b"payload", timeout=5))
answers["echo6"] = known(sr1(IPv6(dst=B6) / ICMPv6EchoRequest(id=5, seq=6, data=b"payload"), timeout=5))
answered, unanswered = sr(IP(dst=B4) / TCP(sport=4000, dport=[7, 9], flags="S"), timeout=5)
answers["syn"] = sorted([request.dport, known(reply)] for request, reply in answered)
answers["unanswered"] = len(unanswered)
answers["arp"] = known(srp1(Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(pdst=B4), iface=IFACE, timeout=5))
answers["nobody"] = known(sr1(IP(dst="10.77.0.99") / ICMP(), timeout=0.5))
answers["loopback"] = known(sr1(IP(dst="127.0.0.1") / ICMP(id=7), timeout=5))
answers["loopback6"] = known(sr1(IPv6(dst="::1") / ICMPv6EchoRequest(id=7), timeout=5))


def ask(n):
    """Datagrams to host b's echo server, which answers each."""
    for i in range(n):
        send(IP(dst=B4) / UDP(sport=4001, dport=7) / bytes([i]))


def pinging():
    time.sleep(0.3)
    send(IP(dst=B4) / ICMP(id=9))
    ask(3)


asker = threading.Thread(target=pinging)
asker.start()
found = sniff(iface=IFACE, filter="udp and port 7", count=6, timeout=10)
asker.join()
answers["sniff"] = sorted(known(packet) for packet in found)

seen = []
sniffer = AsyncSniffer(iface=IFACE, filter="icmp", prn=lambda packet: seen.append(known(packet)), store=False)
sniffer.start()
time.sleep(0.5)
sendp([Ether(dst="00:00:5e:00:53:02") / IP(dst=B4) / ICMP(id=n) for n in (1, 2)], iface=IFACE)
time.sleep(0.5)
sniffer.stop()
answers["async"] = sorted(seen)

datagram = IP(src="10.77.0.1", dst=B4) / UDP(dport=7) / b"tagged"
frame = Ether(dst="00:00:5e:00:53:02") / Dot1Q(vlan=5) / datagram
tagged = sniff(
    iface=IFACE, filter="vlan 5", count=1, timeout=10, started_callback=lambda: sendp(frame, iface=IFACE)
)
answers["vlan"] = [[layer.__name__ for layer in packet.layers()] for packet in tagged]

large = sr1(IP(dst=B4) / ICMP(id=11) / bytes(3000), timeout=5)
answers["fragmented"] = known(large)
try:
    sniff(iface=IFACE, filter="no such filter", timeout=1)
    answers["filter"] = "accepted"
except Exception as error:
    answers["filter"] = type(error).__name__
print(json.dumps(answers))
