"""The lab: two hosts and the link between them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from rawkit.engine.link import LinkDirection, LinkRelay
from rawkit.engine.namespace import Namespace, become_namespace_root
from rawkit.lab.host import Host
from rawkit.lab.processes import Processes
from rawkit.lab.routed import DEFAULT_MTU, MIN_MTU, RoutedLab, chain_of, dumbbell_of, star_of
from rawkit.lab.setup import (
    IFA_F_NODAD,
    Closing,
    bring_up,
    lab_mac,
    new_host,
    wait_until_up,
    wait_until_usable,
)
from rawkit.lab.wire import lay_half, open_relay
from rawkit.net.netlink import ask
from rawkit.units import parse_duration, parse_ratio

if TYPE_CHECKING:
    from rawkit.sim.link import LinkSpec
    from rawkit.sim.schedule import Schedule

_QUIET_S = 0.03
_SETTLE_S = 0.3
"""How long a new link must be quiet to count as settled, and how long to wait for that at most."""

_QUEUE_N = 1000  # frames that wait before a bottleneck
_QUEUE_N_MAX = 10_000  # frames under way where there is none


class Lab(Closing):
    """Two private hosts, `a` and `b`, joined by one link; nobody else can reach them, or be reached by them.

    `delay` holds every frame, in both directions ("20ms", or seconds as a number); `loss` is the probability
    that one is lost ("1%", 0.01); `seed` decides which. The same frames meet the same losses on each run.
    `rate` is how many frames pass in a second each way (0: as many as come); up to 1000 wait for their turn.

    `link` is a link of the simulator's in place of these, `link_back` the way back where that differs, and
    `schedule` the fates of single packets. The k-th packet each way meets the same fate as the k-th in
    `rawkit.sim.p2p(link, link_back, seed=seed)`. Addresses and groups that the hosts ask for on the link
    itself (ARP, neighbour discovery) are only delayed, and no packets in this sense. With `offloads` the
    hosts leave checksums and the cutting of large segments to the link, as to a network card. For the last
    `spin` before a packet is due the link does not sleep, which costs a processor and gains some 50 us.

    As root the hosts are made from here. As an ordinary user this process first moves into a user namespace
    of its own, for good (`become_namespace_root`), and must have one thread only.

    Ready when made; close it when done (it is a context manager). If the process dies instead, the kernel
    takes everything away.

    Raises:
        UnitError: `delay`, `loss` or `spin` does not make sense.
        ValueError: `rate` does not: 0 to 10**9 frames a second; a link and one of these; an MTU below 1280.
        LocalProtocolError: a link that only the simulator can be.
        PermissionDenied, EngineError: namespaces are not allowed here; the message says by what.
    """

    def __init__(
        self,
        delay: str | int | float = 0,
        loss: str | int | float = 0,
        seed: int = 0,
        rate: int = 0,
        *,
        link: LinkSpec | None = None,
        link_back: LinkSpec | None = None,
        schedule: Schedule | None = None,
        offloads: bool = False,
        spin: str | int | float = 0,
    ) -> None:
        self.delay_ns = parse_duration(delay)
        self.loss = parse_ratio(loss)
        self.seed = seed
        if not 0 <= rate <= 10**9:
            raise ValueError(f"rate of {rate} frames a second: 0 to 10**9")
        self.rate = rate
        self.link = link
        if link is not None:
            if self.delay_ns or self.loss or rate:
                raise ValueError("a link, or its delay, loss and rate: not both")
            from rawkit.lab.emulator import emulated

            back = link_back or link
            mtu = min(link.mtu, back.mtu)
            directions = emulated(link, "a", "b", seed, schedule), emulated(back, "b", "a", seed, schedule)
        elif link_back is not None or schedule is not None:
            raise ValueError("a way back or a schedule goes with link=")
        else:
            mtu = DEFAULT_MTU
            directions = self._simple(2 * seed), self._simple(2 * seed + 1)
        if mtu < MIN_MTU:
            raise ValueError(f"MTU {mtu}: at least {MIN_MTU}")
        spin_ns = parse_duration(spin)
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
            delayed = self.delay_ns > 0 or self.loss > 0 or rate > 0 or link is not None
            middle = stack.enter_context(Namespace.create()) if delayed else None
            if middle is None:
                self._join_directly()
            else:
                for host in (self.a, self.b):
                    lay_half(middle, _near_end(host), host, _end(host), mtu, offloads)
            for host, peer in ((self.a, self.b), (self.b, self.a)):
                with host:
                    ask(partial(_configure, host=host, peer=peer), "set up the lab's hosts")
            self._settle()
            if middle is not None:
                near = _near_end(self.a), _near_end(self.b)
                self.relay = stack.enter_context(open_relay(middle, near, directions, spin_ns))
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

    def _simple(self, seed: int) -> LinkDirection:
        interval_ns = 10**9 // self.rate if self.rate else 0
        queue_n = self.delay_ns // interval_ns + _QUEUE_N if self.rate else _QUEUE_N_MAX
        return LinkDirection(self.delay_ns, self.loss, seed, queue_n, interval_ns)

    @staticmethod
    def chain(
        n: int,
        *,
        parallel: Mapping[int, int] | None = None,
        mtus: Mapping[int, int] | None = None,
        links: Mapping[int, LinkSpec] | None = None,
        seed: int = 0,
    ) -> RoutedLab:
        """Hosts `a` and `b` with `n` routers between them, r1 to r<n>.

        `parallel` says where several stand side by side, over which the routers before and behind spread
        flows (ECMP): {3: 2} makes r3a and r3b. `mtus` is the MTU of links, counted from 0 at `a`, `links`
        what they do besides carrying, where they do.

        Raises: as `RoutedLab`; ValueError for a number that makes no sense.
        """
        return RoutedLab(*chain_of(n, parallel or {}, mtus or {}, links or {}), seed=seed)

    @staticmethod
    def dumbbell(
        n: int, bottleneck: LinkSpec, access: LinkSpec | None = None, *, seed: int = 0, offloads: bool = False
    ) -> RoutedLab:
        """Hosts a1 to a<n> and b1 to b<n> on either side of one link, between the routers left and right:
        what `rawkit.sim.dumbbell` is. Without `access` the hosts' own links are plain wires.

        Raises: as `RoutedLab`; ValueError for a number that makes no sense.
        """
        return RoutedLab(*dumbbell_of(n, bottleneck, access), seed=seed, offloads=offloads)

    @staticmethod
    def star(n: int, link: LinkSpec | None = None, *, seed: int = 0) -> RoutedLab:
        """Hosts h1 to h<n> around one router, `hub`, each over a link such as `link`.

        Raises: as `RoutedLab`; ValueError for a number that makes no sense.
        """
        return RoutedLab(*star_of(n, link), seed=seed)

    def __repr__(self) -> str:
        if self.link is not None:
            return f"<Lab {self.link} seed={self.seed}>"
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
