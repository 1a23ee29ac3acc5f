"""State machines as tables: TCP's diagram as an example, mistakes in tables, coverage, pictures."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from rawkit.errors import LocalProtocolError
from rawkit.transport import Machine

# RFC 9293 section 3.3.2, figure 5.
TCP = """
    CLOSED       passive_open   -> LISTEN
    CLOSED       active_open    -> SYN_SENT
    LISTEN       syn            -> SYN_RECEIVED
    LISTEN       send           -> SYN_SENT
    LISTEN       close          -> CLOSED
    SYN_SENT     syn            -> SYN_RECEIVED
    SYN_SENT     syn_ack        -> ESTABLISHED
    SYN_SENT     close          -> CLOSED
    SYN_RECEIVED ack            -> ESTABLISHED
    SYN_RECEIVED close          -> FIN_WAIT_1
    ESTABLISHED  close          -> FIN_WAIT_1
    ESTABLISHED  fin            -> CLOSE_WAIT
    FIN_WAIT_1   ack            -> FIN_WAIT_2
    FIN_WAIT_1   fin            -> CLOSING
    FIN_WAIT_2   fin            -> TIME_WAIT
    CLOSING      ack            -> TIME_WAIT
    CLOSE_WAIT   close          -> LAST_ACK
    LAST_ACK     ack            -> CLOSED
    TIME_WAIT    two_msl        -> CLOSED
    TIME_WAIT    fin            -> ignore     # the peer asks again
    *            rst            -> CLOSED
"""


def test_the_walk_of_a_client_that_closes_first() -> None:
    state = Machine(TCP).start()
    walk = [state.on(event) for event in ("active_open", "syn_ack", "close", "ack", "fin", "fin", "two_msl")]
    assert walk == ["SYN_SENT", "ESTABLISHED", "FIN_WAIT_1", "FIN_WAIT_2", "TIME_WAIT", "TIME_WAIT", "CLOSED"]
    assert state == "CLOSED"


def test_an_event_that_the_table_does_not_have_is_a_mistake() -> None:
    state = Machine(TCP).start()
    with pytest.raises(LocalProtocolError, match="fin in CLOSED: the state machine has no such transition"):
        state.on("fin")
    assert state == "CLOSED"


def test_coverage_counts_all_objects_of_a_machine_and_names_what_is_missing() -> None:
    machine = Machine("A go -> B\nB back -> A\nB go -> ignore\n* stop -> A")
    assert machine.coverage == 0
    for events in (["go", "back"], ["go", "stop"]):
        state = machine.start()
        for event in events:
            state.on(event)
    assert machine.coverage == 3 / 5
    assert machine.report().splitlines() == ["3 of 5 transitions taken", "  B go -> ignore", "  A stop -> A"]


def test_a_line_for_a_state_goes_before_one_for_all() -> None:
    machine = Machine("A x -> B\n* x -> A\nB y -> B")
    assert machine.transitions == {("A", "x"): "B", ("B", "x"): "A", ("B", "y"): "B"}
    assert Machine("A,B x -> B\nB y -> A").transitions["A", "x"] == "B"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "at least one transition"),
        ("A go B", "line 1: 'A go B' is not STATE EVENT -> NEXT"),
        ("A go -> B\nA go -> A", "two lines for go in A"),
        ("A go -> A\nB go -> A", "no way leads to B"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(table: str, message: str) -> None:
    with pytest.raises(LocalProtocolError, match=message):
        Machine(table)


def test_it_draws_itself() -> None:
    machine = Machine(TCP)
    machine.start().on("active_open")
    dot = machine.to_dot()
    assert '"CLOSED" -> "SYN_SENT" [label="active_open"];' in dot
    assert '"SYN_SENT" -> "ESTABLISHED" [label="syn_ack", style=dashed];' in dot
    picture = ElementTree.fromstring(machine.to_svg())
    texts = {element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert set(machine.states) <= texts
    assert "close, rst" in texts
