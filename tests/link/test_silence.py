"""The kernel says nothing in the endpoints' place: no RST, no ICMP error, and nothing is left behind."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from link.wired import address, send
from oracles import oracle

from rawkit.engine.sockets import PacketSocket
from rawkit.errors import EngineError
from rawkit.lab import Lab
from rawkit.link import Guard, RawIP, Stack, run
from rawkit.link.firewall import FirewallRule
from rawkit.net import interfaces
from rawkit.transport import App, Endpoint, Write
from rawkit.wire import ICMP, TCP, UDP, ICMPv6, Packet

pytestmark = pytest.mark.net

FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


class Silent(Endpoint, header=TCP):
    """A TCP of one's own that notes segments and sends a SYN when it is told to."""

    def on_packet(self, cx: Any, packet: Any) -> None:
        cx.deliver(b"%d" % packet.header.flags)

    def on_app(self, cx: Any, operation: Any) -> None:
        cx.send(TCP(sport=cx.path.local_port, dport=cx.path.remote_port, flags="S"))


class Refusing(Silent, header=TCP):
    """Answers a SYN with RST."""

    def on_packet(self, cx: Any, packet: Any) -> None:
        ack = packet.header.seq + 1 & 0xFFFFFFFF
        cx.send(TCP(sport=cx.path.local_port, dport=cx.path.remote_port, ack=ack, flags="RA"))
        cx.deliver(b"")


class Echo(Endpoint, header=UDP):
    """A UDP of one's own."""

    def on_packet(self, cx: Any, packet: Any) -> None:
        cx.deliver(packet.payload)
        cx.send(UDP(sport=cx.path.local_port, dport=cx.path.remote_port), packet.payload.upper())


@contextmanager
def watched(lab: Lab) -> Iterator[Callable[[], list[Packet]]]:
    """What passes host a's interface; calling it gives all of it so far."""
    seen: list[Packet] = []
    with lab.a:
        sock = PacketSocket("veth0", buffer_len=16 << 20)

    def frames() -> list[Packet]:
        seen.extend(frame.packet() for frame in sock.frames(timeout=0.02))
        return seen

    with sock:
        yield frames


def objections(packets: list[Packet]) -> list[str]:
    """Resets and ICMP errors among packets."""
    found = []
    for packet in packets:
        if TCP in packet and packet[TCP].flags & TCP.RST:
            found.append(packet.summary())
        if (ICMP in packet and packet[ICMP].type in (3, 5, 11, 12)) or (
            ICMPv6 in packet and packet[ICMPv6].type < 128
        ):
            found.append(packet.summary())
    return found


def until(condition: Callable[[], bool], *stacks: Stack) -> None:
    assert run(stacks, condition, 10), "it did not happen within 10 s"


@pytest.mark.parametrize("version", [4, 6])
def test_a_kernels_connection_request_reaches_the_endpoint_and_nobody_answers(lab: Lab, version: int) -> None:
    apps: list[App] = []

    def app() -> App:
        apps.append(App())
        return apps[-1]

    with lab.b:
        carrier = RawIP(6, version=version)
    with watched(lab) as packets, Stack(carrier, Silent) as stack:
        stack.listen(Silent, app, lambda driver: None, port=7005)
        assert carrier.silence == "guard sockets on its ports"
        with lab.a, socket.socket(FAMILIES[version]) as kernel:
            kernel.setblocking(False)
            assert kernel.connect_ex((address(lab, "b", version), 7005)) == errno.EINPROGRESS
            until(lambda: bool(apps) and bool(apps[0].received), stack)
        assert int(apps[0].received[0]) & TCP.SYN
        assert objections(packets()) == []
    with watched(lab) as packets, lab.a, socket.socket(FAMILIES[version]) as kernel:
        kernel.settimeout(10)
        assert kernel.connect_ex((address(lab, "b", version), 7005)) == errno.ECONNREFUSED
        assert objections(packets())  # without the endpoint the kernel does answer


@pytest.mark.parametrize("version", [4, 6])
def test_a_kernels_answer_to_our_request_reaches_the_endpoint_and_nobody_resets_it(
    lab: Lab, version: int
) -> None:
    app = App()
    with lab.b:
        carrier = RawIP(6, version=version)
    with lab.a, socket.socket(FAMILIES[version]) as kernel:
        kernel.bind((address(lab, "a", version), 0))
        kernel.listen()
        port = kernel.getsockname()[1]
        with watched(lab) as packets, Stack(carrier, Silent) as stack:
            stack.connect(Silent(), address(lab, "a", version), port, app).do(Write(b""))
            until(lambda: bool(app.received), stack)
            assert int(app.received[0]) & (TCP.SYN | TCP.ACK | TCP.RST) == TCP.SYN | TCP.ACK
            assert objections(packets()) == []


@pytest.mark.parametrize("version", [4, 6])
def test_a_udp_of_ones_own_answers_a_kernel_and_the_other_kernel_does_not(lab: Lab, version: int) -> None:
    with lab.b:
        carrier = RawIP(17, version=version)
    with watched(lab) as packets, Stack(carrier, Echo) as stack:
        stack.listen(Echo, App, lambda driver: None, port=7007)
        with lab.a, socket.socket(FAMILIES[version], socket.SOCK_DGRAM) as kernel:
            kernel.setblocking(False)
            kernel.connect((address(lab, "b", version), 7007))
            kernel.send(b"hello")
            answer: list[bytes] = []

            def answered() -> bool:
                try:
                    answer.append(kernel.recv(100))
                except BlockingIOError:
                    return False
                return True

            until(answered, stack)
            assert answer == [b"HELLO"]  # the kernel found its checksum right
        assert objections(packets()) == []


@pytest.mark.parametrize("over", ["raw", "udp", "packet"])
@pytest.mark.parametrize("version", [4, 6])
def test_captures_of_a_transfer_show_no_objection_of_any_kernel(lab: Lab, over: str, version: int) -> None:
    with watched(lab) as packets:
        outcome = send(lab, over, version, "go-back-n", octets=30_000, back=30_000)
        assert outcome.complete
        seen = packets()
    assert len(seen) > 5  # UDP sends many packets in one frame here
    assert objections(seen) == []


@pytest.mark.parametrize("version", [4, 6])
def test_captures_between_tun_devices_show_none_either(forwarding: Lab, version: int) -> None:
    with watched(forwarding) as packets:
        assert send(forwarding, "tun", version, "go-back-n", octets=30_000).complete
        seen = packets()
    assert len(seen) > 20
    assert objections(seen) == []


def test_a_port_of_another_program_is_refused_and_guards_are_given_back(lab: Lab) -> None:
    with lab.b, socket.socket() as other, RawIP(6) as carrier:
        other.bind(("10.77.0.2", 7009))
        other.listen()
        stack = Stack(carrier, Silent)
        with pytest.raises(EngineError, match="another program has it") as refused:
            stack.listen(Silent, App, lambda driver: None, port=7009)
        assert refused.value.errno == errno.EADDRINUSE
        listener = stack.listen(Silent, App, lambda driver: None, port=7010)
        driver = stack.connect(Silent(), "10.77.0.1", 9, local_port=7010)
        for closing in (listener.close, lambda: stack.forget(driver)):
            with pytest.raises(EngineError, match="another program of this host has it"):
                Guard(6, 7010)
            closing()
        Guard(6, 7010).close()
        with pytest.raises(ValueError, match="no ports to guard"):
            Guard(253)


def rules(lab: Lab) -> str:
    """The firewall of host b, as nft lists it."""
    return lab.b.run([oracle("nft"), "list", "ruleset"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("version", [4, 6])
def test_a_rule_takes_the_place_of_a_guard_that_cannot_hold_its_port(lab: Lab, version: int) -> None:
    apps: list[App] = []

    def app() -> App:
        apps.append(App())
        return apps[-1]

    def ask(*stacks: Stack) -> int:
        """What a kernel's request is answered with, as an errno."""
        with lab.a, socket.socket(FAMILIES[version]) as kernel:
            kernel.setblocking(False)
            kernel.connect_ex((address(lab, "b", version), 7012))
            answers: list[int] = []

            def answered() -> bool:
                answers.append(kernel.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
                return any(answers)

            until(answered, *stacks)
            return answers[-1]

    with lab.b, socket.socket(FAMILIES[version]) as other:
        other.bind((address(lab, "b", version), 7012))  # and does not listen
        with Stack(RawIP(6, version=version), Silent) as stack, pytest.raises(EngineError, match="has it"):
            stack.listen(Silent, App, lambda driver: None, port=7012)
        carrier = RawIP(6, version=version, firewall=True)
        with watched(lab) as packets, Stack(carrier, Silent) as stack:
            stack.listen(Silent, app, lambda driver: None, port=7012)
            assert carrier.silence == "guard sockets on its ports, and nftables rules on 7012"
            assert "tcp sport 7012 tcp flags rst drop" in rules(lab)
            with lab.a, socket.socket(FAMILIES[version]) as kernel:
                kernel.setblocking(False)
                kernel.connect_ex((address(lab, "b", version), 7012))
                until(lambda: bool(apps) and bool(apps[0].received), stack)
            assert objections(packets()) == []
            # What the endpoint itself refuses, is refused.
            stack.listeners["", 7012].protocol = Refusing
            assert ask(stack) == errno.ECONNREFUSED
        assert rules(lab) == ""
        assert ask() == errno.ECONNREFUSED  # by the kernel
        # A program that listens answers itself: then there is nothing to be done.
        other.listen()
        carrier = RawIP(6, version=version, firewall=True)
        with Stack(carrier, Silent) as stack, pytest.raises(EngineError, match="another program has it"):
            stack.listen(Silent, App, lambda driver: None, port=7012)


def test_a_port_that_needs_a_right_has_a_rule_instead(lab: Lab) -> None:
    code = """
from rawkit.errors import PermissionDenied
from rawkit.link import RawIP
try:
    RawIP(17).claim(53)
except PermissionDenied as error:
    print(error)
with RawIP(17, firewall=True) as carrier:
    carrier.claim(53)
    print(carrier.silence)
"""
    without = [oracle("setpriv"), "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"]
    done = lab.b.run([*without, sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [
        "guard a port on UDP 53: Permission denied; needs CAP_NET_BIND_SERVICE",
        "guard sockets on its ports, and nftables rules on 53",
    ], done.stderr


@pytest.mark.parametrize("version", [4, 6])
def test_a_rule_keeps_port_unreachable_back_for_its_port_alone(lab: Lab, version: int) -> None:
    def unreachable(packets: list[Packet]) -> set[int]:
        """The ports that the kernel said nobody has."""
        at = 14 + 2 * (20 if version == 4 else 40) + 8 + 2
        return {int.from_bytes(bytes(p)[at : at + 2], "big") for p in packets if objections([p])}

    with lab.b:
        rule = FirewallRule(socket.IPPROTO_UDP, 7013, address(lab, "b", version), version=version)
    with rule, watched(lab) as packets, lab.a, socket.socket(FAMILIES[version], socket.SOCK_DGRAM) as kernel:

        def other_refused() -> bool:
            for port in (7013, 7014):
                kernel.sendto(b"hello", (address(lab, "b", version), port))
            return 7014 in unreachable(packets())

        until(other_refused)
        assert unreachable(packets()) == {7014}


def test_a_killed_process_leaves_no_rule(lab: Lab) -> None:
    code = """
import time
from rawkit.link.firewall import FirewallRule
held = FirewallRule(6, 7015)
print("ready", flush=True)
time.sleep(60)
"""
    process = lab.b.spawn([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert f"table ip rawkit_{process.pid}_0" in rules(lab)
        os.kill(process.pid, signal.SIGKILL)
    assert rules(lab) == ""


def test_a_killed_process_leaves_nothing(forwarding: Lab) -> None:
    """Neither guard nor TUN device nor route: the kernel answers again, as if nothing had been."""
    code = """
import sys, time
from rawkit.link import Guard, RawIP, Tun
held = [Guard(6, 7011), Guard(17, 7011, version=6), RawIP(6), Tun("10.77.1.77")]
print("ready", flush=True)
time.sleep(60)
"""
    with forwarding.b:
        before = {link.name for link in interfaces()}
        process = forwarding.b.spawn([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            assert {link.name for link in interfaces()} != before
            with pytest.raises(EngineError):
                Guard(6, 7011)
            os.kill(process.pid, signal.SIGKILL)
        end = time.monotonic() + 10
        while {link.name for link in interfaces()} != before:
            assert time.monotonic() < end
            time.sleep(0.01)
        Guard(6, 7011).close()
        Guard(17, 7011, version=6).close()
