"""The lab: up when made, faithful to its delay and losses, and gone without a trace."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from oracles import oracle

from rawkit.errors import TargetError, UnitError
from rawkit.lab import Host, Lab

pytestmark = pytest.mark.net

EXPERIMENTAL = 0x88B5  # an EtherType for experiments (IEEE 802)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


def gone(pid: int) -> bool:
    """Whether a process is no more; a zombie is no more than a note to its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(condition: object, seconds: float = 20.0) -> bool:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


# ---- hosts ------------------------------------------------------------------------------------


def test_hosts_are_as_documented(lab: Lab) -> None:
    for host, number in ((lab.a, 1), (lab.b, 2)):
        assert (str(host.ipv4), str(host.ipv6)) == (f"10.77.0.{number}", f"fd77::{number}")
        assert (str(host.mac), host.interface) == (f"00:00:5e:00:53:{number:02x}", "veth0")
    assert (lab.a.name, lab.b.name, lab.relay) == ("a", "b", None)


@pytest.mark.parametrize("arguments", [{}, {"delay": "1ms", "seed": 3}])
def test_the_first_packet_arrives(arguments: dict[str, object]) -> None:
    ping = oracle("ping")
    with Lab(**arguments) as lab:  # type: ignore[arg-type]
        for near, far in ((lab.a, lab.b), (lab.b, lab.a)):
            for address in (far.ipv4, far.ipv6):
                done = near.run([ping, "-c", "1", "-W", "1", str(address)], capture_output=True, text=True)
                assert done.returncode == 0, done.stdout + done.stderr
        own = lab.a.run([ping, "-c", "1", "-W", "1", "127.0.0.1"], capture_output=True)
        assert own.returncode == 0


def test_nothing_outside_can_be_reached(lab: Lab) -> None:
    with (
        lab.a,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        pytest.raises(OSError, match="unreachable"),
    ):
        sock.connect(("192.0.2.1", 9))


def test_icmp_datagram_sockets_are_open_to_the_group(lab: Lab) -> None:
    with lab.a:
        low, high = Path("/proc/sys/net/ipv4/ping_group_range").read_text().split()
        assert int(low) <= os.getgid() <= int(high)
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close()


def test_entering_is_for_this_thread_and_nests(lab: Lab) -> None:
    def here() -> str:
        return os.readlink("/proc/thread-self/ns/net")

    home = here()
    elsewhere: list[str] = []
    with lab.a as entered:
        assert entered is lab.a
        inside = here()
        with lab.b, lab.a:
            assert here() == inside
        assert here() == inside != home
        # A thread that was started outside is not moved.
        with pytest.raises(ZeroDivisionError), lab.b:
            raise ZeroDivisionError
        assert here() == inside
    assert here() == home
    threads = [threading.Thread(target=visit, args=(host, elsewhere)) for host in (lab.a, lab.b)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({*elsewhere, home}) == 3
    assert here() == home


def visit(host: Host, seen: list[str]) -> None:
    with host:
        seen.append(os.readlink("/proc/thread-self/ns/net"))


# ---- processes --------------------------------------------------------------------------------


def test_run(lab: Lab) -> None:
    code = "import sys; print(sys.stdin.read().upper()); sys.exit(3)"
    done = lab.a.run([sys.executable, "-c", code], input="abc", capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "ABC\n")
    with pytest.raises(subprocess.CalledProcessError):
        lab.a.run(["false"], check=True)
    with pytest.raises(FileNotFoundError):
        lab.a.run(["/no/such/program"])
    start = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        lab.a.run(["sleep", "60"], timeout=0.1)
    assert time.monotonic() - start < 30


def test_processes_are_on_their_host(lab: Lab) -> None:
    with lab.b:
        inside = os.readlink("/proc/thread-self/ns/net")
    done = lab.b.run(["readlink", "/proc/self/ns/net"], capture_output=True, text=True)
    assert done.stdout.strip() == inside


def test_processes_are_on_their_host_wherever_this_thread_is(lab: Lab) -> None:
    """The child of a fork has lost the visits of the thread that is on a host; they end there, in it too."""
    ask = [sys.executable, "-c", "import os; print(os.readlink('/proc/self/ns/net'))"]
    wanted = {}
    for host in (lab.a, lab.b):
        with host:
            wanted[host.name] = os.readlink("/proc/thread-self/ns/net")
    for host in (lab.a, lab.b):
        for place in (lab.a, lab.b):
            with place:
                found = host.run(ask, capture_output=True, text=True, check=True).stdout.strip()
            assert found == wanted[host.name]


def test_processes_have_the_caller_s_signal_mask(lab: Lab) -> None:
    done = lab.a.run(["grep", "SigBlk", "/proc/self/status"], capture_output=True, text=True)
    ours = [line for line in Path("/proc/thread-self/status").read_text().splitlines() if "SigBlk" in line]
    assert done.stdout.strip() == ours[0]


def test_a_process_outlives_the_thread_that_asked_for_it(lab: Lab) -> None:
    started: list[subprocess.Popen[bytes]] = []
    thread = threading.Thread(target=lambda: started.append(lab.a.spawn(["sleep", "30"])))
    thread.start()
    thread.join()
    time.sleep(0.1)
    assert started[0].poll() is None
    started[0].kill()
    assert started[0].wait(5) == -signal.SIGKILL


def test_closing_ends_processes_also_stubborn_ones() -> None:
    with Lab() as lab:
        plain = lab.a.spawn(["sleep", "60"])
        code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
        stubborn = lab.b.spawn([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        server = lab.b.serve("echo")
    stubborn.stdout.close()
    assert [plain.returncode, server.returncode] == [-signal.SIGTERM] * 2
    assert stubborn.returncode == -signal.SIGKILL
    assert all(gone(process.pid) for process in (plain, stubborn, server))
    lab.close()


def test_when_this_process_is_killed_its_processes_die() -> None:
    code = """
import sys, time
from rawkit.lab import Lab
lab = Lab(delay="1ms")
print(lab.a.spawn(["sleep", "60"]).pid, lab.b.serve("http").pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert not any(gone(pid) for pid in pids)
        parent.kill()
    assert wait_until(lambda: all(gone(pid) for pid in pids))


# ---- servers ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(lab: Lab) -> Lab:
    lab.b.serve("http, echo")
    return lab


@pytest.mark.parametrize("address", ["10.77.0.2", "fd77::2"])
def test_echo(served: Lab, address: str) -> None:
    octets = os.urandom(200_000)
    with served.a, socket.create_connection((address, 7), 5) as connection:
        sender = threading.Thread(
            target=lambda: (connection.sendall(octets), connection.shutdown(socket.SHUT_WR))
        )
        sender.start()
        back = b"".join(iter(lambda: connection.recv(65536), b""))
        sender.join()
    assert back == octets
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with served.a, socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.sendto(b"hello", (address, 7))
        assert sock.recv(100) == b"hello"


def exchange(lab: Lab, request: bytes, address: str = "10.77.0.2") -> bytes:
    """What the HTTP server sends until it closes."""
    with lab.a, socket.create_connection((address, 80), 5) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("host", ["10.77.0.2", "[fd77::2]"])
def test_http_with_curl(served: Lab, host: str) -> None:
    curl = [oracle("curl"), "-sS", "-m", "5", "-w", "\n%{http_code} %{num_connects}\n"]
    urls = [f"http://{host}/", f"http://{host}/?query"]
    done = served.a.run([*curl, *urls], capture_output=True, text=True)
    assert done.stderr == ""
    # Two answers over one connection.
    assert [line for line in done.stdout.splitlines() if line[:1].isdigit()] == ["200 1", "200 0"]
    assert done.stdout.count("</html>") == 2
    head = served.a.run([*curl, "-I", urls[0]], capture_output=True, text=True).stdout
    assert "200 1" in head
    assert "<html>" not in head


def test_http_lengths_and_connections(served: Lab) -> None:
    answer = exchange(served, b"GET / HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n")
    head, _, page = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f"Content-Length: {len(page)}".encode() in head
    assert 2000 < len(page) < 10_000
    # HTTP/1.0 closes unless asked not to; HEAD has the length and no page.
    assert exchange(served, b"GET / HTTP/1.0\r\n\r\n").endswith(page)
    header_only = exchange(served, b"HEAD / HTTP/1.0\r\n\r\n", "fd77::2")
    assert header_only.endswith(b"\r\n\r\n")
    assert f"Content-Length: {len(page)}".encode() in header_only
    # Two requests in one segment are answered in turn.
    two = exchange(served, b"GET / HTTP/1.1\r\n\r\nGET /no HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert [two.count(b"HTTP/1.1 200 OK"), two.count(b"HTTP/1.1 404 Not Found")] == [1, 1]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST / HTTP/1.1\r\nContent-Length: 22\r\n\r\nGET / HTTP/1.1\r\nHost:x", b"405 Method Not Allowed"),
        (b"nonsense\r\n\r\n", b"400 Bad Request"),
        (b"GET / SPDY/9\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 17_000, b"431 Request Header Fields Too Large"),
    ],
)
def test_http_refusals_end_the_connection(served: Lab, request_: bytes, status: bytes) -> None:
    answer = exchange(served, request_)  # not lost to a reset, although not all octets were wanted
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert answer.count(b"HTTP/1.1") == 1


def test_unknown_service(lab: Lab) -> None:
    with pytest.raises(TargetError, match="no service 'smtp'; there are: http, echo"):
        lab.b.serve("http,smtp")


# ---- the emulated link ------------------------------------------------------------------------


def test_round_trips_take_twice_the_delay() -> None:
    with Lab(delay="20ms") as lab:
        lab.b.serve("echo")
        took = []
        with lab.a, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.connect(("10.77.0.2", 7))
            for _ in range(8):
                start = time.monotonic()
                sock.send(b"x")
                sock.recv(10)
                took.append(time.monotonic() - start)
    assert min(took) >= 0.040
    assert min(took) < 0.055  # the best of eight, on a machine that may be busy


def send_numbered(lab: Lab, count: int) -> list[int]:
    """Send frames from a to b that no kernel cares about; the numbers of those that arrive."""
    assert lab.relay is not None
    with lab.b:
        far = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EXPERIMENTAL))
    with lab.a:
        near = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    arrived: list[int] = []
    with far, near:
        far.bind(("veth0", EXPERIMENTAL))
        near.bind(("veth0", EXPERIMENTAL))
        far.settimeout(0.1)
        header = bytes(lab.b.mac) + bytes(lab.a.mac) + EXPERIMENTAL.to_bytes(2, "big")
        for first in range(0, count, 100):
            for number in range(first, first + 100):
                near.send(header + number.to_bytes(4, "big") + bytes(46))
            try:
                while len(arrived) < first + 100:
                    arrived.append(int.from_bytes(far.recv(2048)[14:18], "big"))
            except TimeoutError:
                pass
    return arrived


def test_losses_are_as_asked_and_the_counters_add_up() -> None:
    with Lab(loss="10%", seed=11) as lab:
        arrived = send_numbered(lab, 2000)
        assert lab.relay is not None
        there, _ = lab.relay.counters()
    assert there.received == there.sent + there.lost + there.queue_full + there.refused
    assert (there.received, there.sent) == (2000, len(arrived)), "the hosts keep quiet by themselves"
    assert abs(there.lost - 200) < 5 * (2000 * 0.1 * 0.9) ** 0.5


def test_the_same_seed_loses_the_same_frames() -> None:
    def fates(seed: int) -> list[int]:
        with Lab(loss=0.3, seed=seed) as lab:
            return send_numbered(lab, 100)

    assert fates(5) == fates(5) != fates(6)


def test_the_kernel_s_tcp_carries_a_megabyte_through_delay_and_loss() -> None:
    octets = os.urandom(1 << 20)
    with Lab(delay="2ms", loss="1%", seed=1) as lab:
        lab.b.serve("echo")
        with lab.a, socket.create_connection((str(lab.b.ipv6), 7), 30) as connection:
            sender = threading.Thread(
                target=lambda: (connection.sendall(octets), connection.shutdown(socket.SHUT_WR))
            )
            sender.start()
            back = b"".join(iter(lambda: connection.recv(65536), b""))
            sender.join()
        assert lab.relay is not None
        there, back_again = lab.relay.counters()
    assert back == octets
    assert there.lost > 0
    assert back_again.lost > 0
    assert there.refused == back_again.refused == 0, "no frame was longer than the MTU"
    assert there.received > (1 << 20) / 1500


# ---- beginning and end ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"delay": "fast"}, "bad duration 'fast'"),
        ({"loss": "150%"}, "bad ratio '150%'"),
        ({"delay": -1}, "bad duration"),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict[str, object], reason: str) -> None:
    with pytest.raises(UnitError, match=reason):
        Lab(**arguments)  # type: ignore[arg-type]


def test_forgotten() -> None:
    def forget() -> None:
        Lab(delay="1ms")
        gc.collect()

    with pytest.warns(ResourceWarning, match="unclosed <Lab delay=1ms"):
        forget()


def test_twenty_labs_leave_nothing_open() -> None:
    def resources() -> tuple[list[str], int]:
        return os.listdir("/proc/self/fd"), threading.active_count()

    with Lab(delay="1ms"):
        pass
    before = resources()
    for number in range(20):
        with Lab(delay="1ms" if number % 5 == 0 else 0) as lab:
            if number % 10 == 0:
                lab.b.serve("echo")
    assert resources() == before
