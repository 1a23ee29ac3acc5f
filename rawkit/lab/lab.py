"""The lab: two hosts and the link between them."""

from __future__ import annotations

import array
import errno
import fcntl
import socket
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType
from typing import Any
from warnings import warn

from rawkit.addr import MAC
from rawkit.engine.link import LinkDirection, LinkRelay
from rawkit.engine.namespace import Namespace, become_namespace_root
from rawkit.errors import RawkitError
from rawkit.lab.host import Host
from rawkit.lab.processes import Processes
from rawkit.net import interface
from rawkit.net.netlink import ask
from rawkit.units import parse_duration, parse_ratio

_READY_S = 5.0
"""How long the kernel may take to bring the links up."""

# <linux/if_addr.h>
_IFA_F_NODAD = 0x02
_IFA_F_TENTATIVE = 0x40

_QUIET_S = 0.03
_SETTLE_S = 0.3
"""How long a new link must be quiet to count as settled, and how long to wait for that at most."""

# <linux/sockios.h>, <linux/ethtool.h>: receive and transmit checksums, scatter-gather, segmentation by the
# device (TSO) and by the kernel's last moment (GSO), and merging on receipt (GRO).
_SIOCETHTOOL = 0x8946
_OFFLOADS = {"tx": 0x17, "sg": 0x19, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}

_HOST_SETTINGS = {
    # No waiting for duplicate address detection: the two addresses are fixed.
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/default/dad_transmits": "0",
    # Static configuration: no router is asked for, none is believed.
    "net/ipv6/conf/default/router_solicitations": "0",
    "net/ipv6/conf/default/accept_ra": "0",
    # What has to be said about multicast groups is said at once, not within a second.
    "net/ipv6/conf/default/mldv2_unsolicited_report_interval": "1",
}
_MIDDLE_SETTINGS = {
    # The wire itself says nothing.
    "net/ipv6/conf/default/disable_ipv6": "1",
}


class Lab:
    """Two private hosts, `a` and `b`, joined by one link; nobody else can reach them, or be reached by them.

    `delay` holds every frame, in both directions ("20ms", or seconds as a number); `loss` is the probability
    that one is lost ("1%", 0.01); `seed` decides which. The same frames meet the same losses on each run.

    As root the hosts are made from here. As an ordinary user this process first moves into a user namespace
    of its own, for good (`become_namespace_root`), and must have one thread only.

    Ready when made; close it when done (it is a context manager). If the process dies instead, the kernel
    takes everything away.

    Raises:
        UnitError: `delay` or `loss` does not make sense.
        PermissionDenied, EngineError: namespaces are not allowed here; the message says by what.
    """

    def __init__(self, delay: str | int | float = 0, loss: str | int | float = 0, seed: int = 0) -> None:
        self.delay_ns = parse_duration(delay)
        self.loss = parse_ratio(loss)
        self.seed = seed
        self.relay: LinkRelay | None = None
        """What delays and loses frames, with its counters; None when the link does neither."""
        self._resources: ExitStack | None = None
        become_namespace_root()
        with ExitStack() as stack:
            processes = Processes()
            self.a, self.b = (_host(stack, processes, name, n) for n, name in enumerate("ab", 1))
            delayed = self.delay_ns > 0 or self.loss > 0
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
                        ask(partial(_wait_until_up, name=_near_end(host)), "raise the lab's link")
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
            ask(partial(_raise, name=self.b.interface), "raise the lab's link")

    def _join_by_way_of(self, middle: Namespace) -> None:
        """Two veth pairs that meet in a namespace of their own, where the relay will join them."""
        for host in (self.a, self.b):
            near = _near_end(host)

            def question(route: Any, host: Host = host, near: str = near) -> None:
                route.link("add", kind="veth", ifname=near, peer=_end(host))
                _raise(route, near)

            with middle.enter():
                _set(_MIDDLE_SETTINGS)
                ask(question, "make the lab's link")
                _send_plain_frames(near)
            with host:
                _send_plain_frames(host.interface)
                ask(partial(_raise, name=host.interface), "raise the lab's link")

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
        directions = [
            LinkDirection(self.delay_ns, self.loss, seed) for seed in (2 * self.seed, 2 * self.seed + 1)
        ]
        return LinkRelay(indexes[0], indexes[1], directions[0], directions[1])

    def close(self) -> None:
        """End every process on the hosts and let go of everything. Closing twice is harmless."""
        resources, self._resources = self._resources, None
        if resources is not None:
            resources.close()

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_resources", None) is not None:
            warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=1)
            self.close()

    def __repr__(self) -> str:
        return f"<Lab delay={self.delay_ns / 1e6:g}ms loss={self.loss:.4g} seed={self.seed}>"


def _host(stack: ExitStack, processes: Processes, name: str, number: int) -> Host:
    """A host without an interface."""
    namespace = stack.enter_context(Namespace.create())
    with namespace.enter():
        _set(_HOST_SETTINGS)
        _open_ping_sockets()
    return Host(
        name,
        IPv4Address(f"10.77.0.{number}"),
        IPv6Address(f"fd77::{number}"),
        MAC(f"00:00:5e:00:53:{number:02x}"),
        namespace,
        processes,
    )


def _end(host: Host) -> dict[str, object]:
    """A host's end of a veth pair, for a netlink request from anywhere."""
    return {"ifname": host.interface, "address": str(host.mac), "net_ns_fd": host.namespace.fileno()}


def _near_end(host: Host) -> str:
    """In the middle, the name of the interface that leads to a host."""
    return f"to-{host.name}"


def _raise(route: Any, name: str) -> None:
    route.link("set", index=route.link_lookup(ifname=name)[0], state="up")


def _frames_sent(route: Any, name: str) -> int:
    (link,) = route.link("get", ifname=name)
    sent: int = link.get_attr("IFLA_STATS64")["tx_packets"]
    return sent


def _configure(route: Any, host: Host, peer: Host) -> None:
    """Give a host its addresses, once its link is up."""
    _raise(route, "lo")
    (index,) = route.link_lookup(ifname=host.interface)
    route.addr("add", index=index, address=str(host.ipv4), prefixlen=24)
    route.addr("add", index=index, address=str(host.ipv6), prefixlen=64, flags=_IFA_F_NODAD)
    for address in (peer.ipv4, peer.ipv6):
        # As if just resolved: the first packet does not wait for a round trip that might even be lost. The
        # entry ages like any other.
        route.neigh("add", dst=str(address), lladdr=str(peer.mac), ifindex=index, state="reachable")

    def usable() -> bool:
        """Whether no address is still being checked."""
        flags = (address.get_attr("IFA_FLAGS") for address in route.get_addr(index=index))
        return not any(flag & _IFA_F_TENTATIVE for flag in flags)

    _wait_until_up(route, host.interface)
    _wait(usable, f"host {host.name}")


def _wait_until_up(route: Any, name: str) -> None:
    """Return when the kernel has noticed a link's carrier: until then it drops what is sent there."""
    _wait(lambda: route.link("get", ifname=name)[0].get_attr("IFLA_OPERSTATE") == "UP", f"link {name}")


def _wait(condition: Callable[[], bool], subject: str) -> None:
    end = time.monotonic() + _READY_S
    while not condition():
        if time.monotonic() > end:
            raise RawkitError(f"the lab's {subject} did not come up within {_READY_S:g} s")
        time.sleep(0.001)


def _set(settings: dict[str, str]) -> None:
    """Write sysctls of the calling thread's network namespace."""
    for name, value in settings.items():
        with open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
            file.write(value)


def _open_ping_sockets() -> None:
    """Let every group open ICMP datagram sockets, which a new namespace allows to none (icmp(7))."""
    try:
        _set({"net/ipv4/ping_group_range": "0 2147483647"})
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # Both ends must be groups of the user namespace, and an ordinary user's has but one.
        _set({"net/ipv4/ping_group_range": "0 0"})


def _send_plain_frames(name: str) -> None:
    """Turn off what a device could do later, so that whole frames of at most the MTU go over the link.

    The relay would otherwise see segments of up to 64 kB without checksums, as the kernel hands them to
    network cards.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in _OFFLOADS.values():
            value = array.array("I", [command, 0])  # struct ethtool_value
            # struct ifreq: the name, and a pointer within a union of 24 octets.
            request = struct.pack("16sP16x", name.encode(), value.buffer_info()[0])
            fcntl.ioctl(control, _SIOCETHTOOL, request)
