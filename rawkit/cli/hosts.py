"""`rawkit scan -sn`: which hosts are there."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, TextIO

from rawkit.cli.output import JsonLines, emit, escape, status, typed_command
from rawkit.cli.progress import Progress
from rawkit.cli.scanreports import run_facts

if TYPE_CHECKING:
    from rawkit.tools.scan import ScanConfig
    from rawkit.tools.scan.discover import Discovery, DiscoverySummary, HostResult
    from rawkit.tools.scan.formats import HostReport


def hosts(config: ScanConfig, as_json: bool, nmap_xml: TextIO | None, grepable: TextIO | None) -> int:
    """Look who is there, and report it; returns the exit status."""
    from rawkit.tools.scan.discover import Discovery
    from rawkit.tools.scan.formats import GrepableHosts, NmapXmlHosts

    to_stdout = any(stream is not None and stream.name == "<stdout>" for stream in (nmap_xml, grepable))
    arguments = typed_command()
    with Discovery(config) as discovery:
        for note in discovery.summary.notes:
            status(note)
        reports: list[HostReport] = []
        if as_json:
            reports.append(_JsonHosts(discovery))
        elif not to_stdout:
            reports.append(_TextHosts(discovery))
        names = discovery.config.targets.names
        if nmap_xml is not None:
            reports.append(NmapXmlHosts(nmap_xml, arguments, names))
        if grepable is not None:
            reports.append(GrepableHosts(grepable, arguments, names))
        interrupted = False
        progress = Progress()
        progress.start(lambda seconds: _how_far(discovery.summary))
        room = progress.clear if sys.stdout.isatty() else lambda: None
        try:
            for result in discovery:
                if result.state == "up" or as_json or to_stdout:
                    room()
                for report in reports:
                    report.add(result)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            progress.stop()
        summary = discovery.summary
        if summary.fallback:
            status(f"connections to ports 80 and 443 only: {summary.fallback}")
        for report in reports:
            report.end(summary, interrupted)
        status(_statistics(summary, interrupted))
    return 130 if interrupted else 0


class _JsonHosts:
    """Every result at once as an object of type "host"."""

    def __init__(self, discovery: Discovery) -> None:
        config = discovery.config
        self._names = config.targets.names
        self._json = JsonLines("scan")
        self._json.write(
            "scan",
            kind="hosts",
            **run_facts(config),
        )

    def add(self, result: HostResult) -> None:
        self._json.write(
            "host",
            address=result.address,
            name=self._names.get(result.address),
            state=result.state,
            reason=result.reason,
            ttl=result.ttl,
            rtt_ns=result.rtt_ns,
            mac=result.mac,
            probes=result.probes,
        )

    def end(self, summary: DiscoverySummary, interrupted: bool = False) -> None:
        self._json.write("summary", **asdict(summary))


class _TextHosts:
    """A line for each host that is there."""

    def __init__(self, discovery: Discovery) -> None:
        targets = discovery.config.targets
        self._names = targets.names
        self._widths = 15 if all(span.version == 4 for span in targets.spans) else 39, 14

    def add(self, result: HostResult) -> None:
        if result.state != "up":
            return
        width, reason_width = self._widths
        words = [f"{result.address!s:<{width}}", f"{result.reason:<{reason_width}}"]
        words.append(f"ttl {result.ttl}" if result.ttl is not None else "")
        words.append(f"{result.rtt_ns / 1e6:.3f} ms" if result.rtt_ns is not None else "")
        words.append(str(result.mac or ""))
        words.append(self._names.get(result.address, ""))
        emit(escape("  ".join(word for word in words if word).rstrip()))

    def end(self, summary: DiscoverySummary, interrupted: bool = False) -> None:
        pass


def _how_far(summary: DiscoverySummary) -> str:
    known = summary.up + summary.down
    share = f"{known / summary.targets:.0%} of {summary.targets} hosts known"
    return f"{share}, {summary.up} up; {summary.probes} probes"


def _statistics(summary: DiscoverySummary, interrupted: bool) -> str:
    return (
        f"{'interrupted: ' if interrupted else ''}{summary.up} of {summary.targets} hosts up, "
        f"{summary.down} down, in {summary.duration_ns / 1e9:.2f} s; {summary.probes} probes"
    )
