"""What a pcapng file says of a capture beside its packets: the machine, the interface, what was counted."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rawkit.engine import monotonic_ns, realtime_ns
from rawkit.net.ethtool import driver, offloads
from rawkit.tools.capture import ALL

if TYPE_CHECKING:
    from rawkit.net import Interface
    from rawkit.pcap import PcapngWriter
    from rawkit.tools.capture import Capture


JUMP_NS = 100_000_000
"""What a wall clock cannot gain or lose between two looks unless it is set, in nanoseconds."""


class ClockWatch:
    """Notices that the wall clock, which packets are stamped by, was set."""

    def __init__(
        self, wall_ns: Callable[[], int] = realtime_ns, steady_ns: Callable[[], int] = monotonic_ns
    ) -> None:
        self._wall_ns = wall_ns
        self._steady_ns = steady_ns
        self._offset_ns: int | None = None
        self.jumps: list[int] = []
        """By how many nanoseconds it was set, forward or (below 0) back."""

    def look(self) -> None:
        """Compare the clocks; to be called several times a second."""
        before_ns = self._steady_ns()
        offset_ns = self._wall_ns() - before_ns
        if self._steady_ns() - before_ns > JUMP_NS // 2:
            return  # this process stood still between the two
        if self._offset_ns is not None and abs(jump_ns := offset_ns - self._offset_ns) > JUMP_NS:
            self.jumps.append(jump_ns)
        self._offset_ns = offset_ns

    def remarks(self) -> list[str]:
        """A line for each time it was set."""
        return [
            f"the clock was set {'back' if jump_ns < 0 else 'forward'} {abs(jump_ns) / 1e9:.1f} s meanwhile"
            for jump_ns in self.jumps
        ]


def processor() -> str:
    """This machine's processor, as "x86_64, AMD EPYC 7763"."""
    machine = os.uname().machine
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() == "model name":
                    return f"{machine}, {value.strip()}"
    except OSError:
        pass
    return machine


def system() -> str:
    """This machine's operating system, as "Linux 6.1.0-28-amd64"."""
    found = os.uname()
    return f"{found.sysname} {found.release}"


def describe(file: PcapngWriter, capture: Capture, snaplen: int) -> None:
    """Say in a file what is captured, and from what kind of interfaces.

    Their MTUs and offloads, for which there is no option, are in a comment: they say why frames may be longer
    than the wire allows or lack their checksum. What "any" counts has an entry of its own, the first; then
    come the interfaces that there were at the opening.
    """
    if capture.name == ALL:
        file.add_interface(ALL, capture.linktype, snaplen=snaplen, filter=capture.filter)
        linktypes = [capture.linktype] * len(capture.interfaces)
    else:
        linktypes = capture.linktypes
    for interface, linktype in zip(capture.interfaces, linktypes):
        _describe(file, interface, linktype, snaplen, capture.filter)


def _describe(file: PcapngWriter, interface: Interface, linktype: int, snaplen: int, filter: str) -> None:
    states = offloads(interface.name)
    comment = f"MTU {interface.mtu}"
    for title, wanted in (("offloads on", True), ("off", False)):
        if named := [offload for offload, on in states.items() if on is wanted]:
            comment += f"; {title}: {', '.join(named)}"
    file.add_interface(
        interface.name,
        linktype,
        snaplen=snaplen,
        filter=filter,
        description=interface.kind or ("loopback" if interface.loopback else ""),
        hardware=driver(interface.name),
        mac=b"" if interface.mac is None or interface.loopback else bytes(interface.mac),
        comments=(comment,),
    )


def write_statistics(file: PcapngWriter, capture: Capture, comments: Sequence[str]) -> None:
    """The counters of each interface from the opening of the capture until now.

    What else happened stands in comments on the first one's.
    """
    now_ns = realtime_ns()
    for name, (counters, delivered) in capture.counters_by_interface().items():
        file.write_statistics(
            name,
            accepted=counters.received,
            dropped=counters.dropped,
            os_dropped=counters.dropped,
            delivered=delivered,
            time_ns=now_ns,
            start_ns=capture.opened_ns,
            end_ns=now_ns,
            comments=tuple(comments),
        )
        comments = ()


def remarks(capture: Capture) -> list[str]:
    """What there is to say of interfaces that went down or away."""
    return [
        f"{name} went down {n} time{'' if n == 1 else 's'} meanwhile"
        for name, n in capture.went_down.items()
        if n
    ] + [f"{name} disappeared meanwhile" for name in capture.disappeared]
