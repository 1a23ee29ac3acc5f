"""The examples run as they are, and the captures of both hosts show that they do what they say."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from rawkit.engine import RawIPSocket
from rawkit.lab import Host, Lab
from rawkit.tools.capture import Capture
from rawkit.wire import ICMP, IPv4, IPv6
from rawkit.wire.frame import Frame

pytestmark = pytest.mark.net

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
COURIER = 253
TEXTS = [b"a protocol", b"of one's", b"own"]


def test_there_are_examples() -> None:
    assert "courier" in [path.stem for path in EXAMPLES]


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_it_runs_and_is_short(path: Path) -> None:
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
    assert len(path.read_text().splitlines()) <= 60


class WatchedLab(Lab):
    """A lab that captures IPv4 on both hosts as long as it is open."""

    seen: dict[str, list[Frame]]

    def __enter__(self) -> WatchedLab:
        def watch(host: Host) -> Capture:
            with host:
                return Capture(host.interface, "ip")

        self._captures = {host.name: watch(host) for host in (self.a, self.b)}
        return self

    def close(self) -> None:
        if getattr(self, "_captures", None):
            WatchedLab.seen = {}
            for name, capture in self._captures.items():
                capture.stop()
                with capture:
                    WatchedLab.seen[name] = list(capture)
            self._captures = {}
        super().close()


def unreachables(frames: list[Frame]) -> list[tuple[int, int]]:
    """Type and code of the ICMP messages among frames."""
    packets = [frame.packet() for frame in frames]
    return [(packet[ICMP].type, packet[ICMP].code) for packet in packets if ICMP in packet]


@pytest.fixture(scope="module")
def courier() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location(
        "courier", EXAMPLES[[p.stem for p in EXAMPLES].index("courier")]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for lower in (IPv4, IPv6):  # the number is free again for other tests
        del lower.uppers[COURIER], lower.numbers[module.Courier]


def test_courier_arrives_as_sent_and_no_kernel_objects(
    courier: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(courier, "Lab", WatchedLab)
    courier.main()
    sent, received = WatchedLab.seen["a"], WatchedLab.seen["b"]
    assert [frame.data for frame in sent] == [frame.data for frame in received]
    assert len(sent) == len(TEXTS)
    for frame, text in zip(received, TEXTS):
        packet = frame.packet(strict=True)
        assert packet[IPv4].protocol == COURIER
        assert packet.payload == text
        assert [verdict.state for verdict in packet.checksums()] == ["good", "good"]
    assert unreachables(sent) == unreachables(received) == []
    assert [repr(text) in line for text, line in zip(TEXTS, capsys.readouterr().out.splitlines()[-3:])] == [
        True
    ] * 3


def test_without_a_socket_the_kernel_would_object() -> None:
    """What the test before would have seen."""
    with WatchedLab() as lab:
        with lab.a, RawIPSocket(4, COURIER) as sender:
            sender.send(bytes(IPv4(src=lab.a.ipv4, dst=lab.b.ipv4, protocol=COURIER) / b"nobody is there"))
        deadline = time.monotonic() + 10
        while lab._captures["a"].counters().received < 2:  # ours, and the answer
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert unreachables(WatchedLab.seen["a"]) == [(3, 2)]


def test_the_header_class_of_courier_is_short() -> None:
    text = next(path for path in EXAMPLES if path.stem == "courier").read_text()
    declaration = text[text.index("class Courier") : text.index("def main")].strip().splitlines()
    assert len(declaration) <= 15
