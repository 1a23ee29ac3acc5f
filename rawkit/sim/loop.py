"""asyncio in virtual time: an event loop whose clock is the simulation's, and streams over simulated
endpoints.

    async def serve(reader, writer):
        writer.write((await reader.readline()).upper())
        writer.close()

    async def main():
        await start_server(network, b, GoBackN, serve)
        reader, writer = await open_connection(network, a, b, GoBackN)
        writer.write(b"hello\\n")
        print(await reader.readline())

    run(network, main())

`asyncio.sleep(3600)` costs nothing. Callbacks run in the order (time, when they were asked for); there are
no threads, no sockets and no signals: what asks for them raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from rawkit.errors import LocalProtocolError
from rawkit.sim.network import Host, Network
from rawkit.transport.endpoint import Endpoint
from rawkit.transport.streams import Handler, Stream, Writer

T = TypeVar("T")
_SECOND = 10**9


# To a type checker an event loop has to have sockets and signals; at run time those that are not here raise
# NotImplementedError, which is what is wanted.
if TYPE_CHECKING:
    _Loop = Any
else:
    _Loop = asyncio.AbstractEventLoop


class SimLoop(_Loop):  # type: ignore[misc]
    """An event loop that runs on a network's clock. One at a time, and only inside `run`."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._clock = network.clock
        self._failure: BaseException | None = None
        self.servers: dict[Host, tuple[Callable[[], Endpoint], Handler]] = {}
        """What `start_server` began, by host."""

    # ---- callbacks and time -------------------------------------------------------------------------

    def time(self) -> float:
        """Seconds of virtual time."""
        return self._clock.now / _SECOND

    def call_soon(
        self, callback: Callable[..., Any], *arguments: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, arguments, self, context)
        self._clock.at(self._clock.now, self._run, handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[..., Any], *arguments: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, arguments, self, context)
        self._clock.at(max(round(when * _SECOND), self._clock.now), self._run, handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *arguments: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *arguments, context=context)

    def _run(self, handle: asyncio.Handle) -> None:
        if not handle.cancelled():
            handle._run()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing to do: one that is cancelled does not run when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    # ---- running ------------------------------------------------------------------------------------

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What a task raises and nobody awaits ends the run."""
        self._failure = context.get("exception") or LocalProtocolError(context["message"])

    def run_until_complete(self, future: Any) -> Any:
        task = future if isinstance(future, asyncio.Future) else self.create_task(future)
        asyncio.events._set_running_loop(self)
        try:
            self._clock.run(stop=lambda: task.done() or self._failure is not None)
        finally:
            asyncio.events._set_running_loop(None)
        if self._failure is not None:
            raise self._failure
        if not task.done():
            task.cancel()
            raise LocalProtocolError(
                f"at {self.time():g} s everything waits for something that cannot happen"
            )
        return task.result()


def _running(network: Network) -> SimLoop:
    loop = asyncio.get_running_loop()
    if not isinstance(loop, SimLoop) or loop.network is not network:
        raise LocalProtocolError("simulated connections need the loop of their network: use run()")
    return loop


async def start_server(
    network: Network, host: Host, protocol: Callable[[], Endpoint], handler: Handler
) -> None:
    """Let `handler(reader, writer)` serve each connection that is opened to `host`; `protocol` makes the
    endpoints.
    """
    _running(network).servers[host] = protocol, handler


async def open_connection(
    network: Network, client: Host, server: Host, protocol: Callable[[], Endpoint]
) -> tuple[asyncio.StreamReader, Writer]:
    """Connect to a server on another host; returns when the endpoint says that it is connected.

    Raises:
        ConnectionRefusedError: nothing was started there.
        ConnectionResetError: there was no answer.
    """
    loop = _running(network)
    if server not in loop.servers:
        raise ConnectionRefusedError(f"no server on {server.name}")
    make, handler = loop.servers[server]
    near, far = Stream(loop), Stream(loop)
    drivers = network.connect(client, server, protocol(), make(), near, far)
    near.writer, far.writer = Writer(drivers[0], loop), Writer(drivers[1], loop)
    drivers[1].open("server")

    def serve(_: Any) -> None:
        loop.create_task(handler(far.reader, far.writer))

    far.connected.add_done_callback(lambda done: None if done.exception() else serve(done))
    drivers[0].open("client")
    await near.connected
    return near.reader, near.writer


def run(network: Network, main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in the virtual time of a network, until it returns.

    Raises:
        LocalProtocolError: everything waits for something that cannot happen any more.
    """
    result: T = SimLoop(network).run_until_complete(main)
    return result
