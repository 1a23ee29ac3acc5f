"""Packet scripts: the DSL itself, and the reference protocols by it."""

from __future__ import annotations

import pytest

from rawkit.sim.script import Script, ScriptError
from rawkit.transport import Path
from rawkit.transport.protocols.go_back_n import GoBackN
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat
from rawkit.transport.protocols.stop_and_wait import StopAndWait


def test_stop_and_wait_repeats_until_it_is_answered() -> None:
    Script(StopAndWait()).run("""
        0      open client
        +0     > SYN seq=0
        +1     > SYN seq=0                # the time-out, counted from the transmission
        +0.5   < ACK seq=0
        +0     tell Connected
        +0.1   write 2000
        +0     > seq=1 len=1474
        +0.1   < ACK seq=0                # late: of the SYN
        +0.1   < ACK seq=1
        +0     > seq=0 len=526
        +0.1   < ACK seq=0
        +0     close
        +0     > FIN seq=1 len=0
    """)


def test_go_back_n_takes_only_what_is_next_and_says_what_that_is() -> None:
    Script(GoBackN()).run("""
        0      open server
        +0     < SYN seq=0
        +0     tell Connected
        +0     > ACK ack=1
        +0.01  < DATA seq=2 len=100       # one is missing
        +0     > ACK ack=1 len=0
        +0.01  < DATA seq=1 len=100
        +0     deliver 100
        +0     > ACK ack=2
        +0.01  < DATA seq=1 len=100       # again: not delivered again
        +0     > ACK ack=2
    """)


def test_go_back_n_sends_its_window_again_when_the_timer_of_the_oldest_expires() -> None:
    Script(GoBackN(window=2, timeout_ns=10**9)).run("""
        0      open client
        +0     > SYN|ACK seq=0
        +0.1   < ACK ack=1
        +0     tell Connected
        +0.1   write 4000
        +0     > DATA|ACK seq=1 len=1470
        +0     > DATA|ACK seq=2 len=1470
        +0.5   < ACK ack=2
        +0     > DATA|ACK seq=3 len=1060
        +0.5   > DATA|ACK seq=2           # a second after it was sent
        +0     > DATA|ACK seq=3
        +0.1   < ACK ack=4
        +2     nothing
    """)


CONNECTED = """
    0      open client
    +0     > SYN|ACK seq=0 ack=1
    +0.04  < ACK ack=1 seq=1 window=1000
    +0     tell Connected
    +0     write 8784
    +0     > DATA|ACK seq=1 len=1464
    +0     > DATA|ACK seq=1465 len=1464
    +0     > DATA|ACK seq=2929 len=1464
    +0     > DATA|ACK seq=4393 len=1464
    +0     > DATA|ACK seq=5857 len=1464
    +0     > DATA|ACK seq=7321 len=1464
"""


def test_selective_repeat_sends_only_what_is_missing() -> None:
    Script(SelectiveRepeat(detect="duplicates")).run(CONNECTED).run("""
        +0.04  < ACK ack=1465 window=1000
        +0     < ACK ack=1465 window=1000 sacks=[(2929, 4393)]
        +0     < ACK ack=1465 window=1000 sacks=[(2929, 5857)]
        +0     nothing
        +0     < ACK ack=1465 window=1000 sacks=[(2929, 7321)]
        +0     > DATA|ACK seq=1465 len=1464
        +0.04  < ACK ack=8785 window=1000
        +1     nothing
    """)


def test_selective_repeat_misses_a_retransmission_that_is_lost() -> None:
    # RFC 6675 section 5, step 4.3: the first goes at once, though five are in flight and the window is 4.5.
    # RFC 6298 section 5.3: what arrives beyond it does not put the time-out off.
    Script(SelectiveRepeat(detect="duplicates")).run(CONNECTED).run("""
        +0     write 4392
        +0     > DATA|ACK seq=8785 len=1464
        +0     > DATA|ACK seq=10249 len=1464
        +0     > DATA|ACK seq=11713 len=1464
        +0.04  < ACK ack=1 window=1000 sacks=[(1465, 2929)]
        +0     < ACK ack=1 window=1000 sacks=[(1465, 4393)]
        +0     nothing
        +0     < ACK ack=1 window=1000 sacks=[(1465, 5857)]
        +0     > DATA|ACK seq=1 len=1464
        +0.02  < ACK ack=1 window=1000 sacks=[(1465, 13177)]
        +0.05  write 1464
        +0     > DATA|ACK seq=13177 len=1464
        +0.04  < ACK ack=1 window=1000 sacks=[(1465, 14641)]
        +0.05  > DATA|ACK seq=1 len=1464     # 200 ms after it was first sent
        +0.04  < ACK ack=14641 window=1000
        +1     nothing
    """)


def test_selective_repeat_probes_the_tail_after_two_round_trips() -> None:
    # RFC 8985 section 7.2: PTO is 2 * SRTT, and SRTT is 40 ms. The probe repeats the last segment.
    Script(SelectiveRepeat()).run(CONNECTED).run("""
        +0.04  < ACK ack=7321 window=1000
        +0.08  > DATA|ACK seq=7321 len=1464
        +0.04  < ACK ack=8785 window=1000
    """)


def test_selective_repeat_asks_a_closed_window_whether_it_has_opened() -> None:
    Script(SelectiveRepeat(min_rto_ns=10**9)).run("""
        0      open client
        +0     > SYN|ACK seq=0
        +0.04  < ACK ack=1 seq=1 window=0
        +0     tell Connected
        +0     write 100
        +1     > ASK|ACK len=0
        +2     > ASK|ACK len=0
        +4     > ASK|ACK len=0
        +0.1   < ACK ack=1 window=10
        +0     > DATA|ACK seq=1 len=100
        +0.04  < ACK ack=101 window=10
    """)


def test_selective_repeat_reports_ranges_as_rfc_2018_says() -> None:
    # Section 4, case 3: 500-octet segments, the second, fourth, sixth and eighth are lost.
    Script(SelectiveRepeat(first=4999)).run("""
        0      open server
        +0     < SYN|ACK seq=4999 window=1000
        +0     tell Connected
        +0     > ACK ack=5000
        +0     < DATA seq=5000 len=500
        +0     deliver 500
        +0     > ACK ack=5500 sacks=[]
        +0     < DATA seq=6000 len=500
        +0     > ACK ack=5500 sacks=[(6000, 6500)]
        +0     < DATA seq=7000 len=500
        +0     > ACK ack=5500 sacks=[(7000, 7500), (6000, 6500)]
        +0     < DATA seq=8000 len=500
        +0     > ACK ack=5500 sacks=[(8000, 8500), (7000, 7500), (6000, 6500)]
        +0     < DATA seq=6500 len=500
        +0     > ACK ack=5500 sacks=[(6000, 7500), (8000, 8500)]
        +0     < DATA seq=5500 len=500
        +0     deliver 2000
        +0     > ACK ack=7500 sacks=[(8000, 8500)]
    """)


def test_selective_repeat_cuts_anew_when_the_path_takes_less() -> None:
    Script(SelectiveRepeat(), path=Path("192.0.2.1", "192.0.2.2")).run("""
        0      open client
        +0     > SYN|ACK seq=0
        +0.04  < ACK ack=1 seq=1 window=1000
        +0     tell Connected
        +0     write 2000
        +0     > DATA|ACK seq=1 len=1464
        +0     > DATA|ACK seq=1465 len=536
        +0.01  mtu 1036
        +0     > DATA|ACK seq=1 len=1000
        +0     > DATA|ACK seq=1001 len=1000
        +0.04  < ACK ack=2001 window=1000
    """)


def test_a_reset_counts_only_with_the_number_that_is_expected() -> None:
    Script(SelectiveRepeat()).run("""
        0      open server
        +0     < SYN|ACK seq=0 window=1000
        +0     tell Connected
        +0     > ACK ack=1
        +0.1   < RST seq=77
        +0.1   < RST seq=1
        +0     tell Reset
        +0     done
    """)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("0 open client\n+0 > FIN seq=0", r"line 2: \+0 > FIN seq=0: flags is 1, in > SYN seq=0"),
        ("0 open client\n+0 > SYN seq=5", r"seq is 0, in > SYN seq=0"),
        ("0 open client\n+0 > SYN len=3", r"0 octets of payload"),
        ("0 open client\n+0.5 > SYN", r"it happened at 0 s"),
        ("0 open client\n+0 > SYN\n+0.5 > SYN", r"nothing happened by 0.5 s"),
        ("0 open client\n+0 tell Connected", r"instead, at 0 s: > SYN seq=0"),
        ("0 open client\n+1 write 5", r"before it, at 0 s: > SYN seq=0"),
        ("0 open client", r"the end of the script: before it, at 0 s"),
        ("0 open client\n+0 > SYN number=5", r"the header has no field 'number'"),
        ("0 opens client", r"what is 'opens'\?"),
        ("1 open client\n0 close", r"in order of time"),
    ],
)
def test_what_is_not_as_written_is_said_with_the_line(script: str, message: str) -> None:
    with pytest.raises(ScriptError, match=message):
        Script(StopAndWait()).run(script)


def test_a_tolerance_allows_what_it_says() -> None:
    Script(StopAndWait()).run("0 open client\n+0 > SYN\n+0.98~0.05 > SYN")
