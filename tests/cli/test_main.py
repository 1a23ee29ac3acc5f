"""The frame of the command line: help, exit statuses, errors as one line, lazily imported commands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import click
import pytest

import rawkit
from rawkit.cli import main as main_module
from rawkit.cli.main import COMMANDS, main
from rawkit.errors import EngineError, NoRoute, PermissionDenied, TargetError, UnknownInterface


def run(*args: str, **options: object) -> subprocess.CompletedProcess[str]:
    """`rawkit ARGS` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "rawkit", *args],
        capture_output=True,
        text=True,
        timeout=60,
        **options,  # type: ignore[call-overload]
    )


def test_help_names_every_command_and_the_exit_statuses() -> None:
    for option in ("-h", "--help"):
        done = run(option)
        assert (done.returncode, done.stderr) == (0, "")
        listed = [
            line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ") and line.strip()
        ]
        assert [name for name in listed if name in COMMANDS] == list(COMMANDS)
        assert "77 missing permission" in " ".join(done.stdout.split())


def test_without_a_command_the_help_is_a_usage_error() -> None:
    done = run()
    assert (done.returncode, done.stdout) == (2, "")
    assert "Commands:" in done.stderr


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"rawkit {rawkit.__version__}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_exists_and_explains_itself(name: str) -> None:
    done = run(name, "-h")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: rawkit {name}")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["pong"], "rawkit: there is no command 'pong' (did you mean 'ping'?); see 'rawkit --help'"),
        (["xyzzy"], "rawkit: there is no command 'xyzzy'; see 'rawkit --help'"),
        (["--nosuch"], "rawkit: No such option"),
        (["doctor", "--nosuch"], "rawkit doctor: No such option"),
    ],
)
def test_usage_errors_are_one_line_on_stderr(args: list[str], message: str) -> None:
    done = run(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


@pytest.fixture
def act(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], int]:
    """Run a function as the body of `rawkit act`; gives the exit status."""

    def acting(body: Callable[[], object]) -> int:
        command = click.Command("act", callback=body)
        monkeypatch.setitem(COMMANDS, "act", ("acting", "Act."))
        monkeypatch.setitem(sys.modules, "acting", SimpleNamespace(command=command))  # type: ignore[misc]
        with pytest.raises(SystemExit) as ended:
            main(["act"])
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return acting


def raiser(error: BaseException) -> Callable[[], object]:
    def body() -> object:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (TargetError("bad target 'x'"), 2, "bad target 'x'"),
        (TargetError("two\nlines \x1b[31mred"), 2, "two lines \\x1b[31mred"),
        (UnknownInterface("there is no interface veth9"), 2, "there is no interface veth9"),
        (NoRoute("no route to 192.0.2.1"), 2, "no route to 192.0.2.1"),
        (EngineError(100, "send", "veth0"), 2, "send on veth0: Network is down"),
        (FileNotFoundError(2, "No such file or directory", "a.pcap"), 2, "a.pcap: No such file or directory"),
        (PermissionError(13, "Permission denied", "a.pcap"), 2, "a.pcap: Permission denied"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (PermissionError(1, "Operation not permitted"), 77, "Operation not permitted"),
        (
            PermissionDenied(1, "open", "lo", "needs CAP_NET_RAW"),
            77,
            "open on lo: Operation not permitted; needs CAP_NET_RAW",
        ),
        (click.ClickException("not today"), 2, "not today"),
        (click.UsageError("not like this."), 2, "not like this; see 'rawkit act --help'"),
        (click.Abort(), 130, "interrupted"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_an_exception_becomes_a_line_and_a_status(
    act: Callable[[Callable[[], object]], int],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    message: str,
) -> None:
    assert act(raiser(error)) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"rawkit act: {message}\n"


def test_an_unexpected_exception_asks_to_be_reported(
    act: Callable[[Callable[[], object]], int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAWKIT_DEBUG", raising=False)
    assert act(raiser(ZeroDivisionError("division by zero"))) == 70
    err = capsys.readouterr().err
    assert err.startswith("rawkit act: unexpected ZeroDivisionError: division by zero (")
    assert "please report it" in err
    assert err.count("\n") == 1
    monkeypatch.setenv("RAWKIT_DEBUG", "1")
    assert act(raiser(ZeroDivisionError("division by zero"))) == 70
    assert capsys.readouterr().err.startswith("Traceback (most recent call last):")


@pytest.mark.parametrize(("result", "status"), [(None, 0), (0, 0), (1, 1), ("text", 0)])
def test_what_a_command_returns_is_the_exit_status(
    act: Callable[[Callable[[], object]], int], result: object, status: int
) -> None:
    assert act(lambda: result) == status


def test_an_exit_in_a_command_is_its_status(act: Callable[[Callable[[], object]], int]) -> None:
    assert act(raiser(click.exceptions.Exit(1))) == 1


def test_a_command_is_imported_only_when_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def import_module(name: str) -> SimpleNamespace:
        asked.append(name)
        return SimpleNamespace(command=click.Command("x", callback=lambda: None))

    monkeypatch.setattr(main_module.importlib, "import_module", import_module)
    assert main(["--help"], standalone_mode=False) == 0
    assert asked == []
    assert main(["ping"], standalone_mode=False) == 0
    assert asked == ["rawkit.cli.ping"]


PIPELINE = """
import sys
from rawkit.cli import main as cli
from rawkit.cli.output import emit
import click
from types import SimpleNamespace
def body():
    for i in range(100000):
        emit("a line that fills the pipe")
cli.COMMANDS["act"] = ("acting", "Act.")
sys.modules["acting"] = SimpleNamespace(command=click.Command("act", callback=body))
cli.main(["act"])
"""


def test_a_reader_who_leaves_ends_the_command_quietly() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PIPELINE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "a line that fills the pipe\n"
        process.stdout.close()
        assert (process.wait(timeout=60), process.stderr.read()) == (0, "")


def test_a_full_disk_is_an_error() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "rawkit", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 2
    assert done.stderr == "rawkit: No space left on device\n"


def test_a_terminal_of_another_encoding_gets_every_line() -> None:
    code = PIPELINE.replace("100000", "1").replace("a line that fills the pipe", "h\\u00e9")
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        timeout=60,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stdout) == (0, b"h\\xe9\n")


def test_shell_completion_knows_the_commands() -> None:
    done = run(
        env=os.environ | {"_RAWKIT_COMPLETE": "bash_complete", "COMP_WORDS": "rawkit re", "COMP_CWORD": "1"}
    )
    assert (done.returncode, done.stdout) == (0, "plain,read\nplain,replay\n")
