"""Columns as Arrow: what nanoarrow reads back, and PyArrow where it is installed."""

from __future__ import annotations

import subprocess
import sys
from ipaddress import IPv6Address

import pytest

from rawkit.bulk import columns
from rawkit.wire import TCP, UDP, Ether, Frame, IPv4, IPv6

na = pytest.importorskip("nanoarrow", reason="Arrow needs nanoarrow, an optional dependency")

SEGMENT = bytes(Ether() / IPv4(src="192.0.2.1") / TCP(sport=40000, dport=80, flags="SA"))
DATAGRAM = bytes(Ether() / IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=53, dport=40001))
NAMES = ["ip.src", "tcp.dport", "tcp.flags", "ip6.dst", "eth.src", "frame.len", "frame.time"]


def test_types_values_and_nulls() -> None:
    frames = [Frame(SEGMENT, time_ns=10**18 + 1), Frame(DATAGRAM, time_ns=10**18 + 2)] * 5  # more than 8 bits
    found = columns(frames, NAMES)
    array = na.Array(found)
    assert (len(array), array.schema.n_fields) == (10, len(NAMES))
    types = {array.schema.field(i).name: array.schema.field(i) for i in range(len(NAMES))}
    assert {name: types[name].type.name for name in NAMES} == {
        "ip.src": "UINT32", "tcp.dport": "UINT16", "tcp.flags": "UINT16", "ip6.dst": "FIXED_SIZE_BINARY",
        "eth.src": "UINT64", "frame.len": "UINT32", "frame.time": "TIMESTAMP",
    }  # fmt: skip
    assert (types["frame.time"].unit.name, types["frame.time"].timezone) == ("NANO", "UTC")
    values = dict(zip(NAMES, array.iter_children()))
    assert values["ip.src"].to_pylist() == [0xC0000201, None] * 5
    assert values["tcp.dport"].to_pylist() == [80, None] * 5
    assert values["tcp.flags"].to_pylist() == [TCP.SYN | TCP.ACK, None] * 5
    assert values["ip6.dst"].to_pylist() == [None, IPv6Address("2001:db8::2").packed] * 5
    assert values["frame.len"].to_pylist() == [len(SEGMENT), len(DATAGRAM)] * 5


def test_as_a_stream_and_empty() -> None:
    (chunk,) = na.ArrayStream(columns([SEGMENT], ["tcp.dport"])).iter_chunks()
    assert chunk.to_pylist() == [{"tcp.dport": 80}]
    assert len(na.Array(columns([], NAMES))) == 0


def test_pyarrow_takes_them() -> None:
    pa = pytest.importorskip("pyarrow", reason="PyArrow is not installed")
    table = pa.table(columns([Frame(SEGMENT, time_ns=5), Frame(DATAGRAM, time_ns=6)], NAMES))
    assert table.column("tcp.dport").to_pylist() == [80, None]
    assert table.schema.field("ip6.dst").type == pa.binary(16)
    assert table.column("frame.time").cast(pa.int64()).to_pylist() == [5, 6]


def test_without_nanoarrow_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['nanoarrow'] = None\n"
        "from rawkit.bulk import columns\n"
        "try: columns([], ['tcp.dport']).__arrow_c_array__()\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "Arrow needs nanoarrow: pip install 'rawkit[arrow]'\n"
