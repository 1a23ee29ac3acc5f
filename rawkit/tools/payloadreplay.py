"""Replay of payloads: real sockets say what the clients of a capture said, and the answers are compared.

The kernel makes the connections, so it works on loopback and without privilege, and a server sees an ordinary
client. Each conversation is played as it went: a message goes as long after the one before it as in the
capture, and not before the answer to that has come.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from rawkit.tools.conversations import Conversation, conversations
from rawkit.tools.flowsides import CLIENT, SERVER
from rawkit.tools.httpcompare import differing_answers, first_difference
from rawkit.wire.frame import Frame

AT_ONCE = 256
"""Conversations that are played at the same time, at most: each holds a socket."""


@dataclass(frozen=True)
class PayloadConfig:
    """How payloads are replayed.

    All conversations go to `address`, and to `port`; None: to the servers of the capture and their ports.
    `speed` multiplies the capture's pace; 0 is without any gaps. The capture is gone over `loop` times.
    `wait` seconds without an octet end the waiting for an answer, and as many the making of a connection.
    """

    address: str | None = None
    port: int | None = None
    speed: float = 1.0
    loop: int = 1
    wait: float = 1.0

    def __post_init__(self) -> None:
        if self.port is not None and not 0 < self.port < 65536:
            raise ValueError(f"payload: port {self.port}; possible are 1..65535")
        if not (0 <= self.speed <= 1e12 and self.loop >= 1 and 0 < self.wait <= 1e9):
            raise ValueError("payload: possible are speeds of 0..1e12, loop from 1, wait up to 1e9 seconds")


@dataclass
class PayloadResult:
    """What became of one conversation.

    `sent` and `received` octets went to and came from the server, `expected` is what it said in the capture.
    `verdict` is "same" (every octet), "same content" (HTTP: other header fields, the same status and body),
    "differs", or "failed"; `detail` says where and why. `missing` octets of the client's are not in the
    capture, and could not be sent.
    """

    conversation: str
    target: str
    sent: int = 0
    received: int = 0
    expected: int = 0
    missing: int = 0
    verdict: str = ""
    detail: str = ""
    answer: list[bytes | bytearray] = field(default_factory=list, repr=False)
    """What came: of TCP one piece, of UDP the datagrams."""

    @property
    def good(self) -> bool:
        """Whether the answers are those of the capture."""
        return self.verdict in ("same", "same content")

    def to_dict(self) -> dict[str, object]:
        """As plain values, without the answers' octets."""
        names = ("conversation", "target", "sent", "received", "expected", "missing", "verdict", "detail")
        return {name: getattr(self, name) for name in names}


class _Player:
    """One conversation with a real server."""

    def __init__(self, conversation: Conversation, config: PayloadConfig) -> None:
        self._conversation = conversation
        self._config = config
        self._came = asyncio.Event()
        self._ended = False
        self._failure = ""
        address, port = conversation.server
        self._address, self._port = config.address or address, config.port or port
        self.result = PayloadResult(
            str(conversation), f"{self._address} port {self._port}", missing=conversation.missing[CLIENT]
        )
        self.result.expected = sum(map(len, conversation.said(SERVER)))

    async def play(self) -> PayloadResult:
        try:
            if self._conversation.protocol == "tcp":
                await self._play_tcp()
            else:
                await self._play_udp()
        except TimeoutError:
            self._failure = f"no connection within {self._config.wait:g} s"
        except OSError as error:
            self._failure = _reason(error)
        self._judge()
        return self.result

    async def _play_tcp(self) -> None:
        opening = asyncio.open_connection(self._address, self._port)
        reader, writer = await asyncio.wait_for(opening, self._config.wait)
        writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answer = bytearray()
        self.result.answer = [answer]
        listening = asyncio.create_task(self._listen(reader, answer))

        async def send(octets: bytes) -> None:
            if octets:
                writer.write(octets)
                await writer.drain()
            else:
                with suppress(OSError):  # the server has ended it already
                    writer.write_eof()

        try:
            await self._follow(send, lambda: len(answer), len)
            if not self._conversation.messages or self._conversation.messages[-1].octets == b"":
                await self._until(lambda: self._ended)  # more than was expected may come
        finally:
            listening.cancel()
            writer.transport.abort()

    async def _listen(self, reader: asyncio.StreamReader, answer: bytearray) -> None:
        try:
            while octets := await reader.read(1 << 16):
                answer += octets
                self._came.set()
        except OSError as error:
            self._failure = _reason(error)
        self._ended = True
        self._came.set()

    async def _play_udp(self) -> None:
        player = self

        class Datagrams(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, address: object) -> None:
                player.result.answer.append(data)
                player._came.set()

            def error_received(self, error: Exception) -> None:
                player._failure = _reason(error)
                player._ended = True
                player._came.set()

        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Datagrams, remote_addr=(self._address, self._port))

        async def send(octets: bytes) -> None:
            transport.sendto(octets)

        try:
            await self._follow(send, lambda: len(self.result.answer), lambda octets: 1)
        finally:
            transport.abort()

    async def _follow(
        self,
        send: Callable[[bytes], Awaitable[None]],
        came: Callable[[], int],
        counts: Callable[[bytes], int],
    ) -> None:
        """Send what the client said, each message in its time; `came` and `counts` measure answers."""
        loop = asyncio.get_running_loop()
        expected = 0
        before_ns: int | None = None
        moment = loop.time()
        heard = True
        for message in self._conversation.messages:
            if message.side == SERVER:
                expected += counts(message.octets) if message.octets else 0
                heard = False
                before_ns = message.time_ns
                continue
            if not heard:
                await self._until(lambda: came() >= expected or self._ended)  # noqa: B023 - awaited at once
                moment, heard = loop.time(), True
            if before_ns is not None and self._config.speed:
                moment += max(message.time_ns - before_ns, 0) / 1e9 / self._config.speed
            before_ns = message.time_ns
            await asyncio.sleep(max(moment - loop.time(), 0))
            if self._failure:
                return
            await send(message.octets)
            self.result.sent += len(message.octets)
        if not heard:
            await self._until(lambda: came() >= expected or self._ended)

    async def _until(self, enough: Callable[[], bool]) -> None:
        """Wait until there is enough, or nothing has come for `wait` seconds."""
        while not enough():
            self._came.clear()
            try:
                await asyncio.wait_for(self._came.wait(), self._config.wait)
            except TimeoutError:
                return

    def _judge(self) -> None:
        result, said = self.result, self._conversation.said(SERVER)
        result.received = sum(map(len, result.answer))
        tcp = self._conversation.protocol == "tcp"
        wanted = [b"".join(said)] if tcp else said
        came = [bytes(octets) for octets in result.answer] or ([b""] if tcp else [])
        if self._failure and result.received < result.expected:
            result.verdict, result.detail = "failed", self._failure
        elif came == wanted:
            result.verdict = "same"
        elif tcp:
            requests = b"".join(self._conversation.said(CLIENT))
            differing = differing_answers(requests, wanted[0], came[0])
            result.verdict = "same content" if differing == "" else "differs"
            result.detail = differing if differing is not None else _difference(wanted[0], came[0])
        else:
            result.verdict = "differs"
            result.detail = next(
                (
                    f"datagram {number}: {_difference(want, got)}"
                    for number, (want, got) in enumerate(zip(wanted, came), 1)
                    if want != got
                ),
                f"{len(came)} datagrams instead of {len(wanted)}",
            )
        if not result.good and self._conversation.missing[SERVER]:
            result.detail += f" ({self._conversation.missing[SERVER]} octets of its are not in the capture)"


def _reason(error: Exception) -> str:
    """What an error means, without asyncio's words."""
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number and number > 0 else getattr(error, "strerror", None) or str(error)


def _difference(wanted: bytes, came: bytes) -> str:
    at = first_difference(wanted, came)
    if at == len(came):
        return f"{len(came)} octets instead of {len(wanted)}"
    if at == len(wanted):
        return f"{len(came) - at} octets more than {at}"
    return f"octet {at} is 0x{came[at]:02x} instead of 0x{wanted[at]:02x}"


async def areplay_payload(
    frames: Iterable[Frame],
    config: PayloadConfig,
    tell: Callable[[PayloadResult], None] = lambda result: None,
) -> list[PayloadResult]:
    """As `replay_payload`, while the running event loop's other tasks go on."""
    found = [one for one in conversations(frames) if any(message.side == CLIENT for message in one.messages)]
    results = []
    room = asyncio.Semaphore(AT_ONCE)

    async def play(conversation: Conversation, start: float) -> PayloadResult:
        await asyncio.sleep(max(start - asyncio.get_running_loop().time(), 0))
        async with room:
            result = await _Player(conversation, config).play()
        tell(result)
        return result

    for _ in range(config.loop if found else 0):
        begin, begin_ns = asyncio.get_running_loop().time(), found[0].messages[0].time_ns
        pace = 1e9 * config.speed if config.speed else float("inf")
        starts = [begin + (one.messages[0].time_ns - begin_ns) / pace for one in found]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(play(one, start)) for one, start in zip(found, starts)]
        results += [task.result() for task in tasks]
    return results


def replay_payload(
    frames: Iterable[Frame],
    config: PayloadConfig,
    tell: Callable[[PayloadResult], None] = lambda result: None,
) -> list[PayloadResult]:
    """Play the conversations of captured frames to real servers; a result for each, in the capture's order.

    `tell` gets each as soon as it is there. Those in which no client says anything are passed over.
    """
    return asyncio.run(areplay_payload(frames, config, tell))
