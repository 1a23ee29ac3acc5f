"""Runs: a board's probes sent and its answers taken, by C, as long as nobody has to decide anything."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from rawkit.engine.batch import FrameBatch
from rawkit.engine.native import check, ffi, lib, monotonic_ns
from rawkit.engine.probe import Board, ProbeReply, read_replies
from rawkit.errors import EngineError

if TYPE_CHECKING:
    from rawkit.engine.sockets import PacketSocket, RawIPSocket

_AT_ONCE = 64  # probes by one system call
_INBOX_N = 256
_REPLIES_N = 1024
_SLICE, _SLICE_IN_LOOP = 0.05, 0.002  # seconds in C at most; where other tasks wait, it is shorter


class Inlet:
    """Sockets for the answers to boards of one IP version, whose templates have one source port and one key.

    `answer_len` is how many octets of an answer are to be looked at.
    """

    def __init__(
        self, receivers: Sequence[PacketSocket | RawIPSocket], boards: Sequence[Board], answer_len: int
    ) -> None:
        self.receivers, self.boards = receivers, boards
        self.inboxes = [FrameBatch(_INBOX_N, _INBOX_N * answer_len) for _ in receivers]
        self.rows = ffi.new("struct rk_run_board[]", len(boards))
        for row, board in zip(self.rows, boards):
            row.plan, row.board = board.plan.handle, board.handle
        self.handles = ffi.new("struct rk_run_inlet[]", len(receivers))
        for handle, inbox in zip(self.handles, self.inboxes):
            handle.inbox = inbox.handle
        self.replies = ffi.new("struct rk_probe_reply[]", _REPLIES_N)
        self.octets = ffi.buffer(self.replies)
        self.replies_board = ffi.new("uint32_t[]", _REPLIES_N)
        self.replies_row = ffi.new("uint32_t[]", _REPLIES_N)

    def read(self, n: int) -> list[tuple[int, int, ProbeReply]]:
        """The first n replies, each with the number of its board and with its row."""
        if not n:
            return []
        of, rows = ffi.unpack(self.replies_board, n), ffi.unpack(self.replies_row, n)
        return list(zip(of, rows, read_replies(self.octets, n)))


class ProbeRun:
    """What takes a board, one of those of `inlet`, through its rounds: its probes leave by `senders`.

    With several senders, which have to be alike, each sends from a thread of its own where there is much to
    send. `probe_len` is how long a probe is with its link header, in octets.
    """

    def __init__(
        self, board: Board, senders: Sequence[PacketSocket | RawIPSocket], inlet: Inlet, probe_len: int
    ) -> None:
        self.board = board
        self.sent = 0
        """How many probes the last step sent."""
        self.refused: list[tuple[int, EngineError]] = []
        """The rows whose probes the last step could not send, for which there will be no answer, and why."""
        self.queue_full = False
        """Whether the last step met a queue that stayed full."""
        self.more = False
        """Whether answers may be waiting that the receivers' descriptors do not show."""
        self._senders, self._inlet = senders, inlet
        self._probe_len = probe_len
        self._outboxes = [FrameBatch(_AT_ONCE, _AT_ONCE * probe_len) for _ in senders]
        self._filled = [ffi.new("uint32_t[]", _AT_ONCE) for _ in senders]
        self._ways = ffi.new("struct rk_run_way[]", len(senders))
        for way, outbox, rows in zip(self._ways, self._outboxes, self._filled):
            way.batch, way.rows = outbox.handle, rows
        self._run = ffi.new(
            "struct rk_run *",
            {
                "boards": inlet.rows,
                "boards_n": len(inlet.boards),
                "board": inlet.boards.index(board),
                "ways": self._ways,
                "ways_n": len(senders),
                "inlets": inlet.handles,
                "inlets_n": len(inlet.receivers),
                "replies": inlet.replies,
                "replies_board": inlet.replies_board,
                "replies_row": inlet.replies_row,
                "replies_n": _REPLIES_N,
            },
        )

    @property
    def cursor(self) -> int:
        """The row from which on a probe may be missing in this round."""
        waiting = (way.rows[way.next] for way in self._ways if way.next < way.batch.n)
        return int(min((self.board.cursor, *waiting)))

    @property
    def round_over(self) -> bool:
        """Every unanswered probe went out in this round."""
        return self.board.left == 0 or self.cursor >= self.board.rows_n

    def step(
        self, n: int, count_only: Iterable[int] = (), timeout: float | None = None
    ) -> list[tuple[int, int, ProbeReply]]:
        """Send the next n unanswered probes and take what answers come: the first one to each row, with the
        number of its board, and the row.

        Answers of the states `count_only` are counted only. Fewer than n leave when the round is over, a
        probe is refused, many answers have come, or after `timeout` seconds; unless given, after 50 ms, in a
        running asyncio loop after 2.

        Raises: EngineError where a receiver has failed; ValueError when a socket is closed.
        """
        run, board, inlet = self._run, self.board, self._inlet
        run.cursor, run.counted = board.cursor, sum(1 << state for state in count_only)
        for inbox in inlet.inboxes:
            inbox.refill()
        with ExitStack() as stack:
            for way, sender in zip(self._ways, self._senders):
                way.sender, way.by = stack.enter_context(sender.lent(sending=True))
            for handle, receiver in zip(inlet.handles, inlet.receivers):
                handle.receiver, handle.by = stack.enter_context(receiver.lent(sending=False))
            if timeout is None:
                timeout = _SLICE_IN_LOOP if _in_loop() else _SLICE
            result = lib.rk_board_run(run, n, monotonic_ns() + int(timeout * 1e9))
        board.cursor = run.cursor
        self.sent, self.more = run.sent, bool(run.more)
        self.queue_full = any(way.error == -errno.ENOBUFS for way in self._ways)
        self.refused = [
            (way.refused_row, sender.send_error(way.error, self._probe_len))
            for way, sender in zip(self._ways, self._senders)
            if way.error not in (0, -errno.ENOBUFS)
        ]
        check(result, "receive answers", inlet.receivers[0].name)
        return inlet.read(run.found)


def _in_loop() -> bool:
    """Whether an asyncio loop runs in this thread."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
