"""Packet scripts: one endpoint in virtual time, packets injected and expected, line by line.

    0      open server
    +0     < SYN seq=0
    +0     > ACK ack=1
    +0     tell Connected
    +0.1   < DATA seq=1 len=1000
    +0     deliver 1000
    +0     > ACK ack=2

Each line begins with a time in seconds, since the start of the script or (+) since the line before. What
follows is

    open ROLE              the endpoint begins, as client or server
    write N, read N        the application writes N octets (0, 1, 2 ... 255, 0 ...), has read N
    close, shutdown, abort
    < WORDS                this packet arrives
    > WORDS                this packet is sent now, and is the next that is
    deliver N, tell NAME   so many octets are delivered, the application is told so
    done                   the endpoint is finished
    mtu N                  the path takes packets of N octets from now on
    nothing                no packet is sent until this time

WORDS are flags ("SYN", "SYN|ACK"), fields ("seq=1", "sacks=[(3000, 4000)]"; only those named are compared)
and "len=N" for octets of payload. A time may have a tolerance: "+0.2~0.01". Everything that the endpoint
sends, delivers or tells must be in the script, but for notices named in `ignore`.
"""

from __future__ import annotations

import ast
from typing import Any

from rawkit.errors import HeaderError, ProtocolError
from rawkit.sim.ladders import describe
from rawkit.transport import events as ev
from rawkit.transport.endpoint import Endpoint
from rawkit.units import parse_duration


class ScriptError(ProtocolError, AssertionError):
    """The endpoint did other than the script says; the message names the line."""


class Script:
    """Runs scripts against one endpoint; state and time go on from one `run` to the next.

    `path` is what the endpoint is opened on. Notices whose class is named in `ignore` need not be in the
    script.
    """

    def __init__(
        self, endpoint: Endpoint, *, path: ev.Path | None = None, ignore: tuple[str, ...] = ("Writable",)
    ) -> None:
        self.endpoint = endpoint
        self.header = endpoint.header
        self.path = path or ev.Path("192.0.2.1", "192.0.2.2")
        self.ignore = ignore
        self.now = 0
        self.written = 0
        self._timers: dict[str, tuple[int, int]] = {}  # name to (due, serial)
        self._serial = 0
        self._outbox: list[tuple[int, Any]] = []  # what the endpoint did, and when, in order
        self._line = ""

    def run(self, text: str) -> Script:
        """Run a script; returns this object.

        Raises:
            ScriptError: something else happened than is written, or a line makes no sense.
        """
        for number, raw in enumerate(text.splitlines(), 1):
            words = raw.split("#")[0].split()
            if words:
                self._line = f"line {number}: {raw.strip()}"
                self._step(words)
        self._line = "the end of the script"
        self._nothing_before(self.now + 1)
        return self

    def _fail(self, why: str) -> ScriptError:
        return ScriptError(f"{self._line}: {why}")

    def _step(self, words: list[str]) -> None:
        time, _, tolerance = words[0].partition("~")
        slack = parse_duration(tolerance) if tolerance else 0
        at = parse_duration(time.lstrip("+")) + (self.now if time.startswith("+") else 0)
        if at < self.now or len(words) < 2:
            raise self._fail("a time and what happens, in order of time")
        verb, rest = words[1], words[2:]
        expects = verb in (">", "deliver", "tell", "done")
        self._advance(at + slack if expects else at)
        if verb == ">":
            self._expect_packet(at, slack, rest)
        elif verb == "deliver":
            found = self._next(ev.Deliver, at, slack)
            if len(found.data) != int(rest[0]):
                raise self._fail(f"{len(found.data)} octets were delivered")
        elif verb == "tell":
            found = self._next(ev.Tell, at, slack)
            if type(found.notice).__name__ != rest[0]:
                raise self._fail(f"{found.notice} was told")
        elif verb == "done":
            self._next(ev.Done, at, slack)
        else:
            self._nothing_before(at)
            self._inject(verb, rest)

    # ---- time ---------------------------------------------------------------------------------------

    def _advance(self, until_ns: int) -> None:
        while self._timers:
            name = min(self._timers, key=lambda each: self._timers[each])
            due, _ = self._timers[name]
            if due > until_ns:
                break
            del self._timers[name]
            self.now = max(due, self.now)
            self._feed(ev.Fired(name, self.path))
        self.now = max(self.now, until_ns)

    def _feed(self, event: Any) -> None:
        for action in self.endpoint.feed(self.now, event):
            if isinstance(action, ev.SetTimer):
                self._serial += 1
                self._timers[action.name] = action.at_ns, self._serial
            elif isinstance(action, ev.CancelTimer):
                self._timers.pop(action.name, None)
            elif isinstance(action, ev.Tell) and type(action.notice).__name__ in self.ignore:
                continue
            elif not isinstance(action, (ev.Metric, ev.Note)):
                due = action.at_ns if isinstance(action, ev.Send) else 0
                self._outbox.append((max(due, self.now), action))
                if isinstance(action, ev.Done):
                    self._timers.clear()

    # ---- what goes in -------------------------------------------------------------------------------

    def _inject(self, verb: str, rest: list[str]) -> None:
        if verb == "open":
            self._feed(ev.Open(rest[0], self.path))  # type: ignore[arg-type]
        elif verb == "<":
            fields, length = self._fields(rest)
            payload = bytes(i % 256 for i in range(length or 0))
            self._feed(
                ev.Arrival(
                    self.header(**fields)._pack(payload, self.path.lower_back, None) + payload, self.path
                )
            )
        elif verb == "write":
            count = int(rest[0])
            data = bytes(i % 256 for i in range(self.written, self.written + count))
            self.written += count
            self._feed(ev.Write(data))
        elif verb == "read":
            self._feed(ev.Read(int(rest[0])))
        elif verb in ("close", "shutdown", "abort"):
            self._feed({"close": ev.Close, "shutdown": ev.Shutdown, "abort": ev.Abort}[verb]())
        elif verb == "mtu":
            self.path.mtu = int(rest[0])
            self._feed(ev.MtuChanged(self.path, self.path.mtu))
        elif verb != "nothing":
            raise self._fail(f"what is {verb!r}?")

    def _fields(self, words: list[str]) -> tuple[dict[str, Any], int | None]:
        """Header fields, and octets of payload, from words."""
        fields: dict[str, Any] = {}
        length = None
        names = {name: row.name for name, (_, row) in self.header.roles.items()}
        known = {row.name for row in self.header.fields}
        text = " ".join(words)
        while text:
            name, equals, after = text.partition("=")
            if not equals or " " in name.strip():  # a word without value: flags
                word, _, text = text.partition(" ")
                fields[names["flags"]] = word.replace("|", " ")
                continue
            value = after.partition(" ")[0]
            if after.startswith("["):
                value = after[: after.index("]") + 1]
            text = after[len(value) :].strip()
            name = name.strip()
            if name == "len":
                length = int(value)
                continue
            name = name if name in known else names.get(name, name)
            if name not in known:
                raise self._fail(f"the header has no field {name!r}")
            fields[name] = ast.literal_eval(value)
        return fields, length

    # ---- what comes out -----------------------------------------------------------------------------

    def _next(self, kind: type[Any], at: int, slack: int) -> Any:
        if not self._outbox:
            raise self._fail(f"nothing happened by {self.now / 1e9:g} s")
        time, action = self._outbox.pop(0)
        if not isinstance(action, kind):
            raise self._fail(f"instead, at {time / 1e9:g} s: {self._in_words(action)}")
        if abs(time - at) > slack:
            raise self._fail(f"it happened at {time / 1e9:g} s")
        self.now = max(at, time)
        return action

    def _expect_packet(self, at: int, slack: int, words: list[str]) -> None:
        sent = self._next(ev.Send, at, slack)
        fields, length = self._fields(words)
        try:
            parsed, start, end = self.header._parse(sent.octets, 0, len(sent.octets))
        except HeaderError as error:
            raise self._fail(str(error)) from None
        kinds = {row.name: row.kind for row in self.header.fields}
        for name, value in fields.items():
            found = getattr(parsed, name)
            wanted = kinds[name].convert(value, name) if isinstance(value, str) else value
            if (list(found) if isinstance(wanted, list) else found) != wanted:
                raise self._fail(f"{name} is {found!r}, in {self._in_words(sent)}")
        if length is not None and end - start != length:
            raise self._fail(f"{end - start} octets of payload, in {self._in_words(sent)}")

    def _nothing_before(self, at: int) -> None:
        for time, action in self._outbox:
            if time < at or self._line.startswith("the end"):
                raise self._fail(f"before it, at {time / 1e9:g} s: {self._in_words(action)}")

    def _in_words(self, action: Any) -> str:
        if isinstance(action, ev.Send):
            return f"> {describe(action.octets, self.header)}"
        if isinstance(action, ev.Deliver):
            return f"deliver {len(action.data)}"
        return f"tell {action.notice!r}" if isinstance(action, ev.Tell) else "done"
