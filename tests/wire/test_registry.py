"""Modules of rare protocols are imported when a number or a name asks for them, and only then."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from rawkit.wire import UDP, Header, IPv4, IPv6, Packet
from rawkit.wire.expression import parse_expression
from rawkit.wire.registry import LATER

CODE = """
import sys
import rawkit.wire as wire

waiting = {"gre", "igmp", "vxlan", "ipv6ext", "mld"}
loaded = lambda: {name for name in waiting if f"rawkit.wire.{name}" in sys.modules}
assert loaded() == set(), loaded()
octets = bytes(wire.IPv4(protocol=47) / (bytes.fromhex("00000800") + bytes(wire.IPv4())))
print([type(layer).__name__ for layer in wire.Packet.parse(octets, first=wire.IPv4).layers])
assert loaded() == {"gre"}, loaded()
assert wire.VXLAN.__name__ == "VXLAN"
assert loaded() == {"gre", "vxlan"}, loaded()
"""


def test_numbers_and_names_load_their_module_alone() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("['IPv4', 'GRE', 'IPv4']\n", "")


def test_no_test_takes_the_experimental_numbers_for_all_others() -> None:
    """All test modules are imported before the first test; their header classes stay for the whole run."""
    assert {253, 254}.isdisjoint(IPv4.uppers)
    assert {253, 254}.isdisjoint(IPv6.uppers)


def test_every_waiting_number_is_taken_by_its_module() -> None:
    import rawkit.wire
    from rawkit.wire.header import LINKTYPES

    for name, waiting in LATER.items():
        for module, numbers in waiting.items():
            loaded = import_module(f"rawkit.wire.{module}")
            owner = name.removesuffix(".variants")
            if name == "linktypes":
                table = LINKTYPES
            else:
                found = getattr(rawkit.wire, owner, None)
                found = found or next(c for c in _all(loaded) if c.__name__ == owner)
                table = found.variants if name.endswith(".variants") else getattr(found, "uppers", None)
                table = found.members if table is None else table
            for number in numbers:
                assert table.get(number).__module__ == loaded.__name__, (name, number)


def _all(module: object) -> list[type]:
    return [value for value in vars(module).values() if isinstance(value, type)]


def test_a_waiting_number_is_taken() -> None:
    with pytest.raises(TypeError, match=r"UDP 4789 is taken: rawkit.wire.vxlan.VXLAN and"):

        class Mine(Header, over={UDP: 4789}):
            pass


def test_expressions_find_waiting_headers() -> None:
    packet = parse_expression('ip/gre(key=5)/ip/"x"')
    assert [type(layer).__name__ for layer in packet.layers] == ["IPv4", "GRE", "IPv4"]
    assert Packet.parse(bytes(packet), first=IPv4, strict=True).payload == b"x"
