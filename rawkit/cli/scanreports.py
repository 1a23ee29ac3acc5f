"""What `rawkit scan` says of the ports: a table for each host, or a JSON object for each port."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Protocol

import rawkit
from rawkit.cli.output import typed_command

if TYPE_CHECKING:
    from rawkit.addr import TargetSet
    from rawkit.tools.scan import PortResult, Scan, ScanConfig, ScanSummary

LISTED_MAX = 10
"""Closed and filtered ports beyond are only counted."""


class Report(Protocol):
    """What is told of a scan, in some form."""

    def add(self, result: PortResult) -> None: ...

    def end(self, summary: ScanSummary, interrupted: bool = False) -> None: ...


def run_facts(config: ScanConfig) -> dict[str, object]:
    """What is noted of every run, so that its results can be judged later."""
    return {
        "targets": config.targets.count,
        "rate": config.effective_rate,
        "retries": config.retries,
        "timeout_ns": config.timeout_ns,
        "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "command": typed_command(),
        "version": rawkit.__version__,
    }


class JsonReport:
    """Every result at once as an object of type "port"."""

    def __init__(self, scan: Scan, only_open: bool, excluded: str | None, room: Callable[[], object]) -> None:
        """`excluded` is the SHA-256 of what was excluded; `room` is called before anything is written."""
        from rawkit.cli.output import JsonLines

        self._scan, self._only_open, self._room = scan, only_open, room
        self._names = scan.config.targets.names
        self._json = JsonLines("scan")
        config = scan.config
        self._json.write(
            "scan",
            kind=scan.kind,
            fallback=scan.fallback or None,
            ports=len(config.ports),
            **run_facts(config),
            origin=scan.origin,
            excluded=excluded,
            seed=scan.seed,
            shard="{}/{}".format(*config.shard),
            contact=config.contact or None,
        )

    def add(self, result: PortResult) -> None:
        if self._only_open and not result.state.startswith("open"):
            return
        self._room()
        self._json.write(
            "port",
            address=result.address,
            name=self._names.get(result.address),
            protocol=result.protocol,
            port=result.port,
            state=result.state,
            reason=result.reason,
            service=service(result.port, result.protocol) if result.state == "open" else None,
            ttl=result.ttl,
            reporter=result.reporter,
            rtt_ns=result.rtt_ns,
            probes=result.probes,
            answers=result.answers,
        )

    def end(self, summary: ScanSummary, interrupted: bool = False) -> None:
        # Again: where it was looked first who is there, it was not known at the beginning.
        self._json.write("summary", **summary._asdict(), origin=self._scan.origin)


class _Host:
    """What is known of one host: the ports to list, and how many there are of each state and reason."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.listed: defaultdict[str, list[PortResult]] = defaultdict(list)

    def add(self, result: PortResult) -> None:
        self.counts[result.state, result.reason] += 1
        listed = self.listed[result.state]
        if result.state == "open" or len(listed) <= LISTED_MAX:
            listed.append(result)

    def number(self, state: str) -> int:
        return sum(n for (of, _), n in self.counts.items() if of == state)


class TextReport:
    """A table for each host as soon as all its ports are known; hosts that say nothing are counted."""

    def __init__(self, scan: Scan, only_open: bool, room: Callable[[], object]) -> None:
        """`room` is called before anything is written."""
        self._only_open, self._room = only_open, room
        self._config: ScanConfig = scan.config
        self._targets: TargetSet = scan.config.targets
        self._hosts: dict[object, _Host] = {}
        self._silent = self._without_open = self._shown = 0

    def add(self, result: PortResult) -> None:
        host = self._hosts.get(result.address)
        if host is None:
            host = self._hosts[result.address] = _Host()
        host.add(result)
        if host.counts.total() == len(self._config.ports):
            del self._hosts[result.address]
            self._show(result.address, host)

    def end(self, summary: ScanSummary, interrupted: bool = False) -> None:
        from rawkit.cli.output import emit

        counted = not self._config.report_closed
        for state, n in (("closed", summary.closed), ("unfiltered", summary.unfiltered)):
            if counted and n and self._targets.count == 1:
                host = self._hosts.setdefault(self._targets[0], _Host())
                host.counts[state, "rst"] += n - host.number(state)
        for address, host in self._hosts.items():
            self._show(address, host)
        if counted and summary.complete:  # of hosts whose ports are all closed nothing was told
            there = self._targets.count - summary.down
            self._without_open += there - self._shown - self._silent - self._without_open
        self._silent += summary.down
        if self._silent:
            emit(f"{self._silent} {_plural('host', self._silent)} without any answer")
        if self._without_open:
            emit(f"{self._without_open} {_plural('host', self._without_open)} without an open port")

    def _show(self, address: object, host: _Host) -> None:
        from rawkit.cli.output import emit, escape
        from rawkit.tools.scan import NO_ANSWER, NO_NEIGHBOUR, STATES

        if self._targets.count > 1:
            if {reason for _, reason in host.counts} in ({NO_ANSWER}, {NO_NEIGHBOUR}):
                self._silent += 1
                return
            if self._only_open and not host.listed["open"]:
                self._without_open += 1
                return
        self._shown += 1
        self._room()
        name = self._targets.names.get(address)  # type: ignore[call-overload]
        heading = f"{address} ({name})" if name else str(address)
        total = host.counts.total()
        if total < len(self._config.ports) and (self._config.report_closed or self._targets.count == 1):
            heading += f": {total} of {len(self._config.ports)} ports"
        emit(escape(heading))

        states = [state for state in STATES if not self._only_open or state.startswith("open")]
        # More are only counted, and so are those that the scan only counted.
        shown = [
            state
            for state in states
            if state == "open" or host.number(state) == len(host.listed[state]) <= LISTED_MAX
        ]
        rows = sorted((r for state in shown for r in host.listed[state]), key=lambda result: result.port)
        if rows:
            table = [("PORT", "STATE", "SERVICE", "REASON", "TTL")]
            for r in rows:
                reason = r.reason
                if r.reporter is not None and r.reporter != r.address:
                    reason += f" from {r.reporter}"
                ttl = "" if r.ttl is None else str(r.ttl)
                table.append((f"{r.port}/{r.protocol}", r.state, service(r.port, r.protocol), reason, ttl))
            # By hand: importing rich's tables takes as long as the scan of a host.
            widths = [max(map(len, column)) for column in zip(*table)]
            for *cells, ttl in table:
                line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths))
                emit(escape(f"{line}  {ttl:>{widths[-1]}}".rstrip()))
        for state in STATES:
            if state in shown or not (n := host.number(state)):
                continue
            reasons = [(n, reason) for (of, reason), n in host.counts.most_common() if of == state]
            why = ", ".join(reason if len(reasons) == 1 else f"{reason}: {n}" for n, reason in reasons)
            emit(f"not shown: {n} {state} {_plural('port', n)} ({why})")
        emit()


def statistics(summary: ScanSummary, interrupted: bool) -> str:
    text = (
        f"{'interrupted: ' if interrupted else ''}{summary.kind} scan of "
        f"{summary.targets} {_plural('address', summary.targets, 'es')}, "
        f"{summary.ports} {_plural(_what(summary.kind), summary.ports)} each, "
        f"in {summary.duration_ns / 1e9:.2f} s: "
        f"{summary.open} open, {summary.closed} closed, {summary.filtered} filtered"
    )
    for n, what in ((summary.unfiltered, "unfiltered"), (summary.open_filtered, "open or filtered")):
        if n:
            text += f", {n} {what}"
    text += f"; {summary.probes} probes"
    missed = summary.missed
    if missed is not None and missed.high:
        text += f"; {missed.low} to {missed.high} open ports may have been missed"
    for n, what in (
        (summary.down, "hosts not there"),
        (summary.duplicates, "duplicate answers"),
        (summary.dropped, "answers dropped by the kernel"),
        (summary.refused, "probes refused by the kernel"),
    ):
        if n:
            text += f", {n} {what}"
    return text


def _what(kind: str) -> str:
    return "protocol" if kind == "protocol" else "port"


def _plural(word: str, n: int, ending: str = "s") -> str:
    return word if n == 1 else word + ending


@cache
def service(port: int, protocol: str) -> str:
    """The service registered for a port, "" when there is none."""
    import socket

    if protocol == "ip":
        from rawkit.wire.ipv4 import PROTOCOLS

        return PROTOCOLS.get(port, "")
    try:
        return socket.getservbyport(port, protocol)
    except OSError:
        return ""
