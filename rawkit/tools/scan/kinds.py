"""The TCP scans that send packets of their own: the flags of a probe, and what answers and silence mean."""

from __future__ import annotations

from typing import NamedTuple

from rawkit.tools.scan.config import CLOSED, FILTERED, OPEN, OPEN_FILTERED, UNFILTERED


class Kind(NamedTuple):
    """A scan's probe has `flags`. A RST makes a port `reset`, silence `silent`, an ICMP error filtered.

    With `by_window`, a RST with a window that is not 0 makes the port open: some hosts let it show there.
    `echo` is an ICMP echo request instead, whose "port" is the sequence number.
    """

    flags: str = ""
    reset: str = CLOSED
    silent: str = OPEN_FILTERED
    by_window: bool = False
    echo: bool = False

    @property
    def opens(self) -> bool:
        """Whether probes ask for a connection."""
        return self.flags == "S"

    @property
    def answer(self) -> str:
        """The reason of an open port."""
        return "echo-reply" if self.echo else "syn-ack"

    def of_reset(self, window: int) -> str:
        """The state of a port that answers with a RST."""
        return OPEN if self.by_window and window else self.reset


# To segments that ask for nothing, closed ports answer with a RST, and open ones not at all (RFC 9293 section
# 3.10.7.2). Segments that acknowledge what was never sent get a RST from both (section 3.10.7.1).
KINDS = {
    "syn": Kind("S", silent=FILTERED),
    "ack": Kind("A", reset=UNFILTERED, silent=FILTERED),
    "window": Kind("A", silent=FILTERED, by_window=True),
    "fin": Kind("F"),
    "null": Kind(""),
    "xmas": Kind("FPU"),
    "maimon": Kind("FA"),
}

ECHO = Kind(silent=FILTERED, echo=True)
