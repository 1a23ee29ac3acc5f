"""The page about a run, as a browser has it."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path

import pytest
from report.browser import browser

from rawkit.report.page import MOST, page
from rawkit.report.run import Run
from rawkit.sim import Bernoulli, DropTail, LinkSpec, Schedule, Transfer
from rawkit.transport import Machine
from rawkit.transport.protocols.go_back_n import GoBackN
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat

LINK = LinkSpec("10Mbit/s", "20ms", DropTail(packets=40), (Bernoulli(0.01),))
TRANSFER = Transfer(SelectiveRepeat, octets=300_000, link=LINK, schedule=Schedule.parse("drop 9"), seed=5)


BOXES = """[...document.querySelectorAll('.plot .nsewdrag')].map(element => {
    const { x, y, width, height } = element.getBoundingClientRect(); return [x, y, width, height]; })"""
"""Where the plots are."""
PACKET = """(({ _fullLayout: { xaxis, yaxis }, data: [sent] }) => {
    const inside = (pixel, axis) => pixel > 20 && pixel < axis._length - 20;
    const all = sent.x.map((x, i) => [xaxis.d2p(x), yaxis.d2p(sent.y[i]), sent.text[i]])
        .filter(([x, y, text]) => text && inside(x, xaxis) && inside(y, yaxis));
    const alone = ([x, y, text]) => Math.min(
        ...all.filter(other => other[2] !== text).map(other => Math.hypot(other[0] - x, other[1] - y)));
    const best = all.reduce((one, other) => alone(other) > alone(one) ? other : one);
    return [best.slice(0, 2), best[2]];
})(document.getElementById('sequence'))"""
"""Where the packet furthest from all others is in its plot, not at the border, and what is said of it."""


@pytest.fixture(scope="module")
def run() -> Run:
    made = Run.of(TRANSFER.run(), "<Selective> & repeat")
    made.machine = Machine("CLOSED open -> OPEN\nOPEN close -> CLOSED\nOPEN fail -> BROKEN")
    state = made.machine.start()
    state.on("open")
    return made


def test_a_page_says_what_was_run_and_measured_and_how_to_do_it_again(run: Run) -> None:
    text = page([run])
    assert "<title>&lt;Selective&gt; &amp; repeat</title>" in text
    for told in (
        "drop 9",
        "queue=DropTail(packets=40)",
        "300,000",
        "Schedule.parse(&#x27;drop 9&#x27;)",
        "1 of 3",
    ):
        assert told in text
    told = re.search('<script type="application/json" id="plots">(.*?)</script>', text)
    assert told
    panels = json.loads(told[1])["panels"]
    assert [panel["key"] for panel in panels] == ["sequence", "window", "rtt", "goodput", "queue"]
    assert page([run]) == text
    outside = re.sub("<script>.*?</script>", "", text, flags=re.DOTALL)
    assert "http" not in outside.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_a_page_about_no_run_is_refused() -> None:
    with pytest.raises(ValueError, match="there are no runs to show"):
        page([])


@pytest.mark.slow
def test_a_browser_shows_every_plot_zooms_and_asks_for_nothing(run: Run, tmp_path: Path) -> None:
    from PIL import Image

    one, several = tmp_path / "one.html", tmp_path / "several.html"
    one.write_text(page([run]))
    several.write_text(page([run, Run.of(Transfer(GoBackN, octets=300_000, link=LINK).run())]))
    with browser(tmp_path / "profile") as tab:
        for path, dark, plots in ((one, False, 5), (one, True, 5), (several, False, 5)):
            tab.open(path, dark=dark)
            assert tab.said == []
            assert {url for url in tab.asked if not url.startswith(("data:", "blob:"))} == {path.as_uri()}
            tab.asked.clear()
            boxes = tab.value(BOXES)
            assert len(boxes) == plots
            picture = Image.open(io.BytesIO(tab.picture())).convert("RGB")
            for x, y, width, height in boxes:
                inside = picture.crop((int(x) + 2, int(y) + 2, int(x + width) - 2, int(y + height) - 2))
                shares = sorted((n for n, _ in inside.getcolors(1 << 20) or []), reverse=True)
                assert sum(shares[2:]) > 200  # more than the ground and the grid: curves
        tab.open(one)
        boxes = tab.value(BOXES)
        x, y, width, height = boxes[1]
        tab.mouse("mouseMoved", x + width / 2, y + height / 2)
        for step in range(12):  # somewhere near the curve there is something to read
            tab.mouse("mouseMoved", x + width / 2 + step, y + height * step / 12)
            if tab.value(
                "new Promise(r => setTimeout(() => r(document.querySelectorAll('.hovertext').length), 60))"
            ):
                break
        assert " s" in tab.value("document.querySelector('.hovertext').textContent")
        x, y, *_ = boxes[0]
        place, text = tab.value(PACKET)
        tab.mouse("mouseMoved", x + place[0] + 1, y + place[1] + 1)
        shown = tab.value(
            "new Promise(done => setTimeout(() => "
            "done(document.querySelector('.hovertext')?.textContent), 200))"
        )
        assert text.startswith("[")
        assert text in shown
        x, y, width, height = boxes[1]
        before = tab.value("document.getElementById('rtt').layout.xaxis.range")
        tab.mouse("mousePressed", x + 100, y + 50, button="left", buttons=1, clickCount=1)
        for step in range(1, 11):
            tab.mouse("mouseMoved", x + 100 + 20 * step, y + 50 + 10 * step, button="left", buttons=1)
        tab.mouse("mouseReleased", x + 300, y + 150, button="left", clickCount=1)
        ranges = tab.value(
            "new Promise(done => setTimeout(() => done(['window', 'rtt'].map("
            "key => document.getElementById(key).layout.xaxis.range)), 300))"
        )
        assert ranges[0] == pytest.approx(ranges[1])
        assert ranges[1][0] > before[0]
        assert ranges[1][1] < before[1]
        assert tab.said == []


@pytest.mark.slow
def test_a_hundred_thousand_events_open_in_a_few_seconds(tmp_path: Path) -> None:
    link = LinkSpec("100Mbit/s", "10ms", DropTail(packets=60), (Bernoulli(0.001),))
    run = Run.of(Transfer(SelectiveRepeat, octets=26_000_000, link=link).run())
    assert len(list(run.trace)) > 100_000
    path = tmp_path / "long.html"
    path.write_text(page([run]))
    assert path.stat().st_size < 8_000_000
    assert f"Of what has more than {MOST} points some are left out" in path.read_text()
    with browser(tmp_path / "profile") as tab:
        start = time.monotonic()
        tab.open(path)
        print(f"opened in {time.monotonic() - start:.2f} s")
        assert time.monotonic() - start < 20  # 6 s with others at work
        assert tab.said == []
