"""ARP (RFC 826): who-has and is-at."""

from __future__ import annotations

from wire.vectors import check_vector

from rawkit.wire import ARP, Ether

REQUEST = ARP(op=1, sender_mac="00:00:5e:00:53:01", sender_ip="192.0.2.1", target_ip="192.0.2.2")
REPLY = ARP(
    op=2,
    sender_mac="00:00:5e:00:53:02",
    sender_ip="192.0.2.2",
    target_mac="00:00:5e:00:53:01",
    target_ip="192.0.2.1",
)


def test_vectors() -> None:
    # ar$hrd, ar$pro, ar$hln, ar$pln, ar$op, ar$sha, ar$spa, ar$tha, ar$tpa (RFC 826, packet format)
    check_vector("0001 0800 06 04 0001 00005e005301 c0000201 000000000000 c0000202", REQUEST / b"", ARP)
    check_vector("0001 0800 06 04 0002 00005e005302 c0000202 00005e005301 c0000201", REPLY / b"", ARP)


def test_reply_answers_its_request() -> None:
    assert (Ether() / REPLY).answers(Ether() / REQUEST)
    assert not (Ether() / REQUEST).answers(Ether() / REQUEST)
    assert not (Ether() / REPLY.replace(sender_ip="192.0.2.3")).answers(Ether() / REQUEST)
    assert not (Ether() / REPLY.replace(target_ip="192.0.2.3")).answers(Ether() / REQUEST)


def test_summary() -> None:
    assert (Ether() / REQUEST).summary() == "ARP, Request who-has 192.0.2.2 tell 192.0.2.1, length 28"
    assert (Ether() / REPLY).summary() == "ARP, Reply 192.0.2.2 is-at 00:00:5e:00:53:02, length 28"
