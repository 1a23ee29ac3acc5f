"""A hostile peer on the wire: neither endpoint nor driver is harmed by packets of any content."""

from __future__ import annotations

import gc
import os
import random
import tracemalloc
from typing import Any

import pytest
from link.wired import MS, OVER, address

from rawkit.engine import FrameBatch, PacketSocket
from rawkit.lab import Lab
from rawkit.link import Carrier, Stack, run
from rawkit.tools.labrun import open_carrier, run_in_lab
from rawkit.transport import App, Close, Closed, Endpoint
from rawkit.transport.party import Party
from rawkit.transport.protocols.go_back_n import GoBackN, GoBackNHeader
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat, SelectiveRepeatHeader
from rawkit.transport.protocols.stop_and_wait import StopAndWait, StopAndWaitHeader
from rawkit.wire import UDP, Ether, IPv4, IPv6, Packet, checksum
from rawkit.wire.header import Header

pytestmark = pytest.mark.net

VICTIMS: dict[str, tuple[type[Endpoint], dict[str, Any], type[Header]]] = {
    "stop-and-wait": (StopAndWait, {"numbers": 256, "timeout_ns": 30 * MS}, StopAndWaitHeader),
    "go-back-n": (GoBackN, {"timeout_ns": 60 * MS}, GoBackNHeader),
    "selective repeat": (SelectiveRepeat, {"window": 1 << 16}, SelectiveRepeatHeader),
}


def nonsense(chance: random.Random, header: type[Header], seen: list[bytes]) -> bytes:
    """A packet made up: octets of chance, one that was seen and changed, or a sound header with any values.

    Two in three have the right checksum, wherever these headers have it.
    """
    kind = chance.randrange(3)
    if kind == 0 or not seen:
        octets = bytearray(chance.randbytes(chance.randrange(0, 80)))
    else:
        octets = bytearray(chance.choice(seen))
        for _ in range(chance.randrange(1, 6)):
            if octets:
                octets[chance.randrange(len(octets))] = chance.randrange(256)
        if chance.randrange(4) == 0:
            octets = octets[: chance.randrange(len(octets) + 1)]
    row = header.roles["checksum"][1]
    at = row.offset // 8
    if kind and len(octets) >= at + 2:
        octets[at : at + 2] = bytes(2)
        octets[at : at + 2] = (0xFFFF ^ checksum.add(0, bytes(octets))).to_bytes(2, "big")
    return bytes(octets)


class Liar:
    """Sends frames from host a to a carrier of host b, with any source address."""

    def __init__(self, lab: Lab, target: Carrier, address: str) -> None:
        with lab.a:
            self.socket = PacketSocket("veth0", protocol=0)
        self.link = Ether(dst=lab.b.mac, src=lab.a.mac)
        self.target, self.address = target, address
        self.port = getattr(target, "port", 0)
        self.batch = FrameBatch(64, 1 << 18)

    def send(self, source: str, octets: bytes) -> None:
        """Add a packet; it leaves with 63 others."""
        number = self.target.number
        packet: Header | Packet
        if self.target.version == 4:
            packet = self.link / IPv4(src=source, dst=self.address, protocol=number)
        else:
            packet = self.link / IPv6(src=source, dst=self.address, next_header=number)
        if self.port:
            packet /= UDP(sport=4000, dport=self.port)
        self.batch.append(bytes(packet / octets))

    def flush(self) -> None:
        self.socket.send_batch(self.batch)
        self.batch.clear()


def attack(lab: Lab, over: str, version: int, name: str, packets: int, *, inside: bool) -> None:
    """Two sides exchange data while a third sends nonsense.

    From other addresses the exchange is untouched, whatever they send. With the addresses of the exchange
    itself (`inside`) nobody can tell a liar from the peer, where a protocol has no secret: then the exchange
    may fail, but in order, and a new one works.
    """
    protocol, options, header = VICTIMS[name]
    chance = random.Random(packets)
    data = chance.randbytes(20_000)
    far, near = open_carrier(lab, lab.b, over, version), open_carrier(lab, lab.a, over, version)
    remote = far.local or address(lab, "b", version)
    liar = Liar(lab, far, remote)
    elsewhere = "10.77.0.{}" if version == 4 else "fd77::{}"
    with liar.socket, Stack(near, protocol) as a, Stack(far, protocol) as b:
        client = Party("client", a.clock, data, b"", 1 << 40)
        server = Party("server", b.clock, b"", data, 1 << 40)
        waiting = [server]

        def app() -> App:
            return waiting.pop() if waiting else App()

        b.listen(lambda: protocol(**options), app, lambda driver: None, backlog=32, most=64)
        driver = a.connect(protocol(**options), remote, liar.port, client)
        run([a, b], lambda: not waiting, 30)
        seen = [bytes(header()), driver.endpoint.encode(driver.path, b"data", flags=1)]
        own = driver.path.local
        tracemalloc.start()
        before = 0
        for n in range(packets):
            source = own if inside else elsewhere.format(chance.randrange(100, 250))
            liar.send(source, nonsense(chance, header, seen))
            if n % 64 == 63:
                liar.flush()
                a.step()
                b.step()
            if n == packets // 2:
                gc.collect()
                before = tracemalloc.get_traced_memory()[0]
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert len(b.drivers) <= 32 + 64 + 1
        assert after - before < 97 * (1 << 16) + (1 << 21), "memory grows with nonsense"
        if not inside:
            client.begin(driver)
            driver.do(Close())
            assert run([a, b], lambda: any(isinstance(x, Closed) for x in client.notices), 60)
            assert not server.wrong
            assert server.got == len(data)
        reached = sum(b.counts.values()) + sum(sum(d.endpoint.dropped.values()) for d in b.drivers.values())
        assert reached > packets // 10, "the nonsense did not get here"
    # And all works again.
    assert run_in_lab(lambda: protocol(**options), lab, over, version=version, octets=5000).complete


@pytest.mark.parametrize("inside", [False, True], ids=["from elsewhere", "inside"])
@pytest.mark.parametrize("over", ["raw", "udp"])
@pytest.mark.parametrize("name", VICTIMS)
def test_nonsense_on_the_wire_harms_nobody(lab: Lab, over: str, name: str, inside: bool) -> None:
    attack(lab, over, 4, name, 640, inside=inside)


@pytest.mark.slow
@pytest.mark.parametrize("inside", [False, True], ids=["from elsewhere", "inside"])
@pytest.mark.parametrize(("over", "version"), OVER)
@pytest.mark.parametrize("name", VICTIMS)
def test_a_million_packets_of_nonsense_harm_nobody(over: str, version: int, name: str, inside: bool) -> None:
    """A million in all: RAWKIT_NONSENSE is how many in each of these."""
    if over == "tun" and not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun is not for this user")
    with Lab() as lab:
        attack(lab, over, version, name, int(os.environ.get("RAWKIT_NONSENSE", "21000")), inside=inside)
