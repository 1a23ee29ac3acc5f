"""asyncio's streams over endpoints, in whichever world those are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from rawkit.transport.driver import App, Driver
from rawkit.transport.events import Abort, Close, Closed, Connected, PeerClosed, Reset, Writable, Write

HIGH_WATER = 256 * 1024
"""Octets that an endpoint may hold unsent before `drain` waits."""


class Writer:
    """The writing half of a connection, with the methods of `asyncio.StreamWriter` that make sense."""

    def __init__(self, driver: Driver, loop: asyncio.AbstractEventLoop) -> None:
        self._driver = driver
        self._room: asyncio.Future[None] | None = None
        self.closed: asyncio.Future[None] = loop.create_future()
        self._closing = False

    def write(self, data: bytes) -> None:
        """Write octets."""
        self._driver.do(Write(bytes(data)))

    def writelines(self, pieces: Any) -> None:
        """Write several pieces."""
        self.write(b"".join(pieces))

    async def drain(self) -> None:
        """Let others run; where the endpoint says how much it holds (`backlog`), wait until that is
        little.
        """
        await asyncio.sleep(0)
        while self._driver.endpoint.backlog > HIGH_WATER and not self.closed.done():
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await self._room

    def can_write_eof(self) -> bool:
        """Whether one can stop writing and go on reading: yes, by `write_eof`."""
        return True

    def write_eof(self) -> None:
        """Write no more; as `close`, for the protocols here close each direction by itself."""
        self.close()

    def close(self) -> None:
        """Write no more."""
        if not self._closing:
            self._closing = True
            self._driver.do(Close())

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self._closing

    async def wait_closed(self) -> None:
        """Wait until all that was written has arrived and the peer has closed too.

        Raises:
            ConnectionResetError: it ended in disorder.
        """
        await asyncio.shield(self.closed)

    def abort(self) -> None:
        """Give up at once."""
        self._driver.do(Abort())

    def wake(self) -> None:
        """Let what waits in `drain` look again."""
        if self._room is not None:
            self._room.set_result(None)
            self._room = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`peername` and `sockname`: (address, port)."""
        path = self._driver.paths[0]
        known = {"peername": (path.remote, path.remote_port), "sockname": (path.local, path.local_port)}
        return known.get(name, default)


Handler = Callable[[asyncio.StreamReader, Writer], Awaitable[None]]
"""What serves a connection: `async def serve(reader, writer)`."""


class Stream(App):
    """Joins an endpoint to a reader and a writer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop
        self.reader = asyncio.StreamReader(loop=loop)
        self.writer: Writer
        self.connected: asyncio.Future[None] = loop.create_future()

    def on_data(self, driver: Driver, data: bytes) -> None:
        self.reader.feed_data(data)

    def on_notice(self, driver: Driver, notice: Any) -> None:
        writer = self.writer
        if isinstance(notice, Writable):
            writer.wake()
        elif isinstance(notice, Connected) and not self.connected.done():
            self.connected.set_result(None)
        elif isinstance(notice, PeerClosed):
            self.reader.feed_eof()
        elif isinstance(notice, Closed) and not writer.closed.done():
            writer.closed.set_result(None)
        elif isinstance(notice, Reset):
            self.fail(ConnectionResetError(notice.reason))

    def fail(self, error: OSError) -> None:
        """The exchange has ended in disorder."""
        self.reader.set_exception(error)
        for future in (self.connected, self.writer.closed):
            if not future.done():
                future.set_exception(error)
                future.exception()  # nobody has to await it
        self.writer.wake()
