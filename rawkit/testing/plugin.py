"""The pytest plug-in: hosts, captures and replays as fixtures.

pytest loads this module in every run where rawkit is installed, so it imports nothing but pytest until a
fixture is asked for, and does nothing until then.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from rawkit.lab import Host, Lab, RoutedLab
    from rawkit.testing.recording import Recording
    from rawkit.tools.replay import ReplayReport

RECORDINGS = pytest.StashKey["list[Recording]"]()
FOLDERS = pytest.StashKey[pytest.TempPathFactory]()
NO_LAB = pytest.StashKey[str]()
ENDINGS = ("", ".pcapng", ".pcap", ".pcapng.zst", ".pcapng.gz", ".pcap.zst", ".pcap.gz")


class MakeRecording(Protocol):
    """The fixture `capture`: `capture(lab.b, "udp port 53")` gives a `Recording`, live from then on."""

    def __call__(self, where: Host | str, filter: str = "", **options: Any) -> Recording: ...


class MakeReplay(Protocol):
    """The fixture `replay`: `replay(path, lab.a, topspeed=True)` sends a capture file from there."""

    def __call__(self, file: str | os.PathLike[str], where: Host | str, **options: Any) -> ReplayReport: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("rawkit", "packets (rawkit)")
    group.addoption(
        "--rawkit-dir",
        metavar="DIR",
        help="Where captures of failed tests go  [default: pytest's temporary files].",
    )
    parser.addini(
        "rawkit_namespace",
        "When an ordinary user's tests move to a namespace of their own: at the first lab (the default), or "
        'at the start of the "session", which pytest-xdist and other plug-ins with threads need.',
        default="lab",
    )
    parser.addini(
        "rawkit_require_lab",
        "Where no lab can be made: fail instead of skipping.",
        type="bool",
        default=False,
    )
    parser.addini(
        "rawkit_pcaps",
        "Directories of capture files for pcap_fixture, from the root directory on.",
        type="paths",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "lab(delay=0, loss=0, seed=0, rate=0 | chain=N | star=N): what the fixture `lab` makes: two hosts "
        "and their link (delay='20ms', loss='1%'), a chain of N routers between them, or N hosts around one.",
    )
    when = config.getini("rawkit_namespace")
    if when not in ("lab", "session"):
        raise pytest.UsageError(f"rawkit_namespace is {when!r}; it must be 'lab' or 'session'")
    config.stash[NO_LAB] = _enter_namespace() if when == "session" else ""


def _enter_namespace() -> str:
    """Be where labs can be made; the reason why that is not possible."""
    from rawkit.engine.namespace import become_namespace_root
    from rawkit.errors import EngineError

    try:
        become_namespace_root()
    except EngineError as error:
        return str(error)
    return ""


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab | RoutedLab]:
    """Two private hosts and the link between them, `lab.a` and `lab.b`, made for this test alone.

    The marker `lab` says what link, or how many routers or hosts. An ordinary user's process moves into a
    user namespace for it, for good. Where none is allowed the test is skipped.
    """
    config = request.config
    reason = config.stash[NO_LAB] or _enter_namespace()
    if reason:
        if "threads" in reason:
            reason += " (rawkit_namespace = session in the ini file does that)"
        if config.getini("rawkit_require_lab"):
            pytest.fail(f"no lab: {reason}", pytrace=False)
        pytest.skip(f"no lab: {reason}")
    from rawkit.lab import Lab

    marker = request.node.get_closest_marker("lab")
    options: dict[str, Any] = dict(marker.kwargs) if marker else {}
    made: Lab | RoutedLab
    if "chain" in options:
        made = Lab.chain(options.pop("chain"), **options)
    elif "star" in options:
        made = Lab.star(options.pop("star"), **options)
    else:
        made = Lab(**options)
    with made:
        yield made


@pytest.fixture
def capture(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakeRecording]:
    """Record what passes an interface: `capture(lab.b, "udp port 53")` gives a `Recording`.

    `where` is a host of the lab or an interface's name; options are those of `Recording`. When the test fails
    what was recorded is saved, and the report says where.
    """
    from rawkit.testing.recording import Recording

    recordings: list[Recording] = []
    request.node.stash[RECORDINGS] = recordings
    request.node.stash[FOLDERS] = tmp_path_factory

    def make(where: Host | str, filter: str = "", **options: Any) -> Recording:
        recordings.append(Recording(where, filter, **options))
        return recordings[-1]

    try:
        yield make
    finally:
        for recording in recordings:
            recording.close()


@pytest.fixture
def replay() -> MakeReplay:
    """Send a capture file: `replay(path, lab.a, topspeed=True)` gives the report.

    `where` is a host of the lab or an interface's name; options are those of `rawkit.replay`.
    """

    def run(file: str | os.PathLike[str], where: Host | str, **options: Any) -> ReplayReport:
        from rawkit.tools.replay import replay as send

        name = where if isinstance(where, str) else where.interface
        with nullcontext() if isinstance(where, str) else where:
            return send(file, name, **options)

    return run


@pytest.fixture
def pcap_fixture(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """The path of a capture file by its name, with or without ending.

    Looked for in `pcaps` beside the test's file, in the directories of the ini option rawkit_pcaps, and in
    `pcaps` in the root directory.
    """
    config = request.config
    folders = [request.path.parent / "pcaps", *config.getini("rawkit_pcaps"), config.rootpath / "pcaps"]

    def find(name: str) -> Path:
        for folder in folders:
            for ending in ENDINGS:
                path = Path(folder, name + ending)
                if path.is_file():
                    return path
        places = dict.fromkeys(map(str, folders))
        have = sorted({path.name for folder in folders for path in Path(folder).glob("*.pcap*")})
        raise FileNotFoundError(
            f"no capture file {name!r} in {', '.join(places)}; there are: {', '.join(have) or 'none'}"
        )

    return find


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    outcome = yield
    report: pytest.TestReport = outcome.get_result()
    recordings = item.stash.get(RECORDINGS, [])
    if report.when == "call" and report.failed and recordings:
        report.sections.append(("packets captured (rawkit)", "\n".join(_saved(item, recordings))))


def _saved(item: pytest.Item, recordings: list[Recording]) -> Iterator[str]:
    """Save what was recorded in a test that failed; a line on each."""
    folder = _folder(item)
    name = re.sub(r"[^\w.-]+", "_", item.nodeid).strip("_")[-100:]
    for number, recording in enumerate(recordings, 1):
        try:
            frames = recording.stop()
            path = recording.save(folder / f"{name}-{number}.pcapng")
        except Exception as error:  # whatever it is, the test's own failure is the news
            yield f"{recording.title}: not saved: {error}"
            continue
        dropped = recording.counters().dropped
        yield f"{recording.title}: {len(frames)} frames, {dropped} dropped: {path}"


def _folder(item: pytest.Item) -> Path:
    wanted = item.config.getoption("--rawkit-dir")
    if wanted:
        folder = Path(item.config.invocation_params.dir, wanted)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    return item.stash[FOLDERS].mktemp("captures")
