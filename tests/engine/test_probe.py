"""TCP and echo probes: what C fills in is read by scapy, what scapy answers is recognised by C."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rawkit._native import ffi, lib

KEY = bytes(range(16))
SPORT = 40000
SOURCE = {4: "192.0.2.9", 6: "2001:db8::9"}
TARGETS = {
    4: ["192.0.2.1", "192.0.2.2", "198.51.100.77"],
    6: ["2001:db8::1", "2001:db8::2", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"],
}
ROUTER = {4: "203.0.113.1", 6: "2001:db8:1::1"}
PORTS = [22, 80, 65535]
STATES = {
    lib.RK_PROBE_OPEN: "open",
    lib.RK_PROBE_CLOSED: "closed",
    lib.RK_PROBE_FILTERED: "filtered",
    lib.RK_PROBE_DAMAGED: "damaged",
}


def family_of(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


@dataclass
class Reply:
    address: str
    reporter: str
    port: int
    state: str
    hop_limit: int
    icmp: tuple[int, int]
    time_ns: int


@dataclass
class Plan:
    """A struct rk_probe_plan with the memory that it borrows."""

    version: int
    template: bytes
    link: bytes = b""
    ports: Sequence[int] = field(default_factory=lambda: PORTS)

    def __post_init__(self) -> None:
        targets = [
            socket.inet_pton(family_of(self.version), t).ljust(16, b"\0") for t in TARGETS[self.version]
        ]
        self._owned = (
            ffi.new("uint8_t[]", self.template),
            ffi.new("uint8_t[]", self.link or b"\0"),
            ffi.new("struct rk_span[]", [(target, i, 1) for i, target in enumerate(targets)]),
            ffi.new("uint16_t[]", list(self.ports)),
        )
        packet, link, spans, ports = self._owned
        self.struct = ffi.new(
            "struct rk_probe_plan *",
            {
                "packet": packet,
                "packet_len": len(self.template),
                "link": link if self.link else ffi.NULL,
                "link_len": len(self.link),
                "spans": spans,
                "spans_n": len(targets),
                "addresses_n": len(targets),
                "ports": ports,
                "ports_n": len(self.ports),
                "key": KEY,
            },
        )

    def fill(self, index: int, n: int, capacity: int = 64, arena_len: int = 65536) -> list[bytes] | int:
        """The frames, or the negative errno."""
        arena, frames = ffi.new("uint8_t[]", arena_len), ffi.new("struct rk_frame[]", capacity)
        batch = ffi.new("struct rk_batch *", {"arena": arena, "frames": frames, "arena_len": arena_len})
        batch.capacity = capacity
        result = lib.rk_probe_fill(self.struct, batch, index, n)
        if result < 0:
            return int(result)
        assert batch.n == result
        return [ffi.buffer(arena + row.offset, row.cap_len)[:] for row in frames[0:result]]

    def probes(self) -> list[bytes]:
        """All of them."""
        filled = self.fill(0, len(TARGETS[self.version]) * len(self.ports))
        assert isinstance(filled, list)
        return filled

    def match(self, packets: Sequence[bytes], link_skip: int = 0) -> list[Reply]:
        octets = b"".join(packets)
        arena = ffi.new("uint8_t[]", octets or b"\0")
        frames = ffi.new("struct rk_frame[]", max(len(packets), 1))
        offset = 0
        for i, packet in enumerate(packets):
            frames[i].offset, frames[i].cap_len, frames[i].time_ns = offset, len(packet), 1000 + i
            offset += len(packet)
        batch = ffi.new("struct rk_batch *", {"arena": arena, "frames": frames})
        batch.arena_len = batch.arena_used = len(octets)
        batch.capacity = batch.n = len(packets)
        replies = ffi.new("struct rk_probe_reply[]", max(len(packets), 1))
        following = ffi.new("uint32_t *")
        n = lib.rk_probe_match(self.struct, batch, link_skip, 0, replies, len(packets), following)
        assert n >= 0
        assert following[0] == len(packets)
        return [self._reply(row) for row in replies[0:n]]

    def _reply(self, row: Any) -> Reply:
        length = 4 if self.version == 4 else 16
        assert not any(bytes(row.address)[length:] + bytes(row.reporter)[length:])
        return Reply(
            address=socket.inet_ntop(family_of(self.version), bytes(row.address)[:length]),
            reporter=socket.inet_ntop(family_of(self.version), bytes(row.reporter)[:length]),
            port=row.port,
            state=STATES[row.state],
            hop_limit=row.hop_limit,
            icmp=(row.icmp_type, row.icmp_code),
            time_ns=row.time_ns,
        )


def ip_layer(scapy: Any, version: int, src: str, dst: str, **fields: Any) -> Any:
    return scapy.IP(src=src, dst=dst, **fields) if version == 4 else scapy.IPv6(src=src, dst=dst, **fields)


@pytest.fixture(scope="session")
def scapy() -> Any:
    return pytest.importorskip("scapy.all")


@pytest.fixture(params=["ipv4", "ipv4-options", "ipv4-data", "ipv6", "ipv6-options"])
def plan(request: pytest.FixtureRequest, scapy: Any) -> Plan:
    """Plans whose templates scapy built, with all that may stand before, in and behind the TCP header."""
    version = 4 if request.param.startswith("ipv4") else 6
    packet = ip_layer(scapy, version, SOURCE[version], TARGETS[version][0])
    if request.param == "ipv4-options":
        packet.options = [scapy.IPOption_Timestamp(), scapy.IPOption_NOP()]
    if request.param == "ipv6-options":
        packet /= scapy.IPv6ExtHdrDestOpt(options=[scapy.PadN(optdata=b"12345678")])
    packet /= scapy.TCP(
        sport=SPORT, dport=1, flags="S", window=1024, options=[("MSS", 1460), ("SAckOK", b"")]
    )
    if request.param == "ipv4-data":
        packet /= b"odd"
    return Plan(version, bytes(packet))


def answer(scapy: Any, plan: Plan, probe: bytes, flags: str, ack: int = 1, **fields: Any) -> bytes:
    """A segment back from the target of a probe, acknowledging its sequence number plus `ack`."""
    ip = (scapy.IP if plan.version == 4 else scapy.IPv6)(probe)
    tcp = scapy.TCP(
        sport=ip[scapy.TCP].dport,
        dport=ip[scapy.TCP].sport,
        seq=7,
        ack=(ip[scapy.TCP].seq + ack) % 2**32,
        flags=flags,
    )
    return bytes(ip_layer(scapy, plan.version, ip.dst, ip.src, **fields) / tcp)


def error(scapy: Any, plan: Plan, probe: bytes, type: int, code: int, quoted_len: int) -> bytes:
    """An ICMP error from the router, quoting so many octets of a probe."""
    ip = ip_layer(scapy, plan.version, ROUTER[plan.version], SOURCE[plan.version])
    if plan.version == 4:
        return bytes(ip / scapy.ICMP(type=type, code=code) / scapy.Raw(probe[:quoted_len]))
    kind = {1: scapy.ICMPv6DestUnreach, 2: scapy.ICMPv6PacketTooBig, 3: scapy.ICMPv6TimeExceeded}
    return bytes(ip / kind[type](code=code) / scapy.Raw(probe[:quoted_len]))


def tcp_offset(plan: Plan) -> int:
    """Octets before the TCP header of the template."""
    if plan.version == 4:
        return (plan.template[0] & 15) * 4
    return 40 if plan.template[6] == 6 else 48 + 8 * plan.template[41]


def test_probes_read_by_scapy(plan: Plan, scapy: Any) -> None:
    """Every field as in the template, but for target, sequence number and checksums, which are right."""
    probes = plan.probes()
    cls = scapy.IP if plan.version == 4 else scapy.IPv6
    expected = [(target, port) for target in TARGETS[plan.version] for port in PORTS]
    assert [(cls(p).dst, cls(p)[scapy.TCP].dport) for p in probes] == expected
    for octets, (target, port) in zip(probes, expected):
        address = socket.inet_pton(family_of(plan.version), target).ljust(16, b"\0")
        hashed = address + port.to_bytes(2, "big") + SPORT.to_bytes(2, "big")
        fresh = cls(plan.template)
        fresh.dst = target
        fresh[scapy.TCP].dport = port
        fresh[scapy.TCP].seq = lib.rk_cookie(KEY, hashed, len(hashed)) & 0xFFFFFFFF
        del fresh[scapy.TCP].chksum
        if plan.version == 4:
            del fresh.chksum
        assert octets == bytes(fresh)


def test_probes_at_any_index(plan: Plan) -> None:
    probes = plan.probes()
    for first in range(len(probes) + 1):
        assert plan.fill(first, len(probes) - first) == probes[first:]
    assert plan.fill(len(probes), 1) == -errno.EINVAL
    assert plan.fill(2**64 - 1, 2) == -errno.EINVAL
    assert plan.fill(0, len(probes), capacity=4) == probes[:4]
    assert plan.fill(0, len(probes), arena_len=3 * len(plan.template) - 1) == probes[:2]


def test_link_header_goes_before(scapy: Any) -> None:
    template = bytes(scapy.IP(src=SOURCE[4], dst=TARGETS[4][0]) / scapy.TCP(sport=SPORT, flags="S"))
    link = bytes(scapy.Ether(src="00:00:5e:00:53:01", dst="00:00:5e:00:53:02", type=0x0800))
    bare, framed = Plan(4, template), Plan(4, template, link=link)
    assert framed.probes() == [link + probe for probe in bare.probes()]
    answers = [link + answer(scapy, bare, probe, "SA") for probe in bare.probes()]
    assert len(framed.match(answers, link_skip=14)) == len(answers)
    assert framed.match(answers, link_skip=0) == []


def test_keys_give_other_sequence_numbers(plan: Plan) -> None:
    before, at = plan.probes(), tcp_offset(plan) + 4
    plan.struct.key = bytes(16)
    after = plan.probes()
    assert all(a[at : at + 4] != b[at : at + 4] for a, b in zip(before, after))
    assert len({probe[at : at + 4] for probe in before}) == len(before)


@pytest.mark.parametrize(
    ("flags", "state"), [("SA", "open"), ("SAEC", "open"), ("RA", "closed"), ("SRA", "closed")]
)
def test_answers_of_targets(plan: Plan, scapy: Any, flags: str, state: str) -> None:
    limits = {"ttl": 43} if plan.version == 4 else {"hlim": 43}
    answers = [answer(scapy, plan, probe, flags, **limits) for probe in plan.probes()]
    assert plan.match(answers) == [
        Reply(target, target, port, state, 43, (0, 0), 1000 + i)
        for i, (target, port) in enumerate((t, p) for t in TARGETS[plan.version] for p in PORTS)
    ]


def test_reset_acknowledges_data(plan: Plan, scapy: Any) -> None:
    """RFC 9293 section 3.10.7.1: a RST acknowledges SYN and data."""
    data_len = 3 if plan.template.endswith(b"odd") else 0
    probes = plan.probes()
    assert len(plan.match([answer(scapy, plan, p, "RA", ack=1 + data_len) for p in probes])) == len(probes)
    assert plan.match([answer(scapy, plan, p, "RA", ack=2 + data_len) for p in probes]) == []


@pytest.mark.parametrize("flags", ["S", "R", "A", "PA", "FA", ""])
def test_other_segments_are_passed_over(plan: Plan, scapy: Any, flags: str) -> None:
    assert plan.match([answer(scapy, plan, probe, flags) for probe in plan.probes()]) == []


@pytest.mark.parametrize("ack", [0, 2, 2**31, 2**32 - 1])
def test_forged_cookies_are_passed_over(plan: Plan, scapy: Any, ack: int) -> None:
    assert plan.match([answer(scapy, plan, probe, "SA", ack=ack) for probe in plan.probes()]) == []


def test_one_wrong_bit_is_passed_over(plan: Plan, scapy: Any) -> None:
    """Any bit of addresses, ports or acknowledgement flipped; the one of the answer's destination is ours."""
    good = answer(scapy, plan, plan.probes()[4], "SA")
    tcp_at = 20 if plan.version == 4 else 40
    src = range(12, 16) if plan.version == 4 else range(8, 24)
    for at in [*src, *range(tcp_at, tcp_at + 4), *range(tcp_at + 8, tcp_at + 12)]:
        for bit in range(8):
            forged = good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :]
            assert plan.match([forged]) == [], f"octet {at} bit {bit}"
    assert len(plan.match([good])) == 1


ERRORS = {4: [(3, 1), (3, 3), (3, 13), (11, 0), (12, 0)], 6: [(1, 1), (1, 4), (2, 0), (3, 0)]}


def test_errors_of_routers(plan: Plan, scapy: Any) -> None:
    """Quoting the probe up to its sequence number, or whole."""
    for type, code in ERRORS[plan.version]:
        for quoted_len in (tcp_offset(plan) + 8, len(plan.template)):
            answers = [error(scapy, plan, probe, type, code, quoted_len) for probe in plan.probes()]
            assert plan.match(answers) == [
                Reply(target, ROUTER[plan.version], port, "filtered", 64, (type, code), 1000 + i)
                for i, (target, port) in enumerate((t, p) for t in TARGETS[plan.version] for p in PORTS)
            ]
            at = len(answers[0]) - quoted_len + tcp_offset(plan) + 7
            forged = [a[:at] + bytes([a[at] ^ 1]) + a[at + 1 :] for a in answers]
            assert plan.match(forged) == []


def test_errors_that_quote_too_little(plan: Plan, scapy: Any) -> None:
    type, code = ERRORS[plan.version][0]
    probe = plan.probes()[0]
    for quoted_len in range(tcp_offset(plan) + 8):
        assert plan.match([error(scapy, plan, probe, type, code, quoted_len)]) == []


def test_redirects_and_replies_are_no_errors(scapy: Any) -> None:
    """After a redirect the packet did arrive."""
    template = bytes(scapy.IP(src=SOURCE[4], dst=TARGETS[4][0]) / scapy.TCP(sport=SPORT, flags="S"))
    plan = Plan(4, template)
    probe = plan.probes()[0]
    assert plan.match([error(scapy, plan, probe, type, 0, 40) for type in (0, 4, 5, 8, 13)]) == []
    assert len(plan.match([error(scapy, plan, probe, 3, 0, 40)])) == 1


def test_replies_cut_short(plan: Plan, scapy: Any) -> None:
    type, code = ERRORS[plan.version][0]
    probe = plan.probes()[0]
    for whole in (
        answer(scapy, plan, probe, "SA"),
        error(scapy, plan, probe, type, code, tcp_offset(plan) + 8),
    ):
        assert len(plan.match([whole])) == 1
        assert plan.match([whole[:length] for length in range(len(whole))]) == []


@pytest.mark.parametrize("version", [4, 6])
def test_templates_that_are_none(scapy: Any, version: int) -> None:
    ip = ip_layer(scapy, version, SOURCE[version], TARGETS[version][0])
    tcp = scapy.TCP(sport=SPORT, flags="S")
    for bad in (ip / scapy.UDP(), ip / scapy.ICMP(), ip / scapy.ICMP(type=13) / bytes(20), ip / (tcp / b"")):
        if scapy.TCP in bad:
            bad[scapy.TCP].dataofs = 6  # beyond the end
        assert Plan(version, bytes(bad)).fill(0, 1) == -errno.EINVAL
    good = bytes(ip / tcp)
    for length in range(len(good)):
        assert Plan(version, good[:length]).fill(0, 1) == -errno.EINVAL
    assert isinstance(Plan(version, good).fill(0, 1), list)


def minimal(version: int) -> Plan:
    """A plan without scapy."""
    if version == 4:
        header = bytes.fromhex("450000280000400040060000") + socket.inet_aton(SOURCE[4]) + bytes(4)
    else:
        header = bytes.fromhex("6000000000140640") + socket.inet_pton(socket.AF_INET6, SOURCE[6]) + bytes(16)
    return Plan(version, header + SPORT.to_bytes(2, "big") + bytes(10) + bytes.fromhex("5002040000000000"))


@given(
    version=st.sampled_from([4, 6]),
    first=st.sampled_from([0x45, 0x4F, 0x60, 0x6F, 0x40, 0x00]),
    packets=st.lists(st.binary(max_size=120), max_size=5),
    link_skip=st.sampled_from([0, 1, 14, 2**32 - 1]),
)
def test_any_octets_are_no_reply(version: int, first: int, packets: list[bytes], link_skip: int) -> None:
    plan = minimal(version)
    assert plan.match(packets, link_skip) == []
    assert plan.match([bytes([first]) + packet for packet in packets]) == []


@given(version=st.sampled_from([4, 6]), octets=st.binary(max_size=120))
def test_any_octets_as_template(version: int, octets: bytes) -> None:
    """They are refused, or fill as many probes as there are targets, each as long as the template."""
    filled = Plan(version, octets or b"\0").fill(0, 9)
    assert filled == -errno.EINVAL or (
        isinstance(filled, list) and [len(probe) for probe in filled] == [len(octets)] * 9
    )


@given(
    version=st.sampled_from([4, 6]),
    damage=st.lists(st.tuples(st.integers(0, 59), st.integers(0, 255)), max_size=4),
)
def test_damaged_templates(version: int, damage: list[tuple[int, int]]) -> None:
    """Octets changed in a good template: never a crash, and the length always right."""
    octets = bytearray(minimal(version).template)
    for at, value in damage:
        octets[at % len(octets)] = value
    plan = Plan(version, bytes(octets))
    filled = plan.fill(0, 9)
    if isinstance(filled, list):
        assert {len(probe) for probe in filled} == {len(octets)}
        assert plan.match(filled) == []  # a probe is no answer


# ---- echo requests ---------------------------------------------------------------------------------


ECHO_DATA = bytes(range(48))


def echo_plan(scapy: Any, version: int, data: bytes = ECHO_DATA) -> Plan:
    ip = ip_layer(scapy, version, SOURCE[version], TARGETS[version][0])
    echo = scapy.ICMP(id=SPORT) if version == 4 else scapy.ICMPv6EchoRequest(id=SPORT)
    data = bytes(8) + data
    if version == 6:
        echo.data, data = data, b""
    return Plan(version, bytes(ip / echo / data))


def echo_reply(scapy: Any, plan: Plan, probe: bytes, **fields: Any) -> bytes:
    """What the target makes of an echo request; `fields` are those of the answer's IP header."""
    ip = (scapy.IP if plan.version == 4 else scapy.IPv6)(probe)
    back = ip_layer(scapy, plan.version, ip.dst, ip.src, **fields)
    if plan.version == 4:
        request = ip[scapy.ICMP]
        return bytes(back / scapy.ICMP(type=0, id=request.id, seq=request.seq) / bytes(request.payload))
    request = ip[scapy.ICMPv6EchoRequest]
    return bytes(back / scapy.ICMPv6EchoReply(id=request.id, seq=request.seq, data=request.data))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("data", [ECHO_DATA, b"odd", b""])
def test_echo_requests_read_by_scapy(scapy: Any, version: int, data: bytes) -> None:
    plan = echo_plan(scapy, version, data)
    at = 28 if version == 4 else 48
    expected = [(target, port) for target in TARGETS[version] for port in PORTS]
    for octets, (target, seq) in zip(plan.probes(), expected, strict=True):
        address = socket.inet_pton(family_of(version), target).ljust(16, b"\0")
        hashed = address + seq.to_bytes(2, "big") + SPORT.to_bytes(2, "big")
        cookie = lib.rk_cookie(KEY, hashed, len(hashed)).to_bytes(8, "big")
        fresh = ip_layer(scapy, version, SOURCE[version], target)
        if version == 4:
            fresh /= scapy.ICMP(id=SPORT, seq=seq) / (cookie + data)
        else:
            fresh /= scapy.ICMPv6EchoRequest(id=SPORT, seq=seq, data=cookie + data)
        assert octets == bytes(fresh)
        assert octets[at : at + 8] == cookie


@pytest.mark.parametrize("version", [4, 6])
def test_echo_replies(scapy: Any, version: int) -> None:
    plan = echo_plan(scapy, version)
    replies = [echo_reply(scapy, plan, probe) for probe in plan.probes()]
    expected = [(target, port) for target in TARGETS[version] for port in PORTS]
    assert [(r.address, r.reporter, r.port, r.state) for r in plan.match(replies)] == [
        (target, target, port, "open") for target, port in expected
    ]
    assert plan.match(plan.probes()) == []  # requests are no answers
    good = replies[4]
    assert plan.match([good[:length] for length in range(20 if version == 4 else 40)]) == []
    icmp = 20 if version == 4 else 40
    src = range(12, 16) if version == 4 else range(8, 24)
    for at in [*src, icmp, *range(icmp + 4, icmp + 16)]:  # address, type, identifier, number, cookie
        assert plan.match([good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :]]) == [], at
    for changed in (good[:-1] + b"x", good[:-1], good + b"x"):
        if version == 4:
            changed = changed[:2] + len(changed).to_bytes(2, "big") + changed[4:]
        else:
            changed = changed[:4] + (len(changed) - 40).to_bytes(2, "big") + changed[6:]
        assert [reply.state for reply in plan.match([changed])] == ["damaged"]


@pytest.mark.parametrize("version", [4, 6])
def test_errors_about_echo_requests(scapy: Any, version: int) -> None:
    plan = echo_plan(scapy, version)
    icmp = 20 if version == 4 else 40
    for type, code in ERRORS[version]:
        answers = [error(scapy, plan, probe, type, code, icmp + 16) for probe in plan.probes()]
        assert [(r.address, r.reporter, r.state, r.icmp) for r in plan.match(answers)] == [
            (target, ROUTER[version], "filtered", (type, code)) for target in TARGETS[version] for _ in PORTS
        ]
    type, code = ERRORS[version][0]
    short = [error(scapy, plan, plan.probes()[0], type, code, icmp + n) for n in range(16)]
    assert plan.match(short) == []  # the cookie is not quoted: anybody might have made it up
    tcp = minimal(version).probes()[0]
    assert plan.match([error(scapy, plan, tcp, type, code, len(tcp))]) == []
