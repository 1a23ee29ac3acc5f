"""What a pcapng file says of a capture beside its packets: the machine, the interface, what was counted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rawkit.engine import realtime_ns
from rawkit.net.ethtool import driver, offloads

if TYPE_CHECKING:
    from rawkit.pcap import PcapngWriter
    from rawkit.tools.capture import Capture


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
    """Say in a file what is captured, and from what kind of interface.

    Its MTU and the offloads, for which there is no option, are in a comment: they say why frames may be
    longer than the wire allows or lack their checksum.
    """
    interface = capture.interface
    states = offloads(interface.name)
    comment = f"MTU {interface.mtu}"
    for title, wanted in (("offloads on", True), ("off", False)):
        if named := [offload for offload, on in states.items() if on is wanted]:
            comment += f"; {title}: {', '.join(named)}"
    file.add_interface(
        interface.name,
        capture.linktype,
        snaplen=snaplen,
        filter=capture.filter,
        description=interface.kind or ("loopback" if interface.loopback else ""),
        hardware=driver(interface.name),
        mac=b"" if interface.mac is None or interface.loopback else bytes(interface.mac),
        comments=(comment,),
    )


def write_statistics(file: PcapngWriter, capture: Capture, comments: Sequence[str]) -> None:
    """The counters from the opening of the capture until now, and what happened meanwhile."""
    counters = capture.counters()
    now_ns = realtime_ns()
    file.write_statistics(
        capture.interface.name,
        accepted=counters.received,
        dropped=counters.dropped,
        os_dropped=counters.dropped,
        delivered=capture.captured,
        time_ns=now_ns,
        start_ns=capture.opened_ns,
        end_ns=now_ns,
        comments=tuple(comments),
    )
