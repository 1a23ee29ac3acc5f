"""`rawkit lab run`: the command's own status, signals and terminal, and nothing left when it is over."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import sysconfig
import time
from contextlib import suppress
from pathlib import Path

import pytest
from oracles import oracle

import rawkit

pytestmark = pytest.mark.net

RAWKIT = [sys.executable, "-m", "rawkit"]
LAB_RUN = [*RAWKIT, "lab", "run"]


def lab_run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAB_RUN, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        **options,  # type: ignore[call-overload]
    )


# ---- statuses and messages --------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_the_exit_status_is_the_command_s(code: int) -> None:
    done = lab_run("--", "sh", "-c", f"echo out; echo err >&2; exit {code}")
    assert (done.returncode, done.stdout, done.stderr) == (code, "out\n", "err\n")


def test_a_command_ended_by_a_signal() -> None:
    assert lab_run("--", "sh", "-c", "kill -SEGV $$").returncode == 128 + signal.SIGSEGV


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    done = lab_run("--", "no-such-command", "--option")
    assert (done.returncode, done.stdout, done.stderr) == (
        127,
        "",
        "rawkit lab: no-such-command: command not found\n",
    )
    plain = tmp_path / "plain"
    plain.write_text("no program")
    done = lab_run("--", str(plain))
    assert (done.returncode, done.stderr) == (126, f"rawkit lab: {plain}: Permission denied\n")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--delay", "soon", "--", "true"], "bad duration 'soon'"),
        (["--loss", "2", "--", "true"], "bad ratio '2'"),
        (["--serve", "gopher", "--", "true"], "no service 'gopher'"),
        (["--rate", "fast", "--", "true"], "bad rate 'fast'"),
        (["--queue", "5", "--", "true"], "--queue goes with --rate"),
        (["--link", "nowhere", "--", "true"], "no link is called 'nowhere'"),
        (["--link", "wifi", "--loss", "1%", "--", "true"], "exclude each other"),
        (["--schedule", "lose 3", "--", "true"], "bad fault 'lose 3'"),
        (["--chain", "2", "--rate", "1Mbit/s", "--", "true"], "exclude each other"),
        (["--on", "c", "--", "true"], "'c' is not one of 'a', 'b'"),
        (["--seed", "x", "--", "true"], "'x' is not a valid integer"),
        (["--nonsense", "--", "true"], "--nonsense"),
        ([], "COMMAND"),
    ],
)
def test_bad_options(arguments: list[str], reason: str) -> None:
    done = lab_run(*arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert reason in done.stderr


def test_options_of_the_command_are_its_own() -> None:
    assert lab_run("echo", "--delay", "x").stdout == "--delay x\n"


# ---- what the command finds -------------------------------------------------------------------


def test_the_hosts() -> None:
    ip = oracle("ip")
    for host, address in (("a", "10.77.0.1/24"), ("b", "10.77.0.2/24")):
        done = lab_run("--on", host, "--", ip, "-4", "-o", "address", "show", "veth0")
        assert address in done.stdout


def test_servers_are_on_the_other_host() -> None:
    code = (
        "import socket, sys\n"
        "for port in (7, 80): socket.create_connection((sys.argv[1], port), 5).close(); print(port)"
    )
    for host, other in (("a", "fd77::2"), ("b", "10.77.0.1")):
        done = lab_run("--serve", "http,echo", "--on", host, "--", sys.executable, "-c", code, other)
        assert (done.stdout, done.stderr) == ("7\n80\n", "")


def test_links_of_the_simulator() -> None:
    command = [oracle("ping"), "-c", "4", "-i", "0.05", "-W", "1", "10.77.0.2"]
    done = lab_run("--rate", "10Mbit/s", "--delay", "10ms", "--schedule", "drop a 1", "--", *command)
    assert [f"icmp_seq={n} " in done.stdout for n in (1, 2, 3, 4)] == [True, False, True, True]
    fastest = float(done.stdout.rpartition("min/avg/max/mdev = ")[2].partition("/")[0])
    assert 20 <= fastest < 35
    done = lab_run("--link", "satellite", "--", *command[:2], "1", *command[3:])
    assert float(done.stdout.rpartition("min/avg/max/mdev = ")[2].partition("/")[0]) >= 560


def test_delay_and_losses() -> None:
    ping = oracle("ping")
    done = lab_run("--delay", "25ms", "--", ping, "-c", "5", "-i", "0.2", "10.77.0.2")
    fastest = float(done.stdout.rpartition("min/avg/max/mdev = ")[2].partition("/")[0])
    assert 50 <= fastest < 65  # the best of five, on a machine that may be busy
    lossy = [
        "--loss",
        "40%",
        "--seed",
        "3",
        "--",
        ping,
        "-n",
        "-c",
        "20",
        "-i",
        "0.01",
        "-W",
        "1",
        "10.77.0.2",
    ]
    first, second = (
        [
            line.split("icmp_seq=")[1].split()[0]
            for line in lab_run(*lossy).stdout.splitlines()
            if "seq=" in line
        ]
        for _ in range(2)
    )
    assert first == second, "the same seed"
    assert 0 < len(first) < 20


def test_standard_input_reaches_the_command() -> None:
    assert lab_run("--", "cat", input="through\n").stdout == "through\n"


def test_rawkit_is_found_by_the_command() -> None:
    done = lab_run("--", "sh", "-c", 'echo "$PATH"', env={**os.environ, "PATH": "/usr/bin:/bin"})
    assert done.stdout.split(":")[0] == os.path.dirname(sys.executable)
    installed = Path(sysconfig.get_path("scripts"), "rawkit")
    if not installed.exists():
        pytest.skip("rawkit is not installed here, it runs from its source")
    done = lab_run("--", "rawkit", "--version", env={**os.environ, "PATH": "/usr/bin:/bin"})
    assert done.stdout == f"rawkit {rawkit.__version__}\n"


def test_the_command_sees_no_process_but_those_of_the_lab() -> None:
    done = lab_run(
        "--", "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '; echo; echo $$; ls -d /proc/[0-9]* | wc -l"
    )
    first, own, count = done.stdout.splitlines()
    assert " lab run " in first
    assert int(own) < 20
    assert int(count) < 10


def test_orphans_are_reaped() -> None:
    done = lab_run("--", "sh", "-c", "(sleep 0.05 &) ; sleep 0.6; grep -l '^State:.Z' /proc/[0-9]*/status")
    assert done.stdout == ""


def test_shell() -> None:
    done = subprocess.run(
        [*RAWKIT, "lab", "shell", "--on", "b"],
        input="echo $((6 * 7)); exit 5\n",
        env={**os.environ, "SHELL": "/bin/sh"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (5, "42\n")
    assert "host b, 10.77.0.2" in done.stderr


def test_a_shell_on_a_terminal_takes_it_and_gives_it_back() -> None:
    """Nothing is said of process groups, Ctrl-C is the shell's, who started it can read afterwards."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"SHELL": "/bin/sh", "PS1": "lab> ", "ENV": ""}
        script = f'{" ".join(LAB_RUN[:-1])} shell; echo "left with $?"; read line; echo "read $line"'
        os.execv("/bin/sh", ["/bin/sh", "-c", script])
    try:
        said = read_until(terminal, b"lab> ")
        # The terminal echoes what is typed; what the command itself says tells that it has the terminal.
        os.write(terminal, b"sh -c 'echo in\"\" front; exec sleep 60'\n")
        said += read_until(terminal, b"in front")
        os.write(terminal, b"\x03")
        said += read_until(terminal, b"lab> ")
        os.write(terminal, b"exit 7\n")
        said += read_until(terminal, b"left with 7")
        os.write(terminal, b"a line\n")
        said += read_until(terminal, b"read a line")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(terminal)
    assert b"group" not in said
    assert b"job control" not in said


# ---- signals ----------------------------------------------------------------------------------

TRAPS = """
trap 'echo got INT; exit 5' INT
trap 'echo got TERM; exit 6' TERM
echo ready
while :; do sleep 0.02; done
"""


@pytest.mark.parametrize(
    ("number", "said", "code"),
    [
        (signal.SIGINT, "got INT\n", 5),
        (signal.SIGTERM, "got TERM\n", 6),
        (signal.SIGHUP, "", 128 + signal.SIGHUP),
    ],
)
def test_signals_to_the_launcher_reach_the_command(number: int, said: str, code: int) -> None:
    with subprocess.Popen([*LAB_RUN, "--", "sh", "-c", TRAPS], stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == "ready\n"
        launcher.send_signal(number)
        assert launcher.stdout.read() == said
    assert launcher.returncode == code


IGNORING = "trap '' HUP INT; exec \"$@\""


def test_ignored_signals_stay_ignored() -> None:
    command = ["sh", "-c", IGNORING, "sh", *LAB_RUN, "--", "sh", "-c", "echo ready; sleep 0.5; exit 4"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == "ready\n"
        launcher.send_signal(signal.SIGHUP)
        launcher.send_signal(signal.SIGINT)
    assert launcher.returncode == 4


def test_ctrl_c_reaches_the_command_once_and_the_launcher_waits() -> None:
    count = """
n=0
trap 'n=$((n + 1))' INT
echo ready
while [ $n = 0 ]; do sleep 0.02; done
sleep 0.2  # for a second one
echo n=$n
exit 9
"""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(LAB_RUN[0], [*LAB_RUN, "--", "sh", "-c", count])
    try:
        said = read_until(terminal, b"ready")
        os.write(terminal, b"\x03")
        said += read_until(terminal, b"n=1")
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 9, said


def read_until(terminal: int, wanted: bytes, seconds: float = 20.0) -> bytes:
    said = b""
    end = time.monotonic() + seconds
    while wanted not in said:
        assert select.select([terminal], [], [], max(0.0, end - time.monotonic()))[0], said
        try:
            said += os.read(terminal, 4096)
        except OSError:  # nobody has the terminal open any more
            pytest.fail(f"{wanted!r} did not come: {said!r}")
    return said


# ---- nothing is left --------------------------------------------------------------------------


def stat_of(pid: int) -> tuple[str, str, str] | None:
    """A process's name, state letter and start, which tells it from later ones; None when it is gone."""
    try:
        head, _, tail = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = tail.split()
    return head.partition("(")[2], fields[0], fields[19]


def family_of(pid: int) -> dict[int, str]:
    """A process and its descendants, each with its start; those that end meanwhile are left out."""
    stat = stat_of(pid)
    if stat is None:
        return {}
    found = {pid: stat[2]}
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [child for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):  # the process or one of its threads has just ended
        return found
    for child in children:
        found |= family_of(int(child))
    return found


def namespaces_of(pid: int) -> set[str]:
    """Like "net:[4026531840]", which is also what a mount that holds one is called."""
    found = set()
    for kind in ("net", "pid", "mnt"):
        with suppress(FileNotFoundError, ProcessLookupError):
            found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
    return found


def alive(family: dict[int, str]) -> list[str]:
    """Those that still run. Ended ones that their new parent has not yet collected run no more."""
    left = []
    for pid, start in family.items():
        stat = stat_of(pid)
        if stat is not None and stat[2] == start and stat[1] not in "ZX":
            left.append(f"{stat[0]} (process {pid}, state {stat[1]})")
    return left


def wait_until_gone(family: dict[int, str]) -> None:
    end = time.monotonic() + 20
    while left := alive(family):
        assert time.monotonic() < end, left
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_is_left_when_the_launcher_is_killed(number: int) -> None:
    # Not only the command: a grandchild that has left its session, and servers, and a relay.
    command = "setsid sleep 60 & echo ready; sleep 60"
    arguments = ["--serve", "http,echo", "--delay", "5ms", "--", "sh", "-c", command]
    launcher = subprocess.Popen([*LAB_RUN, *arguments], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    assert launcher.stdout.readline() == "ready\n"
    family = family_of(launcher.pid)
    namespaces = set().union(*map(namespaces_of, family)) - namespaces_of(os.getpid())
    assert len(namespaces) >= 4, "of processes, mounts, the two hosts' networks"
    assert len(family) >= 5, "launcher, first process, servers, shell, sleep"
    launcher.send_signal(number)
    launcher.wait(10)
    launcher.stdout.close()
    assert launcher.returncode == (-9 if number == signal.SIGKILL else 128 + signal.SIGTERM)
    wait_until_gone(family)
    # What could hold a namespace besides processes.
    mounts = Path("/proc/self/mountinfo").read_text()
    assert not [namespace for namespace in namespaces if namespace in mounts]


def test_no_namespace_is_left_when_the_launcher_is_killed() -> None:
    """In a user namespace whose limit leaves room for one lab, not two: the kernel itself keeps the count."""
    code = """
import subprocess, sys, time
with open("/proc/sys/user/max_net_namespaces", "w") as file:
    file.write("4")
command = [sys.executable, "-m", "rawkit", "lab", "run", "--delay", "1ms"]
command += ["--", "sh", "-c", "echo ready; sleep 60"]
def start():
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return process, process.stdout.readline()
for _ in range(3):
    end = time.monotonic() + 20
    while True:  # the kernel takes its time to dismantle a namespace
        process, said = start()
        if said == b"ready\\n":
            break
        assert process.wait() == 2
        assert time.monotonic() < end
        time.sleep(0.1)
    second, said = start()
    print("one more:", said, second.wait())
    process.kill()
    process.wait()
"""
    done = subprocess.run(
        [oracle("unshare"), "--user", "--map-root-user", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("one more: b'' 2\n" * 3, "")


def test_background_processes_end_with_the_command() -> None:
    command = "sleep 60 >/dev/null 2>&1 & echo ready; read line"
    with subprocess.Popen(
        [*LAB_RUN, "--", "sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"ready\n"
        family = family_of(launcher.pid)
        assert len(family) == 4, "launcher, first process, shell, sleep"
        launcher.communicate(b"\n")
    wait_until_gone(family)


# ---- an ordinary user -------------------------------------------------------------------------


def test_as_an_ordinary_user(ordinary: list[str]) -> None:
    code = (
        "import socket\n"
        "s = socket.create_connection(('fd77::2', 7), 5); s.sendall(b'hello'); print(s.recv(9))\n"
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3).close()\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close(); raise SystemExit(7)"
    )
    arguments = [
        "-m",
        "rawkit",
        "lab",
        "run",
        "--serve",
        "echo",
        "--delay",
        "1ms",
        "--",
        sys.executable,
        "-c",
        code,
    ]
    done = subprocess.run([*ordinary, *arguments], capture_output=True, text=True, timeout=60)
    if done.returncode == 77:  # this system allows none
        pytest.skip(done.stderr)
    assert (done.returncode, done.stdout, done.stderr) == (7, "b'hello'\n", "")


def test_the_library_as_an_ordinary_user(ordinary: list[str]) -> None:
    code = """
import threading
from rawkit.errors import EngineError
from rawkit.lab import Lab
stop = threading.Event()
thread = threading.Thread(target=stop.wait)
thread.start()
try:
    Lab()
except EngineError as error:
    print(error)
stop.set()
thread.join()
for _ in range(2):
    with Lab(delay="1ms") as lab:
        lab.b.serve("http")
        print(lab.a.run(["true"]).returncode)
"""
    done = subprocess.run([*ordinary, "-c", code], capture_output=True, text=True, timeout=60)
    if "PermissionDenied" in done.stderr:  # this system allows no user namespaces
        pytest.skip(done.stderr)
    refusal, *statuses = done.stdout.splitlines()
    assert "this process has 2 threads" in refusal
    assert (statuses, done.returncode) == (["0", "0"], 0), done.stderr


def test_a_forbidding_setting_is_named() -> None:
    """In a user namespace whose limit of further ones is zero, without the capability to do without."""
    run_without = f"exec {oracle('setpriv')} --bounding-set=-all {' '.join(LAB_RUN)} -- true"
    command = f"echo 0 >/proc/sys/user/max_user_namespaces; {run_without}"
    done = subprocess.run(
        [oracle("unshare"), "--user", "--map-root-user", "sh", "-c", command],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "user.max_user_namespaces is 0" in done.stderr
    assert (done.returncode, done.stdout) == (77, "")
