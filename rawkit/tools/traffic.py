"""What is in a capture: protocols, who talks to whom, and how much over time."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address

from rawkit.bulk.table import HeaderTable
from rawkit.engine.dissect import Chains
from rawkit.engine.tally import FlowTable, Rates, Sums, Tally
from rawkit.pcap.reader import Reader

FLOWS_MAX = 500_000


@dataclass(frozen=True)
class ProtocolCount:
    """How many packets have these headers, outermost first, and perhaps more behind them."""

    headers: tuple[str, ...]
    packets: int
    octets: int


@dataclass(frozen=True)
class Endpoint:
    """An address, and what went out from it and came to it; octets are those on the wire."""

    address: str
    packets_out: int = 0
    packets_in: int = 0
    octets_out: int = 0
    octets_in: int = 0

    @property
    def octets(self) -> int:
        return self.octets_out + self.octets_in


@dataclass
class Traffic:
    """All that `measure` found. `unknown` packets are of link types that have no header class here.

    `flows` keeps the first of them, up to a limit: `flows.left_out` packets are of others.
    """

    sums: Sums = field(default_factory=Sums)
    protocols: list[ProtocolCount] = field(default_factory=list)
    unknown: int = 0
    flows: FlowTable = field(default_factory=lambda: FlowTable(1))
    rates: Rates | None = None

    def endpoints(self) -> list[Endpoint]:
        """The addresses of all flows, those with the most octets first."""
        found: dict[bytes, list[int]] = {}
        for flow in self.flows:
            a = found.setdefault(flow.a, [0, 0, 0, 0])
            b = found.setdefault(flow.b, [0, 0, 0, 0])
            a[0] += flow.packets_from_a
            b[1] += flow.packets_from_a
            b[0] += flow.packets_from_b
            a[1] += flow.packets_from_b
            a[2] += flow.octets_from_a
            b[3] += flow.octets_from_a
            b[2] += flow.octets_from_b
            a[3] += flow.octets_from_b
        rows = [Endpoint(str(ip_address(address)), *counts) for address, counts in found.items()]
        return sorted(rows, key=lambda row: row.octets, reverse=True)


def measure(reader: Reader, *, interval_ns: int | None = None, flows: int = FLOWS_MAX) -> Traffic:
    """Count what is still to be read of a capture file; `interval_ns` is that of the rates.

    Memory grows with the number of flows, 110 octets each, `flows` at most.

    Raises `CaptureFileError` when the file is damaged.
    """
    table = HeaderTable()
    chains: dict[int | None, Chains] = {}
    tally, found = Tally(), FlowTable(flows)
    traffic = Traffic(flows=found)
    for batch in reader.batches():
        tally.add(batch)
        found.add(batch)
        first = table.first_row(batch.linktype)
        if first is None:
            traffic.unknown += len(batch)
        else:
            table.dissector.count_chains(batch, first, chains.setdefault(first, Chains()))
        if interval_ns:
            if traffic.rates is None:
                traffic.rates = Rates(batch.handle.frames[0].time_ns, interval_ns)
            traffic.rates.add(batch)
    traffic.sums = tally.all
    traffic.protocols = _tree(table, chains)
    return traffic


def _tree(table: HeaderTable, chains: dict[int | None, Chains]) -> list[ProtocolCount]:
    """Each beginning of each chain of headers, with all that have it: a parent before its children."""
    counts: dict[tuple[str, ...], list[int]] = {}
    for kind in chains.values():
        for rows, packets, octets in kind.rows():
            names = tuple(table.classes[row].__name__ for row in rows)
            for n in range(1, len(names) + 1):
                count = counts.setdefault(names[:n], [0, 0])
                count[0] += packets
                count[1] += octets

    def order(names: tuple[str, ...]) -> list[tuple[int, str]]:
        return [(-counts[names[: n + 1]][0], names[n]) for n in range(len(names))]

    return [ProtocolCount(names, *counts[names]) for names in sorted(counts, key=order)]
