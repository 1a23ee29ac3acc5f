"""The probes of a scan as a capture file instead of packets on the network."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rawkit.engine import FrameBatch, realtime_ns
from rawkit.engine.probe import KEY_LEN, ProbePlan
from rawkit.pcap import create_pcap
from rawkit.tools.scan.config import AUTO, RUN_MAX, SYN, ScanConfig
from rawkit.tools.scan.kinds import KINDS
from rawkit.tools.scan.legs import LINKTYPE_RAW, Leg, plan_legs, refuse_groups
from rawkit.tools.scan.syn import boards, reserve_port, spans, template
from rawkit.wire import Frame

if TYPE_CHECKING:
    from rawkit.tools.scan.probe import Probe


def dry_run(config: ScanConfig, path: str | os.PathLike[str]) -> int:
    """Write the first round of probes to a capture file, as IP packets, and send nothing; how many there are.

    Frames bear the times at which they would leave where the scan has a rate. Needs no privilege.
    """
    targets, _ = refuse_groups(config.targets)
    legs, _ = plan_legs(targets, config.interface, resolve=False)
    guard, sport = reserve_port(config.source_port)
    started_ns = realtime_ns()
    interval_ns = 1e9 / config.effective_rate if config.effective_rate else 0.0
    written = 0
    with guard, create_pcap(path, linktype=LINKTYPE_RAW) as writer:
        made = (
            _in_bulk(config, legs, sport)
            if config.probe is None
            else _made(config, config.probe, legs, sport)
        )
        for interface, packet in made:
            time_ns = started_ns + int(written * interval_ns)
            writer.write(Frame(packet, time_ns, linktype=LINKTYPE_RAW, interface=interface, direction="out"))
            written += 1
    return written


def _in_bulk(config: ScanConfig, legs: list[Leg], sport: int) -> Iterator[tuple[str, bytes]]:
    """The interface and the octets of each probe that C makes."""
    key = secrets.token_bytes(KEY_LEN)
    seed = secrets.randbits(64) if config.seed is None else config.seed
    kind = KINDS[SYN if config.kind == AUTO else config.kind]
    batch = FrameBatch(RUN_MAX, RUN_MAX * 128)
    base = 0
    for leg in legs:
        ports = sorted(config.ports)
        plan = ProbePlan(template(leg.source, sport, kind), spans(leg.targets), ports, key, seed=seed)
        for board in boards(plan, config.shard, base):
            while board.fill(batch, RUN_MAX):
                for packet in batch:
                    yield leg.interface, packet
        base += plan.probes_n


def _made(config: ScanConfig, probe: Probe, legs: list[Leg], sport: int) -> Iterator[tuple[str, bytes]]:
    """The interface and the octets of each packet of a probe."""
    from rawkit.tools.scan.crafted import Requests

    requests = Requests(probe, legs, sport, config.contact)
    for leg in legs:
        for address in leg.targets:
            for port in config.ports:
                yield leg.interface, bytes(requests.packet(address, port, leg))
