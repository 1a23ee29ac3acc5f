"""What every lab is made with: hosts without interfaces, sysctls, links that are up, and the end of it."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType
from typing import Any, Self, TypeVar
from warnings import warn

from rawkit.addr import MAC
from rawkit.engine.namespace import Namespace
from rawkit.errors import RawkitError
from rawkit.lab.host import Host
from rawkit.lab.processes import Processes

_READY_S = 5.0
"""How long the kernel may take to bring the links up."""

IFA_F_NODAD = 0x02  # <linux/if_addr.h>
_IFA_F_TENTATIVE = 0x40

_HOST_SETTINGS = {
    # No waiting for duplicate address detection: the addresses are fixed.
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/default/dad_transmits": "0",
    # Static configuration: no router is asked for, none is believed.
    "net/ipv6/conf/default/router_solicitations": "0",
    "net/ipv6/conf/default/accept_ra": "0",
    # What has to be said about multicast groups is said at once, not within a second.
    "net/ipv6/conf/default/mldv2_unsolicited_report_interval": "1",
}

AnyHost = TypeVar("AnyHost", bound=Host)


class Closing:
    """What a lab holds, and lets go of in `close`. A subclass gives `_resources` when it is ready."""

    _resources: ExitStack | None

    def close(self) -> None:
        """End every process on the hosts and let go of everything. Closing twice is harmless."""
        resources, self._resources = self._resources, None
        if resources is not None:
            resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_resources", None) is not None:
            warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=1)
            self.close()


def new_host(
    cls: type[AnyHost],
    stack: ExitStack,
    processes: Processes,
    name: str,
    ipv4: str,
    ipv6: str,
    mac: MAC,
) -> AnyHost:
    """A host without an interface, closed by `stack`."""
    namespace = stack.enter_context(Namespace.create())
    with namespace.enter():
        set_sysctls(_HOST_SETTINGS)
        _open_ping_sockets()
    return cls(name, IPv4Address(ipv4), IPv6Address(ipv6), mac, namespace, processes)


def lab_mac(number: int) -> MAC:
    """The MAC address of interface `number` of a lab, 1 to 255 (a documentation address, RFC 9542)."""
    return MAC(f"00:00:5e:00:53:{number:02x}")


def set_sysctls(settings: Mapping[str, str]) -> None:
    """Write sysctls of the calling thread's network namespace."""
    for name, value in settings.items():
        with open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
            file.write(value)


def _open_ping_sockets() -> None:
    """Let every group open ICMP datagram sockets, which a new namespace allows to none (icmp(7))."""
    try:
        set_sysctls({"net/ipv4/ping_group_range": "0 2147483647"})
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # Both ends must be groups of the user namespace, and an ordinary user's has but one.
        set_sysctls({"net/ipv4/ping_group_range": "0 0"})


def bring_up(route: Any, name: str) -> None:
    """Raise an interface."""
    route.link("set", index=route.link_lookup(ifname=name)[0], state="up")


def wait_until_up(route: Any, name: str) -> None:
    """Return when the kernel has noticed a link's carrier: until then it drops what is sent there."""
    wait(lambda: route.link("get", ifname=name)[0].get_attr("IFLA_OPERSTATE") == "UP", f"link {name}")


def wait_until_usable(route: Any, index: int, subject: str) -> None:
    """Return when no address of an interface is still being checked."""

    def usable() -> bool:
        flags = (address.get_attr("IFA_FLAGS") for address in route.get_addr(index=index))
        return not any(flag & _IFA_F_TENTATIVE for flag in flags)

    wait(usable, subject)


def wait(condition: Callable[[], bool], subject: str) -> None:
    """Return when the condition holds; RawkitError after 5 s."""
    end = time.monotonic() + _READY_S
    while not condition():
        if time.monotonic() > end:
            raise RawkitError(f"the lab's {subject} did not come up within {_READY_S:g} s")
        time.sleep(0.001)
