"""`rawkit pcap stats`: protocols, conversations and rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rawkit.cli.pcap.common import file_argument

if TYPE_CHECKING:
    from rawkit.cli.output import JsonLines
    from rawkit.tools.traffic import Traffic


@click.command(
    name="stats",
    epilog="""\b
Examples:
  rawkit pcap stats capture.pcapng
  rawkit pcap stats big.pcap.zst --top 50
  rawkit pcap stats capture.pcapng --every 1s
  rawkit pcap stats --json capture.pcapng | jq 'select(.type == "conversation")'

A conversation is all packets between two addresses and ports. Octets are those on the wire.

Exit status: 0; 2 for a file that is damaged.""",
)
@file_argument
@click.option("--top", type=click.IntRange(min=0), default=10, show_default=True,
              help="So many conversations and endpoints, those with the most octets.")  # fmt: skip
@click.option("--every", metavar="TIME", help="Packets and octets in each 1s, 10ms or 1h, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(file: str, top: int, every: str | None, as_json: bool) -> None:
    """Count what is in FILE: headers, conversations, endpoints, and rates over time."""
    from rawkit.cli.output import JsonLines, emit, escape
    from rawkit.errors import UnitError
    from rawkit.pcap import open_pcap
    from rawkit.tools.traffic import measure
    from rawkit.units import parse_duration

    try:
        interval_ns = parse_duration(every) if every is not None else None
    except UnitError as error:
        raise click.BadParameter(str(error), param_hint="--every") from None
    if interval_ns == 0:
        raise click.BadParameter("it must be longer than nothing", param_hint="--every")
    with open_pcap(file) as reader:
        traffic = measure(reader, interval_ns=interval_ns)
    if as_json:
        write_json(JsonLines("pcap.stats"), traffic, top)
        return
    for line in lines(traffic, top):
        emit(escape(line))


def lines(traffic: Traffic, top: int) -> list[str]:
    """The counts as tables."""
    from rawkit.cli.pcap.common import iso_time, seconds_text
    from rawkit.tools.splitfile import flow_text

    sums = traffic.sums
    rows = [
        f"{sums.packets} packets, {sums.wire_octets} octets, "
        + seconds_text(sums.latest_ns - sums.earliest_ns)
    ]
    rows += ["", f"{'protocols':<44}{'packets':>12}{'octets':>16}"]
    for count in traffic.protocols:
        name = "  " * (len(count.headers) - 1) + count.headers[-1]
        rows.append(f"{name:<44}{count.packets:>12}{count.octets:>16}")
    if traffic.unknown:
        rows.append(f"{'(unknown link types)':<44}{traffic.unknown:>12}")
    if top and len(traffic.flows):
        rows += ["", f"conversations: {len(traffic.flows)}"]
        rows.append(f"{'packets':>10}{'back':>10}{'octets':>14}{'back':>14}{'duration':>18}  who")
        for flow in traffic.flows.largest(top):
            rows.append(
                f"{flow.packets_from_a:>10}{flow.packets_from_b:>10}{flow.octets_from_a:>14}"
                f"{flow.octets_from_b:>14}{seconds_text(flow.last_ns - flow.first_ns):>18}  {flow_text(flow)}"
            )
        if traffic.flows.left_out:
            rows.append(f"({traffic.flows.left_out} packets of ever more conversations are not among them)")
        endpoints = traffic.endpoints()
        rows += ["", f"endpoints: {len(endpoints)}"]
        rows.append(f"{'packets out':>12}{'in':>12}{'octets out':>16}{'in':>16}  address")
        for end in endpoints[:top]:
            rows.append(
                f"{end.packets_out:>12}{end.packets_in:>12}{end.octets_out:>16}{end.octets_in:>16}"
                f"  {end.address}"
            )
    if traffic.rates is not None:
        rates = traffic.rates
        rows += ["", f"{'from':<32}{'packets':>12}{'octets':>16}"]
        for n, (packets, octets) in enumerate(rates.rows()):
            rows.append(f"{iso_time(rates.start_ns + n * rates.interval_ns):<32}{packets:>12}{octets:>16}")
        if rates.left_out:
            rows.append(
                f"({rates.left_out} packets are from before the first one, or a million intervals behind it)"
            )
    return rows


def write_json(json: JsonLines, traffic: Traffic, top: int) -> None:
    """The counts as records."""
    from dataclasses import asdict

    from rawkit.cli.pcap.common import iso_time
    from rawkit.tools.splitfile import flow_text

    json.write("total", **traffic.sums._asdict(), unknown=traffic.unknown)
    for count in traffic.protocols:
        json.write("protocol", **asdict(count))
    for flow in traffic.flows.largest(top):
        numbers = {name: value for name, value in flow._asdict().items() if name not in ("a", "b")}
        json.write("conversation", text=flow_text(flow), **numbers)
    for end in traffic.endpoints()[:top]:
        json.write("endpoint", **asdict(end))
    if traffic.rates is not None:
        rates = traffic.rates
        for n, (packets, octets) in enumerate(rates.rows()):
            start_ns = rates.start_ns + n * rates.interval_ns
            json.write(
                "interval", start_ns=start_ns, start=iso_time(start_ns), packets=packets, octets=octets
            )
