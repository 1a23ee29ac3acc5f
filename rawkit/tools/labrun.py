"""A transfer between the two hosts of a lab, over a carrier of one's choice, and a capture of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from rawkit.engine.sockets import PacketSocket
from rawkit.lab import Lab
from rawkit.lab.setup import set_sysctls
from rawkit.link import L2, UDP, Carrier, Outcome, RawIP, Tun, transfer
from rawkit.net.netlink import ask
from rawkit.pcap import create_pcap
from rawkit.transport.endpoint import Endpoint
from rawkit.wire.frame import Frame

if TYPE_CHECKING:
    from rawkit.lab.host import Host

_OWN = {4: "10.77.{}.9", 6: "fd77:{}::9"}
"""Addresses behind a host of the lab, for carriers with one of their own."""


def open_carrier(lab: Lab, host: Host, over: str, version: int = 4, number: int = 253) -> Carrier:
    """A carrier on a host of a lab: "raw", "udp", "tun" (an address behind the host) or "packet" (one more
    host on the link).

    With "tun" the lab's hosts forward packets from then on. A forwarding host does so with what is meant for
    "packet" too, so that one lab is for one of the two.

    Raises:
        PermissionDenied: the carrier needs what this user lacks.
        KeyError: there is no such carrier.
    """
    place = 1 if host is lab.a else 2
    behind = _OWN[version].format(place)
    beside = f"10.77.0.{place}9/24" if version == 4 else f"fd77::{place}9/64"
    makers: dict[str, Callable[[], Carrier]] = {
        "raw": lambda: RawIP(number, version=version),
        "udp": lambda: UDP(version=version),
        "tun": lambda: Tun(behind, number),
        "packet": lambda: L2(host.interface, beside, number),
    }
    with host:
        carrier = makers[over]()
        if over == "tun":
            try:
                _lead_to(lab.b if host is lab.a else lab.a, host, version)
            except BaseException:
                carrier.close()
                raise
    return carrier


def _lead_to(other: Host, host: Host, version: int) -> None:
    """The way from one host to what is behind it, to the network behind the other."""
    set_sysctls({"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"})
    behind = f"{_OWN[version].format(1 if other.name == 'a' else 2)}/{32 if version == 4 else 128}"
    gateway = str(other.ipv4 if version == 4 else other.ipv6)
    ask(lambda route: route.route("replace", dst=behind, gateway=gateway), "lead to the other host")


def run_in_lab(
    protocol: Callable[[], Endpoint],
    lab: Lab,
    over: str = "raw",
    *,
    version: int = 4,
    number: int = 253,
    capture: str | None = None,
    octets: int = 20_000,
    back: int = 0,
    seed: int = 0,
    timeout: float = 60.0,
    trace: bool = False,
    bulk: bool = False,
) -> Outcome:
    """Send octets from host a to host b and back; `rawkit.link.transfer` has the rest.

    `over` is a carrier of `open_carrier`, `capture` a file for what passes host a's interface (pcapng, or
    pcap by its name).
    """
    client = open_carrier(lab, lab.a, over, version, number)
    server = open_carrier(lab, lab.b, over, version, number)
    remote = server.local or str(lab.b.ipv4 if version == 4 else lab.b.ipv6)
    with ExitStack() as stack:
        if capture is not None:
            file = stack.enter_context(create_pcap(capture))
            with lab.a:
                stack.callback(Watch(lab.a.interface, file.write).stop)
        return transfer(
            protocol,
            client,
            server,
            remote,
            octets=octets,
            back=back,
            seed=seed,
            timeout=timeout,
            trace=trace,
            bulk=bulk,
        )


class Watch:
    """Hands on what passes an interface of the calling thread's namespace, frame by frame, until stopped.

    `take` is called by a thread of its own; `filter` is a tcpdump expression.
    """

    def __init__(self, interface: str, take: Callable[[Frame], object], filter: str | None = None) -> None:
        self._socket = PacketSocket(interface, buffer_len=64 << 20, filter=filter)
        self._take = take
        self.dropped = 0
        """Frames that there was no room for; known when it has stopped."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rawkit lab capture")
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            for frame in self._socket.frames(timeout=0.05):
                self._take(frame)

    def stop(self) -> None:
        """Hand on what has been seen, and end."""
        self._over.set()
        self._thread.join()
        self.dropped = self._socket.counters().dropped
        self._socket.close()
