"""The application of the standard experiment: octets one way or both, checked as they come."""

from __future__ import annotations

from typing import Any

from rawkit.transport.clockwork import Clockwork
from rawkit.transport.driver import App, Driver
from rawkit.transport.events import Close, Closed, PeerClosed, Reset, Write


class Party(App):
    """One side of a transfer: it writes all it has, closes, and checks what it gets as it comes."""

    def __init__(self, name: str, clock: Clockwork, writes: bytes, expects: bytes, chunk: int) -> None:
        super().__init__()
        self.name, self.clock = name, clock
        self.writes, self.expects, self.chunk = writes, expects, chunk
        self.got = 0
        """Octets delivered."""
        self.wrong = ""
        """The first thing delivered that was never written, or not next."""
        self.messages = 0
        self.ended = False
        self.finished_ns: int | None = None
        """When all that was expected had been delivered."""

    def begin(self, driver: Driver) -> None:
        """Write everything, in pieces of `chunk` octets."""
        for at in range(0, len(self.writes), self.chunk):
            driver.do(Write(self.writes[at : at + self.chunk]))

    def on_data(self, driver: Driver, data: bytes) -> None:
        end = self.got + len(data)
        if not self.wrong and self.expects[self.got : end] != data:
            what = "more than was written" if end > len(self.expects) else "other than what was written"
            self.wrong = f"the {self.name} got octets {self.got} to {end - 1}, {what}, at {self.clock.now} ns"
        self.got = end
        self.messages += 1
        if end == len(self.expects):
            self.finished_ns = self.clock.now

    def on_notice(self, driver: Driver, notice: Any) -> None:
        self.notices.append(notice)
        if isinstance(notice, PeerClosed):
            if not self.wrong and self.got < len(self.expects):
                self.wrong = (
                    f"the {self.name} was told the end after {self.got} of {len(self.expects)} octets"
                )
            if not self.wrong and self.ended:
                self.wrong = f"the {self.name} was told the end twice"
            if self.name == "server" and not self.ended:
                driver.do(Close())
            self.ended = True


def all_arrived(*parties: Party) -> bool:
    """Whether each got all that the other wrote, and nothing else."""
    return all(not party.wrong and party.got == len(party.expects) for party in parties)


def all_closed(*parties: Party) -> bool:
    """Whether each was told that all is over in order."""
    return all(
        any(isinstance(notice, Closed) for notice in party.notices)
        and not any(isinstance(notice, Reset) for notice in party.notices)
        for party in parties
    )
