"""`rawkit replay --expect`: one side of a capture is sent, and the answers compared with the other side."""

from __future__ import annotations

import signal
from types import FrameType
from typing import TYPE_CHECKING

from rawkit.cli.output import counted

if TYPE_CHECKING:
    from rawkit.tools.replayexpect import ExpectReport
    from rawkit.tools.replayplan import ReplayConfig


def expect(file: str, config: ReplayConfig, wait: float, ignore: tuple[str, ...], as_json: bool) -> int:
    """Send and compare, print what is different; the exit status."""
    from rawkit.cli.errors import INTERRUPTED, NEGATIVE, SUCCESS
    from rawkit.pcap import open_pcap
    from rawkit.tools.replayexpect import Expectation

    with open_pcap(file) as reader:
        run = Expectation(reader, config, wait=wait, ignore=ignore)
        interrupted = False

        def stop(number: int, _: FrameType | None) -> None:
            nonlocal interrupted
            interrupted = True
            run.stop()

        before = signal.signal(signal.SIGINT, stop)
        try:
            run.run()
        finally:
            signal.signal(signal.SIGINT, before)
            _tell(run.report, file, as_json)
    if interrupted:
        return INTERRUPTED
    return SUCCESS if run.report.good else NEGATIVE


def _tell(report: ExpectReport, file: str, as_json: bool) -> None:
    from dataclasses import asdict

    from rawkit.cli.output import JsonLines, emit, escape, status

    if as_json:
        lines = JsonLines("replay-expect")
        for mismatch in report.mismatches:
            lines.write("mismatch", **asdict(mismatch))
        lines.write("report", file=file, **report.to_dict())
        return
    for mismatch in report.mismatches:
        which = f"packet {mismatch.number}" if mismatch.number else "no packet"
        emit(f"{which} {mismatch.kind}: {escape(mismatch.summary)}")
        for difference in mismatch.differences:
            emit(f"  {escape(difference)}")
    for what, causes in (("failed", report.failed), ("skipped", report.skipped)):
        for cause, count in causes.items():
            emit(f"{count} {what}: {cause}")
    emit(
        f"{counted(report.sent, 'packet')} sent on {report.interface}; {report.matched} of "
        f"{counted(report.expected, 'answer')} as in the capture"
    )
    if report.own_addresses:
        status(
            f"this host has {', '.join(report.own_addresses)} itself: its kernel resets connections it knows "
            "nothing of; --map clients to addresses of nobody"
        )
