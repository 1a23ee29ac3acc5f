"""Selective repeat: only what is lost is sent again, and congestion control decides how much is under way.

As go-back-N, with a receiver that keeps what comes out of order and says so (SACK ranges, RFC 2018), a
sender that finds losses by time (RACK-TLP, RFC 8985) or by duplicates (RFC 6675), a receive window, pacing,
and any congestion control of `rawkit.transport.congestion`. Numbers count octets, or (`mode="messages"`)
messages, of which each takes a packet and keeps its borders. They wrap at 2**bits; inside they do not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Literal

from rawkit.errors import LocalProtocolError
from rawkit.transport import bulk
from rawkit.transport.congestion import AckSample, CongestionControl, controller
from rawkit.transport.delivery import DeliveryRate
from rawkit.transport.endpoint import Context, Endpoint, Packet
from rawkit.transport.events import (
    Abort,
    Close,
    Connected,
    MtuChanged,
    Path,
    PathEvent,
    PeerClosed,
    Read,
    Reset,
    Role,
    Writable,
    Write,
)
from rawkit.transport.flow import FlowWindow, SendWindow
from rawkit.transport.messages import MessageBox
from rawkit.transport.pacer import Pacer
from rawkit.transport.rack import Rack, TailLossProbe
from rawkit.transport.reassembly import Reassembly
from rawkit.transport.rtt import Rto
from rawkit.transport.scoreboard import Scoreboard, Segment
from rawkit.transport.sendbuffer import SendBuffer
from rawkit.transport.seqspace import SeqSpace
from rawkit.wire import role
from rawkit.wire.field import (
    auto,
    field,
    flags8,
    header_words,
    inet_checksum,
    pairs32,
    payload_length,
    u8,
    u16,
    u32,
)
from rawkit.wire.header import Header

MS = 10**6
RUN_MAX = 64  # segments made in one go


class SelectiveRepeatHeader(Header):
    """Sixteen octets, and eight for each SACK range. `window` counts from `ack` on, in units of 2**shift."""

    flags: flags8 = field(0, bits="SYN FIN ACK DATA RST ECE ASK")
    hlen: u8 = auto(header_words)
    window: u16 = field(0, role=role.window())
    seq: u32 = field(0, role=role.seq())
    ack: u32 = field(0, role=role.ack())
    length: u16 = auto(payload_length)
    checksum: u16 = auto(inet_checksum)
    sacks: pairs32 = field((), role=role.sack)


SYN, FIN, ACK, DATA, RST, ECE, ASK = 1, 2, 4, 8, 16, 32, 64
CAPABLE, CONGESTED = 2, 3  # ECN codepoints


class SelectiveRepeat(Endpoint, header=SelectiveRepeatHeader):
    """Octets, or messages, in order and exactly once, both ways.

    `window` is the receive buffer (octets, or messages), announced in units of 2**`shift`. `control` is a
    congestion controller's name or class, with `control_options`; `detect` says how losses are found ("rack"
    or "duplicates"). With `pacing` segments are spread over the round trip. With `ecn` packets are marked
    instead of dropped, where the network can. With `auto_read=False` delivered data take up room until the
    application says `Read(n)`. `first` is the number that both sides begin with. Time-outs double from
    `min_rto_ns` to `max_rto_ns`; after `tries` of them without an answer the endpoint gives up.
    """

    def __init__(
        self,
        *,
        mode: Literal["octets", "messages"] = "octets",
        window: int = 1 << 20,
        shift: int = 5,
        bits: int = 32,
        first: int = 0,
        control: str | type[CongestionControl] = "newreno",
        control_options: Mapping[str, Any] | None = None,
        detect: Literal["rack", "duplicates"] = "rack",
        pacing: bool = False,
        ecn: bool = False,
        auto_read: bool = True,
        min_rto_ns: int = 200 * MS,
        max_rto_ns: int = 60_000 * MS,
        tries: int = 15,
        linger_ns: int = 60_000 * MS,
    ) -> None:
        if mode not in ("octets", "messages") or detect not in ("rack", "duplicates"):
            raise LocalProtocolError(f"bad options: mode {mode!r}, detect {detect!r}")
        if not 2 <= bits <= 32 or not 1 <= window <= 1 << (bits - 1):
            raise LocalProtocolError(
                f"{bits}-bit numbers allow windows of 1 to {1 << (bits - 1)}, not {window}"
            )
        self.messages, self.space = mode == "messages", SeqSpace(bits)
        self.unit = "packets" if self.messages else "octets"
        self.numbers, self.mask = self.space.size, self.space.size - 1
        self.most_window = 1 << (bits - 1)  # more, and an old packet may pass for a new one
        self.capacity, self.shift, self.first = window, 0 if mode == "messages" else shift, first
        self.wanted, self.control_options = control, dict(control_options or {})
        self.with_rack, self.paced, self.ecn, self.auto_read = detect == "rack", pacing, ecn, auto_read
        self.rto = Rto(initial_ns=min(1000 * MS, max_rto_ns), min_ns=min_rto_ns, max_ns=max_rto_ns)
        self.tries, self.linger_ns = tries, linger_ns
        self.connected = self.closing = self.fin_sent = self.peer_closed = False

    def on_open(self, cx: Context, role: Role) -> None:
        start = self.first + 1  # of the data, in both directions; `first` is the client's SYN
        self.mss = self.room(cx.path)
        # Where the header's fields are, for runs of segments; numbers of fewer bits than the field do not
        # count on by themselves.
        found = None if self.messages or self.mask != 0xFFFFFFFF else bulk.places(self.header)
        self.where = found.packed() if found else b""
        # What is to send, and is under way.
        self.buffer, self.queue = SendBuffer(start), deque[bytes]()
        self.queued = 0  # octets in the queue of messages
        self.next = self.first if role == "client" else start
        self.board = Scoreboard(self.next)
        self.send_window = SendWindow(start)
        self.control = controller(self.wanted, self.mss, **self.control_options)
        self.rack, self.probe, self.rate = Rack(), TailLossProbe(), DeliveryRate()
        self.pacer: Pacer | None = None
        self.recovery_end: int | None = None  # of fast recovery: what was next when it began
        self.lost_again = False  # whether in it something was lost that was sent after it had begun
        self.no_reduction_before = self.next  # marks and losses of what was sent earlier are no news
        self.limited = False  # whether the congestion window keeps us back
        self.armed = "timeout"  # or "probe": which of the two timers runs
        self.timeouts = self.last_sent_ns = 0
        # What has arrived.
        self.syn_expected = role == "server"
        self.expected = self.first if self.syn_expected else start  # what acknowledgements name
        unit = 1 if self.messages else self.mss
        self.box: Reassembly | MessageBox = (MessageBox if self.messages else Reassembly)(
            self.capacity, start=start
        )
        self.flow = FlowWindow(self.capacity, unit, start=start, shift=self.shift)
        self.fin_at: int | None = None
        self.unread = 0
        if role == "client":
            self.output(cx, Segment(self.first, start, 0, SYN))
            self.arm(cx)
        self.connected = role == "server"  # it speaks when it is spoken to: until then its window is closed

    # ---- the application ----------------------------------------------------------------------------

    def on_app(self, cx: Context, operation: Any) -> None:
        if isinstance(operation, Read):
            self.unread = max(self.unread - operation.octets, 0)
            if self.flow.worth_telling(self.expected, self.box.window - self.unread):
                self.acknowledge(cx)
            return
        if isinstance(operation, Abort):
            self.send(cx, RST, self.next)
            self.give_up(cx, "aborted")
            return
        if self.closing:
            raise LocalProtocolError(f"{type(operation).__name__} after Close")
        if isinstance(operation, Write) and self.messages:
            if len(operation.data) > self.mss:
                raise LocalProtocolError(
                    f"a message of {len(operation.data)} octets, {self.mss} fit a packet"
                )
            self.queue.append(operation.data)
            self.queued += len(operation.data)
        elif isinstance(operation, Write):
            self.buffer.write(operation.data)
        elif isinstance(operation, Close):
            self.closing = True
        self.transmit(cx)

    @property
    def backlog(self) -> int:
        """Octets that were written and not sent yet."""
        if self.messages:
            return self.queued
        waiting = self.buffer.end - (self.next if self.connected else self.buffer.start)
        return waiting if waiting > 0 else 0  # FIN has a number, and is no octet

    # ---- sending ------------------------------------------------------------------------------------

    def transmit(self, cx: Context) -> None:
        """Send what windows and pacing allow: first what was lost, then what is new."""
        board, control = self.board, self.control
        if not self.connected:
            return
        if not board.count and cx.now - self.last_sent_ns > self.rto.ns:
            control.on_idle(cx.now, cx.now - self.last_sent_ns)
        armed = board.count > 0
        while True:
            lost = board.next_lost()
            size = lost.size if lost else self.next_size()
            if size is None:
                self.limited = False
                self.rate.on_app_limited(board.in_flight)
                break
            if board.in_flight and board.in_flight + size > control.cwnd:
                self.limited = True
                break
            if self.paced and not self.may_go(cx, size):
                break
            run = self.full_segments() if lost is None and size == self.mss else 1
            if run > 1:
                self.output_run(cx, run)
            else:
                self.output(cx, lost or self.new_segment(size))
        if board.count and not armed:
            self.arm(cx)
        elif not board.count and self.backlog:
            cx.timer("persist", after=self.send_window.probe_after_ns(self.rto.ns))

    def next_size(self) -> int | None:
        """Octets in the next new segment, 0 for FIN; None when there is nothing that may go."""
        window = self.send_window.edge - self.next
        if window <= 0:
            return None
        if self.messages and self.queue:
            return len(self.queue[0])
        waiting = self.backlog
        if not waiting:
            return 0 if self.closing and not self.fin_sent else None
        size = min(waiting, window, self.mss)
        # No small segments because of a small window (RFC 9293 section 3.8.6.2.1), unless nothing else goes
        # on.
        return None if size < self.mss and size < waiting and self.board.count else size

    def new_segment(self, size: int) -> Segment:
        start = self.next
        if self.messages and self.queue:
            message = self.queue.popleft()
            self.queued -= size
            segment = Segment(start, start + 1, size, message)
        elif size:
            segment = Segment(start, start + size, size)
        else:
            self.fin_sent = True
            segment = Segment(start, start + 1, 0, FIN)
        return segment

    def may_go(self, cx: Context, size: int) -> bool:
        """Whether the pacer lets the next segment go now; it spreads the window over the round trip."""
        srtt = self.rto.rtt.srtt_ns
        rate = self.control.pacing_bps
        if rate is None and srtt:
            # Above the window's own rate, or the window could never grow (as Linux does: twice in slow
            # start).
            percent = 200 if self.control.in_slow_start else 120
            rate = self.control.cwnd * 8 * 10**9 * percent // (100 * srtt)
        if rate is None:
            return True
        if self.pacer is None:
            self.pacer = Pacer(max(rate, 1), 2 * self.mss, cx.now)
        self.pacer.set_rate(cx.now, max(rate, 1))
        ready = self.pacer.ready_ns(cx.now, size)
        if ready > cx.now:
            cx.timer("pace", at=ready)
            return False
        return True

    def output(self, cx: Context, segment: Segment) -> None:
        """Send a segment, for the first time or again."""
        data = segment.data
        if data is None:
            self.send(cx, DATA, segment.start, self.buffer.read(segment.start, segment.size))
        elif isinstance(data, bytes):
            self.send(cx, DATA, segment.start, data)
        else:
            self.send(cx, int(data), segment.start)  # type: ignore[call-overload]
        if self.pacer is not None:
            self.pacer.on_sent(cx.now, segment.size)
        if self.control.uses_rate:
            segment.mark = self.rate.on_send(cx.now, self.board.in_flight)
        self.board.sent(segment, cx.now)
        if segment.end > self.next:
            self.next = segment.end
        self.last_sent_ns = cx.now
        self.control.on_send(cx.now, segment.size, self.board.in_flight)

    def full_segments(self) -> int:
        """How many new segments of full size may go now, where they can be made in one go."""
        if not self.where or self.paced or self.control.uses_rate:
            return 1
        octets = min(
            self.backlog, self.send_window.edge - self.next, self.control.cwnd - self.board.in_flight
        )
        return min(octets // self.mss, RUN_MAX)

    def output_run(self, cx: Context, n: int) -> None:
        """Send `n` new segments of full size, as `output` would one by one."""
        board, size, start, now = self.board, self.mss, self.next, cx.now
        head = self.encode(
            cx.path,
            b"",
            flags=DATA | ACK,
            window=self.flow.announce(self.expected, self.box.window - self.unread),
            seq=start & self.mask,
            ack=self.expected & self.mask,
        )
        ecn = CAPABLE if self.ecn else 0
        for octets in bulk.cut(head, self.buffer.read(start, n * size), size, self.where):
            cx.send(octets, ecn=ecn)
            board.sent(Segment(start, start + size, size), now)
            start += size
            self.control.on_send(now, size, board.in_flight)
        self.next, self.last_sent_ns = start, now

    def send(self, cx: Context, flags: int, number: int, payload: bytes = b"") -> None:
        mask, expected = self.mask, self.expected
        octets = self.encode(
            cx.path,
            payload,
            flags=flags | ACK,
            window=self.flow.announce(expected, self.box.window - self.unread),
            seq=number & mask,
            ack=expected & mask,
        )
        cx.send(octets, ecn=CAPABLE if self.ecn and payload else 0)

    # ---- timers -------------------------------------------------------------------------------------

    def arm(self, cx: Context) -> None:
        """Set the timer for what is under way: a probe where that helps (RFC 8985 section 7.2), or the
        time-out.
        """
        srtt = self.rto.rtt.srtt_ns
        if (
            self.with_rack
            and srtt
            and self.recovery_end is None
            and not (self.timeouts or self.probe.waiting)
        ):
            if self.armed == "timeout":
                cx.cancel("timeout")
            self.armed = "probe"
            cx.timer("probe", after=self.probe.timeout_ns(srtt, self.board.count, self.rto.ns))
        else:
            if self.armed == "probe":
                cx.cancel("probe")
            self.armed = "timeout"
            cx.timer("timeout", after=self.rto.ns)

    def on_timer(self, cx: Context, name: str, path: Path) -> None:
        if name == "persist":
            self.send_window.probes += 1
            self.send(cx, ASK, self.next)
            cx.timer("persist", after=self.send_window.probe_after_ns(self.rto.ns))
        elif name == "reorder":
            self.repair(cx)
            self.transmit(cx)
        elif name == "probe":
            self.send_probe(cx)
        elif name == "timeout":
            self.time_out(cx)
        else:
            self.transmit(cx)

    def time_out(self, cx: Context) -> None:
        self.timeouts += 1
        if self.timeouts > self.tries:
            self.give_up(cx, "no answer")
            return
        # A lost SYN leaves one segment as the initial window (RFC 5681 section 3.1), and says nothing of what
        # the network can carry: the threshold stays, as when a time-out is repeated.
        unknown = self.timeouts > 1 or not self.connected
        self.control.on_rto(cx.now, self.board.in_flight, repeated=unknown)
        self.rto.on_timeout()
        self.board.lose_all()
        self.recovery_end, self.no_reduction_before = None, self.next
        self.probe.reset()
        cx.trace("time-out", una=self.board.una)
        lost = self.board.next_lost()
        if lost is not None:
            self.output(cx, lost)
        self.arm(cx)
        self.transmit(cx)

    def send_probe(self, cx: Context) -> None:
        """The tail of the flight may be lost: one more segment, whatever the congestion window says."""
        size = None if self.board.next_lost() else self.next_size()
        last = next(reversed(list(self.board)), None)
        if size is not None:
            self.output(cx, self.new_segment(size))
            self.probe.on_probe(self.next, repeats=False)
        elif last is not None and not last.acked:
            self.output(cx, last)
            self.probe.on_probe(self.next, repeats=True)
        self.arm(cx)

    # ---- acknowledgements ---------------------------------------------------------------------------

    def on_acknowledgement(self, cx: Context, header: SelectiveRepeatHeader, flags: int) -> None:
        board, now = self.board, cx.now
        # Forward: the whole number space but one may be under way, and half of it is the nearest no more.
        ack = board.una + ((header.ack - board.una) & self.mask)
        if ack > self.next:
            self.dropped["acknowledgement that is old, or of what was not sent"] += 1
            return
        advances = ack > board.una
        window = header.window << self.shift
        opened = self.send_window.on_ack(ack, window if window < self.most_window else self.most_window)
        # The list of ranges as octets, which need not be decoded where there is none.
        ranges = self.ranges(ack, header) if header._sacks else ()  # type: ignore[attr-defined]
        news = board.acknowledge(ack, ranges) if ranges or advances else ()
        if not news:
            if opened:
                cx.cancel("persist")
                self.transmit(cx)
            return
        acked, newest = 0, news[0]
        for segment in news:
            acked += segment.size
            if segment.serial > newest.serial:
                newest = segment
        rtt = now - newest.sent_ns if newest.transmissions == 1 else 0
        if rtt:
            self.rto.on_sample(rtt)  # never of what was sent twice (Karn's algorithm)
        if not self.connected:
            self.connected = True
            cx.event(Connected())
        self.timeouts = 0
        if not self.messages:
            self.buffer.release(board.una)
        self.rack.update(news, now, self.rto.rtt.min_ns)
        if self.probe.on_ack(ack) and self.recovery_end is None:
            self.control.on_loss(now, self.reduced_from)  # the probe repaired a loss that nobody saw
        rate = self.rate.on_ack(now, acked, newest.mark) if newest.mark else None  # type: ignore[arg-type]
        if flags & ECE and (self.control.every_mark or board.una > self.no_reduction_before):
            self.no_reduction_before = self.next
            self.control.on_ecn(now, acked, self.reduced_from)
        was_in_recovery = self.recovery_end is not None
        self.repair(cx)
        if self.recovery_end is not None and board.una >= self.recovery_end:
            self.recovery_end = None
            self.rack.on_recovery_end()
            # Losses in two windows are two events (RFC 5681 section 4.3), but for what is mended already.
            if self.lost_again and any(s.lost or s.transmissions > 1 for s in board if not s.acked):
                self.recover(cx)
        if self.recovery_end is None and not was_in_recovery:
            sample = AckSample(now, acked, self.rto.rtt.srtt_ns, self.limited, rtt, rate.bps if rate else 0)
            self.control.on_ack(sample)
        if cx.tracing:
            cx.metric(**self.metrics())
        if not board.count:
            cx.cancel(self.armed)
        elif advances or self.armed == "probe":
            # The time-out only where the oldest has arrived (RFC 6298 section 5.3): or one that is lost
            # twice would never be missed while others arrive.
            self.arm(cx)
        self.transmit(cx)
        if not self.closing:
            backlog = self.backlog
            if backlog <= self.control.cwnd:
                cx.event(Writable(2 * self.control.cwnd - backlog))

    def ranges(self, ack: int, header: SelectiveRepeatHeader) -> list[tuple[int, int]]:
        """The header's SACK ranges as numbers that do not wrap, without nonsense."""
        mask, found = self.mask, []
        for start, end in header.sacks:
            low = ack + ((start - ack) & mask)
            high = low + ((end - start) & mask)
            if low < high <= self.next:
                found.append((low, high))
        return found

    def repair(self, cx: Context) -> None:
        """Look for losses; the first of a window begins a recovery, of which congestion control hears
        once.
        """
        board = self.board
        again: int | None = None
        if self.with_rack:
            impatient = (
                self.recovery_end is not None or len(board.sacked) >= 3 or board.sacked.count >= 3 * self.mss
            )
            window = self.rack.reordering_window_ns(self.rto.rtt.srtt_ns, impatient=impatient)
            lost, again = self.rack.detect(board, cx.now, window)
        else:
            lost = board.lose_by_duplicates(3, 1 if self.messages else self.mss)
        if again is not None:
            cx.timer("reorder", at=again)
        if lost and self.recovery_end is not None:
            self.lost_again |= any(segment.start >= self.recovery_end for segment in lost)
        elif lost and board.una >= self.no_reduction_before:
            cx.trace("loss", una=board.una, segments=len(lost))
            self.recover(cx)
            self.output(
                cx, lost[0]
            )  # the first at once, whatever is in flight (RFC 6675 section 5, step 4.3)

    def recover(self, cx: Context) -> None:
        """Begin a recovery, which lasts until all that is under way now has arrived."""
        self.recovery_end = self.no_reduction_before = self.next
        self.lost_again = False
        self.probe.reset()
        self.control.on_loss(cx.now, self.reduced_from)

    @property
    def reduced_from(self) -> int:
        """Octets that a reduction starts from: all that is not acknowledged (RFC 5681's FlightSize), but no
        more than the window, for of what arrived out of order that may be several windows.
        """
        return min(self.board.flight_size, self.control.cwnd)

    def metrics(self) -> dict[str, float]:
        return {
            "cwnd": self.control.cwnd,
            "ssthresh": self.control.ssthresh or 0,
            "in_flight": self.board.in_flight,
            "srtt": self.rto.rtt.srtt_ns / 1e9,
            "rto": self.rto.ns / 1e9,
        }

    # ---- receiving ----------------------------------------------------------------------------------

    def on_packet(self, cx: Context, packet: Packet) -> None:
        header, flags = packet.header, packet.header.flags
        if flags & RST:
            if header.seq == self.expected & self.mask:  # nobody but the peer knows (RFC 5961)
                self.give_up(cx, "by the peer")
            return
        if flags & (SYN | DATA | FIN):
            expected = self.expected
            if header.seq != expected & self.mask:
                expected = self.space.unwrap(header.seq, expected)
            self.accept(cx, flags, expected, packet.payload)
            self.expected = self.first if self.syn_expected else self.box.next + self.peer_closed
        if flags & (SYN | DATA | FIN | ASK):
            self.acknowledge(cx, ECE if packet.ecn == CONGESTED else 0)
        if flags & ACK:
            self.on_acknowledgement(cx, header, flags)
        if self.closing and self.peer_closed and self.fin_sent and not self.board.count:
            cx.linger(self.linger_ns)

    def accept(self, cx: Context, flags: int, number: int, payload: bytes) -> None:
        if flags & SYN and self.syn_expected and number == self.first:
            self.syn_expected = False
            cx.event(Connected())
        if self.syn_expected or self.peer_closed:
            return
        if flags & FIN and self.fin_at is None and 0 <= number - self.box.next <= self.box.window:
            self.fin_at = number
        elif flags & DATA and (self.fin_at is None or number < self.fin_at):
            for piece in self.box.take(number, payload):
                self.unread += 0 if self.auto_read else 1 if self.messages else len(piece)
                cx.deliver(piece)
        if self.box.next == self.fin_at:
            self.peer_closed = True
            cx.event(PeerClosed())

    def acknowledge(self, cx: Context, flags: int = 0) -> None:
        sacks = self.box.sack_blocks(4)
        if not sacks:
            self.send(cx, flags, self.next)
            return
        mask = self.mask
        cx.send(
            SelectiveRepeatHeader(
                flags=flags | ACK,
                window=self.flow.announce(self.expected, self.box.window - self.unread),
                seq=self.next & mask,
                ack=self.expected & mask,
                sacks=[(start & mask, end & mask) for start, end in sacks],
            )
        )

    # ---- the path -----------------------------------------------------------------------------------

    def on_path(self, cx: Context, event: PathEvent) -> None:
        if not isinstance(event, MtuChanged) or self.room(cx.path) >= self.mss:
            return
        self.mss = self.room(cx.path)
        if self.messages:
            if any(len(message) > self.mss for message in self.queue) or any(
                s.size > self.mss for s in self.board
            ):
                self.give_up(cx, "the path takes no messages as large as these")
            return
        # Everything that has not arrived is cut anew.
        self.fin_sent = self.fin_sent and not self.board.count
        self.next = self.board.una
        self.board = Scoreboard(self.next)
        self.no_reduction_before, self.recovery_end = self.next, None
        self.transmit(cx)

    def give_up(self, cx: Context, reason: str) -> None:
        cx.event(Reset(reason))
        cx.done()
