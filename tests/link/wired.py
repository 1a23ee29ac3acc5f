"""Stacks on the hosts of a lab, and the protocols that run on them."""

from __future__ import annotations

from typing import Any

from rawkit.lab import Lab
from rawkit.link import UDP, Carrier, RawIP, transfer
from rawkit.link.experiment import Outcome
from rawkit.transport.endpoint import Endpoint
from rawkit.transport.protocols.go_back_n import GoBackN
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat
from rawkit.transport.protocols.stop_and_wait import StopAndWait

MS = 10**6
PROTOCOLS: dict[str, tuple[type[Endpoint], dict[str, Any]]] = {
    "stop-and-wait": (StopAndWait, {"numbers": 256, "timeout_ns": 30 * MS}),
    "go-back-n": (GoBackN, {"timeout_ns": 60 * MS}),
    "selective repeat": (SelectiveRepeat, {}),
}


def address(lab: Lab, host: str, version: int) -> str:
    found = lab.a if host == "a" else lab.b
    return str(found.ipv4 if version == 4 else found.ipv6)


def carriers(lab: Lab, kind: str, version: int) -> tuple[Carrier, Carrier]:
    """One on each host."""
    made: list[Carrier] = []
    for host in (lab.a, lab.b):
        with host:
            made.append(RawIP(253, version=version) if kind == "raw" else UDP(version=version))
    return made[0], made[1]


def send(lab: Lab, kind: str, version: int, name: str, **options: Any) -> Outcome:
    """A transfer from a to b."""
    protocol, given = PROTOCOLS[name]
    a, b = carriers(lab, kind, version)
    return transfer(lambda: protocol(**given), a, b, address(lab, "b", version), **options)
