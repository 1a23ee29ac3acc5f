"""What goes wrong during `rawkit capture`: the file is whole, and message and exit status say what it was."""

from __future__ import annotations

import resource
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from capturing import FILTER, capturing, comments_of, finish, frames_of, say, texts, wait_for
from oracles import oracle
from pyroute2 import IPRoute

from rawkit.pcap import open_pcap

if TYPE_CHECKING:
    from conftest import VethPair

pytestmark = pytest.mark.net


def limited() -> None:
    """In the child: files of 64 KiB at most, and an error instead of the signal."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))


def check_full(process: subprocess.Popen[str], path: Path, reason: str) -> None:
    say(300, octets=bytes(1000))
    messages = finish(process)[1].splitlines()
    assert process.returncode == 2
    frames = frames_of(path)
    assert texts(frames) == list(range(len(frames)))
    assert 50 < len(frames) < 70
    told, error = messages
    assert told.endswith(f"; {len(frames)} written to {path}")
    assert error.startswith(f"rawkit capture: write on {path}: {reason}")


def test_a_file_that_may_not_grow_further_ends_with_its_last_whole_packet(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    with capturing("-i", "lo", "-w", str(path), *FILTER, preexec_fn=limited) as process:
        check_full(process, path, "File too large")


def test_a_full_disk_ends_the_file_with_its_last_whole_packet(tmp_path: Path) -> None:
    # In a mount namespace of its own: it needs no root of the host, and goes away with its process.
    small = 'mount -t tmpfs -o size=64k tmpfs "$0" && echo mounted && read -r line'
    with subprocess.Popen(
        [oracle("unshare"), "--mount", "sh", "-c", small, tmp_path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdout is not None
        assert holder.stderr is not None
        if holder.stdout.readline() != "mounted\n":
            pytest.skip(f"cannot make a small file system: {holder.stderr.read()}")
        path = Path(f"/proc/{holder.pid}/root{tmp_path}/out.pcapng")
        with capturing("-i", "lo", "-w", str(path), *FILTER) as process:
            check_full(process, path, "No space left on device")
        holder.communicate("\n")


def test_an_interface_that_disappears_ends_it_with_an_error_and_a_whole_file(
    veth: VethPair, tmp_path: Path
) -> None:
    path = tmp_path / "out.pcapng"
    with capturing("-i", veth.near, "-w", str(path), *FILTER) as process:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"000000", (veth.far_ipv4, 9999))
        wait_for(path, 1)
        with IPRoute() as route:
            route.link("del", index=veth.near_index)
        told, error = finish(process)[1].splitlines()
    assert process.returncode == 2
    assert told.startswith("1 packet captured, 1 received by the filter, 0 dropped")
    assert error == f"rawkit capture: capture on {veth.near}: No such device; the interface disappeared"
    assert texts(frames_of(path)) == [0]
    with open_pcap(path) as reader:
        for _ in reader:
            pass
        assert [statistics.delivered for statistics in reader.statistics] == [1]
    assert comments_of(path, 5) == [f"ended by an error: {error.removeprefix('rawkit capture: ')}"]


def test_an_interface_that_goes_down_is_told_at_the_end(veth: VethPair, tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    with capturing("-i", veth.near, "-w", str(path), *FILTER) as process:
        with IPRoute() as route:
            route.link("set", index=veth.near_index, state="down")
            time.sleep(0.3)
            route.link("set", index=veth.near_index, state="up")
        process.send_signal(signal.SIGINT)
        messages = finish(process)[1]
    assert process.returncode == 0
    assert messages.endswith(f"{veth.near} went down 1 time meanwhile\n")
    assert comments_of(path, 5) == ["ended by SIGINT", f"{veth.near} went down 1 time meanwhile"]


def test_an_interface_that_is_down_is_told_at_the_beginning(veth: VethPair) -> None:
    with IPRoute() as route:
        route.link("set", index=veth.near_index, state="down")
    with capturing("-i", veth.near, "--duration", "100ms") as process:
        assert finish(process)[1].startswith(f"{veth.near} is down: packets will come when it is up\n")
