"""Ladder diagrams as pictures: everything that happened is there, and nothing lies on something else."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import defaultdict

from rawkit.sim import Schedule, Transfer, ladder_svg
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat

SVG = "{http://www.w3.org/2000/svg}"


def test_each_packet_and_event_has_a_row_of_its_own() -> None:
    faults = Schedule.parse("drop 6, corrupt 9 bit 99, duplicate 4")
    result = Transfer(SelectiveRepeat, octets=1464 * 12, schedule=faults).run()
    root = ElementTree.fromstring(ladder_svg(result.trace, SelectiveRepeat.header))
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    columns: dict[str, list[float]] = defaultdict(list)
    texts = {}
    for element in root.iter(f"{SVG}text"):
        text = "".join(element.itertext())
        x, y, anchor = float(element.attrib["x"]), float(element.attrib["y"]), element.attrib["text-anchor"]
        wide = len(text) * 6.7
        start = x - {"start": 0, "middle": wide / 2, "end": wide}[anchor]
        assert 0 <= start <= start + wide <= width, text
        assert y <= height
        if "\u2717" not in text:
            columns[element.attrib["x"]].append(y)
            texts[text] = element
    for ys in columns.values():
        assert all(b - a >= 15 for a, b in zip(sorted(ys), sorted(ys)[1:]))
    packets = [text for text in texts if text.startswith("[")]
    assert len(packets) == result.transmissions
    assert any(text.endswith("drop 6") for text in packets)
    assert any("[corrupt (bit 259)]" in text for text in packets)
    arrived = sum(1 for event in result.trace.of("arrive"))
    assert len(list(root.iter(f"{SVG}circle"))) == arrived
