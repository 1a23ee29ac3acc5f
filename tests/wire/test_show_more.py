"""Dumps with their fields, packets as plain values and back, octets from dumps, Wireshark's names."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import oracle, tcpdump
from wire.packets import packets

from rawkit.errors import FieldError
from rawkit.pcap import create_pcap
from rawkit.wire import (
    ARP,
    MSS,
    TCP,
    UDP,
    Dot1Q,
    Ether,
    Frame,
    Header,
    ICMPEcho,
    ICMPv6Echo,
    IPv4,
    IPv6,
    NeighbourSolicitation,
    NoOperation,
    Packet,
    SACKPermitted,
    Timestamps,
)
from rawkit.wire.edit import mutate
from rawkit.wire.expression import header_classes
from rawkit.wire.gre import GRE
from rawkit.wire.igmp import IGMPReport
from rawkit.wire.ipsec import AH
from rawkit.wire.mpls import MPLS
from rawkit.wire.mptcp import DSS
from rawkit.wire.registry import load_all
from rawkit.wire.sctp import SCTP
from rawkit.wire.show import annotated_hexdump, plain, spans
from rawkit.wire.text import octets_from_hex
from rawkit.wire.udplite import UDPLite
from rawkit.wire.vxlan import VXLAN
from rawkit.wire.wireshark import FIELDS, names_of

SYN = (
    Ether()
    / IPv4(src="192.0.2.1", dst="192.0.2.2")
    / TCP(dport=80, options=[MSS(1460), SACKPermitted(), Timestamps(7, 0), NoOperation()])
    / b"hello"
)


# ---- dumps


def test_a_dump_with_its_fields() -> None:
    lines = annotated_hexdump(IPv4(src="192.0.2.1", checksum=0) / UDP(length=9) / b"h").splitlines()
    assert lines[:4] == [
        "0000  45 00 00 1d 00 00 00 00  40 11 00 00 c0 00 02 01  E.......@.......",
        "      1  2  3     4     5      6  7  8     9",
        "0010  00 00 00 00 00 00 00 00  00 09 d5 da 68           ............h",
        "      10          11    12     13    14    15",
    ]
    assert lines[4:6] == [" 1  0000  IPv4.version, ihl", " 2  0001  IPv4.dscp, ecn"]
    assert lines[-1] == "15  001c  payload"


@given(packets(whole=False))
@settings(max_examples=50, deadline=None)
def test_every_octet_has_a_place(packet: Packet) -> None:
    at = 0
    for span in spans(packet):
        assert (span.start, span.end > span.start) == (at, True)
        at = span.end
    assert at == len(packet)
    annotated_hexdump(packet)


def test_the_places_of_damaged_packets() -> None:
    for octets, reason in mutate(SYN):
        packet = Packet.parse(octets)
        assert sum(span.end - span.start for span in spans(packet)) == len(octets), reason


def test_many_fields_keep_their_columns() -> None:
    packet = Packet([Dot1Q()] * 60, b"")
    lines = annotated_hexdump(packet).splitlines()
    assert lines[-1].startswith("120  00ee  Dot1Q.ethertype")
    row = lines.index(next(line for line in lines if line.startswith("00e0")))
    assert lines[row + 1][6:].split() == [str(n) for n in range(113, 121)]


# ---- plain values


@given(packets(whole=False))
@settings(max_examples=30, deadline=None)
def test_plain_values_and_back(packet: Packet) -> None:
    for one in (packet, Packet.parse(bytes(packet), type(packet.layers[0]))):
        again = Packet.from_dict(json.loads(one.to_json()))
        assert bytes(again) == bytes(one)
        assert again == one


def test_damaged_packets_keep_their_octets() -> None:
    for octets, reason in mutate(SYN):
        assert bytes(Packet.from_dict(Packet.parse(octets).to_dict())) == octets, reason


def test_values_written_by_hand() -> None:
    layers = [{"layer": "ipv4", "dst": "192.0.2.7"}, {"layer": "UDP", "dport": 53}]
    packet = Packet.from_dict({"layers": layers})
    assert packet == IPv4(dst="192.0.2.7") / UDP(dport=53)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "a packet: need an object"),
        ({"header": []}, "a packet: no 'header' in it"),
        ({"layers": {}}, "layers: need a list"),
        ({"layers": [{"layer": "TPC"}]}, r"layers\[0\]: no header 'TPC'; did you mean 'tcp'"),
        ({"layers": [{"ttl": 3}]}, r"layers\[0\]: need an object that names its layer"),
        ({"layers": [{"layer": "UDP", "prot": 3}]}, r"layers\[0\]: no field 'prot' in UDP"),
        ({"layers": [{"layer": "UDP", "dport": 70000}]}, r"layers\[0\]: UDP.dport: 70000 does not fit"),
        ({"layers": [{"layer": "UDP", "dport": True}]}, r"layers\[0\].dport: got True"),
        ({"layers": [{"layer": "UDP", "dport": "auto"}]}, r"layers\[0\]: UDP.dport"),
        ({"layers": [{"layer": "IPv4", "dst": "x"}]}, "IPv4.dst: need an IPv4 address"),
        ({"layers": [{"layer": "TCP", "options": [{"option": "MSX"}]}]}, r"options\[0\]: no option 'MSX'"),
        ({"layers": [{"layer": "TCP", "options": [{"option": "MSS"}]}]}, "MSS needs a value for value"),
        ({"layers": [{"layer": "TCP", "options": [5]}]}, "5 is no TCPOption"),
        ({"payload": "0g"}, "payload: need hexadecimal digits, got '0g'"),
        ({"layers": [{"layer": "UDP"}] * 65}, "65 headers"),
    ],
)
def test_values_that_are_no_packet(values: object, reason: str) -> None:
    with pytest.raises(FieldError, match=reason):
        Packet.from_dict(values)  # type: ignore[arg-type]


# ---- hexadecimal


@pytest.mark.parametrize("length", [1, 7, 8, 9, 15, 16, 17, 40])
@pytest.mark.parametrize("program", ["xxd", "xxd -c 8", "xxd -g 1 -c 24", "hexdump -C"])
def test_dumps_of_other_programs(program: str, length: int) -> None:
    octets = b"ab cd 00 dead beef " * 3
    octets = octets[:length]
    words = program.split()
    dump = subprocess.run([oracle(words[0]), *words[1:]], input=octets, capture_output=True, check=True)
    assert octets_from_hex(dump.stdout.decode()) == octets


@pytest.mark.parametrize("option", ["-x", "-X", "-xx"])
def test_the_dumps_of_tcpdump(option: str, tmp_path: Path) -> None:
    path = tmp_path / "one.pcap"
    with create_pcap(path) as writer:
        writer.write(Frame(bytes(SYN)))
    command = [*tcpdump(), "-n", "-r", str(path), option]
    dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    want = bytes(SYN) if option == "-xx" else bytes(SYN)[14:]
    assert octets_from_hex(dump) == want


@given(st.binary(min_size=1, max_size=70))
def test_our_own_dump(octets: bytes) -> None:
    packet = Packet([], octets)
    assert octets_from_hex(packet.hexdump()) == octets
    assert octets_from_hex(octets.hex()) == octets_from_hex(octets.hex(":")) == octets
    assert bytes(Packet.from_hex("0x" + octets.hex(" "), first=None)) == octets


def test_a_dump_with_a_gap_or_a_second_one_is_refused() -> None:
    lines = Packet([], bytes(40)).hexdump().splitlines()
    with pytest.raises(FieldError, match=r"line 2: offset 0x20 \(after 16 octets\)|line 1: 16 octets"):
        octets_from_hex("\n".join([lines[0], lines[2]]))
    with pytest.raises(FieldError, match="line 4: offset 0x0 \\(a second dump\\?\\)"):
        octets_from_hex("\n".join(lines * 2))
    with pytest.raises(FieldError, match="line 1: 'zz' are no octets"):
        octets_from_hex("0000  zz 00\n0010  00\n")


@given(st.text(max_size=80))
def test_any_text_is_octets_or_an_error(text: str) -> None:
    with contextlib.suppress(FieldError):
        assert octets_from_hex(text)


# ---- Wireshark's names


def classes() -> dict[str, type[Header]]:
    load_all()
    return {cls.__name__: cls for cls in header_classes().values() if cls.__module__.startswith("rawkit.")}


def test_every_name_is_of_a_field_of_ours_and_of_wiresharks() -> None:
    done = subprocess.run([oracle("tshark"), "-G", "fields"], capture_output=True, text=True, check=True)
    known = {line.split("\t")[2] for line in done.stdout.splitlines() if line.startswith("F\t")}
    for name, pairs in FIELDS.items():
        ours = {row.name for row in classes()[name].fields}
        for pair in pairs.split():
            field, _, theirs = pair.partition("=")
            assert field in ours, f"{name}.{field}"
            assert theirs in known, theirs


@pytest.mark.parametrize(
    "packet",
    [
        SYN,
        Ether() / Dot1Q(pcp=3, vid=7) / ARP(op=2, sender_ip="192.0.2.1", target_ip="192.0.2.2"),
        Ether() / IPv4(src="192.0.2.1", id=9, flags="DF", dscp=46, ecn=1) / UDP(sport=9, dport=4000) / b"x",
        Ether() / IPv4(src="192.0.2.1") / ICMPEcho(id=4, seq=5),
        Ether() / IPv6(src="2001:db8::1", traffic_class=4, flow_label=77) / ICMPv6Echo(id=1, seq=2),
        Ether() / IPv6(src="fe80::1", hop_limit=255) / NeighbourSolicitation(target="fe80::2"),
        Ether() / IPv4(src="192.0.2.1") / UDPLite(sport=5, dport=4000) / b"x",
        Ether() / IPv4(src="192.0.2.1") / SCTP(sport=5, dport=4000, tag=9),
        Ether() / IPv4(src="192.0.2.1") / AH(spi=7, seq=8, icv=bytes(12)) / UDP(sport=9, dport=4001) / b"x",
        Ether() / IPv4(src="192.0.2.1") / GRE(key=7, seq=8) / IPv4(src="192.0.2.3"),
        Ether() / IPv4(src="192.0.2.1") / UDP(sport=9, dport=4789) / VXLAN(vni=77) / Ether(),
        Ether() / MPLS(label_value=99, traffic_class=2, ttl=9) / IPv4(src="192.0.2.3"),
        Ether() / IPv4(src="192.0.2.1") / IGMPReport(group="224.0.0.9"),
    ],
    ids=lambda packet: type(packet.layers[-1]).__name__,
)
def test_tshark_reads_the_same_values_under_these_names(packet: Packet, tmp_path: Path) -> None:
    path = tmp_path / "one.pcap"
    with create_pcap(path) as writer:
        writer.write(Frame(bytes(packet)))
    parsed = Packet.parse(bytes(packet))
    values = parsed.to_dict(names="wireshark")
    ours: dict[str, object] = {}
    for layer in values["layers"]:
        for name, value in layer.items():
            if "." in name and value is not None:
                ours.setdefault(name, value)  # of two headers of a kind the outer one
    ours["frame.len"] = values["frame.len"]
    assert len(ours) > 8
    words = [word for name in ours for word in ("-e", name)]
    command = [oracle("tshark"), "-n", "-r", str(path), "-T", "json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout)[0]["_source"]["layers"]
    for name, value in ours.items():
        shown = theirs[name][0]
        found = int(shown, 0) if isinstance(value, int) else shown
        if isinstance(value, int) and shown in ("True", "False"):
            found = shown == "True"
        assert found == value, name
        assert plain(parsed[name]) == value


def test_options_have_wiresharks_names_too() -> None:
    syn = IPv4() / TCP(options=[MSS(1460)])
    (option,) = syn.to_dict(names="wireshark")["layers"][-1]["options"]
    assert option == {"option": "MSS", "tcp.options.mss_val": 1460}


def test_of_two_fields_in_the_same_place_the_one_that_is_there_counts() -> None:
    for header, value in ((DSS(dsn=7), 7), (DSS(dsn_form=3, dsn8=8), 8)):
        assert plain(header, "wireshark")["tcp.options.mptcp.rawdataseqno"] == value


def test_names_of_subclasses_are_inherited() -> None:
    assert names_of(ICMPEcho)["type"] == "icmp.type"
    assert names_of(ICMPEcho)["id"] == "icmp.ident"


def test_other_names_are_refused() -> None:
    with pytest.raises(ValueError, match='names are "rawkit" or "wireshark"'):
        SYN.to_dict(names="scapy")
