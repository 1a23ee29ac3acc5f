"""Bad input to every command: one line that says what and where, a documented exit status, no traceback."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from rawkit.cli.main import COMMANDS, main
from rawkit.pcap import create_pcap
from rawkit.wire.frame import Frame

pytestmark = pytest.mark.net  # nothing is sent, but what a mistake would send must not leave this machine


class Row(NamedTuple):
    """A command line; {words} name files of `files` below. `says` is searched for in the one line."""

    line: str
    says: str
    output: str = ""
    """What standard output is to match: what came before the damage."""


PORTS = "10.77.0.1 -p"
ROWS = [
    # ---- ping
    Row("ping", r"Missing argument 'TARGET\.\.\.'"),
    Row("ping 300.1.1.1", r"300\.1\.1\.1"),
    Row("ping 10.77.0.0/33", r"10\.77\.0\.0/33"),
    Row("ping 10.77.0.9-3", r"10\.77\.0\.9-3"),
    Row("ping nowhere.invalid", r"nowhere\.invalid"),
    Row("ping -c 0 10.77.0.1", "'-c'.*0 is not in the range"),
    Row("ping -c x 10.77.0.1", "'-c'.*'x'"),
    Row("ping -i soon 10.77.0.1", "soon"),
    Row("ping -W -1 10.77.0.1", "-1"),
    Row("ping -s 65528 10.77.0.1", "65528"),
    Row("ping -t 256 10.77.0.1", "256"),
    Row("ping -4 -6 10.77.0.1", "-4 and -6 exclude each other"),
    Row("ping -6 10.77.0.1", r"10\.77\.0\.1"),
    Row("ping -c 1 -I nope0 10.77.0.1", "nope0"),
    Row("ping --nosuch 10.77.0.1", "No such option.*--nosuch"),
    Row("ping 224.0.0.1", "stands for many hosts"),
    Row("ping 0.0.0.0", "no host's address"),
    Row("ping -b -i 0.5 224.0.0.1", "at least 1 s"),
    Row("ping -p xyz 10.77.0.1", "'-p'.*hexadecimal"),
    Row("ping -Q 256 10.77.0.1", "tos 256"),
    Row("ping -M sometimes 10.77.0.1", "'sometimes'"),
    Row("ping -w never 10.77.0.1", "never"),
    Row("ping --tcp 0-9 10.77.0.1", "one port is asked, these are 10"),
    Row("ping --tcp 70000 10.77.0.1", "70000"),
    Row("ping --udp nosuch 10.77.0.1", "nosuch"),
    Row("ping --tcp 80 --arp 10.77.0.1", "exclude each other"),
    Row("ping --arp 127.0.0.1", "not a neighbour", r"PING 127\.0\.0\.1.*\n"),
    Row("ping --pmtu 127.0.0.0/30", "it stands for 4 addresses"),
    Row("ping -f {nowhere}", "No such file or directory"),
    Row("ping -f {directory}", "directory"),
    Row("ping -f {cut}", "no text in UTF-8|bad target"),
    Row("ping -g 10.77.0.9 10.77.0.3", r"10\.77\.0\.9-10\.77\.0\.3"),
    Row("ping -g", "no targets given"),
    Row("ping -g 0.0.0.0/0", "too many targets"),
    Row("ping -g 11.0.0.0/15", "131072 addresses outside private ranges"),
    Row("ping -g -s 4 10.77.0.1", "size 4"),
    Row("ping -g --rate 0 10.77.0.1", "rate 0"),
    Row("ping -g -c 70000 10.77.0.1", "count 70000"),
    Row("ping -g --tcp 80 10.77.0.1", "--tcp is not for sweeps"),
    Row("ping -a -b 10.77.0.1", "-b is not for sweeps"),
    Row("ping --plot 10.77.0.1", "--plot needs a terminal"),
    Row("ping --live --json 10.77.0.1", "--live needs a terminal"),
    Row("ping -r 3 10.77.0.1", "-r is for sweeps"),
    Row("ping -x 0 -g 10.77.0.1", "'-x'"),
    # ---- trace
    Row("trace", "Missing argument 'TARGET'"),
    Row("trace 10.77.0.300", r"10\.77\.0\.300"),
    Row("trace nowhere.invalid", r"nowhere\.invalid"),
    Row("trace 127.0.0.0/24", "it stands for 256 addresses"),
    Row("trace 224.0.0.1", "many hosts"),
    Row("trace 0.0.0.0", "no host's address"),
    Row("trace 198.51.100.1", r"no route to 198\.51\.100\.1"),
    Row("trace fe80::1%nope0", "nope0"),
    Row("trace --interface nope0 127.0.0.1", "nope0"),
    Row("trace -6 127.0.0.1", "IPv6 is wanted"),
    Row("trace -4 -6 127.0.0.1", "-4 and -6 exclude each other"),
    Row("trace --json --report 127.0.0.1", "exclude each other"),
    Row("trace -p 0 127.0.0.1", "'-p'"),
    Row("trace -I -p 80 127.0.0.1", "icmp has no ports"),
    Row("trace --flows 0 127.0.0.1", "'--flows'"),
    Row("trace --flows many 127.0.0.1", "'many'"),
    Row("trace -f 9 -m 3 127.0.0.1", "hops 9 to 3"),
    Row("trace -m 256 127.0.0.1", "'-m'"),
    Row("trace -q 0 127.0.0.1", "'-q'"),
    Row("trace -w soon 127.0.0.1", "soon"),
    Row("trace -w 0 127.0.0.1", "timeout of 0 ns"),
    Row("trace -i -1 127.0.0.1", "-1"),
    Row("trace --rate 0 127.0.0.1", "'--rate'"),
    Row("trace -s 33 127.0.0.1", "'-s'"),
    Row("trace -s 40 ::1", "at least 54 octets, not 40"),
    Row("trace -s 100 --mtu 127.0.0.1", "size: is found out with mtu"),
    Row("trace -T --mtu 127.0.0.1", "that of tcp probes is fixed"),
    Row("trace --live 127.0.0.1", "--live needs a terminal"),
    Row("trace -q 1 --dot {directory} 127.0.0.1", "is a directory"),
    Row("trace -q 1 --svg {nowhere} 127.0.0.1", "No such file or directory"),
    Row("trace --nosuch 127.0.0.1", "No such option.*--nosuch"),
    # ---- scan
    Row("scan", "no targets"),
    Row("scan -iL {nowhere}", "No such file or directory"),
    Row("scan --exclude-file {good} 10.77.0.1", "is no text"),
    Row("scan --top 0 10.77.0.1", "the top 0 tcp ports"),
    Row("scan --top 5 -p 80 10.77.0.1", "instead of --ports"),
    Row("scan 10.77.0.256", r"10\.77\.0\.256"),
    Row("scan fd77::1/129", "fd77::1/129"),
    Row(f"scan {PORTS} 0-70000", "70000"),
    Row(f"scan {PORTS} 9-3", "9-3"),
    Row(f"scan {PORTS} eighty", "eighty"),
    Row(f"scan {PORTS} ,", "port"),
    Row("scan -p", "'-p' requires an argument"),
    Row("scan -sS -I nope0 10.77.0.1", "nope0"),
    Row("scan --rate 0 10.77.0.1", "'--rate'"),
    Row("scan --host-rate -1 10.77.0.1", "'--host-rate'"),
    Row("scan --timeout soon 10.77.0.1", "soon"),
    Row("scan --exclude 10.77.0.0/24 10.77.0.1", "no targets are left"),
    Row("scan --exclude x.y.z.1/9 10.77.0.1", r"x\.y\.z"),
    Row("scan --type idle 10.77.0.1", "--type: kind 'idle': there are auto, syn"),
    Row("scan 8.0.0.0/8", "16777216 addresses, the limit is"),
    Row("scan 8.0.0.0/15", "131072 addresses outside private ranges: add --yes"),
    Row("scan -sT --dry-run {new} 127.0.0.1", "--dry-run is for SYN scans"),
    Row("scan -sS --dry-run {directory} 127.0.0.1", "is a directory"),
    Row("scan -sS --dry-run {nowhere} 127.0.0.1", "No such file or directory"),
    Row("scan -sO -p 256 10.77.0.1", r"IP protocol 256: there are 0\.\.255"),
    Row("scan -sY --seed 1 --shard 1/2 10.77.0.1", "SCTP scans have no shards"),
    Row("scan -sS --seed 1 --shard 3/2 10.77.0.1", "shard 3/2: from 1/n to n/n"),
    Row("scan --top 5 --services /dev/null 10.77.0.1", "/dev/null has a ranking of 0"),
    Row("scan -sS --resume /dev/null 127.0.0.1", "/dev/null: is no state of a scan"),
    Row("scan -sSU 10.77.0.1", "one kind of scan at a time: -sS, then -sU"),
    Row("scan -sZ 10.77.0.1", "there is no scan -sZ"),
    Row("scan -sS --type udp 10.77.0.1", "--type udp and -s"),
    Row("scan -sS -p U:53 10.77.0.1", "no tcp ports given: 'U:53'"),
    Row("scan -sn 192.0.2.1", "no route to 192.0.2.1"),
    Row("scan -sn -p 80 10.77.0.1", "-sn looks at no ports"),
    Row("scan -sn --csv {new} 10.77.0.1", "-sn has --json, -oX and -oG"),
    Row("scan --nosuch", "No such option.*--nosuch"),
    # ---- capture
    Row("capture -i nope0", "nope0"),
    Row("capture -i lo port eighty eight", "port eighty eight"),
    Row("capture -i lo 'tcp[99999999999]'", "tcp"),
    Row("capture -i lo -c 0", "'-c'"),
    Row("capture -i lo --duration soon", "soon"),
    Row("capture -i lo -t local", "'local' is not one of"),
    Row("capture -i lo --tee", "--tee needs -w FILE"),
    Row("capture -i lo -w {directory}", "is a directory"),
    Row("capture -i lo -w {nowhere}", "No such file or directory"),
    Row("capture -i lo -w {link}", "is a symbolic link, which is not followed as root"),
    Row("capture -i", "'-i' requires an argument"),
    Row("capture --nosuch", "No such option.*--nosuch"),
    # ---- read
    Row("read", "Missing argument 'FILE'"),
    Row("read {missing}", "No such file or directory"),
    Row("read {directory}", "is a directory"),
    Row("read {text}", r"not a capture file: first octets .*\(dear rea\)"),
    Row("read {empty}", "not a capture file: it is empty"),
    Row(
        "read {cut}",
        r"the file ends inside it, wanted 70 octets, got 60 \(offset 54, after 1 packets\)",
        "%s",
    ),
    Row("read {cut} -v --json", r"after 1 packets\)", ".*\n.*\n"),
    Row("read {cutng}", r"after 1 packets\)", "%s"),
    Row("read {good} port eighty eight", "port eighty eight"),
    Row("read {empty_pcap} nonsense nonsense", "nonsense"),
    Row("read -n 3 {good}", "has no packet number 3"),
    Row("read -n 0 {good}", "'-n'"),
    Row("read -c many {good}", "'many'"),
    Row("read {good} -w {directory}", "is a directory"),
    Row("read {good} -w {nowhere}", "No such file or directory"),
    Row("read {good} -w {good}", "is the file being read"),
    Row("read {mixed} -w {new}.pcap", "a pcap file has one link type, here 1, and the frame has 101"),
    Row("read --nosuch {good}", "No such option.*--nosuch"),
    # ---- protocols, shell
    Row("protocols tpc", "no protocol 'tpc'; did you mean 'tcp'"),
    Row("protocols --write {text}", "is a file"),
    Row("protocols tcp --write {new}", "--write goes alone"),
    Row("protocols --nosuch", "No such option.*--nosuch"),
    Row("shell now", "unexpected extra argument"),
    Row("shell --nosuch", "No such option.*--nosuch"),
    # ---- pcap
    Row("pcap info", r"Missing argument 'FILES\.\.\.'"),
    Row("pcap info {text}", "not a capture file"),
    Row("pcap inf {good}", "no command 'inf' \\(did you mean 'info'"),
    Row("pcap slice {good}", "'-w'"),
    Row("pcap slice {good} -w {good}", "is the file being read"),
    Row("pcap slice {good} -n 0 -w {nowhere}", "the first packet is 1"),
    Row("pcap slice {good} -n 5-2 -w {nowhere}", "ranges go upwards"),
    Row("pcap slice {good} --from soon -w {nowhere}", "'soon' is no time"),
    Row("pcap slice {good} tcp porty 80 -w {nowhere}", "porty"),
    Row("pcap edit {good} --map 10.0.0.0/8 -w {nowhere}", "prefix map"),
    Row("pcap edit {good} -w {nowhere}", "nothing is to be changed"),
    Row("pcap split {good} -w {nowhere}", "say how to split"),
    Row("pcap split {good} --size 5x -w {nowhere}", "'5x' is no size"),
    Row("pcap stats {good} --every never", "never"),
    Row("pcap merge {good} {text} -w {nowhere}", "not a capture file"),
    Row("pcap merge {good} -w {good}", "is the file being read"),
    Row("pcap diff {good}", r"Missing argument 'RIGHT'"),
    Row("pcap diff {good} {text}", "not a capture file"),
    Row("pcap convert --text {good} --linktype 70000 -w {nowhere}", "70000"),
    Row("pcap export {good} -e ip.nothing", "nothing"),
    Row("pcap repair {text} -w {nowhere}", "nothing here looks like packets"),
    Row("pcap anonymise {good} --keep 10.0.0.0/33 -w {nowhere}", "10.0.0.0/33"),
    Row("pcap anonymise {good} --key-file {nowhere} -w {nowhere}", "does not exist"),
    # ---- show
    Row("show", ""),
    Row("show {missing}.pcapng", "No such file or directory"),
    Row("show {text}", "not a capture file"),
    Row("show {directory}", "directory"),
    Row("show {cut} -n 2", r"after 1 packets\)"),
    Row("show {good} -n 3", "3"),
    Row("show {good} -n 0", "'-n'"),
    Row("show 'ip(dst='", "ip"),
    Row("show {good} --names wireshark", "--names goes with --json"),
    Row("show {good} --with tshark", "'tshark' is not"),
    Row("show --hex '0000  zz'", "line 1: 'zz' are no octets"),
    Row("show 'ipx()'", "ipx"),
    Row("show 'ip(dts=10.77.0.1)'", "dts"),
    Row("show 'ip(dst=10.77.0.300)'", r"10\.77\.0\.300"),
    Row("show 'tcp(dport=65536)'", "65536"),
    Row("show --hex 'not hexadecimal'", "hex"),
    Row("show --hex 45 --first arp", "'arp' is not one of"),
    Row("show --nosuch", "No such option.*--nosuch"),
    # ---- send
    Row("send", "Missing argument 'EXPRESSION'"),
    Row("send 'ip(dst='", "ip"),
    Row("send 'ip(dst=10.77.0.1'", "ip"),
    Row("send 'ipx()'", "ipx"),
    Row("send 'ip(dst=10.77.0.1)/tcp(flags=Q)'", "Q"),
    Row("send 'ip(dst=127.0.0.1)/icmp()' --wait soon", "soon"),
    Row("send 'ip(dst=127.0.0.1)/icmp()' -c 0", "'-c'"),
    Row("send 'ip(dst=127.0.0.1)/icmp()' -I nope0", "nope0"),
    Row("send 'ip(dst=198.51.100.1)/icmp()'", r"198\.51\.100\.1"),
    Row("send 'eth()/arp()'", "interface"),
    Row("send 'ip(dst=127.0.0.1)/icmp()' --dry-run {directory}", "[Ii]s a directory"),
    Row("send 'ip(dst=127.0.0.1)/icmp()' --dry-run {nowhere}", "No such file or directory"),
    Row("send --nosuch", "No such option.*--nosuch"),
    # ---- replay
    Row("replay -i lo", "Missing argument 'FILE'"),
    Row("replay {good}", "Missing option '-i' / '--interface'"),
    Row("replay {missing} -i lo", "No such file or directory"),
    Row("replay {directory} -i lo", "is a directory"),
    Row("replay {text} -i lo", "not a capture file"),
    Row("replay {empty} -i lo", "it is empty"),
    Row(
        "replay {cut} -i lo",
        r"after 1 packets\)",
        "1 packet, 14 octets sent on lo .*\nby .*\n.*\n",
    ),
    Row("replay {good} -i nope0", "nope0"),
    Row("replay {good} -i lo -x 0", "'-x'"),
    Row("replay {good} -i lo -x fast", "'fast'"),
    Row("replay {good} -i lo --pps -1", "'--pps'"),
    Row("replay {good} -i lo -x 2 -t", "exclude each other"),
    Row("replay {good} -i lo -l 0", "'-l'"),
    Row("replay {good} -i lo --dst-mac 00:00:5e:00:53", "00:00:5e:00:53"),
    Row("replay {good} -i lo --dry-run {directory}", "is a directory"),
    Row("replay {good} -i lo --dry-run {nowhere}", "No such file or directory"),
    Row("replay {good} -i lo --dry-run {good}", "is the file being read"),
    Row("replay --nosuch", "No such option.*--nosuch"),
    # ---- lab
    Row("lab run", r"Missing argument 'COMMAND\.\.\.'"),
    Row("lab run --delay soon true", "soon"),
    Row("lab run --loss 200% true", "200%"),
    Row("lab run --seed x true", "'x'"),
    Row("lab run --chain 0 true", "'--chain'"),
    Row("lab run --chain 3 --delay 1ms true", "--chain and options of the link exclude each other"),
    Row("lab run --serve gopher true", "gopher"),
    Row("lab run --on c true", "'c' is not one of"),
    Row("lab run --nosuch true", "No such option.*--nosuch"),
    Row("lab shell --delay soon", "soon"),
    Row("lab frobnicate", "frobnicate"),
    Row("lab --nosuch", "No such option.*--nosuch"),
    # ---- demo
    Row("demo -w {directory}", "is a directory"),
    Row("demo -w {nowhere}", "No such file or directory"),
    Row("demo -w {new} --svg {nowhere}", "No such file or directory"),
    Row("demo more", "unexpected extra argument"),
    Row("demo --nosuch", "No such option.*--nosuch"),
    # ---- transport
    Row("transport frobnicate", "frobnicate"),
    Row("transport new", "Missing argument 'NAME'"),
    Row("transport new 9x", "'9x' is no name"),
    Row("transport check", "Missing argument 'MODULE:PROTOCOL'"),
    Row("transport check {missing}.py:X", "there is no such file"),
    Row("transport check os", "expected MODULE:PROTOCOL"),
    Row("transport check os:path", "there is no class path in os"),
    Row("transport check no_such_module:X", "No module named 'no_such_module'"),
    Row("transport check os:X --drops -1", "'--drops'"),
    Row("transport check --nosuch", "No such option.*--nosuch"),
    # ---- doctor
    Row("doctor more", "unexpected extra argument"),
    Row("doctor --nosuch", "No such option.*--nosuch"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Good and bad files by what is the matter with them."""
    at = tmp_path_factory.mktemp("files")
    names = ("good", "cut", "cutng", "text", "empty", "empty_pcap", "mixed", "link", "missing", "new")
    paths = {name: at / name for name in names}
    for name in ("good", "cutng"):
        with create_pcap(paths[name]) as writer:
            for i in range(2):
                writer.write(Frame(bytes(14), 10**9 + i))
    paths["cutng"].write_bytes(paths["cutng"].read_bytes()[:-1])
    # pcap: a header of 24 octets, and records of 16 and their data
    with create_pcap(at / "cut.pcap") as writer:
        writer.write(Frame(bytes(14), 10**9))
        writer.write(Frame(bytes(54), 10**9))
    octets = (at / "cut.pcap").read_bytes()
    assert len(octets) == 24 + 16 + 14 + 16 + 54
    paths["cut"].write_bytes(octets[:-10])
    paths["text"].write_text("dear reader,\nthis is a letter and not a capture file\n")
    paths["empty"].write_bytes(b"")
    with create_pcap(paths["empty_pcap"]):
        pass
    with create_pcap(paths["mixed"]) as writer:
        writer.write(Frame(bytes(14), 1))
        writer.write(Frame(b"\x45" + bytes(19), 2, linktype=101))
    paths["link"].symlink_to(at / "elsewhere")
    return {name: str(path) for name, path in paths.items()} | {
        "directory": str(at),
        "nowhere": str(at / "no" / "such" / "directory"),
    }


def words_of(line: str, files: dict[str, str]) -> list[str]:
    import shlex

    return [word.format(**files) if re.search(r"\{\w+\}", word) else word for word in shlex.split(line)]


def check_line(command: str, error: str, says: str) -> None:
    """One line, from this command, that says what it is to say; nothing of how it came about.

    Below a bad expression's line there is the expression, with a caret under the place.
    """
    assert re.fullmatch(rf"rawkit {command}( \w+)?: [^\n]+\n(  [^\n]+\n  +\^\n)?", error), error
    assert re.search(says, error), error
    assert "unexpected" not in error.replace("unexpected extra argument", ""), error
    assert "Errno" not in error
    assert "Traceback" not in error


@pytest.mark.parametrize("row", ROWS, ids=[row.line for row in ROWS])
def test_bad_input_is_one_line_and_status_2(
    row: Row, files: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "link" in row.says and os.geteuid() != 0:
        pytest.skip("symbolic links are followed for ordinary users")
    before = Path(files["good"]).read_bytes()
    status = main(words_of(row.line, files), standalone_mode=False)
    output, error = capsys.readouterr()
    assert status == 2
    check_line(row.line.split()[0], error, row.says)
    assert re.fullmatch(row.output.replace("%s", r"\d\d:\d\d:[^\n]*\n"), output)
    assert Path(files["good"]).read_bytes() == before


def test_every_command_is_in_the_table() -> None:
    assert {row.line.split()[0] for row in ROWS} == set(COMMANDS)


# ---- without permission ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("ping -c 1 127.0.0.1", "CAP_NET_RAW"),
        ("trace -T 127.0.0.1", "CAP_NET_RAW"),
        ("scan -sS -p 80 127.0.0.1", "CAP_NET_RAW"),
        ("scan -sY -p 80 127.0.0.1", "CAP_NET_RAW"),
        ("capture -i lo -c 1", "CAP_NET_RAW"),
        ("send 'ip(dst=127.0.0.1)/icmp()'", "CAP_NET_RAW"),
        ("replay {good} -i lo", "CAP_NET_RAW"),
    ],
)
def test_without_permission_the_line_names_the_capability_and_the_status_is_77(
    line: str, says: str, ordinary: list[str]
) -> None:
    good = Path(__file__).parents[2] / "pcaps" / "dns.pcapng"  # tmp_path is this user's alone
    argv = [*ordinary, "-m", "rawkit", *words_of(line, {"good": str(good)})]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (77, "")
    check_line(line.split()[0], done.stderr, says)


def test_a_file_that_may_not_be_read_is_bad_input(tmp_path: Path, ordinary: list[str]) -> None:
    path = tmp_path / "secret.pcap"
    path.touch(mode=0)
    argv = [*ordinary, "-m", "rawkit", "read", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"rawkit read: {path}: Permission denied\n"
