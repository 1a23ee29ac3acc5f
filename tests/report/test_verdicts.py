"""The rules of `analysis.lua` and of `analysis.py` on packets that no protocol would send."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from report.tshark import columns

from rawkit.pcap import create_pcap
from rawkit.report.analysis import Analysis, Roles
from rawkit.report.dissector import dissector
from rawkit.sim.ladders import describe
from rawkit.wire import Ether, Header, IPv4, role
from rawkit.wire.field import auto, field, flags8, payload_length, u8, u16, u32
from rawkit.wire.frame import Frame


class Octets(Header):
    sport: u8 = field(0, role=role.src_port)
    dport: u8 = field(0, role=role.dst_port)
    flags: flags8 = field(0, bits="SYN FIN ACK PSH")
    spare: u8 = 0
    seq: u32 = field(0, role=role.seq())
    ack: u32 = field(0, role=role.ack())
    window: u16 = field(0, role=role.window(shift=3))
    length: u16 = auto(payload_length)


class Single(Header):
    """Acknowledgements name the packet that arrived."""

    seq: u8 = field(0, role=role.seq("packets"))
    ack: u8 = field(0, role=role.ack("packets", cumulative=False))


class Numbered(Header):
    """No field for acknowledgements: the flag makes one of the number."""

    flags: flags8 = field(0, bits="ACK FIN")
    seq: u8 = field(0, role=role.seq("packets"))


class Absent(Header):
    """All that has a role may be missing."""

    there: u8 = 0
    flags: flags8 = field(when="there", bits="ACK SYN")
    conn: u16 = field(when="there", role=role.conn_id)
    seq: u16 = field(when="there", role=role.seq())
    ack: u16 = field(when="there", role=role.ack())
    window: u16 = field(when="there", role=role.window(shift=1))


class Plain(Header):
    """Nothing but a number, and who is meant."""

    conn: u8 = field(0, role=role.conn_id)
    seq: u16 = field(0, role=role.seq("packets"))


def drawn(cls: type[Header], chance: random.Random, n: int) -> list[tuple[str, str, Header, bytes]]:
    """Packets both ways whose numbers are near each other, and sometimes anything; two at a time of each."""
    packets = []
    near = {"a": 2**32 - 3000 if cls is Octets else 250, "b": 7}
    for _ in range(n):
        here = chance.choice("ab")
        there = "b" if here == "a" else "a"
        size = chance.choice([0, 0, 1, 500, 1000])
        values: dict[str, Any] = {}
        for row in cls.fields:
            top = 1 << row.width
            step = 500 if cls is Octets else 1
            wild = chance.random() < 0.02
            if row.name == "seq":
                number = near[here] + step * chance.choice([0, 0, 0, -1, -2, 1]) + chance.choice([0, 0, 0, 3])
                values["seq"] = chance.randrange(top) if wild else number % top
                near[here] = (number + size // (1 if cls is Octets else 500)) if not wild else near[here]
            elif row.name == "ack":
                number = near[there] - step * chance.choice([0, 0, 0, 1, 2])
                values["ack"] = chance.randrange(top) if wild else number % top
            elif row.name == "flags":
                values["flags"] = (
                    chance.choice([0, 4, 4, 4, 1, 2, 6]) if cls is Octets else chance.choice([0, 0, 1, 2])
                )
            elif row.name in ("sport", "dport", "conn"):
                values[row.name] = chance.choice([1, 1, 1, 2])
            elif row.name == "window":
                values["window"] = chance.choice([100, 100, 100, 90])
            elif row.name == "there":
                values["there"] = chance.choice([1, 1, 1, 0])
        if values.get("there") == 0:
            values = {"there": 0}
        packets.append((here, there, cls(**values), bytes(size)))
    return packets


@pytest.mark.parametrize(
    ("cls", "told"),
    [
        (Octets, {}),
        (Octets, {"unit": "packets", "numbers": 16}),
        (Single, {}),
        (Numbered, {}),
        (Numbered, {"numbers": 2}),
        (Plain, {"numbers": 1000}),
        (Absent, {}),
    ],
    ids=lambda value: getattr(
        value, "__name__", "-".join(map(str, value)) if isinstance(value, dict) else ""
    ),
)
def test_any_packets_are_judged_alike(cls: type[Header], told: dict[str, Any], tmp_path: Path) -> None:
    chance = random.Random(1)
    packets = [each for _ in range(3) for each in drawn(cls, chance, 150)]
    addresses = {"a": "192.0.2.1", "b": "192.0.2.2"}
    analysis = Analysis(Roles(cls, **told))
    wanted, time_ns = [], 0
    with create_pcap(tmp_path / "any.pcapng") as file:
        for here, there, header, payload in packets:
            time_ns += chance.choice([0, 1, 1000, 10**6, 123_456_789])
            lower = IPv4(src=addresses[here], dst=addresses[there], protocol=253)
            file.write(Frame(bytes(Ether() / lower / header / payload), time_ns))
            octets = bytes(lower / header / payload)[20:]
            assert describe(octets, cls)
            facts = analysis.see(time_ns, addresses[here], addresses[there], octets)
            assert facts is not None
            wanted.append(
                [
                    facts.retransmission,
                    facts.spurious,
                    facts.gap,
                    facts.dup_ack,
                    facts.rtt_ns,
                    facts.in_flight,
                ]
            )
    (tmp_path / "any.lua").write_text(dissector(cls, name="drawn", ip_proto=253, **told))
    names = ["retransmission", "spurious", "dup_ack", "rtt", "bytes_in_flight"]
    rows = columns(
        tmp_path / "any.pcapng",
        [tmp_path / "any.lua"],
        [*(f"drawn.analysis.{name}" for name in names), "drawn.expert.gap", "_ws.expert"],
    )
    found = []
    for row in rows:
        assert not any("Lua" in text for text in row["_ws.expert"])
        rtt = row["drawn.analysis.rtt"]
        flight = row["drawn.analysis.bytes_in_flight"]
        found.append(
            [
                bool(row["drawn.analysis.retransmission"]),
                bool(row["drawn.analysis.spurious"]),
                bool(row["drawn.expert.gap"]),
                int(row["drawn.analysis.dup_ack"][0]) if row["drawn.analysis.dup_ack"] else 0,
                round(float(rtt[0]) * 1e9) if rtt else None,
                int(flight[0]) if flight else None,
            ]
        )
    assert found == wanted
    kinds = {i for row in wanted for i, value in enumerate(row) if value}
    assert {0, 5} <= kinds if cls is Plain else {0, 4, 5} <= kinds
