"""Interfaces, routes and neighbours, seen from a host of the lab whose tables the tests know."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, ip_address, ip_interface
from typing import TYPE_CHECKING, Any

import pytest
from oracles import oracle

from rawkit.addr import MAC
from rawkit.errors import EngineError, NoRoute, PermissionDenied, TargetError, UnknownInterface
from rawkit.lab import Lab
from rawkit.net import ethtool, interface, interfaces, neighbour, route, rtnetlink
from rawkit.net.netlink import ask

if TYPE_CHECKING:
    from conftest import VethPair

pytestmark = pytest.mark.net


@pytest.fixture(scope="module")
def shared_lab() -> Iterator[Lab]:
    with Lab() as lab, lab.a:
        ask(add_routes, "prepare the test")
        yield lab


@pytest.fixture
def lab(shared_lab: Lab) -> Iterator[Lab]:
    with shared_lab.a:
        yield shared_lab


def add_routes(socket: Any) -> None:
    (index,) = socket.link_lookup(ifname="veth0")
    socket.route("add", dst="198.51.100.0/24", gateway="10.77.0.2", metrics={"mtu": 1280})
    socket.route("add", dst="2001:db8:1::/48", gateway="fd77::2", oif=index)
    socket.route("add", dst="198.18.0.0/24", via={"family": 10, "addr": "fd77::2"}, oif=index)
    socket.route("add", dst="203.0.113.0/26", type="blackhole")
    socket.route("add", dst="203.0.113.64/26", type="prohibit")
    socket.route("add", dst="2001:db8:2::/48", type="unreachable", oif=1)


# ---- interfaces -------------------------------------------------------------------------------


def test_interfaces(lab: Lab) -> None:
    lo, veth = interfaces()
    assert (lo.name, lo.index, lo.linktype, lo.loopback, lo.up, lo.carrier) == ("lo", 1, 1, True, True, True)
    assert (veth.name, veth.mac, veth.mtu, veth.linktype) == ("veth0", lab.a.mac, 1500, 1)
    assert (veth.loopback, veth.up, veth.carrier, veth.kind) == (False, True, True, "veth")
    assert IPv4Interface("10.77.0.1/24") in veth.addresses
    assert ip_interface("fd77::1/64") in veth.addresses
    assert interface("veth0") == interface(veth.index) == veth


def test_interfaces_agree_with_ip(lab: Lab) -> None:
    listed = json.loads(
        subprocess.run([oracle("ip"), "-j", "address"], capture_output=True, check=True).stdout
    )
    theirs = {
        link["ifname"]: (
            link["ifindex"],
            link["mtu"],
            link["address"],
            sorted(f"{address['local']}/{address['prefixlen']}" for address in link["addr_info"]),
        )
        for link in listed
    }
    ours = {
        link.name: (link.index, link.mtu, str(link.mac), sorted(str(address) for address in link.addresses))
        for link in interfaces()
    }
    assert ours == theirs


def test_unknown_interface_lists_those_that_exist(lab: Lab) -> None:
    with pytest.raises(UnknownInterface, match="no interface with name 'eth7'; there are: lo, veth0"):
        interface("eth7")
    with pytest.raises(UnknownInterface, match="no interface with index 77"):
        interface(77)


def test_a_tun_has_raw_frames_and_no_mac(lab: Lab) -> None:
    try:
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        pytest.skip(f"/dev/net/tun: {error}")
    try:
        fcntl.ioctl(
            tun, 0x400454CA, struct.pack("16sH22x", b"tun7", 0x1001)
        )  # TUNSETIFF, IFF_TUN | IFF_NO_PI
        found = interface("tun7")
    finally:
        os.close(tun)
    assert (found.linktype, found.mac, found.kind, found.up) == (101, None, "tun", False)


def test_interfaces_are_those_of_the_namespace_one_is_in(shared_lab: Lab) -> None:
    with shared_lab.b:
        assert interface("veth0").mac == shared_lab.b.mac
    with shared_lab.a:
        assert interface("veth0").mac == shared_lab.a.mac


# ---- routes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("destination", "leaves_by", "source", "next_hop", "mtu"),
    [
        ("10.77.0.2", "veth0", "10.77.0.1", None, 1500),
        ("10.77.0.99", "veth0", "10.77.0.1", None, 1500),
        ("fd77::2", "veth0", "fd77::1", None, 1500),
        ("198.51.100.7", "veth0", "10.77.0.1", "10.77.0.2", 1280),
        ("198.18.0.7", "veth0", "10.77.0.1", "fd77::2", 1500),
        ("2001:db8:1::7", "veth0", "fd77::1", "fd77::2", 1500),
        ("127.0.0.1", "lo", "127.0.0.1", None, 65536),
        ("::1", "lo", "::1", None, 65536),
        ("10.77.0.1", "lo", "10.77.0.1", None, 65536),
        ("fd77::1", "lo", "fd77::1", None, 65536),
    ],
)
def test_routes(
    lab: Lab, destination: str, leaves_by: str, source: str, next_hop: str | None, mtu: int
) -> None:
    found = route(destination)
    assert found == route(ip_address(destination))
    assert (found.interface, found.ifindex, found.mtu) == (leaves_by, interface(leaves_by).index, mtu)
    assert (found.destination, found.source) == (ip_address(destination), ip_address(source))
    assert found.next_hop == (None if next_hop is None else ip_address(next_hop))
    assert found.linktype == 1


def test_link_local_destinations_go_where_their_scope_says(lab: Lab) -> None:
    found = route("fe80::200:5eff:fe00:5302%veth0")
    assert (found.interface, found.next_hop) == ("veth0", None)
    assert found.source is not None
    assert found.source.is_link_local
    assert route(IPv6Address(f"fe80::1%{interface('veth0').index}")).interface == "veth0"
    with pytest.raises(UnknownInterface, match="eth7"):
        route("fe80::1%eth7")


def test_via_chooses_the_interface(lab: Lab) -> None:
    assert route("10.77.0.2", via="veth0").interface == "veth0"
    assert route("10.77.0.2", via="lo").interface == "lo"


@pytest.mark.parametrize(
    ("destination", "code"),
    [
        ("192.0.2.1", errno.ENETUNREACH),
        ("2001:db8::1", errno.ENETUNREACH),
        ("203.0.113.1", errno.EINVAL),  # what the kernel says of a blackhole
        ("203.0.113.65", errno.EACCES),
        ("2001:db8:2::1", errno.EHOSTUNREACH),
    ],
)
def test_no_route(lab: Lab, destination: str, code: int) -> None:
    with pytest.raises(NoRoute, match=f"no route to {destination}") as caught:
        route(destination)
    assert caught.value.errno == code


def test_bad_addresses(lab: Lab) -> None:
    with pytest.raises(TargetError, match="bad address 'example'"):
        route("example")
    with pytest.raises(TargetError, match=r"bad address '10\.77\.0'"):
        neighbour("10.77.0", "veth0")


def test_works_where_an_event_loop_is_running(lab: Lab) -> None:
    async def inside() -> str:
        return route("10.77.0.2").interface

    assert asyncio.run(inside()) == "veth0"


def test_leaves_no_descriptor_behind(lab: Lab) -> None:
    route("10.77.0.2")
    before = os.listdir("/proc/self/fd")
    for _ in range(20):
        route("10.77.0.2")
        interfaces()
        neighbour("10.77.0.2", "veth0")
    assert os.listdir("/proc/self/fd") == before


def test_a_refusal_for_want_of_permission_names_the_capability() -> None:
    from pyroute2.netlink.exceptions import NetlinkError

    def question(socket: Any) -> None:
        raise NetlinkError(errno.EPERM)

    with pytest.raises(PermissionDenied, match="change a table: .*CAP_NET_ADMIN"):
        ask(question, "change a table")


def test_refusals_come_with_the_kernels_own_words(lab: Lab) -> None:
    anybody = struct.pack("=BxxxiHBB", socket.AF_INET, 0, 0, 0, 0)
    with pytest.raises(EngineError, match="ask: Invalid argument; .+") as caught:
        rtnetlink.ask(rtnetlink.GET_NEIGHBOUR, anybody, operation="ask")
    assert caught.value.errno == errno.EINVAL


# ---- neighbours -------------------------------------------------------------------------------


@pytest.fixture
def forgetful_lab(lab: Lab) -> Lab:
    """Host a of the lab, with an empty neighbour table."""

    def question(socket: Any) -> None:
        (index,) = socket.link_lookup(ifname="veth0")
        for entry in socket.get_neighbours(ifindex=index):
            socket.neigh("del", dst=entry.get_attr("NDA_DST"), ifindex=index)

    ask(question, "forget the neighbours")
    return lab


@pytest.fixture
def frames(lab: Lab) -> Iterator[socket.socket]:
    """Every frame that host b gets."""
    with lab.b, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as sock:
        sock.bind(("veth0", 3))
        sock.setblocking(False)
        with lab.a:
            yield sock


def received(frames: socket.socket) -> list[bytes]:
    """The frames for host b so far, without those it sent."""
    found = []
    while True:
        try:
            frame, (_, _, kind, *_) = frames.recvfrom(2048)
        except BlockingIOError:
            return found
        if kind != socket.PACKET_OUTGOING:
            found.append(frame)


@pytest.mark.parametrize("address", ["10.77.0.2", "fd77::2", "fe80::200:5eff:fe00:5302"])
def test_neighbours_are_resolved_without_a_datagram(
    forgetful_lab: Lab, frames: socket.socket, address: str
) -> None:
    assert neighbour(address, "veth0") == forgetful_lab.b.mac
    asked = received(frames)
    if ":" in address:
        assert all(
            frame[12:14] == b"\x86\xdd" and frame[54] == 135 for frame in asked
        )  # neighbour solicitation
    else:
        assert all(frame[12:14] == b"\x08\x06" for frame in asked)
    assert asked


def test_what_the_table_knows_is_not_asked_again(lab: Lab, frames: socket.socket) -> None:
    neighbour("10.77.0.2", "veth0")
    received(frames)
    assert neighbour(IPv4Address("10.77.0.2"), interface("veth0").index) == lab.b.mac
    assert received(frames) == []


def test_nobody_there(lab: Lab) -> None:
    start = time.monotonic()
    assert neighbour("10.77.0.99", "veth0", timeout=0.2) is None
    assert 0.2 <= time.monotonic() - start < 2.5  # the kernel itself gives up after 3 s
    # The kernel is still at it, and a second caller waits along.
    assert neighbour("10.77.0.99", "veth0", timeout=0) is None


def test_the_loopback_is_its_own_neighbour(lab: Lab) -> None:
    assert neighbour("127.0.0.1", "lo") == neighbour("::1", "lo") == MAC(0)


def test_neighbour_on_no_interface(lab: Lab) -> None:
    with pytest.raises(UnknownInterface, match="eth7"):
        neighbour("10.77.0.2", "eth7")


@pytest.mark.parametrize("address", ["10.77.0.2", "fd77::2", "fe80::200:5eff:fe00:5302"])
def test_without_cap_net_admin_an_empty_datagram_makes_the_kernel_look(
    forgetful_lab: Lab, monkeypatch: pytest.MonkeyPatch, frames: socket.socket, address: str
) -> None:
    unrestricted = rtnetlink.ask

    def restricted(kind: int, *arguments: Any, **named: Any) -> Any:
        if kind == rtnetlink.NEW_NEIGHBOUR:
            raise PermissionDenied(errno.EPERM, "change a table")
        return unrestricted(kind, *arguments, **named)

    monkeypatch.setattr(rtnetlink, "ask", restricted)
    assert neighbour(address, "veth0") == forgetful_lab.b.mac
    protocol = 20 if ":" in address else 23  # of the frame: next header, protocol
    datagrams: list[bytes] = []
    deadline = time.monotonic() + 10  # it goes out once the neighbour has answered
    while not datagrams:
        assert time.monotonic() < deadline
        time.sleep(0.01)
        datagrams += [frame for frame in received(frames) if frame[protocol] == socket.IPPROTO_UDP]
    assert len(datagrams) == 1


def test_what_the_driver_leaves_to_the_card(veth: VethPair) -> None:
    names = {
        "rx-checksumming": "rx",
        "tx-checksumming": "tx",
        "scatter-gather": "sg",
        "tcp-segmentation-offload": "tso",
        "generic-segmentation-offload": "gso",
        "generic-receive-offload": "gro",
    }
    with veth.namespace.enter():
        for on in (False, True):
            veth.receive_live_frames(on)
            told = subprocess.run(
                [oracle("ethtool"), "-k", veth.far], capture_output=True, text=True, check=True
            )
            expected = {
                names[name]: value.split()[0] == "on"
                for name, _, value in (line.partition(":") for line in told.stdout.splitlines())
                if name in names
            }
            assert len(expected) == 6
            assert ethtool.offloads(veth.far) == expected
            assert expected["gro"] is on
        assert ethtool.driver(veth.far) == "veth"
        assert ethtool.driver("nothing") == ""
        assert ethtool.offloads("nothing") == {}
