"""The standard experiment over a real network: what `rawkit.sim.Transfer` is in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rawkit.link.carrier import Carrier
from rawkit.link.stack import LinkDriver, Stack, run
from rawkit.link.wiretrace import WireTrace
from rawkit.transport.chance import Substream
from rawkit.transport.endpoint import Endpoint
from rawkit.transport.events import Close, Closed, Reset
from rawkit.transport.party import Party, all_arrived, all_closed


@dataclass
class Outcome:
    """What came of a transfer. `server` is None where nothing reached it; lost are packets lost in this host,
    by reason, which are no losses of the network.
    """

    client: LinkDriver
    server: LinkDriver | None
    client_app: Party
    server_app: Party
    began_ns: int
    lost: dict[str, int]
    silence: str
    """What kept the server's kernel from answering in its place."""
    trace: WireTrace | None

    @property
    def complete(self) -> bool:
        """Whether both sides got all that the other wrote, and nothing else."""
        return all_arrived(self.client_app, self.server_app)

    @property
    def closed(self) -> bool:
        """Whether both sides were told that all is over in order."""
        return all_closed(self.client_app, self.server_app)

    @property
    def goodput_bps(self) -> float:
        """Octets delivered to the server, as bits per second from the beginning to the last of them."""
        end = self.server_app.finished_ns
        return self.server_app.got * 8e9 / (end - self.began_ns) if end else 0.0

    def metrics(self) -> dict[str, Any]:
        """The figures of the run, by name; times in seconds, rates in bits per second."""
        end = self.server_app.finished_ns
        return {
            "octets": self.server_app.got,
            "complete": self.complete,
            "closed": self.closed,
            "finished_s": None if end is None else (end - self.began_ns) / 1e9,
            "goodput_bps": self.goodput_bps,
            "client_packets": self.client.sent,
            "server_packets": self.server.sent if self.server else 0,
            "dropped_by_client": dict(self.client.endpoint.dropped),
            "dropped_by_server": dict(self.server.endpoint.dropped) if self.server else {},
            "lost_in_this_host": self.lost,
            "kernel_silenced_by": self.silence,
        }


def transfer(
    protocol: Callable[[], Endpoint],
    client: Carrier,
    server: Carrier,
    remote: str,
    *,
    octets: int = 20_000,
    back: int = 0,
    chunk: int = 1 << 62,
    seed: int = 0,
    timeout: float = 60.0,
    trace: bool = False,
    bulk: bool = False,
) -> Outcome:
    """Send `octets` octets to the server at the address `remote` and `back` the other way, and close.

    As `rawkit.sim.Transfer`, but for the time that it takes: at most `timeout` seconds. `protocol` makes the
    endpoints of both sides; `bulk` is the stacks'. The carriers are this process's, in whichever namespaces,
    and are closed.
    """
    notes = WireTrace() if trace else None
    first = protocol()
    servers: list[LinkDriver] = []
    kind = type(first)
    forth = Substream(seed, "octets forth").octets(octets)
    answer = Substream(seed, "octets back").octets(back)
    with (
        Stack(client, kind, bulk=bulk, name="a", seed=seed, trace=notes) as a,
        Stack(server, kind, bulk=bulk, name="b", seed=seed, trace=notes) as b,
    ):
        client_app = Party("client", a.clock, forth, answer, chunk)
        server_app = Party("server", b.clock, answer, forth, chunk)

        def begin(driver: LinkDriver) -> None:
            servers.append(driver)
            server_app.begin(driver)

        b.listen(protocol, lambda: server_app, begin, most=1)
        driver = a.connect(first, remote, getattr(server, "port", 0), client_app)
        began_ns = a.clock.now
        client_app.begin(driver)
        driver.do(Close())
        apps = client_app, server_app

        def over() -> bool:
            ended = [[isinstance(notice, (Closed, Reset)) for notice in app.notices] for app in apps]
            return all(map(any, ended))

        run([a, b], over, timeout)
        for carrier in (client, server):
            carrier.count_overflow()
        lost = client.lost + server.lost
    if notes is not None:
        notes.settle()
    return Outcome(
        driver,
        servers[0] if servers else None,
        client_app,
        server_app,
        began_ns,
        dict(lost),
        server.silence,
        notes,
    )
