"""The lab: two hosts and the link between them."""

from __future__ import annotations

import array
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from rawkit.engine.link import LinkDirection, LinkRelay
from rawkit.engine.namespace import Namespace, become_namespace_root
from rawkit.lab.host import Host
from rawkit.lab.processes import Processes
from rawkit.lab.routed import RoutedLab, chain_of, star_of
from rawkit.lab.setup import (
    IFA_F_NODAD,
    Closing,
    bring_up,
    lab_mac,
    new_host,
    set_sysctls,
    wait_until_up,
    wait_until_usable,
)
from rawkit.net import ethtool, interface
from rawkit.net.netlink import ask
from rawkit.units import parse_duration, parse_ratio

_QUIET_S = 0.03
_SETTLE_S = 0.3
"""How long a new link must be quiet to count as settled, and how long to wait for that at most."""

# <linux/ethtool.h>: receive and transmit checksums, scatter-gather, segmentation by the
# device (TSO) and by the kernel's last moment (GSO), and merging on receipt (GRO).
_OFFLOADS = {"tx": 0x17, "sg": 0x19, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}

_QUEUE_N = 1000  # frames that wait before a bottleneck
_QUEUE_N_MAX = 10_000  # frames under way where there is none

_MIDDLE_SETTINGS = {
    # The wire itself says nothing.
    "net/ipv6/conf/default/disable_ipv6": "1",
}


class Lab(Closing):
    """Two private hosts, `a` and `b`, joined by one link; nobody else can reach them, or be reached by them.

    `delay` holds every frame, in both directions ("20ms", or seconds as a number); `loss` is the probability
    that one is lost ("1%", 0.01); `seed` decides which. The same frames meet the same losses on each run.
    `rate` is how many frames pass in a second each way (0: as many as come); up to 1000 wait for their turn.

    As root the hosts are made from here. As an ordinary user this process first moves into a user namespace
    of its own, for good (`become_namespace_root`), and must have one thread only.

    Ready when made; close it when done (it is a context manager). If the process dies instead, the kernel
    takes everything away.

    Raises:
        UnitError: `delay` or `loss` does not make sense.
        ValueError: `rate` does not: 0 to 10**9 frames a second.
        PermissionDenied, EngineError: namespaces are not allowed here; the message says by what.
    """

    def __init__(
        self, delay: str | int | float = 0, loss: str | int | float = 0, seed: int = 0, rate: int = 0
    ) -> None:
        self.delay_ns = parse_duration(delay)
        self.loss = parse_ratio(loss)
        self.seed = seed
        if not 0 <= rate <= 10**9:
            raise ValueError(f"rate of {rate} frames a second: 0 to 10**9")
        self.rate = rate
        self.relay: LinkRelay | None = None
        """What delays and loses frames, with its counters; None when the link does neither."""
        self._resources = None
        become_namespace_root()
        with ExitStack() as stack:
            processes = Processes()
            self.a, self.b = (
                new_host(Host, stack, processes, name, f"10.77.0.{n}", f"fd77::{n}", lab_mac(n))
                for n, name in enumerate("ab", 1)
            )
            delayed = self.delay_ns > 0 or self.loss > 0 or rate > 0
            middle = stack.enter_context(Namespace.create()) if delayed else None
            if middle is None:
                self._join_directly()
            else:
                self._join_by_way_of(middle)
            for host, peer in ((self.a, self.b), (self.b, self.a)):
                with host:
                    ask(partial(_configure, host=host, peer=peer), "set up the lab's hosts")
            self._settle()
            if middle is not None:
                with middle.enter():
                    for host in (self.a, self.b):
                        ask(partial(wait_until_up, name=_near_end(host)), "raise the lab's link")
                    self.relay = stack.enter_context(self._open_relay())
            stack.callback(processes.close)  # the first thing to happen on closing
            self._resources = stack.pop_all()

    def _join_directly(self) -> None:
        """One veth pair: what leaves one host is at the other at once."""

        def question(route: Any) -> None:
            route.link("add", kind="veth", **_end(self.a), peer=_end(self.b))
            route.link("set", index=route.link_lookup(ifname=self.a.interface)[0], state="up")

        with self.a:
            ask(question, "make the lab's link")
        with self.b:
            ask(partial(bring_up, name=self.b.interface), "raise the lab's link")

    def _join_by_way_of(self, middle: Namespace) -> None:
        """Two veth pairs that meet in a namespace of their own, where the relay will join them."""
        for host in (self.a, self.b):
            near = _near_end(host)

            def question(route: Any, host: Host = host, near: str = near) -> None:
                route.link("add", kind="veth", ifname=near, peer=_end(host))
                bring_up(route, near)

            with middle.enter():
                set_sysctls(_MIDDLE_SETTINGS)
                ask(question, "make the lab's link")
                _send_plain_frames(near)
            with host:
                _send_plain_frames(host.interface)
                ask(partial(bring_up, name=host.interface), "raise the lab's link")

    def _settle(self) -> None:
        """Return when the hosts have said what a host says on a new link (MLD reports, RFC 3810).

        The relay is opened only then: such frames come at random moments, and would shift which frame meets
        which of the losses that the seed stands for.
        """

        def frames_sent() -> list[int]:
            sent = []
            for host in (self.a, self.b):
                with host:
                    sent.append(ask(partial(_frames_sent, name=host.interface), "watch the lab's link"))
            return sent

        now = quiet_since = time.monotonic()
        end = now + _SETTLE_S
        before = frames_sent()
        while now < end and now - quiet_since < _QUIET_S:
            time.sleep(0.004)
            sent = frames_sent()
            now = time.monotonic()
            if sent != before:
                before, quiet_since = sent, now

    def _open_relay(self) -> LinkRelay:
        indexes = [interface(_near_end(host)).index for host in (self.a, self.b)]
        interval_ns = 10**9 // self.rate if self.rate else 0
        queue_n = self.delay_ns // interval_ns + _QUEUE_N if self.rate else _QUEUE_N_MAX
        directions = [
            LinkDirection(self.delay_ns, self.loss, seed, queue_n, interval_ns)
            for seed in (2 * self.seed, 2 * self.seed + 1)
        ]
        return LinkRelay(indexes[0], indexes[1], directions[0], directions[1])

    @staticmethod
    def chain(
        n: int, *, parallel: Mapping[int, int] | None = None, mtus: Mapping[int, int] | None = None
    ) -> RoutedLab:
        """Hosts `a` and `b` with `n` routers between them, r1 to r<n>.

        `parallel` says where several stand side by side, over which the routers before and behind spread
        flows (ECMP): {3: 2} makes r3a and r3b. `mtus` is the MTU of links, counted from 0 at `a`.

        Raises: as `RoutedLab`; ValueError for a number that makes no sense.
        """
        return RoutedLab(*chain_of(n, parallel or {}, mtus or {}))

    @staticmethod
    def star(n: int) -> RoutedLab:
        """Hosts h1 to h<n> around one router, `hub`.

        Raises: as `RoutedLab`; ValueError for a number that makes no sense.
        """
        return RoutedLab(*star_of(n))

    def __repr__(self) -> str:
        return f"<Lab delay={self.delay_ns / 1e6:g}ms loss={self.loss:.4g} seed={self.seed}>"


def _end(host: Host) -> dict[str, object]:
    """A host's end of a veth pair, for a netlink request from anywhere."""
    return {"ifname": host.interface, "address": str(host.mac), "net_ns_fd": host.namespace.fileno()}


def _near_end(host: Host) -> str:
    """In the middle, the name of the interface that leads to a host."""
    return f"to-{host.name}"


def _frames_sent(route: Any, name: str) -> int:
    (link,) = route.link("get", ifname=name)
    sent: int = link.get_attr("IFLA_STATS64")["tx_packets"]
    return sent


def _configure(route: Any, host: Host, peer: Host) -> None:
    """Give a host its addresses, once its link is up."""
    bring_up(route, "lo")
    (index,) = route.link_lookup(ifname=host.interface)
    route.addr("add", index=index, address=str(host.ipv4), prefixlen=24)
    route.addr("add", index=index, address=str(host.ipv6), prefixlen=64, flags=IFA_F_NODAD)
    for address in (peer.ipv4, peer.ipv6):
        # As if just resolved: the first packet does not wait for a round trip that might even be lost. The
        # entry ages like any other.
        route.neigh("add", dst=str(address), lladdr=str(peer.mac), ifindex=index, state="reachable")

    wait_until_up(route, host.interface)
    wait_until_usable(route, index, f"host {host.name}")


def _send_plain_frames(name: str) -> None:
    """Turn off what a device could do later, so that whole frames of at most the MTU go over the link.

    The relay would otherwise see segments of up to 64 kB without checksums, as the kernel hands them to
    network cards.
    """
    for command in _OFFLOADS.values():
        ethtool.ask(name, array.array("I", [command, 0]))  # struct ethtool_value
