"""State machines as tables: unhandled events are errors, what was never tried is known, and they draw
themselves.

    DOOR = Machine('''
        CLOSED   open     -> OPENING
        OPENING  opened   -> OPEN
        OPEN     close    -> CLOSED
        OPEN     open     -> ignore
        *        reset    -> CLOSED
    ''')

    state = DOOR.start()
    state.on("open")        # "OPENING"; anything the table does not have raises

A line is STATE EVENT -> NEXT, where STATE may be several joined by "," or "*" for all, and NEXT "ignore"
where the event changes nothing and is no mistake. The first state of the table is where it starts.
"""

from __future__ import annotations

from collections import Counter

from rawkit.errors import LocalProtocolError

IGNORE = "ignore"


class Machine:
    """A table of transitions, and how often each was taken by all of its `State` objects together.

    Raises:
        LocalProtocolError: a line that makes no sense, two lines for one state and event, a state that
        cannot be
            reached from the first.
    """

    def __init__(self, table: str) -> None:
        rows: list[tuple[str, str, str]] = []
        for number, raw in enumerate(table.splitlines(), 1):
            words = raw.split("#")[0].split()
            if not words:
                continue
            if len(words) != 4 or words[2] != "->":
                raise LocalProtocolError(f"line {number}: {raw.strip()!r} is not STATE EVENT -> NEXT")
            rows.append((words[0], words[1], words[3]))
        if not rows:
            raise LocalProtocolError("a state machine needs at least one transition")
        names = [name for states, _, after in rows for name in (*states.split(","), after)]
        self.states = tuple(dict.fromkeys(name for name in names if name not in ("*", IGNORE)))
        """All states, the first one first."""
        self.transitions: dict[tuple[str, str], str] = {}
        """(state, event) to the next state, or to "ignore"."""
        for states, event, after in sorted(rows, key=lambda row: row[0] == "*"):  # "*" is for what is left
            for state in self.states if states == "*" else states.split(","):
                if states == "*" and (state, event) in self.transitions:
                    continue
                if (state, event) in self.transitions:
                    raise LocalProtocolError(f"two lines for {event} in {state}")
                self.transitions[state, event] = after
        self.taken: Counter[tuple[str, str]] = Counter()
        unreachable = set(self.states) - self.reachable()
        if unreachable:
            raise LocalProtocolError(f"no way leads to {', '.join(sorted(unreachable))}")

    def start(self) -> State:
        """A new state object, in the first state."""
        return State(self, self.states[0])

    def reachable(self) -> set[str]:
        """The states that events can lead to from the first."""
        found = {self.states[0]}
        todo = [self.states[0]]
        while todo:
            here = todo.pop()
            for (state, _), after in self.transitions.items():
                if state == here and after not in (IGNORE, *found):
                    found.add(after)
                    todo.append(after)
        return found

    @property
    def coverage(self) -> float:
        """The share of the transitions that were taken so far."""
        return sum(1 for key in self.transitions if self.taken[key]) / len(self.transitions)

    def report(self) -> str:
        """How much was covered, and which transitions were not, one a line."""
        missing = [
            f"  {s} {e} -> {after}" for (s, e), after in self.transitions.items() if not self.taken[s, e]
        ]
        done = len(self.transitions) - len(missing)
        return "\n".join([f"{done} of {len(self.transitions)} transitions taken", *missing])

    def to_dot(self) -> str:
        """The machine in the language of Graphviz; transitions not taken are dashed."""
        lines = ["digraph {", "  rankdir=LR;"]
        for (state, event), after in self.transitions.items():
            if after != IGNORE:
                style = "" if self.taken[state, event] else ", style=dashed"
                lines.append(f'  "{state}" -> "{after}" [label="{event}"{style}];')
        return "\n".join([*lines, "}"])

    def to_svg(self) -> str:
        """The machine as a picture: states on a circle, transitions as arrows with how often they were taken,
        dashed where never.
        """
        from html import escape
        from math import cos, pi, sin

        n, radius = len(self.states), 60 + 34 * len(self.states)
        centre = radius + 110
        place = {
            state: (centre + radius * sin(2 * pi * i / n), centre - radius * cos(2 * pi * i / n))
            for i, state in enumerate(self.states)
        }
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * centre}" height="{2 * centre}"'
            ' font-family="sans-serif" font-size="12" text-anchor="middle">',
            '<defs><marker id="to" markerWidth="8" markerHeight="8" refX="8" refY="4" orient="auto"'
            ' markerUnits="userSpaceOnUse"><path d="M0,0 L8,4 L0,8 z" fill="#456"/></marker></defs>',
            "<style>.event{paint-order:stroke;stroke:white;stroke-width:4px}</style>",
        ]
        labels = []
        together: dict[tuple[str, str], list[str]] = {}
        for (state, event), after in self.transitions.items():
            if after != IGNORE:
                together.setdefault((state, after), []).append(event)
        for (state, after), events in together.items():
            x1, y1 = place[state]
            x2, y2 = place[after]
            taken = any(self.taken[state, event] for event in events)
            look = 'stroke="#0072b2" stroke-width="2"' if taken else 'stroke="#888" stroke-dasharray="5,4"'
            if state == after:
                path, x, y = f"M{x1 - 12:.0f},{y1 - 16:.0f} c-30,-50 54,-50 24,0", x1, y1 - 58
            else:
                # Bent to the right, so that the way back lies beside it; ends at the border of the box.
                x, y = (x1 + x2) / 2 + (y1 - y2) * 0.15, (y1 + y2) / 2 + (x2 - x1) * 0.15
                dx, dy = abs(x2 - x) or 1, abs(y2 - y) or 1
                short = min(1, (10 + 4 * len(after)) / dx, 17 / dy)
                end = x2 - (x2 - x) * short, y2 - (y2 - y) * short
                path = f"M{x1:.0f},{y1:.0f} Q{x:.0f},{y:.0f} {end[0]:.0f},{end[1]:.0f}"
                # A third of the way, where arrows from different states are still apart.
                x, y = (0.46 * a + 0.43 * b + 0.11 * c for a, b, c in zip((x1, y1), (x, y), end))
            parts.append(f'<path d="{path}" fill="none" {look} marker-end="url(#to)"/>')
            words = [
                f"{event} ({self.taken[state, event]})" if self.taken[state, event] else event
                for event in events
            ]
            labels.append(
                f'<text class="event" x="{x:.0f}" y="{y:.0f}" fill="#235">{escape(", ".join(words))}</text>'
            )
        for state, (x, y) in place.items():
            width = 16 + 8 * len(state)
            parts.append(
                f'<rect x="{x - width / 2:.0f}" y="{y - 15:.0f}" width="{width}" height="30" rx="8"'
                f' fill="#eef" stroke="#346"/><text x="{x:.0f}" y="{y + 4:.0f}">{escape(state)}</text>'
            )
        return "\n".join([*parts, *labels, "</svg>"])


class State:
    """Where one endpoint is in its machine."""

    __slots__ = ("machine", "name")

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        self.name = name

    def on(self, event: str) -> str:
        """Let an event happen; returns the state after it.

        Raises:
            LocalProtocolError: the table has no line for it in this state.
        """
        after = self.machine.transitions.get((self.name, event))
        if after is None:
            raise LocalProtocolError(f"{event} in {self.name}: the state machine has no such transition")
        self.machine.taken[self.name, event] += 1
        if after != IGNORE:
            self.name = after
        return self.name

    def __eq__(self, other: object) -> bool:
        return self.name == (other.name if isinstance(other, State) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return self.name
