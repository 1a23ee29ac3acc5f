"""MAC addresses, targets and ports as people type them."""

from __future__ import annotations

import copy
import doctest
import pickle
import re
import socket
import subprocess
import tracemalloc
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import oracle

import rawkit.addr
from rawkit.addr import MAC, Span, TargetSet, parse_ports, parse_target
from rawkit.errors import TargetError

DOCS = "00:00:5e:00:53:01"  # RFC 9542 section 2.1.2: for documentation


def test_the_examples_of_the_module() -> None:
    assert doctest.testmod(rawkit.addr) == (0, 2)


# ---- MAC ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        DOCS,
        "00-00-5E-00-53-01",
        "0000.5e00.5301",
        "0:0:5e:0:53:1",
        b"\x00\x00\x5e\x00\x53\x01",
        bytearray.fromhex("00005e005301"),
        memoryview(b"\x00\x00\x5e\x00\x53\x01"),
        0x00005E005301,
        MAC(DOCS),
    ],
)
def test_every_form_of_a_mac_address_is_the_same_value(form: str | bytes | int | MAC) -> None:
    mac = MAC(form)
    assert (str(mac), bytes(mac), int(mac)) == (DOCS, bytes.fromhex("00005e005301"), 0x00005E005301)
    assert mac == MAC(DOCS)
    assert hash(mac) == hash(MAC(DOCS))


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ("00:00:5e:00:53", "expected a form like"),
        ("00:00:5e-00-53-01", "expected a form like"),
        ("00:00:5e:00:53:01:02", "expected a form like"),
        ("00:00:5e:00:53:0g", "expected a form like"),
        (" 00:00:5e:00:53:01", "expected a form like"),
        ("\N{ARABIC-INDIC DIGIT ZERO}0:00:5e:00:53:01", "expected a form like"),
        ("", "expected a form like"),
        (b"\x00" * 5, "need 6 octets, have 5"),
        (-1, "needs to be in"),
        (1 << 48, "needs to be in"),
        (None, "expected text, octets or an integer"),
    ],
)
def test_what_is_no_mac_address_is_refused_with_the_reason(form: str, reason: str) -> None:
    with pytest.raises(TargetError, match=f"bad MAC address .*{reason}"):
        MAC(form)


def test_a_mac_address_does_not_change_and_holds_nothing_else() -> None:
    mac = MAC(DOCS)
    with pytest.raises(AttributeError, match="does not change"):
        mac.vendor = "none"  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="does not change"):
        mac._octets = b""
    with pytest.raises(AttributeError, match="does not change"):
        del mac._octets
    assert not hasattr(mac, "__dict__")


def test_mac_addresses_order_by_value_and_compare_with_nothing_else() -> None:
    low, high = MAC(1), MAC("ff:ff:ff:ff:ff:ff")
    assert sorted([high, low]) == [low, high]
    assert low <= MAC(1) < high
    assert MAC(DOCS) != DOCS
    with pytest.raises(TypeError):
        low < 5  # noqa: B015


@pytest.mark.parametrize(
    ("address", "multicast", "local"),
    [
        (DOCS, False, False),
        ("ff:ff:ff:ff:ff:ff", True, True),
        ("01:00:5e:00:00:01", True, False),
        ("02:00:00:00:00:01", False, True),
    ],
)
def test_flag_bits(address: str, multicast: bool, local: bool) -> None:
    assert (MAC(address).is_multicast, MAC(address).is_local) == (multicast, local)


@given(st.integers(0, 2**48 - 1))
def test_a_mac_address_survives_every_way_out_and_back(number: int) -> None:
    mac = MAC(number)
    assert mac == MAC(str(mac)) == MAC(bytes(mac)) == MAC(str(mac).replace(":", "-").upper())
    assert mac == copy.deepcopy(mac) == pickle.loads(pickle.dumps(mac)) == eval(repr(mac))


# ---- targets -----------------------------------------------------------------------------------


def nobody(name: str) -> Sequence[str]:
    raise AssertionError(f"resolved {name}")


def texts(text: str, **options: object) -> list[str]:
    return [str(address) for address in parse_target(text, resolve=nobody, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", ["192.0.2.1"]),
        ("192.0.2.4/30", ["192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.7"]),
        ("192.0.2.5/31", ["192.0.2.4", "192.0.2.5"]),
        ("192.0.2.254-192.0.3.1", ["192.0.2.254", "192.0.2.255", "192.0.3.0", "192.0.3.1"]),
        ("192.0.2.1-3", ["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
        ("192.0.2-3.7-8", ["192.0.2.7", "192.0.2.8", "192.0.3.7", "192.0.3.8"]),
        ("1-2.0-1.2.3", ["1.0.2.3", "1.1.2.3", "2.0.2.3", "2.1.2.3"]),
        ("192.0.2.1,7-8", ["192.0.2.1", "192.0.2.7", "192.0.2.8"]),
        ("192.0.2.1,7 2001:db8::1", ["192.0.2.1", "192.0.2.7", "2001:db8::1"]),
        ("192.0.2.254-", ["192.0.2.254", "192.0.2.255"]),
        ("192.0.2.-1", ["192.0.2.0", "192.0.2.1"]),
        ("2001:db8::1", ["2001:db8::1"]),
        ("2001:db8::/127", ["2001:db8::", "2001:db8::1"]),
        ("2001:db8::9-2001:db8::a", ["2001:db8::9", "2001:db8::a"]),
        ("fe80::1%br-lan", ["fe80::1%br-lan"]),
        ("192.0.2.9,192.0.2.1\n2001:db8::1", ["192.0.2.9", "192.0.2.1", "2001:db8::1"]),
        ("192.0.2.2, 192.0.2.1-3 ,192.0.2.2", ["192.0.2.2", "192.0.2.1", "192.0.2.3"]),
        ("255.255.255.255 ::", ["255.255.255.255", "::"]),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]),
    ],
)
def test_a_target_list_is_expanded_in_the_order_given_each_address_once(
    text: str, expected: list[str]
) -> None:
    assert texts(text) == expected


@pytest.mark.parametrize("text", ["10.0-1,7.3-4.1,9-10", "10.1,2.3,4.5", "10.0.0.-2,254-", "10.0.0.*"])
def test_octet_ranges_are_what_nmap_makes_of_them(text: str) -> None:
    """Its list scan sends nothing."""
    argv = [oracle("nmap"), "-sL", "-n", text]
    listed = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout
    assert sorted(texts(text)) == sorted(re.findall(r"^Nmap scan report for (\S+)", listed, re.MULTILINE))


def test_texts_may_come_one_by_one() -> None:
    assert texts(["192.0.2.1", "192.0.2.7,192.0.2.8"]) == ["192.0.2.1", "192.0.2.7", "192.0.2.8"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "piece", "reason"),
    [
        ("192.0.2.300", "192.0.2.300", "'300' is outside 0..255"),
        ("192.0.2", "192.0.2", "four octets"),
        ("192.0.2.1.5", "192.0.2.1.5", "four octets"),
        ("192.0.2.01", "192.0.2.01", "'01' is no octet"),
        ("192.0.2.9-1", "192.0.2.9-1", "'9-1' ends before it begins"),
        ("192.0.2.1,192.0.2.9-192.0.2.1", "192.0.2.9-192.0.2.1", "it ends before it begins"),
        ("192.0.2.1-192.0.2.1-192.0.2.2", "192.0.2.1-192.0.2.1-192.0.2.2", ""),
        ("192.0.2.0/33", "192.0.2.0/33", "netmask"),
        ("192.0.2.0/", "192.0.2.0/", ""),
        ("/24", "/24", ""),
        ("2001:db8::g", "2001:db8::g", ""),
        ("2001:db8::1-192.0.2.1", "2001:db8::1-192.0.2.1", ""),
        ("fe80::1%", "fe80::1%", ""),
        (DOCS, DOCS, ""),
    ],
)
def test_a_bad_target_is_refused_naming_the_piece(text: str, piece: str, reason: str) -> None:
    with pytest.raises(TargetError) as caught:
        parse_target(text, resolve=nobody)
    assert str(caught.value).startswith(f"bad target {piece!r}: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize("text", ["", " , \n", []])
def test_no_target_at_all_is_refused(text: str) -> None:
    with pytest.raises(TargetError, match="no targets given"):
        parse_target(text)


def test_a_host_name_stands_for_its_first_address_of_the_family_wanted() -> None:
    def resolve(name: str) -> Sequence[str]:
        return {"www.example": ["2001:db8::80", "192.0.2.80", "192.0.2.81"]}[name]

    assert list(parse_target("www.example", resolve=resolve)) == [IPv6Address("2001:db8::80")]
    targets = parse_target("192.0.2.1 www.example", family=4, resolve=resolve)
    assert list(targets) == [IPv4Address("192.0.2.1"), IPv4Address("192.0.2.80")]
    assert targets.names == {IPv4Address("192.0.2.80"): "www.example"}
    with pytest.raises(TargetError, match=r"cannot resolve 'www.example': it has no IPv6 address"):
        parse_target("www.example", family=6, resolve=lambda name: ["192.0.2.1"])


def test_a_name_that_does_not_resolve_says_what_the_resolver_said() -> None:
    def resolve(name: str) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(TargetError, match="cannot resolve 'nosuch.example': Name or service not known"):
        parse_target("nosuch.example", resolve=resolve)


def test_the_system_resolver_is_asked_by_default_and_its_complaints_are_ours() -> None:
    assert next(iter(parse_target("localhost"))).is_loopback
    with pytest.raises(TargetError, match="cannot resolve 'a{64}'"):
        parse_target("a" * 64)  # no label is that long: a UnicodeError from the codec, before any query


@pytest.mark.parametrize(("family", "text"), [(4, "2001:db8::1"), (6, "192.0.2.0/24"), (6, "192.0.2.1-2")])
def test_an_address_of_the_other_family_is_refused(family: int, text: str) -> None:
    with pytest.raises(TargetError, match=f"IPv{family} is wanted, this is IPv{10 - family}"):
        parse_target(text, family=family)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0.0.0.0/0", 2**32),
        ("2001:db8::/32", 2**96),
        ("*.*.*.*", 2**32),
        ("0-255.0-255.0-255.1-9", 9 * 2**24),
    ],
)
def test_a_list_beyond_the_limit_is_refused_before_it_is_expanded(text: str, count: int) -> None:
    tracemalloc.start()
    with pytest.raises(TargetError, match=f"too many targets at .*: {count} addresses, the limit is 1048576"):
        parse_target(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_the_limit_counts_the_whole_list_and_can_be_raised() -> None:
    with pytest.raises(TargetError, match="too many targets at '192.0.2.9': 5 addresses, the limit is 4"):
        parse_target("192.0.2.0/30 192.0.2.9", limit=4)
    whole = parse_target("2001:db8::/32", limit=2**128)
    assert whole.count == 2**96
    assert whole[2**95] == IPv6Address(int(IPv6Address("2001:db8::")) + 2**95)
    assert whole[-1] == IPv6Address("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")
    assert IPv6Address("2001:db8:1::") in whole


def test_a_set_of_targets_is_indexed_searched_and_sliced() -> None:
    targets = parse_target("192.0.2.8/30 fe80::1%veth0 192.0.2.1")
    assert len(targets) == targets.count == 6
    assert [targets[i] for i in range(6)] == list(targets)
    assert targets[-1] == IPv4Address("192.0.2.1")
    assert [str(address) for address in targets[3:5]] == ["192.0.2.11", "fe80::1%veth0"]
    for index in (6, -7):
        with pytest.raises(IndexError, match=f"target {index} of 6"):
            targets[index]
    assert IPv4Address("192.0.2.10") in targets
    assert IPv6Address("fe80::1%veth0") in targets
    for stranger in ["192.0.2.12", "192.0.2.0", "0.0.0.0", "fe80::1", "fe80::1%veth1", "::c000:201"]:
        assert ip_address(stranger) not in targets
    assert "192.0.2.1" not in targets
    assert repr(targets) == "<TargetSet: 6 addresses in 3 spans>"


def test_exclusion_always_wins_and_keeps_the_order() -> None:
    targets = parse_target("192.0.2.9 192.0.2.0/29 www.example", resolve=lambda name: ["192.0.2.77"])
    rest = targets.without(parse_target("192.0.2.2-192.0.2.6 192.0.2.77"))
    assert [str(address) for address in rest] == ["192.0.2.9", "192.0.2.0", "192.0.2.1", "192.0.2.7"]
    assert rest.names == {}
    assert targets.without(targets).count == 0


spans = st.builds(
    lambda version, first, extra, zone: Span(version, first, first + extra, zone if version == 6 else ""),
    st.sampled_from([4, 6]),
    st.integers(0, 30),
    st.integers(0, 12),
    st.sampled_from(["", "veth0"]),
)


def expanded(rows: Sequence[Span]) -> list[tuple[int, str, int]]:
    return [(row.version, row.zone, number) for row in rows for number in range(row.first, row.last + 1)]


@given(st.lists(spans, max_size=12), st.lists(spans, max_size=4))
def test_overlapping_spans_give_each_address_once_in_order_of_first_mention(
    rows: list[Span], excluded: list[Span]
) -> None:
    wanted = list(dict.fromkeys(expanded(rows)))
    assert expanded(TargetSet(rows).spans) == wanted
    gone = set(expanded(excluded))
    rest = TargetSet(rows).without(TargetSet(excluded))
    assert expanded(rest.spans) == [address for address in wanted if address not in gone]
    assert rest.count == len(list(rest))


@given(st.text(alphabet="0123456789.-*/:abf%, ", max_size=30))
def test_any_text_is_a_target_list_or_a_target_error(text: str) -> None:
    def nowhere(name: str) -> Sequence[str]:
        raise OSError(2, "not found")

    try:
        targets = parse_target(text, resolve=nowhere)
    except TargetError:
        return
    assert targets[0] == next(iter(targets))
    assert targets[targets.count - 1] in targets


# ---- ports -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("22", (22,)),
        ("443, 80,22-24,23", (22, 23, 24, 80, 443)),
        ("-3", (1, 2, 3)),
        ("65534-", (65534, 65535)),
        ("0", (0,)),
        ("-", tuple(range(1, 65536))),
        ("http,https", (80, 443)),
        ("7,U:53,1-3,T:22,80,S:9", (7, 22, 80)),
    ],
)
def test_ports_are_sorted_each_once(text: str, expected: tuple[int, ...]) -> None:
    assert parse_ports(text) == expected


def test_a_service_is_looked_up_for_its_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {("http-alt", "tcp"): 8080, ("tftp", "udp"): 69}

    def getservbyname(name: str, protocol: str) -> int:
        if (name, protocol) not in known:
            raise OSError("service/proto not found")
        return known[name, protocol]

    monkeypatch.setattr(socket, "getservbyname", getservbyname)
    assert parse_ports("http-alt") == (8080,)
    assert parse_ports("tftp", "udp") == (69,)
    with pytest.raises(
        TargetError, match="bad port 'tftp': no number, no range and no tcp service of that name"
    ):
        parse_ports("80,tftp")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("70000-80000", "bad port range '70000-80000': ports are 0..65535"),
        ("22,65536", "bad port '65536': ports are 0..65535"),
        ("9" * 5000, "ports are 0..65535"),
        ("22,9-1", "bad port range '9-1': it ends before it begins"),
        ("1-2-3", "bad port '1-2-3'"),
        ("+5", "bad port '+5'"),
        ("\N{ARABIC-INDIC DIGIT FIVE}", "bad port"),
        ("a\0b", "bad port"),
        (" ,", "no ports given"),
        ("U:53,S:9", "no tcp ports given: 'U:53,S:9'"),
    ],
)
def test_bad_ports_are_refused_naming_the_piece(text: str, message: str) -> None:
    with pytest.raises(TargetError) as caught:
        parse_ports(text)
    assert message in str(caught.value)


@given(st.sets(st.integers(0, 65535), min_size=1, max_size=50))
def test_ports_written_in_any_order_come_back(ports: set[int]) -> None:
    assert parse_ports(",".join(map(str, ports))) == tuple(sorted(ports))
