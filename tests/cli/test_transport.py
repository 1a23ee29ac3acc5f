"""`rawkit transport`: exit statuses, what it prints, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rawkit.cli.main import main

BROKEN = "rawkit.sim.gallery:NoTimer"
SOUND = "rawkit.transport.protocols.stop_and_wait:StopAndWait"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["transport", *arguments])


def test_a_sound_protocol_exits_0_and_a_broken_one_1() -> None:
    sound = run("check", SOUND, "-o", "numbers=256", "--random", "20")
    assert (sound.exit_code, sound.output.splitlines()[0]) == (0, "StopAndWait: nothing wrong")
    broken = run("check", BROKEN, "--random", "0")
    assert broken.exit_code == 1
    assert "schedule:  drop 0" in broken.output


def test_json_has_the_verdict_the_schedule_and_the_script() -> None:
    done = run("check", BROKEN, "--json", "--random", "0")
    header, result = map(json.loads, done.output.splitlines())
    assert header == {"type": "header", "schema": "rawkit.transport.check/1"}
    assert (done.exit_code, result["ok"], result["schedule"]) == (1, False, "drop 0")
    assert result["violation"] == "the client was never told that all is over"
    assert "Schedule.parse('drop 0')" in result["script"]


def test_faults_that_a_protocol_does_not_claim_to_survive_can_be_left_out() -> None:
    faults = ("--drops", "0", "--random", "300", "--faults")
    assert run("check", SOUND, *faults, "drop,delay").exit_code == 1
    assert run("check", SOUND, *faults, "drop,duplicate,corrupt").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check", "courier"), "expected MODULE:PROTOCOL"),
        (("check", "nowhere.py:X"), "nowhere.py: there is no such file"),
        (("check", "rawkit.nowhere:X"), "No module named 'rawkit.nowhere'"),
        (("check", "rawkit.sim:Transfer"), "Transfer is no class of a protocol"),
        (("sim", SOUND, "--preset", "moon"), "no link is called 'moon'"),
        (("compare", SOUND, "--kernel", "none-such"), "this kernel has no 'none-such'; it has"),
        (("compare", "--kernel", "none"), "nobody to compare"),
        (("compare", f"{SOUND},colour=3"), "unexpected keyword argument 'colour'"),
        (("compare", "selective-repeat,mode='ships'"), "bad options: mode 'ships'"),
        (("report", SOUND, "-o", "x.doc"), "which kind of file?"),
        (("report", SOUND, "-o", "x.svg", "--only", "size"), "there is no plot 'size'"),
        (("report", SOUND, "-o", "x.png", "--only", "ladder"), "a picture of ladder is an .svg of one run"),
        (("report", SOUND, "-o", "x.svg", "--only", "states"), "StopAndWait has no state machine"),
        (("report", SOUND, "--vary", "numbers", "-o", "x.svg"), "expected NAME=VALUE,VALUE"),
        (("report", SOUND, "--kernel", "cubic", "-o", "x.svg"), "--kernel goes with --over"),
        (
            ("report", SOUND, "--over", "raw", "--rate", "1Mbit/s", "-o", "x.svg"),
            "the link of a lab has --delay",
        ),
        (("report", SOUND, BROKEN, "-o", "x.pcapng"), "a .pcapng file holds one run, not 2"),
        (("dissector", "rawkit.sim:Transfer"), "Transfer is no header, no protocol"),
        (("dissector", "rawkit.sim:check"), "there is no class check"),
        (("dissector", "rawkit.wire:UDP", "-O", "bits=3"), "options belong to a protocol class"),
        (("dissector", "rawkit.wire:UDP", "--name", "My UDP"), "begins no names of Wireshark's"),
        (("check", SOUND, "-o", "numbers"), "expected NAME=VALUE"),
        (("check", SOUND, "--faults", "lose"), "no fault is called 'lose'"),
        (("new", "1st"), "'1st' is no name for a protocol"),
        (("new", "class"), "'class' is no name for a protocol"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.output
    assert len(done.output.splitlines()) == 1


def test_new_does_not_write_over_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("new", "my_proto").exit_code == 0
    text = Path("my_proto.py").read_text()
    assert "class MyProto(Endpoint, header=MyProtoHeader):" in text
    Path("my_proto.py").write_text("mine")
    assert run("new", "my_proto").exit_code == 2
    assert Path("my_proto.py").read_text() == "mine"
    assert run("new", "my_proto", "--force").exit_code == 0
    assert Path("my_proto.py").read_text() == text


def test_a_dissector_goes_to_standard_output_or_a_file(tmp_path: Path) -> None:
    place = "rawkit.transport.protocols.go_back_n:GoBackN"
    printed = run(
        "dissector", place, "-O", "bits=3", "-O", "window=7", "--ip-proto", "254", "--udp-port", "4321"
    )
    assert printed.exit_code == 0
    assert "local roles = { numbers = 8, in_octets = false, cumulative = true }" in printed.output
    assert 'DissectorTable.get("udp.port"):add(4321, proto)' in printed.output
    path = tmp_path / "x.lua"
    header = run("dissector", f"{place}Header", "--name", "gbn", "-o", str(path))
    assert (header.exit_code, header.output) == (
        0,
        f"wrote {path}; try: tshark -X lua_script:{path} -r FILE\n",
    )
    script = path.read_text()
    assert "local roles = { numbers = 65536, in_octets = false, cumulative = true }" in script
    assert 'DissectorTable.get("ip.proto"):add(253, proto)' in script


def test_a_simulation_says_what_came_of_it() -> None:
    words = ("sim", SOUND, "--octets", "9000", "--schedule", "drop 3", "--seed", "4")
    done = run(*words, "--ladder")
    assert done.exit_code == 0
    assert "X drop 3" in done.output
    assert "StopAndWait: nothing wrong" in done.output
    lines = [json.loads(line) for line in run(*words, "--json").output.splitlines()]
    assert lines[0]["schema"] == "rawkit.transport.sim/1"
    assert (lines[1]["ok"], lines[1]["octets"], lines[1]["b>a"]["drop 3"]) == (True, 9000, 1)
    assert "seed=4" in lines[1]["script"]
    broken = run("sim", BROKEN, "--octets", "9000", "--schedule", "drop 0")
    assert (broken.exit_code, "NoTimer: the server got 0 of 9000 octets" in broken.output) == (1, True)


def test_reports_of_a_simulation_and_of_its_capture_agree(tmp_path: Path) -> None:
    place = "rawkit.transport.protocols.selective_repeat:SelectiveRepeat"
    simulated, capture, read = (str(tmp_path / name) for name in ("run.csv", "run.pcapng", "read.csv"))
    told = ("--octets", "90000", "--loss", "2%", "--rate", "5Mbit/s", "--delay", "5ms", "--queue", "20")
    done = run("report", place, *told, "-o", simulated, "-o", capture)
    assert (done.exit_code, done.output) == (0, f"wrote {simulated}\nwrote {capture}\n")
    assert run("report", place, "--from", capture, "-o", read).exit_code == 0
    kinds = ("sent", "sent again", "lost", "sack", "acknowledged", "window", "in flight", "rtt")
    rows = [
        [line for line in Path(path).read_text().splitlines() if line.split(",")[1] in kinds]
        for path in (simulated, read)
    ]
    assert rows[0] == rows[1]
    assert {line.split(",")[1] for line in rows[0]} == set(kinds)


def test_the_ladder_is_a_picture_too(tmp_path: Path) -> None:
    path = tmp_path / "ladder.svg"
    assert run("report", SOUND, "--octets", "3000", "-o", str(path), "--only", "ladder").exit_code == 0
    assert "[0] SYN" in path.read_text()


@pytest.mark.net
def test_a_protocol_and_the_kernel_on_the_same_axes(tmp_path: Path) -> None:
    path, place = tmp_path / "both.csv", "rawkit.transport.protocols.selective_repeat:SelectiveRepeat"
    link = ("--over", "raw", "--kernel", "reno", "--delay", "2ms", "--octets", "300000")
    done = run("report", place, *link, "-o", str(path), "-o", str(tmp_path / "both.html"))
    assert done.exit_code == 0, done.output
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    for name in ("SelectiveRepeat", "kernel reno"):
        mine = [row for row in rows if row[0] == name]
        assert {"delivered", "goodput", "metric cwnd", "metric srtt"} <= {row[1] for row in mine}
        assert max(float(row[3]) for row in mine if row[1] == "delivered") == 300_000


@pytest.mark.net
def test_a_protocol_beside_the_kernel_is_compared(tmp_path: Path) -> None:
    page = tmp_path / "both.csv"
    words = ("compare", "selective-repeat,control=cubic", "--kernel", "reno", "--beside", "reno")
    link = ("--octets", "30000", "--rate", "20Mbit/s", "--delay", "2ms", "--schedule", "drop 5")
    done = run(*words, *link, "--json", "--report", str(page))
    assert done.exit_code == 0, done.output
    header, told, *results = map(json.loads, done.stdout.splitlines())
    assert header["schema"] == "rawkit.transport.compare/1"
    assert told["link"] == "LinkSpec(rate='20Mbit/s', delay='2ms', queue=DropTail(packets=100))"
    assert [row["name"] for row in results] == ["selective-repeat control=cubic", "kernel reno"]
    for row in results:
        assert row["complete"]
        assert row["octets"] == 30_000
        assert row["again_packets"] >= 1  # packet 5
        assert row["sent_octets"] == 30_000 + row["again_octets"] + row["header_octets"]
        assert row["goodput_bps"] > 0
        assert 0.5 <= row["jain"] <= 1
    assert {line.split(",")[0] for line in page.read_text().splitlines()[1:]} == {
        "selective-repeat control=cubic", "kernel reno",
    }  # fmt: skip


@pytest.mark.net
def test_a_comparison_is_a_table_for_people() -> None:
    done = run("compare", SOUND, "--kernel", "none", "--beside", "none", "--octets", "5000", "--delay", "1ms")
    assert done.exit_code == 0, done.output
    told, names, row = done.stdout.splitlines()
    assert told.startswith("5000 octets each over LinkSpec(rate='10Mbit/s', delay='1ms'")
    assert names.split() == ["PROTOCOL", "GOODPUT", "EXTRA", "AGAIN", "BACK", "QUEUE", "P95"]
    assert row.split()[0] == "StopAndWait"
    late = run("compare", SOUND, "--kernel", "none", "--beside", "none", "--timeout", "0.05")
    assert late.exit_code == 1
    assert "StopAndWait: not all octets arrived within 0.05 s" in late.stderr


def test_an_option_is_varied(tmp_path: Path) -> None:
    path = tmp_path / "numbers.csv"
    assert run("report", SOUND, "--octets", "9000", "--vary", "numbers=2,4", "-o", str(path)).exit_code == 0
    assert {line.split(",")[0] for line in path.read_text().splitlines()[1:]} == {"numbers 2", "numbers 4"}


def test_a_capture_without_packets_is_told(tmp_path: Path) -> None:
    from rawkit.pcap import create_pcap

    empty = tmp_path / "empty.pcapng"
    with create_pcap(empty, 1):
        pass
    for name, message in (("x.svg", "there is nothing to draw"), ("x.qlog", "there is nothing to write")):
        done = run("report", SOUND, "--from", str(empty), "-o", str(tmp_path / name))
        assert (done.exit_code, message in done.output) == (2, True)
    assert run("report", SOUND, SOUND, "--from", str(empty), "-o", str(tmp_path / "x.html")).exit_code == 0
