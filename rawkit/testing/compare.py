"""Captured packets beside what a test expected, and an error that shows where they differ."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rawkit.testing.patterns import Pattern
from rawkit.testing.recording import SLICE, Recording

if TYPE_CHECKING:
    from rawkit.wire.frame import Frame
    from rawkit.wire.packet import Packet

    Expected = Pattern | Packet | bytes
    Captured = Recording | str | os.PathLike[str] | Iterable[Frame | Packet | bytes]


def assert_packets(
    captured: Captured, expected: Sequence[Expected], *, exact: bool = True, timeout: float = 1.0
) -> list[Packet]:
    """The captured packets that were expected, in order.

    `captured` is a recording (waited for, up to `timeout` seconds), a capture file's path, or an iterable of
    frames, packets or octets. What is expected of each is a pattern, a packet (all its octets, from its first
    header on), or octets (all of the frame). With `exact` there must be no others; without, others may lie
    between them.

    Raises:
        AssertionError: a packet is missing, another one came, or fields differ; it says which, and shows
            the packet's octets.
    """
    __tracebackhide__ = True
    if isinstance(captured, Recording):
        frames = captured.wait(len(expected), timeout)
        if exact and len(frames) == len(expected):
            frames = captured.wait(len(expected) + 1, timeout=SLICE)  # nobody else came right behind
        title = captured.title
    else:
        title, frames = _frames(captured)
    packets = [frame.packet() for frame in frames]
    pairs = _aligned(expected, packets, frames)
    matched = [packets[j] for i, j in pairs if i is not None and j is not None]
    if len(matched) == len(expected) and (len(matched) == len(packets) or not exact):
        return matched
    raise AssertionError(_report(title, expected, packets, frames, pairs, exact))


def _frames(captured: Any) -> tuple[str, list[Frame]]:
    from rawkit.pcap import open_pcap
    from rawkit.wire.frame import Frame

    if isinstance(captured, (str, os.PathLike)):
        with open_pcap(captured) as reader:
            return os.fspath(captured), list(reader)
    frames = []
    for one in captured:
        if isinstance(one, Frame):
            frames.append(one)
        elif isinstance(one, (bytes, bytearray, memoryview)):
            frames.append(Frame(bytes(one)))
        else:
            first = type(one.layers[0]).__name__ if one.layers else ""
            frames.append(Frame(bytes(one), linktype=101 if first in ("IPv4", "IPv6") else 1))
    return "what was given", frames


def differences(expected: Expected, packet: Packet, frame: Frame) -> list[str]:
    """How a captured packet differs from what was expected, one line each."""
    from rawkit.wire.edit import diff
    from rawkit.wire.packet import Packet

    if isinstance(expected, Pattern):
        return expected.differences(packet)
    if isinstance(expected, (bytes, bytearray, memoryview)):
        if bytes(expected) == frame.data:
            return []
        return [f"expected {len(expected)} octets, {bytes(expected).hex(' ')}"]
    if not expected.layers:
        return differences(bytes(expected), packet, frame)
    first = type(expected.layers[0])
    at = next((i for i, header in enumerate(packet.layers) if type(header) is first), None)
    if at is None:
        return [f"expected a packet from {first.__name__} on, got {packet.summary()}"]
    rest = b"".join(packet._headers()[at:]) + packet.payload
    wanted = bytes(expected)
    if rest == wanted:
        return []
    found = diff(Packet.parse(wanted, first=first), Packet.parse(rest, first=first))
    return [f"{one} (expected -> got)" for one in found] or ["other octets"]


Pairs = list[tuple[int | None, int | None]]


def _aligned(expected: Sequence[Expected], packets: Sequence[Packet], frames: Sequence[Frame]) -> Pairs:
    """Which packet is which of those expected: the longest row of them in order, the others alone."""
    n, m = len(expected), len(packets)
    # What is right is most often all of it, in order: then nothing else is compared.
    if n == m and all(not differences(*row) for row in zip(expected, packets, frames)):
        return [(i, i) for i in range(n)]
    fits = [[not differences(one, packets[j], frames[j]) for j in range(m)] for one in expected]
    longest = [[0] * (m + 1) for _ in range(n + 1)]
    for i in reversed(range(n)):
        for j in reversed(range(m)):
            longest[i][j] = max(longest[i + 1][j], longest[i][j + 1], fits[i][j] + longest[i + 1][j + 1])
    pairs: Pairs = []
    i = j = 0
    while i < n or j < m:
        if i < n and j < m and fits[i][j] and longest[i][j] == 1 + longest[i + 1][j + 1]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif j == m or (i < n and longest[i + 1][j] == longest[i][j]):
            pairs.append((i, None))
            i += 1
        else:
            pairs.append((None, j))
            j += 1
    return pairs


def _report(
    title: str,
    expected: Sequence[Expected],
    packets: Sequence[Packet],
    frames: Sequence[Frame],
    pairs: Pairs,
    exact: bool,
) -> str:
    """What the error says: each packet that is not as expected, with its fields and octets."""
    lines = [f"{_counted(len(expected))} expected, {len(packets)} captured ({title})"]
    matched = {j for i, j in pairs if i is not None and j is not None}
    spare = [j for j in range(len(packets)) if j not in matched]
    for i, j in pairs:
        if i is None:
            continue
        what = expected[i]
        label = _label(what)
        if j is not None:
            lines.append(f"  = {i + 1}. {label}")
            continue
        lines.append(f"  - {i + 1}. {label}")
        # The captured packet that comes closest explains most: the first one that stands in this place.
        place = next((k for k in spare if _between(i, k, pairs)), None)
        if place is not None:
            spare.remove(place)
            lines.append(f"    differs from captured packet {place + 1}: {packets[place].summary()}")
            lines += [f"      {text}" for text in differences(what, packets[place], frames[place])]
            lines += _dump(packets[place])
        else:
            lines.append("    did not come")
    if exact:
        for k in spare:
            lines.append(f"  + captured packet {k + 1} was not expected: {packets[k].summary()}")
            lines += _dump(packets[k])
    return "\n".join(lines)


def _label(expected: Expected) -> str:
    if isinstance(expected, Pattern):
        return str(expected)
    if isinstance(expected, (bytes, bytearray, memoryview)):
        return f"{len(expected)} octets"
    return expected.summary()


def _between(i: int, k: int, pairs: Pairs) -> bool:
    """Whether captured packet k lies where expected packet i would: between the pairs around it."""
    before = max((j for a, j in pairs if a is not None and j is not None and a < i), default=-1)
    after = min((j for a, j in pairs if a is not None and j is not None and a > i), default=None)
    return before < k and (after is None or k < after)


def _dump(packet: Packet) -> list[str]:
    return ["      " + line for line in packet.hexdump().splitlines()]


def _counted(n: int) -> str:
    return f"{n} packet{'' if n == 1 else 's'}"
