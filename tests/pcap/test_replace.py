"""Files that appear when they are complete: what is there after a success, an error, damage, an interrupt."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest

from rawkit.errors import CaptureFileError, EngineError
from rawkit.pcap import copy_pcap, open_pcap
from rawkit.pcap.replace import replacing


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_new_file_is_there_at_the_end_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "out.pcap"
    path.write_bytes(b"old")
    with replacing(str(path)) as beside:
        assert beside.endswith("-out.pcap")
        Path(beside).write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["out.pcap"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_after_an_error_all_is_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "out.pcap"
    path.write_bytes(b"old")

    def fail() -> None:
        with replacing(str(path)) as beside:
            Path(beside).write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["out.pcap"]


def test_a_full_disk_leaves_nothing_and_is_told_of_the_file_that_was_meant(
    make, tmp_path: Path, file_size_limit
) -> None:
    octets = make.pcap_header() + make.record(bytes(1000)) * 1000
    path = tmp_path / "out.pcap"
    with (
        file_size_limit(100_000),
        open_pcap(io.BytesIO(octets)) as reader,
        pytest.raises(EngineError, match=r"out\.pcap") as caught,
        replacing(str(path)) as beside,
    ):
        copy_pcap(reader, beside)
    assert caught.value.subject == str(path)
    assert names(tmp_path) == []


def test_what_came_before_damage_stays(make, tmp_path: Path) -> None:
    path = tmp_path / "out.pcap"
    good = make.pcap_header() + make.record()
    with (
        open_pcap(io.BytesIO(good + b"damage")) as reader,
        pytest.raises(CaptureFileError),
        replacing(str(path)) as beside,
    ):
        copy_pcap(reader, beside)
    assert path.read_bytes() == good
    assert names(tmp_path) == ["out.pcap"]


def test_what_is_no_regular_file_is_written_to_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in ("-", "/dev/null", str(pipe)):
        with replacing(path) as beside:
            assert beside == path
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_link_is_followed_by_ordinary_users_alone(tmp_path: Path) -> None:
    path, link = tmp_path / "out.pcap", tmp_path / "link.pcap"
    path.write_bytes(b"old")
    link.symlink_to(path)
    if os.geteuid() == 0:
        with pytest.raises(OSError, match="not followed as root"), replacing(str(link)):
            pass
        assert path.read_bytes() == b"old"
        return
    with replacing(str(link)) as beside:
        Path(beside).write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert link.is_symlink()
