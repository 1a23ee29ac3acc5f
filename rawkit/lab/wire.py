"""A wire with something on it that delays and loses: two veth pairs, and between them the link relay."""

from __future__ import annotations

import array
from collections.abc import Mapping
from functools import partial
from typing import Any

from rawkit.engine.link import LinkDirection, LinkRelay
from rawkit.engine.namespace import Namespace
from rawkit.lab.host import Host
from rawkit.lab.setup import bring_up, set_sysctls, wait_until_up
from rawkit.net import ethtool, interface
from rawkit.net.netlink import ask

# <linux/ethtool.h>: receive and transmit checksums, scatter-gather, segmentation by the
# device (TSO) and by the kernel's last moment (GSO), and merging on receipt (GRO).
_OFFLOADS = {"tx": 0x17, "sg": 0x19, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}

_MIDDLE_SETTINGS = {
    # The wire itself says nothing.
    "net/ipv6/conf/default/disable_ipv6": "1",
}


def lay_half(
    middle: Namespace, near: str, host: Host, end: Mapping[str, object], mtu: int, offloads: bool
) -> None:
    """Make a veth pair from `near`, in the middle, to a host's interface `end` (for a netlink request), and
    raise it.

    Without `offloads` whole frames of at most the MTU go over it, their checksums finished; with them the
    kernel hands over segments of up to 64 kB, as to a network card, and the relay finishes and cuts them.
    """
    far = str(end["ifname"])

    def question(route: Any) -> None:
        route.link("add", kind="veth", ifname=near, mtu=mtu, peer={**end, "mtu": mtu})
        bring_up(route, near)

    with middle.enter():
        set_sysctls(_MIDDLE_SETTINGS)
        ask(question, "make the lab's link")
        _send_plain_frames(near)  # what the relay sends is finished, and what comes is merged for nobody
    with host:
        if not offloads:
            _send_plain_frames(far)
        ask(partial(bring_up, name=far), "raise the lab's link")


def open_relay(
    middle: Namespace, near: tuple[str, str], directions: tuple[LinkDirection, LinkDirection], spin_ns: int
) -> LinkRelay:
    """Join the two halves of a wire once they are up. To be closed."""
    with middle.enter():
        for name in near:
            ask(partial(wait_until_up, name=name), "raise the lab's link")
        a, b = (interface(name).index for name in near)
        return LinkRelay(a, b, *directions, spin_ns)


def _send_plain_frames(name: str) -> None:
    """Turn off what a device could do later: checksums, and segments larger than the MTU."""
    for command in _OFFLOADS.values():
        ethtool.ask(name, array.array("I", [command, 0]))  # struct ethtool_value
