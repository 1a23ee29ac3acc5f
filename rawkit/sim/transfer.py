"""The standard experiment: octets from a client to a server over a link that follows a schedule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from rawkit.sim.guard import outside_forbidden
from rawkit.sim.link import Direction, LinkSpec
from rawkit.sim.network import Network, p2p
from rawkit.sim.queues import DropTail
from rawkit.sim.schedule import Schedule
from rawkit.transport.chance import Substream
from rawkit.transport.driver import Driver
from rawkit.transport.endpoint import Endpoint
from rawkit.transport.events import Close
from rawkit.transport.party import Party, all_arrived, all_closed
from rawkit.transport.trace import Trace

HOUR_NS = 3600 * 10**9

STANDARD = LinkSpec("10Mbit/s", "20ms", DropTail(packets=100))
"""The link that protocols are compared on: 10 Mbit/s, 20 ms one way, room for 100 packets."""


def brief(value: Any) -> str:
    """Python source for a value that may be made of dataclasses, without what is said by default."""
    if not is_dataclass(value):
        return f"({''.join(f'{brief(item)}, ' for item in value)})" if type(value) is tuple else repr(value)
    given = []
    for row in fields(value):
        default = row.default if row.default_factory is MISSING else row.default_factory()
        found = getattr(value, row.name)
        if found != default:
            given.append(f"{row.name}={brief(found)}")
    return f"{type(value).__name__}({', '.join(given)})"


@dataclass(frozen=True)
class Transfer:
    """An experiment as a value: `run` does it, and does the same each time.

    A client (host a) writes `octets` octets to a server (host b) and closes; the server writes `back` octets
    and closes when the client has. `options` are keyword arguments of the protocol class, for both sides. The
    client writes in pieces of `chunk` octets (for message modes the length of a message).
    """

    protocol: type[Endpoint]
    options: Mapping[str, Any] = field(default_factory=dict)
    octets: int = 20_000
    back: int = 0
    chunk: int = 1 << 62
    link: LinkSpec = STANDARD
    link_back: LinkSpec | None = None
    schedule: Schedule = field(default_factory=Schedule)
    seed: int = 0
    limit_ns: int = HOUR_NS
    trace: bool = True

    def run(self) -> Result:
        """Do it. What the protocol's code raises is kept in the result's `error`."""
        network = p2p(self.link, self.link_back, seed=self.seed, trace=self.trace)
        self.schedule.attach(network.links[0], self.protocol.header)
        forth = Substream(self.seed, "octets forth").octets(self.octets)
        back = Substream(self.seed, "octets back").octets(self.back)
        client = Party("client", network.clock, forth, back, self.chunk)
        server = Party("server", network.clock, back, forth, self.chunk)
        error: Exception | None = None
        drivers = network.connect(
            network.nodes["a"],  # type: ignore[arg-type]
            network.nodes["b"],  # type: ignore[arg-type]
            self.protocol(**self.options),
            self.protocol(**self.options),
            client,
            server,
        )
        with outside_forbidden():
            try:
                drivers[1].open("server")
                drivers[0].open("client")
                client.begin(drivers[0])
                drivers[0].do(Close())
                server.begin(drivers[1])
                network.run(self.limit_ns)
            except Exception as raised:
                error = raised
        return Result(self, network, drivers[0], drivers[1], client, server, error)

    def script(self) -> str:
        """A Python script that does this experiment again, and prints what happened."""
        protocol = self.protocol
        lines = [f"from {protocol.__module__} import {protocol.__qualname__.split('.')[0]}"]
        given = []
        for row in fields(self):
            value = getattr(self, row.name)
            if row.name == "protocol":
                given.append(f"protocol={protocol.__qualname__}")
            elif row.name == "schedule" and value:
                given.append(f"schedule=Schedule.parse({str(value)!r})")
            elif row.name in ("link", "link_back"):
                if value != (STANDARD if row.name == "link" else None):
                    given.append(f"{row.name}={brief(value)}")
            elif value != row.default and value and row.name != "schedule":
                given.append(f"{row.name}={dict(value) if row.name == 'options' else value!r}")
        body = ",\n    ".join(given)
        return "\n".join(
            [
                *lines,
                "from rawkit.sim import *",
                "",
                f"result = Transfer(\n    {body},\n).run()",
                "print(result.ladder())",
                "print(result.violation() or 'nothing wrong')",
                "",
            ]
        )


@dataclass
class Result:
    """What came of a transfer."""

    transfer: Transfer
    network: Network
    client: Driver
    server: Driver
    client_app: Party
    server_app: Party
    error: Exception | None

    @property
    def transmissions(self) -> int:
        """How many packets both sides sent."""
        return self.network.packets

    @property
    def faults(self) -> int:
        """How many packets the link lost, repeated or damaged."""
        harmless = ("delivered", "marked")
        return sum(n for way in self.directions for kind, n in way.counts.items() if kind not in harmless)

    @property
    def directions(self) -> tuple[Direction, Direction]:
        """The link's two directions, that from the client first."""
        link = self.network.links[0]
        return link.forth, link.back

    @property
    def trace(self) -> Trace:
        """What happened.

        Raises:
            ValueError: the transfer was made without a trace.
        """
        if self.network.trace is None:
            raise ValueError("this transfer kept no trace")
        return self.network.trace

    @property
    def complete(self) -> bool:
        """Whether both sides got all that the other wrote, and nothing else."""
        return all_arrived(self.client_app, self.server_app) and self.error is None

    @property
    def closed(self) -> bool:
        """Whether both sides were told that all is over in order."""
        return all_closed(self.client_app, self.server_app)

    @property
    def goodput_bps(self) -> float:
        """Octets delivered to the server, as bits per second until the last of them; 0 if not complete."""
        end = self.server_app.finished_ns
        return self.server_app.got * 8e9 / end if end else 0.0

    def metrics(self) -> dict[str, Any]:
        """The figures of the run, by name; times in seconds, rates in bits per second."""
        forth, back = self.directions
        end = self.server_app.finished_ns
        return {
            "octets": self.server_app.got,
            "complete": self.complete,
            "closed": self.closed,
            "finished_s": None if end is None else end / 1e9,
            "goodput_bps": self.goodput_bps,
            "client_packets": self.client.sent,
            "server_packets": self.server.sent,
            "dropped_by_client": dict(self.client.endpoint.dropped),
            "dropped_by_server": dict(self.server.endpoint.dropped),
            forth.name: dict(forth.counts),
            back.name: dict(back.counts),
        }

    def violation(self) -> str:
        """The first standard property that does not hold, in words; "" when all do."""
        from rawkit.sim.properties import STANDARD_PROPERTIES

        return next(filter(None, (check(self) for check in STANDARD_PROPERTIES)), "")

    def ladder(self, **options: Any) -> str:
        """The packets as a ladder diagram in text."""
        from rawkit.sim.ladders import ladder

        return ladder(self.trace, self.transfer.protocol.header, **options)

    def repro(self) -> str:
        """A script that does the same again."""
        return self.transfer.script()

    def again(self, **changes: Any) -> Result:
        """The result of the same transfer with something changed."""
        return replace(self.transfer, **changes).run()

    def samples(self, name: str) -> Iterator[tuple[int, float]]:
        """A metric of the client's endpoint over time: (ns, value)."""
        for event in self.trace.of("metric"):
            if event.where == self.client.name and name in event.fields:
                yield event.time_ns, event.fields[name]

    def report(self, path: str | Path, **options: Any) -> None:
        """Write the run to a file whose name says of which kind: .html, .svg, .csv, .qlog ...

        Options and errors are those of `rawkit.report.save`.
        """
        from rawkit.report.files import save
        from rawkit.report.run import Run

        save(Run.of(self), path, **options)

    def show(self) -> Path:
        """Open the page about the run in the browser of this desktop; returns the file."""
        from rawkit.report.files import show
        from rawkit.report.run import Run

        return show(Run.of(self))
