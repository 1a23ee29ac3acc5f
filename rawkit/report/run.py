"""A run to be shown: its events, what is known about it, and what each host's packets mean."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from rawkit.report.analysis import Analysis, Facts, Roles
from rawkit.transport.endpoint import Endpoint
from rawkit.transport.machine import Machine, State
from rawkit.transport.trace import TraceEvent


@dataclass
class Run:
    """Events in the order of their times, from the simulator or from real sockets, and the roles of the
    header of their packets. The rest is shown where it is known.
    """

    trace: Iterable[TraceEvent]
    roles: Roles
    name: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    """What was run on what: protocol, options, link, schedule, seed."""
    script: str = ""
    """Python that does the same again."""
    machine: Machine | None = None
    rate_bps: float | None = None
    """Of the link, if that has one and keeps it; from the client to the server."""
    protocol: int = 253
    """IP protocol number of the packets."""

    @classmethod
    def of(cls, result: Any, name: str = "") -> Run:
        """A run from the result of a `rawkit.sim.Transfer`, or of a transfer over a real network.

        Raises:
            ValueError: it kept no trace.
        """
        endpoint, trace = result.client.endpoint, result.trace
        if trace is None:
            raise ValueError("this transfer kept no trace")
        transfer = getattr(result, "transfer", None)
        return cls(
            list(trace),
            Roles.of(endpoint),
            name or type(endpoint).__name__,
            result.metrics(),
            {**(_settings(transfer) if transfer else {}), **versions()},
            transfer.script() if transfer else "",
            machine_of(endpoint),
            transfer.link.constant_rate_bps if transfer else None,
        )

    @cached_property
    def hosts(self) -> tuple[str, ...]:
        """The names of the hosts, the client first: the one that sent, or without packets reported, first."""
        packets = dict.fromkeys(e.where for e in self.trace if e.kind in ("send", "arrive"))
        return tuple(packets or dict.fromkeys(e.where for e in self.trace if e.kind in ("metric", "deliver")))

    @cached_property
    def facts(self) -> list[tuple[TraceEvent, Facts]]:
        """What each packet that was sent or arrived means, as its host saw it; without damaged ones."""
        analyses = {host: Analysis(self.roles) for host in self.hosts}
        found = []
        for event in self.trace:
            if event.kind in ("send", "arrive"):
                facts = analyses[event.where].see(event.time_ns, event.src, event.dst, event.octets)
                if facts is not None:
                    found.append((event, facts))
        return found

    @cached_property
    def end_ns(self) -> int:
        """When the last packet was seen, or octets delivered. What endpoints do after that is wait."""
        kinds = ("send", "arrive", "drop", "deliver")
        return max((event.time_ns for event in self.trace if event.kind in kinds), default=0)


def machine_of(endpoint: Endpoint) -> Machine | None:
    """The state machine of an endpoint, if it or its class has one."""
    for value in (*vars(endpoint).values(), *vars(type(endpoint)).values()):
        if isinstance(value, State):
            return value.machine
        if isinstance(value, Machine):
            return value
    return None


def _settings(transfer: Any) -> dict[str, str]:
    """What a simulated transfer was told, as one would write it."""
    from rawkit.sim.transfer import brief

    told = {row.name: getattr(transfer, row.name) for row in fields(transfer)}
    words = {name: brief(value) for name, value in told.items() if name not in ("trace", "limit_ns", "chunk")}
    words["protocol"] = f"{transfer.protocol.__module__}:{transfer.protocol.__qualname__}"
    words["schedule"] = str(transfer.schedule)
    words["link_back"] = "as the link" if transfer.link_back is None else words["link_back"]
    return words


def versions() -> dict[str, str]:
    """What it was run with."""
    return {"rawkit": sys.modules["rawkit"].__version__, "Python": platform.python_version()}
