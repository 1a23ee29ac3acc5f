"""Ten thousand readers and writers leave neither descriptors nor memory behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import gc, os, resource, sys, threading
from rawkit.engine import FrameBatch
from rawkit.errors import CaptureFileError
from rawkit.pcap import create_pcap, open_pcap
from rawkit.wire.frame import Frame

path = sys.argv[2]
batch = FrameBatch(10)
batch.extend([bytes(60)] * 10)
with create_pcap(path + ".pcapng") as writer:
    writer.write_batch(batch)
with open(path + ".pcapng", "rb") as file, open(path + ".cut", "wb") as cut:
    cut.write(file.read()[:-3])

def read():
    with open_pcap(path + ".pcapng") as reader:
        assert len(list(reader)) == 10

def read_batches_of_a_damaged_file():
    try:
        with open_pcap(path + ".cut") as reader:
            for batch in reader.batches():
                batch.view(0)
    except CaptureFileError:
        pass

def write_pcap():
    with create_pcap(path + ".pcap") as writer:
        writer.write(Frame(bytes(60)))

def write_pcapng():
    with create_pcap(path) as writer:
        writer.write_batch(batch)

def state():
    gc.collect()
    resident = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
    return len(os.listdir("/proc/self/fd")), threading.active_count(), resident

do = globals()[sys.argv[1]]
for _ in range(500):
    do()
descriptors, threads, resident = state()
for _ in range(10_000):
    do()
end = state()
assert end[0] == descriptors, f"{end[0] - descriptors} descriptors more"
assert end[1] <= threads + 1, f"{end[1] - threads} threads more"
assert end[2] - resident < 1 << 20, f"{end[2] - resident} octets more"
"""


@pytest.mark.parametrize(
    "what",
    [
        "read",
        "read_batches_of_a_damaged_file",
        pytest.param("write_pcap", marks=pytest.mark.slow),
        pytest.param("write_pcapng", marks=pytest.mark.slow),
    ],
)
def test_ten_thousand_times(what, tmp_path):
    command = [sys.executable, "-c", CODE, what, str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
