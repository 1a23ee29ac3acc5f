"""The tutorial pages of the three reference protocols: their code runs, and prints what they say."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {
    "tutorial-stop-and-wait.md": "stop_and_wait",
    "tutorial-go-back-n.md": "go_back_n",
    "tutorial-selective-repeat.md": "selective_repeat",
}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_prints_what_it_says_and_quotes_what_is_there(page: str) -> None:
    from rawkit.transport import protocols

    source = (Path(protocols.__path__[0]) / f"{PAGES[page]}.py").read_text(encoding="utf-8")
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {"__name__": "page"}
    run = 0
    for (kind, code), (following, expected) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if kind != "python":
            continue
        if following != "text":
            assert code in source
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, page, "exec"), names)
        assert "\n".join(line.rstrip() for line in printed.getvalue().rstrip().split("\n")) + "\n" == expected
        run += 1
    assert run >= 4
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (DOCS / target).exists(), target
