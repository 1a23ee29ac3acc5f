"""A scan's results in the formats that other scanners write, each to a text stream.

Each has `add(result)` for every result and `end(summary, interrupted)` once, after which the output is
complete; of an interrupted scan it holds what was known.
"""

from __future__ import annotations

import csv
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TextIO
from xml.sax.saxutils import quoteattr

from rawkit.addr import IPAddress
from rawkit.tools.scan import CLOSED, NO_ANSWER, OPEN, PortResult, Scan, ScanSummary

if TYPE_CHECKING:
    from rawkit.tools.scan.discover import DiscoverySummary, HostResult

_LISTED_MAX = 25
"""Ports of one state other than open that nmap lists one by one."""

Service = Callable[[int, str], str]
"""The name of the service of a port and protocol, "" when there is none."""

_NMAP_REASONS = {
    "rst": "reset",
    "connected": "syn-ack",
    "refused": "conn-refused",
    NO_ANSWER: "no-response",
    "icmp net unreachable": "net-unreach",
    "icmp host unreachable": "host-unreach",
    "icmp protocol unreachable": "proto-unreach",
    "icmp port unreachable": "port-unreach",
    "icmp net prohibited": "net-prohibited",
    "icmp host prohibited": "host-prohibited",
    "icmp admin prohibited": "admin-prohibited",
    "icmp time exceeded": "time-exceeded",
    "icmp no route": "no-route",
    "icmp address unreachable": "addr-unreach",
    "icmp reject route": "reject-route",
}
"""nmap's words for our reasons; others become ours with hyphens."""

_SCAN_TYPES = {"sctp": "sctpinit", "protocol": "ipproto"}
_PROTOCOL_TYPES = {"tcp": "syn", "udp": "udp", "sctp": "sctpinit"}
"""Of scans with probes that nmap has not: the types that its DTD has."""


class _ByHost:
    """Results gathered for each host until all of its ports are known."""

    def __init__(self, scan: Scan) -> None:
        self._ports_n = len(scan.config.ports)
        self._hosts: dict[IPAddress, list[PortResult]] = {}
        self.started = int(time.time())
        self.up = self.down = 0

    def add(self, result: PortResult) -> list[PortResult] | None:
        """All results of the host, when this was its last."""
        results = self._hosts.setdefault(result.address, [])
        results.append(result)
        return self._hosts.pop(result.address) if len(results) == self._ports_n else None

    def rest(self) -> list[list[PortResult]]:
        return list(self._hosts.values())

    def proof(self, results: Sequence[PortResult]) -> PortResult | None:
        """A result that shows that the host is there: the first that it answered itself."""
        found = next((r for r in results if r.reporter == r.address and r.reporter is not None), None)
        self.up, self.down = self.up + (found is not None), self.down + (found is None)
        return found


class NmapXml:
    """nmap's XML, elements in the order of its DTD."""

    def __init__(self, stream: TextIO, scan: Scan, arguments: str, service: Service) -> None:
        """`arguments` is the command as it was typed; `service` names the service of a port."""
        self._stream, self._service, self._names = stream, service, scan.config.targets.names
        self._hosts = _ByHost(scan)
        ports = sorted(scan.config.ports)
        self._write(_xml_begins(arguments, self._hosts.started))
        kind = _SCAN_TYPES.get(scan.kind, scan.kind)
        if scan.config.probe is not None and scan.kind not in _SCAN_TYPES:
            kind = _PROTOCOL_TYPES.get(scan.protocol, "ipproto")
        protocol = _xml_protocol(scan.protocol)
        self._write(f'<scaninfo type="{kind}" protocol="{protocol}" numservices="{len(ports)}"')
        self._write(f' services="{_ranges(ports)}"/>\n<verbose level="0"/>\n<debugging level="0"/>\n')

    def _write(self, text: str) -> None:
        self._stream.write(text)

    def add(self, result: PortResult) -> None:
        results = self._hosts.add(result)
        if results is not None:
            self._host(results)

    def _host(self, results: list[PortResult]) -> None:
        address, proof = results[0].address, self._hosts.proof(results)
        state, reason, ttl = ("up", _reason(proof), proof.ttl or 0) if proof else ("down", "no-response", 0)
        self._write(_xml_host(address, state, reason, ttl, self._names.get(address)) + "<ports>")
        states = Counter(result.state for result in results)
        extra = {state for state, n in states.items() if state != OPEN and n > _LISTED_MAX}
        for state in sorted(extra):
            self._write(f'<extraports state="{state}" count="{states[state]}">\n')
            reasons = Counter(_reason(result) for result in results if result.state == state)
            for reason, n in reasons.most_common():
                self._write(f'<extrareasons reason="{reason}" count="{n}"/>\n')
            self._write("</extraports>\n")
        for result in sorted(results, key=lambda result: result.port):
            if result.state not in extra:
                self._port(result)
        self._write("</ports>\n</host>\n")

    def _port(self, result: PortResult) -> None:
        self._write(f'<port protocol="{_xml_protocol(result.protocol)}" portid="{result.port}">')
        self._write(f'<state state="{result.state}"')
        self._write(f' reason="{_reason(result)}" reason_ttl="{result.ttl or 0}"')
        if result.reporter not in (None, result.address):
            self._write(f' reason_ip="{result.reporter}"')
        name = quoteattr(self._service(result.port, result.protocol) or "unknown")
        self._write(f'/><service name={name} method="table" conf="3"/></port>\n')

    def end(self, summary: ScanSummary, interrupted: bool = False) -> None:
        for results in self._hosts.rest():
            self._host(results)
        up, down = self._hosts.up, self._hosts.down + summary.down
        self._write(_xml_ends(up, down, summary.duration_ns, interrupted))
        self._stream.flush()


class Grepable:
    """nmap's grepable lines: hosts with their ports on one line each."""

    def __init__(self, stream: TextIO, scan: Scan, arguments: str, service: Service) -> None:
        """As `NmapXml`."""
        self._stream, self._service, self._names = stream, service, scan.config.targets.names
        self._hosts = _ByHost(scan)
        stream.write(f"# rawkit scan initiated {time.ctime(self._hosts.started)} as: {arguments}\n")

    def add(self, result: PortResult) -> None:
        results = self._hosts.add(result)
        if results is not None:
            self._host(results)

    def _host(self, results: list[PortResult]) -> None:
        address = results[0].address
        host = f"Host: {address} ({self._names.get(address, '')})"
        proof = self._hosts.proof(results)
        self._stream.write(f"{host}\tStatus: {'Up' if proof else 'Down'}\n")
        states = Counter(result.state for result in results)
        extra = {state for state, n in states.items() if state != OPEN and n > _LISTED_MAX}
        listed = sorted((r for r in results if r.state not in extra), key=lambda result: result.port)
        if listed:
            ports = ", ".join(
                f"{r.port}/{r.state}/{r.protocol}//{self._service(r.port, r.protocol)}///" for r in listed
            )
            ignored = "".join(f"\tIgnored State: {state} ({states[state]})" for state in sorted(extra)[:1])
            self._stream.write(f"{host}\tPorts: {ports}{ignored}\n")

    def end(self, summary: ScanSummary, interrupted: bool = False) -> None:
        for results in self._hosts.rest():
            self._host(results)
        up, down = self._hosts.up, self._hosts.down + summary.down
        self._stream.write(_grepable_ends(up, down, summary.duration_ns, interrupted))
        self._stream.flush()


class MasscanJson:
    """masscan's JSON: an array with an object for each port that answered."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._between = "[\n"

    def add(self, result: PortResult) -> None:
        if result.state not in (OPEN, CLOSED) or result.reporter != result.address:
            return
        port = {
            "port": result.port,
            "proto": result.protocol,
            "status": result.state,
            "reason": result.reason,
            "ttl": result.ttl or 0,
        }
        row = {"ip": str(result.address), "timestamp": str(int(time.time())), "ports": [port]}
        self._stream.write(self._between + json.dumps(row))
        self._between = ",\n"

    def end(self, summary: ScanSummary, interrupted: bool = False) -> None:
        self._stream.write("[\n]\n" if self._between == "[\n" else "\n]\n")
        self._stream.flush()


class ZmapCsv:
    """zmap's CSV, a row for each address and port that answered; and its metadata about the scan, in a file
    beside it whose name goes on with ".metadata.json", unless the CSV goes to standard output.
    """

    def __init__(self, stream: TextIO, scan: Scan, arguments: str) -> None:
        self._stream, self._scan, self._arguments = stream, scan, arguments
        self._started = _zmap_time()
        self._rows = csv.writer(stream, lineterminator="\n")
        self._rows.writerow(["saddr", "sport", "classification", "success", "repeat", "ttl"])

    def add(self, result: PortResult) -> None:
        if result.state not in (OPEN, CLOSED) or result.reporter != result.address:
            return
        words = ("udp", "port-unreach") if result.protocol == "udp" else ("synack", "rst")
        classification = words[result.state != OPEN]
        row = [result.address, result.port, classification, int(result.state == OPEN), 0, result.ttl]
        self._rows.writerow(row)

    def end(self, summary: ScanSummary, interrupted: bool = False) -> None:
        self._stream.flush()
        if self._stream.name == "<stdout>":
            return
        with open(f"{self._stream.name}.metadata.json", "w", encoding="utf-8") as file:
            json.dump(self._metadata(summary, interrupted), file, indent=2)
            file.write("\n")

    def _metadata(self, summary: ScanSummary, interrupted: bool) -> dict[str, object]:
        """What zmap says of a scan, under its names, as far as it is so here; the rest in "rawkit"."""
        config = self._scan.config
        ports, (shard, shards) = sorted(config.ports), config.shard
        return {
            **({"target_port": ports[0]} if len(ports) == 1 else {"target_ports": _ranges(ports)}),
            "iface": config.interface,
            "rate": round(config.effective_rate or 0),
            "use_seed": int(config.seed is not None),
            "seed": self._scan.seed or 0,
            "shard_num": shard - 1,
            "total_shards": shards,
            "hitrate": 100 * summary.open / summary.probes if summary.probes else 0.0,
            "pcap_drop": summary.dropped,
            "send_to_failures": summary.refused,
            "total_sent": summary.probes,
            "success_total": summary.open,
            "success_unique": summary.open,
            "failure_total": summary.closed,
            "probe_module": {"syn": "tcp_synscan", "udp": "udp"}.get(summary.kind, summary.kind),
            "output_module": "csv",
            "send_start_time": self._started,
            "recv_end_time": _zmap_time(),
            "output_filename": self._stream.name,
            "rawkit": {
                "command": self._arguments,
                "complete": summary.complete and not interrupted,
                "contact": config.contact,
                "duplicates": summary.duplicates,
                "retries": config.retries,
                "timeout_ns": config.timeout_ns,
            },
        }


class Csv:
    """A row for each port, with all that is known of it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._rows = csv.writer(stream, lineterminator="\n")
        self._rows.writerow(
            [
                "address",
                "port",
                "protocol",
                "state",
                "reason",
                "ttl",
                "reporter",
                "rtt_ns",
                "probes",
                "answers",
            ]
        )

    def add(self, r: PortResult) -> None:
        self._rows.writerow(
            [
                r.address,
                r.port,
                r.protocol,
                r.state,
                r.reason,
                r.ttl,
                r.reporter,
                r.rtt_ns,
                r.probes,
                r.answers,
            ]
        )

    def end(self, summary: ScanSummary, interrupted: bool = False) -> None:
        self._stream.flush()


class HostReport(Protocol):
    """What is told of a discovery, in some form."""

    def add(self, result: HostResult) -> None: ...

    def end(self, summary: DiscoverySummary, interrupted: bool = False) -> None: ...


class NmapXmlHosts:
    """nmap's XML of a scan without ports."""

    def __init__(self, stream: TextIO, arguments: str, names: Mapping[IPAddress, str]) -> None:
        self._stream, self._names = stream, names
        stream.write(_xml_begins(arguments, int(time.time())))
        stream.write('<verbose level="0"/>\n<debugging level="0"/>\n')

    def add(self, result: HostResult) -> None:
        reason = _words(result.reason if result.state == "up" else NO_ANSWER)
        name = self._names.get(result.address)
        text = _xml_host(result.address, result.state, reason, result.ttl or 0, name, result.mac)
        self._stream.write(text + "</host>\n")

    def end(self, summary: DiscoverySummary, interrupted: bool = False) -> None:
        self._stream.write(_xml_ends(summary.up, summary.down, summary.duration_ns, interrupted))
        self._stream.flush()


class GrepableHosts:
    """nmap's grepable lines of a scan without ports."""

    def __init__(self, stream: TextIO, arguments: str, names: Mapping[IPAddress, str]) -> None:
        self._stream, self._names = stream, names
        stream.write(f"# rawkit scan initiated {time.ctime()} as: {arguments}\n")

    def add(self, result: HostResult) -> None:
        name = self._names.get(result.address, "")
        self._stream.write(f"Host: {result.address} ({name})\tStatus: {result.state.capitalize()}\n")

    def end(self, summary: DiscoverySummary, interrupted: bool = False) -> None:
        self._stream.write(_grepable_ends(summary.up, summary.down, summary.duration_ns, interrupted))
        self._stream.flush()


def _xml_begins(arguments: str, started: int) -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE nmaprun>\n'
        f'<nmaprun scanner="nmap" args={quoteattr(arguments)} start="{started}"'
        f' startstr={quoteattr(time.ctime(started))} version="rawkit" xmloutputversion="1.05">\n'
    )


def _xml_host(
    address: IPAddress, state: str, reason: str, ttl: int, name: str | None, mac: object = None
) -> str:
    """The beginning of a host's element."""
    text = f'<host><status state="{state}" reason="{reason}" reason_ttl="{ttl}"/>\n'
    text += f'<address addr="{address}" addrtype="ipv{address.version}"/>\n'
    if mac is not None:
        text += f'<address addr="{str(mac).upper()}" addrtype="mac"/>\n'
    text += "<hostnames>\n"
    if name:
        text += f'<hostname name={quoteattr(name)} type="user"/>\n'
    return text + "</hostnames>\n"


def _xml_protocol(protocol: str) -> str:
    return protocol if protocol in _PROTOCOL_TYPES else "ip"


def _xml_ends(up: int, down: int, duration_ns: int, interrupted: bool) -> str:
    now = int(time.time())
    end = 'exit="error" errormsg="interrupted"' if interrupted else 'exit="success"'
    return (
        f'<runstats><finished time="{now}" timestr={quoteattr(time.ctime(now))}'
        f' elapsed="{duration_ns / 1e9:.2f}" {end}/>'
        f'<hosts up="{up}" down="{down}" total="{up + down}"/>\n</runstats>\n</nmaprun>\n'
    )


def _grepable_ends(up: int, down: int, duration_ns: int, interrupted: bool) -> str:
    what = "interrupted" if interrupted else "done"
    return (
        f"# rawkit {what} at {time.ctime()} -- {up + down} IP addresses ({up} hosts up) "
        f"scanned in {duration_ns / 1e9:.2f} seconds\n"
    )


def _zmap_time() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _reason(result: PortResult) -> str:
    return _words(result.reason)


def _words(reason: str) -> str:
    own = reason.removeprefix("icmp ").replace(" ", "-").replace("'", "")
    return _NMAP_REASONS.get(reason, own)


def _ranges(ports: Sequence[int]) -> str:
    """Ascending ports as people write them: "22,80-83"."""
    spans: list[list[int]] = []
    for port in ports:
        if spans and spans[-1][1] == port - 1:
            spans[-1][1] = port
        else:
            spans.append([port, port])
    return ",".join(f"{first}-{last}" if first < last else str(first) for first, last in spans)
