"""`rawkit capture` in a process of its own, and what is in the files that it writes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from oracles import oracle

from rawkit.errors import CaptureFileError
from rawkit.pcap import open_pcap
from rawkit.wire.frame import Frame

FILTER = ("udp", "port", "9999")


@contextmanager
def capturing(
    *args: str, command: Sequence[str] = (sys.executable, "-m", "rawkit"), **popen: Any
) -> Iterator[subprocess.Popen[str]]:
    """`rawkit capture ARGS`, which has said that it captures; `command` is how rawkit is run."""
    argv = [*command, "capture", *args]
    with subprocess.Popen(
        argv, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **popen}
    ) as process:
        try:
            assert process.stderr is not None
            ready = b""
            # Octet by octet: what is behind the line stays in the pipe for communicate().
            while not ready.endswith(b"\n") and (octet := os.read(process.stderr.fileno(), 1)):
                ready += octet
            assert ready.startswith(b"capturing on "), ready
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    return process.communicate(timeout=20)


def say(n: int = 10, port: int = 9999, octets: bytes = b"") -> None:
    """n datagrams over loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for i in range(n):
            sock.sendto(b"%06d" % i + octets, ("127.0.0.1", port))


def frames_of(path: Path) -> list[Frame]:
    """All frames of a file that tshark reads without complaint as well."""
    with open_pcap(path) as reader:
        frames = list(reader)
    done = subprocess.run(
        [oracle("tshark"), "-n", "-r", path, "-T", "fields", "-e", "frame.number"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    complaints = [line for line in done.stderr.splitlines() if "Running as user" not in line]
    assert complaints == []
    assert len(done.stdout.split()) == len(frames)
    return frames


def wait_for(path: Path, n: int, last: int | None = None) -> None:
    """Until a file that is being written holds n packets, the last of which says `last`."""
    deadline = time.monotonic() + 20
    found: list[Frame] = []
    while len(found) < n or (last is not None and texts(found[-1:]) != [last]):
        assert time.monotonic() < deadline, f"{len(found)} of {n} packets in {path}"
        time.sleep(0.02)
        with suppress(CaptureFileError, FileNotFoundError), open_pcap(path) as reader:
            found = list(reader)


def texts(frames: list[Frame]) -> list[int]:
    return [int(frame.packet().payload[:6]) for frame in frames]


def tshark_fields(path: Path, *fields: str, options: Sequence[str] = ()) -> list[list[str]]:
    """What tshark says of some fields of each packet."""
    argv = [oracle("tshark"), "-n", "-r", str(path), *options, "-T", "fields"]
    done = subprocess.run(
        [*argv, *(word for field in fields for word in ("-e", field))],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return [line.split("\t") for line in done.stdout.splitlines()]


def comments_of(path: Path, kind: int) -> list[str]:
    """The comments on a file's blocks of a kind."""
    with open_pcap(path) as reader:
        found = [block.options for block in reader.blocks() if block.kind == kind]
    return [value.decode() for options in found for code, value in options if code == 1]
