"""Stacks on the hosts of a lab, and the protocols that run on them."""

from __future__ import annotations

from typing import Any

from rawkit.lab import Lab
from rawkit.link import Outcome
from rawkit.tools.labrun import run_in_lab
from rawkit.transport.endpoint import Endpoint
from rawkit.transport.protocols.go_back_n import GoBackN
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat
from rawkit.transport.protocols.stop_and_wait import StopAndWait

MS = 10**6
OVER = [(over, version) for over in ("raw", "udp", "tun", "packet") for version in (4, 6)]
PROTOCOLS: dict[str, tuple[type[Endpoint], dict[str, Any]]] = {
    "stop-and-wait": (StopAndWait, {"numbers": 256, "timeout_ns": 30 * MS}),
    "go-back-n": (GoBackN, {"timeout_ns": 60 * MS}),
    "selective repeat": (SelectiveRepeat, {}),
}


def address(lab: Lab, host: str, version: int) -> str:
    found = lab.a if host == "a" else lab.b
    return str(found.ipv4 if version == 4 else found.ipv6)


def send(lab: Lab, over: str, version: int, name: str, **options: Any) -> Outcome:
    """A transfer from a to b."""
    protocol, given = PROTOCOLS[name]
    return run_in_lab(lambda: protocol(**given), lab, over, version=version, **options)
