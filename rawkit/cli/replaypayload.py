"""`rawkit replay --payload`: the captured conversations with real servers."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from rawkit.cli.output import counted

if TYPE_CHECKING:
    from rawkit.tools.payloadreplay import PayloadResult

_OPTIONS = {"file", "payload", "to", "wait", "as_json", "speed", "topspeed", "loop", "limit", "skip"}


def refuse_others(options: set[str], mode: str) -> None:
    """Raise a usage error when an option was given that a mode of the command has no use for."""
    context = click.get_current_context()
    for param in context.command.params:
        given = context.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
        if given and param.name not in options:
            raise click.UsageError(f"{mode}: {param.opts[-1]} does not go with it")


def play(file: str, to: str | None, wait: float, options: dict[str, Any], as_json: bool) -> int:
    """Play a file's conversations, print what became of each; the exit status."""
    from rawkit.cli.errors import NEGATIVE, SUCCESS
    from rawkit.cli.output import JsonLines, emit, escape
    from rawkit.pcap import open_pcap
    from rawkit.tools.payloadreplay import PayloadConfig, replay_payload

    refuse_others(_OPTIONS, "--payload sends no packets")
    if to is None:
        raise click.UsageError("--payload needs --to HOST[:PORT], or --to captured")
    if options["speed"] and options["topspeed"]:
        raise click.UsageError("--speed and --topspeed exclude each other")
    address, port = (None, None) if to == "captured" else _target(to)
    speed = 0.0 if options["topspeed"] else options["speed"] or 1.0
    try:
        config = PayloadConfig(address, port, speed, options["loop"], wait)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    lines = JsonLines("replay-payload") if as_json else None

    def tell(result: PayloadResult) -> None:
        if lines is not None:
            lines.write("conversation", **result.to_dict())
        else:
            detail = f": {result.detail}" if result.detail else ""
            emit(escape(f"{result.conversation}: {result.verdict}{detail}"))
            if result.missing:
                emit(f"  {counted(result.missing, 'octet')} of the client's are not in the capture")

    with open_pcap(file) as reader:
        end = None if options["limit"] is None else options["skip"] + options["limit"]
        results = replay_payload(islice(reader, options["skip"], end), config, tell)
    good = sum(result.good for result in results)
    sent, received = (sum(getattr(result, what) for result in results) for what in ("sent", "received"))
    if lines is not None:
        lines.write("report", file=file, conversations=len(results), good=good, sent=sent, received=received)
    else:
        emit(
            f"{counted(len(results), 'conversation')}, {good} answered as in the capture; "
            f"{counted(sent, 'octet')} sent, {received} received"
        )
    return SUCCESS if good == len(results) else NEGATIVE


def _target(text: str) -> tuple[str, int | None]:
    """ "host", "host:port", "::1", "[::1]:port"."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        return text.strip("[]"), None
    if not host or not port.isdecimal():
        raise click.UsageError(f"--to {text}: say HOST or HOST:PORT")
    return host.strip("[]"), int(port)
