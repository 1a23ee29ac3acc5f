"""asyncio streams over endpoints on a real network; `rawkit.sim.loop` has the same in virtual time.

    async def serve(reader, writer):
        writer.write((await reader.readline()).upper())
        writer.close()

    with RawIP(253) as carrier:
        reader, writer = await open_connection(carrier, "", "192.0.2.1", GoBackN)

A carrier takes the place of the simulated network, addresses that of hosts: an address, or (address, port).
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any, Self

from rawkit.link.carrier import REFUSALS, Carrier
from rawkit.link.stack import LinkDriver, Listener, Stack
from rawkit.transport.driver import Driver
from rawkit.transport.endpoint import Endpoint
from rawkit.transport.streams import Handler, Stream, Writer

Where = str | tuple[str, int]

_loops: weakref.WeakKeyDictionary[Carrier, LoopStack] = weakref.WeakKeyDictionary()


class LoopStack:
    """A stack that a running event loop drives, until its carrier is closed."""

    def __init__(
        self, carrier: Carrier, protocol: type[Endpoint], *, ports: bool = False, bulk: bool = False
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.stack = Stack(carrier, protocol, ports=ports, bulk=bulk)
        self.tasks: set[asyncio.Task[None]] = set()
        """Handlers that are running."""
        self._descriptors = carrier.descriptors()
        self._timer: asyncio.TimerHandle | None = None
        self._soon: asyncio.Handle | None = None
        for descriptor in self._descriptors:
            self.loop.add_reader(descriptor, self._step)
        self.stack.on_stir = self._stir
        carrier.at_close.append(self._end)

    def _stir(self) -> None:
        if self._soon is None:
            self._soon = self.loop.call_soon(self._step)

    def _step(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        busy = self.stack.step()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.stack.next_ns
        if busy:
            self._stir()
        elif due is not None:
            self._timer = self.loop.call_later(max(due - self.stack.clock.now, 0) / 1e9, self._step)

    def _end(self) -> None:
        for descriptor in self._descriptors:
            self.loop.remove_reader(descriptor)
        for handle in (self._timer, self._soon):
            if handle is not None:
                handle.cancel()
        error = ConnectionAbortedError("the carrier is closed")
        for driver in list(self.stack.drivers.values()):
            if isinstance(driver.app, Stream):
                driver.app.fail(error)


def _stack_of(carrier: Carrier, protocol: Callable[[], Endpoint], ports: bool, bulk: bool) -> LoopStack:
    found = _loops.get(carrier)
    if found is None:
        kind = protocol if isinstance(protocol, type) else type(protocol())
        found = _loops[carrier] = LoopStack(carrier, kind, ports=ports, bulk=bulk)
    elif found.loop is not asyncio.get_running_loop():
        raise RuntimeError("this carrier is driven by another event loop")
    return found


def _pair(where: Where) -> tuple[str, int]:
    return (where, 0) if isinstance(where, str) else where


class _Stream(Stream):
    """A stream that a refusal of the network ends while it is being connected."""

    def on_notice(self, driver: Driver, notice: Any) -> None:
        if not hasattr(self, "writer"):
            self.writer = Writer(driver, self.loop)  # of an exchange that another host began
        super().on_notice(driver, notice)

    def on_trouble(self, driver: Driver, reason: str) -> None:
        if not self.connected.done() and reason in REFUSALS:
            self.fail(ConnectionRefusedError(reason))


class Server:
    """What `start_server` began. Closing it leaves connections as they are."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    @property
    def port(self) -> int:
        """The local port."""
        return self._listener.port

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()


async def start_server(
    carrier: Carrier,
    host: Where,
    protocol: Callable[[], Endpoint],
    handler: Handler,
    *,
    ports: bool = False,
    bulk: bool = False,
) -> Server:
    """Let `handler(reader, writer)` serve each connection that others open to `host`, an address of this host
    ("" for any); `protocol` makes the endpoints. `ports` and `bulk` are as for `rawkit.link.Stack`; what
    first uses a carrier decides both.

    Raises:
        OSError: EADDRINUSE: there is a server already.
    """
    driving = _stack_of(carrier, protocol, ports, bulk)
    loop = driving.loop

    def begun(driver: LinkDriver) -> None:
        stream = driver.app
        assert isinstance(stream, Stream)
        if not hasattr(stream, "writer"):
            stream.writer = Writer(driver, loop)
        task = loop.create_task(_serve(handler, stream))
        driving.tasks.add(task)
        task.add_done_callback(driving.tasks.discard)

    local, port = _pair(host)
    return Server(driving.stack.listen(protocol, lambda: _Stream(loop), begun, local=local, port=port))


async def _serve(handler: Handler, stream: Stream) -> None:
    await handler(stream.reader, stream.writer)


async def open_connection(
    carrier: Carrier,
    client: Where,
    server: Where,
    protocol: Callable[[], Endpoint],
    *,
    ports: bool = False,
    bulk: bool = False,
) -> tuple[asyncio.StreamReader, Writer]:
    """Connect to a server; returns when the endpoint says that it is connected, or at once where it does
    nothing when it is opened. `client` is the local address and port, "" for any.

    Raises:
        ConnectionRefusedError: nobody is there, as ICMP says.
        ConnectionResetError: there was no answer.
        OSError: there is no way.
    """
    driving = _stack_of(carrier, protocol, ports, bulk)
    stream = _Stream(driving.loop)
    address, port = _pair(server)
    driver = driving.stack.connect(protocol(), address, port, stream, local_port=_pair(client)[1])
    stream.writer = Writer(driver, driving.loop)
    driving._stir()
    if not driver.acted and not stream.connected.done():
        stream.connected.set_result(None)
    try:
        await stream.connected
    except BaseException:
        driving.stack.forget(driver)
        raise
    return stream.reader, stream.writer
