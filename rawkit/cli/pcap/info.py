"""`rawkit pcap info`: what capture files hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rawkit.pcap.info import FileInfo


@click.command(
    name="info",
    epilog="""\b
Examples:
  rawkit pcap info capture.pcapng
  rawkit pcap info --json *.pcap | jq 'select(.type == "file") | .packets'
  rawkit pcap info --sha256 evidence.pcapng

Exit status: 0; 2 when a file is damaged (what came before is told) or is no capture file.""",
)
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(dir_okay=False, readable=False, allow_dash=True)
)
@click.option("--sha256", is_flag=True, help="The file's hash, and SHA-1's, as stored.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per file.")
def command(files: tuple[str, ...], sha256: bool, as_json: bool) -> int:
    """Say what FILES hold ("-": standard input), without looking into packets."""
    from rawkit.cli.errors import SUCCESS, USAGE, report
    from rawkit.cli.output import JsonLines, emit, escape, status
    from rawkit.errors import RawkitError
    from rawkit.pcap.info import pcap_info

    json = JsonLines("pcap.info") if as_json else None
    code = SUCCESS
    for n, file in enumerate(files):
        try:
            info = pcap_info(file, ("sha256", "sha1") if sha256 else ())
        except (RawkitError, OSError) as error:
            if len(files) == 1:
                raise
            code = report(error, "rawkit pcap info")
            continue
        if json:
            json.write("file", **record(info))
        else:
            if n:
                emit()
            for line in lines(info):
                emit(escape(line))
        if info.damage:
            status(f"rawkit pcap info: {escape(info.damage)}")
            code = USAGE
    return code


def lines(info: FileInfo) -> list[str]:
    """The file as text, a fact a line."""
    from rawkit.cli.output import counted
    from rawkit.cli.pcap.common import iso_time, seconds_text
    from rawkit.pcap.info import LINKTYPE_NAMES

    sums = info.sums
    packed = f", packed with {info.packed}" if info.packed else ""
    rows = [
        ("file", info.path),
        ("kind", f"{info.kind}, {info.byte_order}-endian{packed}"),
        ("size", "" if info.size is None else counted(info.size, "octet")),
        *((name, value) for name, value in info.hashes.items()),
    ]
    for section in info.sections:
        rows += [("written by", section.application), ("system", section.os), ("hardware", section.hardware)]
        rows += [("comment", comment) for comment in section.comments]
    rows.append(("packets", str(sums.packets)))
    if sums.packets:
        cut = f", {sums.cut} cut" if sums.cut else ""
        rows += [
            ("octets", f"{sums.octets}, {sums.wire_octets} on the wire{cut}"),
            ("lengths", f"{sums.shortest} to {sums.longest}, {sums.octets / sums.packets:.1f} on average"),
            ("first", iso_time(sums.earliest_ns)),
            ("last", iso_time(sums.latest_ns)),
            ("duration", seconds_text(info.duration_ns)),
            ("order", "by time" if info.in_order else f"{sums.backwards} packets before the one before them"),
        ]
        if info.duration_ns:
            rate = sums.packets * 1e9 / info.duration_ns
            rows.append(("rate", f"{rate:.1f} packets/s, {bits(sums.wire_octets * 8e9 / info.duration_ns)}"))
    rows.append(("lost", "not known" if info.dropped is None else counted(info.dropped, "packet")))
    rows += [("blocks", f"{count} {name}") for name, count in info.blocks.items()]
    for number, row in enumerate(info.interfaces):
        interface = row.interface
        link = LINKTYPE_NAMES.get(interface.linktype, "unknown")
        texts = [
            f"{interface.name or 'unnamed'}: {link} ({interface.linktype})",
            f"snaplen {interface.snaplen}, times in {row.resolution}",
            f"{counted(row.sums.packets, 'packet')}",
        ]
        found = row.statistics
        if found is not None:
            counters = ("received", "dropped", "accepted", "os_dropped", "delivered")
            told = [f"{getattr(found, name)} {name}" for name in counters if getattr(found, name) is not None]
            texts.append(", ".join(told))
        rows.append((f"interface {number}", "; ".join(filter(None, texts))))
        rows += [("  filter", interface.filter), ("  system", interface.os)]
        rows += [("  description", interface.description)]
        rows += [("  comment", comment) for comment in interface.comments]
    return [f"{name + ':':<14}{value}" for name, value in rows if value]


def bits(per_second: float) -> str:
    """A rate in bits, with a unit that keeps the number short."""
    for unit in ("bit/s", "kbit/s", "Mbit/s", "Gbit/s"):
        if per_second < 1000 or unit == "Gbit/s":
            break
        per_second /= 1000
    return f"{per_second:.1f} {unit}"


def record(info: FileInfo) -> dict[str, Any]:
    """The file as the fields of a "file" record; times are nanoseconds since 1970 and RFC 3339."""
    from dataclasses import asdict

    from rawkit.cli.pcap.common import iso_time

    sums = info.sums
    return {
        "path": info.path,
        "size": info.size,
        "kind": info.kind,
        "byte_order": info.byte_order,
        "packed": info.packed,
        **sums._asdict(),
        "first": iso_time(sums.earliest_ns) if sums.packets else None,
        "last": iso_time(sums.latest_ns) if sums.packets else None,
        "duration_ns": info.duration_ns,
        "in_order": info.in_order,
        "dropped": info.dropped,
        "damage": info.damage or None,
        "blocks": info.blocks,
        "hashes": info.hashes,
        "sections": [asdict(section) for section in info.sections],
        "interfaces": [
            {
                **asdict(row.interface),
                "packets": row.sums.packets,
                "octets": row.sums.octets,
                "statistics": asdict(row.statistics) if row.statistics else None,
            }
            for row in info.interfaces
        ],
    }
