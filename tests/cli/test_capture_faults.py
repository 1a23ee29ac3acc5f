"""What goes wrong during `rawkit capture`: the file is whole, and message and exit status say what it was."""

from __future__ import annotations

import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from capturing import FILTER, capturing, comments_of, finish, frames_of, say, texts, wait_for
from oracles import oracle, with_capability
from pyroute2 import IPRoute

from rawkit.errors import CaptureFileError
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


@contextmanager
def another_disk(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own at a folder, as it is seen from here."""
    # In a mount namespace of its own: it needs no root of the host, and goes away with its process.
    script = f'mount -t tmpfs -o {options} tmpfs "$0" && echo mounted && read -r line'
    with subprocess.Popen(
        [oracle("unshare"), "--mount", "sh", "-c", script, folder],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdout is not None
        assert holder.stderr is not None
        if holder.stdout.readline() != "mounted\n":
            pytest.skip(f"cannot make a small file system: {holder.stderr.read()}")
        try:
            yield Path(f"/proc/{holder.pid}/root{folder}")
        finally:
            holder.communicate("\n")


def test_a_full_disk_ends_the_file_with_its_last_whole_packet(tmp_path: Path) -> None:
    with another_disk(tmp_path, "size=64k") as disk:
        path = disk / "out.pcapng"
        with capturing("-i", "lo", "-w", str(path), *FILTER) as process:
            check_full(process, path, "No space left on device")


def test_a_full_disk_ends_a_series_with_whole_files(tmp_path: Path) -> None:
    with another_disk(tmp_path, "size=192k") as disk:
        path = disk / "out.pcapng"
        with capturing("-i", "lo", "-C", "50k", "-w", str(path), *FILTER) as process:
            say(400, octets=bytes(1000))
            told, error = finish(process)[1].splitlines()
        files = [path, *(disk / f"out.pcapng{number}" for number in (1, 2, 3))]
        assert sorted(disk.iterdir()) == files
        kept = [texts(frames_of(file)) for file in files]
    assert process.returncode == 2
    assert error.startswith(f"rawkit capture: write on {files[3]}: No space left on device")
    assert [n for file in kept for n in file] == list(range(sum(map(len, kept))))
    assert min(map(len, kept[:3])) > 40
    assert f"; {sum(map(len, kept))} written to 4 files, the last is {files[3]}" in told


def test_a_directory_that_became_read_only_ends_a_series(tmp_path: Path) -> None:
    """The packets up to then are in whole files, and the message names the file that could not be made."""
    folder = tmp_path / "series"
    folder.mkdir()
    path = folder / "out.pcapng"
    # Root could write anyway: this one may capture, and nothing else.
    command = [*with_capability("net_raw"), sys.executable, "-m", "rawkit"]
    with capturing("-i", "lo", "-C", "50k", "-w", str(path), *FILTER, command=command) as process:
        folder.chmod(0o555)
        say(100, octets=bytes(1000))
        told, error = finish(process)[1].splitlines()
    assert process.returncode == 2
    assert error == f"rawkit capture: {path}1: Permission denied"
    assert list(folder.iterdir()) == [path]
    kept = texts(frames_of(path))
    assert kept == list(range(len(kept)))
    assert 40 < len(kept) < 60
    assert told.endswith(f"; {len(kept)} written to {path}")
    assert comments_of(path, 5) == []


def test_a_read_only_directory_is_told_before_the_start(tmp_path: Path) -> None:
    with another_disk(tmp_path, "ro") as disk:
        path = disk / "out.pcapng"
        argv = [sys.executable, "-m", "rawkit", "capture", "-i", "lo", "-w", path]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"rawkit capture: {path}: Read-only file system\n"


def test_without_permission_it_says_what_is_missing_and_makes_no_file(
    ordinary: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "out.pcapng"
    argv = [*ordinary, "-m", "rawkit", "capture", "-i", "lo", "-w", path]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (77, "")
    assert done.stderr.startswith(
        "rawkit capture: open ring on lo: Operation not permitted; needs CAP_NET_RAW"
    )
    assert not path.exists()


def test_a_clock_that_was_set_is_told_and_times_are_the_kernels(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    # The machine's clock is everybody's: what is set is the one that the capture looks at.
    script = """
import sys, time
from rawkit.tools import capturefile
real, start = capturefile.realtime_ns, time.monotonic()
capturefile.ClockWatch.__init__.__defaults__ = (
    lambda: real() + 3600 * 10**9 * (time.monotonic() > start + 0.5), capturefile.monotonic_ns)
from rawkit.cli.main import main
main()
"""
    command = [sys.executable, "-c", script]
    with capturing("-i", "lo", "-w", str(path), "--duration", "1500ms", *FILTER, command=command) as process:
        say(1)
        messages = finish(process)[1]
    assert process.returncode == 0
    assert messages.endswith("the clock was set forward 3600.0 s meanwhile\n")
    assert comments_of(path, 5) == ["the clock was set forward 3600.0 s meanwhile"]
    (frame,) = frames_of(path)
    assert abs(frame.time_ns - time.time_ns()) < 60 * 10**9


def test_killed_while_it_writes_the_file_is_readable_up_to_its_last_whole_block(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    enough = threading.Event()
    with capturing("-i", "lo", "-w", str(path), *FILTER) as process:

        def chatter() -> None:
            while not enough.is_set():
                say(100, octets=bytes(1400))

        sender = threading.Thread(target=chatter)
        sender.start()
        try:
            end = time.monotonic() + 30
            while path.stat().st_size < 3_000_000 and time.monotonic() < end:
                time.sleep(0.001)
            process.kill()  # while more comes
            finish(process)
        finally:
            enough.set()
            sender.join()
    size = path.stat().st_size
    numbers, whole = [], 0
    with open_pcap(path) as reader, suppress(CaptureFileError):  # raised for a record that was cut
        for frame in reader:
            numbers.append(int(frame.packet().payload[:6]))
            whole += 32 + len(frame.data) + -len(frame.data) % 4 + 12
    assert numbers == [i % 100 for i in range(len(numbers))]
    assert len(numbers) > 1500
    assert size - whole < 2000  # the header, and a part of one record at most
    argv = [oracle("tshark"), "-n", "-r", str(path), "-T", "fields", "-e", "frame.number"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [str(i + 1) for i in range(len(numbers))]


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
