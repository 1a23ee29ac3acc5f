"""`rawkit send`: packets written as expressions, sent, and their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rawkit.cli.output import JsonLines
    from rawkit.tools.departure import Departure
    from rawkit.wire.packet import Packet


_FACTS = ("rtt_ns", "stamp", "tx_stamp", "attempt", "time_ns")
"""What a JSON line tells of an answer besides the packet."""


@click.command(
    name="send",
    epilog="""\b
Examples:
  rawkit send 'ip(dst=192.0.2.1)/icmp()' --wait 1
  rawkit send -v --wait 500ms 'ip(dst=192.0.2.1)/tcp(sport=40000,dport=80,options=[mss(1460),sackok()])'
  rawkit send -I veth0 'eth()/arp(target_ip=10.77.0.2)' --wait 1
  rawkit send 'ip6(dst=2001:db8::1)/udp(sport=9,dport=9)/"x"*100' --dry-run out.pcapng

Exit status: 0 when every packet was answered or none was awaited, 1 without an answer, 2 for bad input, 77
without permission.""",
)
@click.argument("expression")
@click.option("--wait", metavar="TIME", help="Wait for an answer to each packet: 1 (second), 200ms.")
@click.option(
    "-r", "--retries", type=click.IntRange(min=0), default=0, help="Without an answer, send again N times."
)
@click.option("-c", "--count", type=click.IntRange(min=1), default=1, show_default=True, help="Send N times.")
@click.option(
    "-i", "--interval", metavar="TIME", default="1", show_default=True, help="Between packets, with -c."
)
@click.option("-I", "--interface", help="Interface to send on  [default: the route's]")
@click.option("--dry-run", metavar="FILE", help="Write the packets to a capture file, send nothing.")
@click.option("-v", "--verbose", is_flag=True, help="Each packet's headers and fields below its line.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per packet; times are nanoseconds.")
def command(
    expression: str,
    wait: str | None,
    retries: int,
    count: int,
    interval: str,
    interface: str | None,
    dry_run: str | None,
    verbose: bool,
    as_json: bool,
) -> int:
    """Send the packet that EXPRESSION describes, and show what answers it.

    Headers are joined by "/": ip(dst=192.0.2.1,ttl=3)/tcp(dport=80,flags=S)/"payload". Fields that are not
    named are computed or have their defaults; the source address is the route's. Payloads are strings,
    0xC0DE, hex("c0 de"), and repetitions ("x"*100). `rawkit show` explains a packet without sending it.

    Answers are replies, and ICMP errors that quote the packet. The kernel does not know of connections made
    this way: it answers a SYN-ACK with RST.
    """
    from contextlib import ExitStack

    from rawkit.cli.errors import NEGATIVE, SUCCESS
    from rawkit.cli.output import JsonLines, emit
    from rawkit.clock import MonotonicClock
    from rawkit.tools.departure import prepare, transmit
    from rawkit.tools.exchange import Answer, Exchange, ExchangeConfig, Sent
    from rawkit.units import parse_duration
    from rawkit.wire.expression import parse_expression
    from rawkit.wire.packet import Packet

    if dry_run is not None and wait is not None:
        raise click.UsageError("--dry-run sends nothing that --wait could wait for an answer to")
    if retries and wait is None:
        raise click.UsageError("--retries needs to know how long to --wait for an answer")
    wait_ns = parse_duration(wait) if wait is not None else None
    interval_ns = parse_duration(interval)
    departure = prepare(parse_expression(expression), interface)
    first = type(departure.packet.layers[0])
    packet = Packet.parse(departure.octets, first)  # with what was computed
    json = JsonLines("send") if as_json else None
    if dry_run is not None:
        _save(departure, count, interval_ns, dry_run)
        _tell(json, "saved", packet, verbose, {"count": count, "file": dry_run})
        return SUCCESS
    clock = MonotonicClock()
    due_ns = clock.now_ns()
    answered = 0
    with ExitStack() as stack:
        session = None
        if wait_ns is not None:
            config = ExchangeConfig(wait_ns, retries)
            session = stack.enter_context(Exchange([departure.packet], config, interface=interface))
        for _ in range(count):
            clock.sleep_until(due_ns)
            due_ns += interval_ns
            if session is None:
                transmit(departure)
                _tell(json, "sent", packet, verbose, {})
                continue
            for event in session:
                if isinstance(event, Sent):
                    _tell(json, "sent", packet, verbose, {"time_ns": event.time_ns})
                elif isinstance(event, Answer):
                    answered += 1
                    _tell(json, "answer", event, verbose, {name: getattr(event, name) for name in _FACTS})
                elif event.outcome.error is not None:
                    raise event.outcome.error
                elif json is not None:
                    json.write("timeout", timeout_ns=wait_ns)
                else:
                    emit(f"no answer within {session.config.timeout_ns / 1e6:g} ms")
    return SUCCESS if wait_ns is None or answered == count else NEGATIVE


def _tell(
    json: JsonLines | None, event: str, packet: Packet, verbose: bool, facts: dict[str, object]
) -> None:
    """A packet that was sent, saved, or came as an answer."""
    from rawkit.cli.output import emit, escape

    if json is not None:
        json.write(event, **facts, summary=packet.summary(), octets=bytes(packet), **packet.to_dict())
        return
    rtt_ns = facts.get("rtt_ns")
    after = f"  ({rtt_ns / 1e6:.3f} ms)" if isinstance(rtt_ns, int) else ""
    emit(escape(f"{event:<6}  {packet.summary()}{after}"))
    if verbose:
        emit(escape("        " + packet.show().replace("\n", "\n        "), lines=True))


def _save(departure: Departure, count: int, interval_ns: int, path: str) -> None:
    """Write what would have been sent, at the times it would have been."""
    from rawkit.pcap import create_pcap
    from rawkit.tools.roundtrip import Moment
    from rawkit.wire.frame import Frame

    now_ns = Moment.now().realtime_ns
    with create_pcap(path, linktype=departure.linktype) as writer:
        for i in range(count):
            time_ns = now_ns + i * interval_ns
            writer.write(Frame(departure.octets, time_ns, linktype=departure.linktype))
