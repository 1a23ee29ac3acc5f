"""`rawkit scan`: a table of ports for each host, or one JSON object per port."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, TextIO

import click

from rawkit.cli.grouped import GroupedCommand

if TYPE_CHECKING:
    pass

_PUBLIC_MAX = 65536
_FILE = click.File("w", encoding="utf-8")


def _shard(context: click.Context, option: click.Parameter, text: str | None) -> tuple[int, int]:
    if text is None:
        return 1, 1
    part, slash, whole = text.partition("/")
    if not (slash and part.isdecimal() and whole.isdecimal()):
        raise click.BadParameter(f"{text!r}: want K/N, such as 1/4")
    return int(part), int(whole)


_LETTERS = {
    "S": "syn", "T": "connect", "U": "udp", "A": "ack", "W": "window", "F": "fin", "N": "null", "X": "xmas",
    "M": "maimon", "Y": "sctp", "O": "protocol", "n": "hosts",
}  # fmt: skip


def _kind_of_letters(context: click.Context, option: click.Parameter, groups: tuple[str, ...]) -> str | None:
    letters = dict.fromkeys("".join(groups))
    for letter in letters:
        if letter not in _LETTERS:
            raise click.BadParameter(f"there is no scan -s{letter}; there are -s{', -s'.join(_LETTERS)}")
    if len(letters) > 1:
        raise click.BadParameter(f"one kind of scan at a time: {', then '.join(f'-s{x}' for x in letters)}")
    return next((_LETTERS[letter] for letter in letters), None)


def _rate(context: click.Context, option: click.Parameter, text: str) -> float | None:
    if text == "auto":
        return None
    number: click.ParamType[float] = click.FloatRange(0, 1e9, min_open=True, max_open=True)
    return float(number.convert(text, option, context))


@click.command(
    name="scan",
    cls=GroupedCommand,
    groups={
        "Targets and ports": (
            "input",
            "exclude",
            "exclude_file",
            "family",
            "ports",
            "top",
            "services",
            "yes",
        ),
        "Kind of scan": ("kind", "letters", "discovery"),
        "Pace and order": ("rate", "host_rate", "retries", "timeout", "seed", "shard", "state_path"),
        "Packets": ("interface", "source_port", "contact", "dry_run_path"),
        "Output": (
            "only_open",
            "as_json",
            "nmap_xml",
            "grepable",
            "masscan_json",
            "zmap_csv",
            "all_csv",
        ),
    },
    context_settings={"max_content_width": 100},
    epilog="""\b
Examples:
  rawkit scan 192.0.2.1 -p 22,80,8000-8100
  rawkit scan 192.0.2.0/24 --exclude 192.0.2.1 --open
  rawkit scan -sU 192.0.2.1 --contact "scan by it@example.org"
  rawkit scan 2001:db8::1 -p- --json | jq 'select(.state == "open").port'
  rawkit lab run --serve http,echo -- rawkit scan 10.77.0.2 -p-

Exit status: 0 when the scan was completed, whatever it found; 2 for bad input; 77 without permission;
130 when interrupted.""",
)
@click.argument("targets", nargs=-1, metavar="TARGET...")
@click.option("-p", "--ports", help="22,80,100-200, service names, - for 1-65535  [default: common ones]")
@click.option(
    "--type",
    "kind",
    metavar="KIND",
    default="auto",
    help="By own packets: syn, ack, window, fin, null, xmas, maimon, sctp, protocol. Without privilege: "
    "connect, udp  [default: syn where that is permitted, else connect]",
)
@click.option(
    "-s",
    "letters",
    multiple=True,
    callback=_kind_of_letters,
    metavar="LETTER",
    help="As nmap: -sS SYN, -sT connect, -sU UDP, -sY SCTP, -sO protocols, -sA, -sW, -sF, -sN, -sX, -sM; -sn "
    "only says which hosts are there.",
)
@click.option(
    "--discovery/--no-discovery",
    " /-Pn",
    "discovery",
    default=None,
    help="Ask first who is there, and scan those only  [default: from 16 targets and 8 ports on]",
)
@click.option(
    "--rate",
    "--max-rate",
    default="auto",
    show_default=True,
    callback=_rate,
    metavar="PPS",
    help="Probes per second; auto: as fast as answers keep up, but 10,000 at most towards public addresses, "
    "300 to each.",
)
@click.option(
    "--host-rate",
    type=click.FloatRange(0, 1e9, min_open=True, max_open=True, clamp=False),
    metavar="PPS",
    help="Probes per second to each host at most.",
)
@click.option(
    "--retries",
    "--max-retries",
    type=click.IntRange(0, 100),
    default=2,
    show_default=True,
    metavar="N",
    help="How often to ask again where no answer comes.",
)
@click.option(
    "--timeout",
    default="1s",
    show_default=True,
    metavar="TIME",
    help="How long to wait for an answer at most.",
)
@click.option("-n", "no_names", is_flag=True, expose_value=False, hidden=True)  # as always
@click.option("--reason", is_flag=True, expose_value=False, hidden=True)
@click.option("--open", "only_open", is_flag=True, help="Show open ports only.")
@click.option("-I", "-e", "--interface", default="", metavar="IFACE", help="Interface  [default: as routed]")
@click.option(
    "-g",
    "--source-port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="PORT",
    help="Where probes come from.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, (1 << 64) - 1),
    metavar="N",
    help="The order of SYN probes  [default: another each time]",
)
@click.option(
    "--shard",
    "--shards",
    callback=_shard,
    metavar="K/N",
    help="The K-th of N parts of the scan, with one --seed.",
)
@click.option(
    "--resume",
    "state_path",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Keep a SYN scan's state in FILE; go on where it says.",
)
@click.option(
    "--contact",
    default="",
    metavar="TEXT",
    help="Who scans, and why: said where probes have room, and noted.",
)
@click.option("--exclude", multiple=True, metavar="TARGETS", help="Never touch these, whatever TARGET says.")
@click.option(
    "--exclude-file",
    "--excludefile",
    type=click.File(encoding="utf-8"),
    metavar="FILE",
    help="As --exclude, from lines; # begins a comment.",
)
@click.option(
    "-iL",
    "--input",
    type=click.File(encoding="utf-8"),
    metavar="FILE",
    help="More targets, likewise; - is standard input.",
)
@click.option("--top", "--top-ports", "top", type=int, metavar="N", help="The N ports most worth a look.")
@click.option(
    "--services",
    metavar="FILE",
    help="Rank them by a file like nmap-services, or by our own list (own)  [default: nmap's, if installed]",
)
@click.option("-4", "family", flag_value=4, type=int, help="IPv4 only.")
@click.option("-6", "family", flag_value=6, type=int, help="IPv6 only.")
@click.option(
    "--dry-run",
    "dry_run_path",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write own packets to a .pcapng or .pcap file, send nothing.",
)
@click.option(
    "--yes", is_flag=True, help=f"Do scan more than {_PUBLIC_MAX} addresses outside private ranges."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per port.")
@click.option(
    "-oX", "nmap_xml", type=_FILE, metavar="FILE", help="Write nmap's XML too; - for standard output."
)
@click.option("-oG", "grepable", type=_FILE, metavar="FILE", help="Write nmap's grepable lines too.")
@click.option("-oJ", "masscan_json", type=_FILE, metavar="FILE", help="Write masscan's JSON too.")
@click.option(
    "--zmap-csv", type=_FILE, metavar="FILE", help="Write zmap's CSV too, with its metadata beside it."
)
@click.option("--csv", "all_csv", type=_FILE, metavar="FILE", help="Write a row of CSV for each port too.")
def command(
    targets: tuple[str, ...],
    ports: str | None,
    kind: str,
    letters: str | None,
    discovery: bool | None,
    rate: float | None,
    host_rate: float | None,
    retries: int,
    timeout: str,
    only_open: bool,
    interface: str,
    source_port: int,
    seed: int | None,
    shard: tuple[int, int],
    state_path: str | None,
    contact: str,
    exclude: tuple[str, ...],
    exclude_file: TextIO | None,
    input: TextIO | None,
    top: int | None,
    services: str | None,
    family: int | None,
    dry_run_path: str | None,
    yes: bool,
    as_json: bool,
    nmap_xml: TextIO | None,
    grepable: TextIO | None,
    masscan_json: TextIO | None,
    zmap_csv: TextIO | None,
    all_csv: TextIO | None,
) -> int:
    """Find open ports of addresses, prefixes (192.0.2.0/24), ranges (192.0.2.1-9) or host names.

    Scan only what you may: your own hosts, or with their owners' consent.
    """
    from rawkit.addr import TARGET_LIMIT, parse_ports, parse_target
    from rawkit.cli.output import status, typed_command
    from rawkit.cli.progress import Progress, line
    from rawkit.cli.scanreports import LISTED_MAX, JsonReport, Report, TextReport, service, statistics
    from rawkit.errors import TargetError
    from rawkit.tools.scan import (
        BULK_KINDS,
        CONNECT,
        NO_LIMIT,
        UDP,
        Scan,
        ScanConfig,
        common_ports,
        probe_of,
        protocol_of,
        public_count,
    )
    from rawkit.units import parse_duration

    files = (nmap_xml, grepable, masscan_json, zmap_csv, all_csv)
    streams = [stream for stream in files if stream is not None]
    to_stdout = [stream for stream in streams if stream.name == "<stdout>"]
    if len(to_stdout) + as_json > 1:
        raise click.UsageError("standard output can take one format only")
    targets += _lines(input)
    if not targets:
        raise click.UsageError("no targets: name some, or a file of them with -iL")
    wanted = parse_target(targets, family=family or 0, limit=NO_LIMIT if yes else TARGET_LIMIT)
    if exclude := exclude + _lines(exclude_file):
        wanted = wanted.without(parse_target(exclude, limit=NO_LIMIT))
        if not wanted.count:
            raise TargetError("no targets are left after --exclude")
    if not yes and (public := public_count(wanted)) > _PUBLIC_MAX:
        raise click.UsageError(f"{public} addresses outside private ranges: add --yes if that is meant")
    if letters is not None:
        if kind not in ("auto", letters):
            raise click.UsageError(f"--type {kind} and -s with the letter for {letters}: one of them, please")
        kind = letters
    if kind == "hosts":
        kind, only_hosts = "auto", True
        if ports is not None or top is not None:
            raise click.UsageError("-sn looks at no ports: --ports and --top make no sense with it")
        if dry_run_path or state_path or masscan_json or zmap_csv or all_csv:
            raise click.UsageError("-sn has --json, -oX and -oG, no other output and no state")
    else:
        only_hosts = False
    try:
        probe = probe_of(kind)
    except ValueError as error:
        raise click.UsageError(f"--type: {error}") from None
    if top is not None:
        if ports is not None:
            raise click.UsageError("--top is instead of --ports")
        numbers = _top(top, protocol_of(kind, probe), services)
    elif ports is not None:
        numbers = parse_ports(ports, protocol_of(kind, probe))
    else:
        numbers = common_ports(kind, probe)
    timeout_ns = parse_duration(timeout)
    try:
        config = ScanConfig(
            targets=wanted,
            ports=numbers,
            kind=kind,
            probe=probe,
            rate=rate,
            host_rate=host_rate,
            retries=retries,
            timeout_ns=timeout_ns,
            interface=interface,
            source_port=source_port,
            seed=seed,
            shard=shard,
            contact=contact,
            discovery=discovery,
            # Of a single host they need not be told one by one, and with --open not at all.
            report_closed=bool(streams)
            or kind not in BULK_KINDS
            or (not only_open and (as_json or wanted.count > 1 or len(numbers) <= LISTED_MAX)),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None

    if only_hosts:
        from rawkit.cli.hosts import hosts

        return hosts(config, as_json, nmap_xml, grepable)
    if dry_run_path is not None:
        from rawkit.tools.scan.dryrun import dry_run

        if kind in (CONNECT, UDP):
            raise click.UsageError(
                f"--dry-run is for SYN scans: the probes of a {kind} scan are the kernel's"
            )
        written = dry_run(config, dry_run_path)
        status(f"{written} probes written to {dry_run_path}, none sent")
        return 0
    checkpoint = None
    if state_path is not None:
        if kind not in BULK_KINDS:
            raise click.UsageError("--resume is for SYN scans")
        from rawkit.tools.scan.checkpoint import Checkpoint

        checkpoint = Checkpoint(state_path, sys.stdout.flush)
    progress = Progress()

    def notify(text: str) -> None:
        progress.clear()
        status(text)

    with Scan(config, checkpoint=checkpoint, notify=notify) as scan:
        for note in scan.summary.notes:
            status(note)
        if scan.fallback:
            status(f"connect scan instead of SYN scan: {scan.fallback}")
        room = progress.clear if sys.stdout.isatty() else lambda: None
        reports: list[Report] = []
        if as_json:
            reports.append(JsonReport(scan, only_open, _digest(exclude), room))
        elif not to_stdout:
            reports.append(TextReport(scan, only_open, room))
        arguments = typed_command()
        if streams:
            from rawkit.tools.scan import formats

            if nmap_xml is not None:
                reports.append(formats.NmapXml(nmap_xml, scan, arguments, service))
            if grepable is not None:
                reports.append(formats.Grepable(grepable, scan, arguments, service))
            if masscan_json is not None:
                reports.append(formats.MasscanJson(masscan_json))
            if zmap_csv is not None:
                reports.append(formats.ZmapCsv(zmap_csv, scan, arguments))
            if all_csv is not None:
                reports.append(formats.Csv(all_csv))
        interrupted = False
        progress.start(partial(line, scan))
        try:
            for result in scan:
                if to_stdout:
                    room()
                progress.found(result)
                for report in reports:
                    report.add(result)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            progress.stop()
        for report in reports:
            report.end(scan.summary, interrupted)
        status(statistics(scan.summary, interrupted))
    return 130 if interrupted else 0


def _top(n: int, protocol: str, services: str | None) -> tuple[int, ...]:
    """The ports of `--top`; says by which ranking."""
    from rawkit.cli.output import status
    from rawkit.tools.scan.services import OWN, services_file, top_ports

    path = services if services is not None else services_file() or OWN
    try:
        numbers = top_ports(n, protocol, path)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    status(f"top {n} {protocol} ports by {'our own list' if path == OWN else path}")
    return numbers


def _digest(exclude: tuple[str, ...]) -> str | None:
    """A fingerprint of what is excluded, by which two lists can be told apart."""
    if not exclude:
        return None
    from hashlib import sha256

    return sha256("\n".join(exclude).encode()).hexdigest()


def _lines(file: TextIO | None) -> tuple[str, ...]:
    """The words of a file of targets, without its comments."""
    if file is None:
        return ()
    try:
        return tuple(word for line in file for word in line.partition("#")[0].split())
    except UnicodeDecodeError:
        raise click.UsageError(f"{file.name}: is no text") from None
