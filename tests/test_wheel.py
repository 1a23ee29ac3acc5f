"""The wheel: what is in it, and that it works in an environment of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import rawkit

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parent.parent


def run(*argv: str | Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, cwd="/", env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built offline, with the tools of this environment, from a build folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    scripts = sysconfig.get_path("scripts")  # meson and ninja
    run(
        sys.executable, "-m", "pip", "wheel", "--no-index", "--no-deps", "--no-build-isolation",
        f"-Cbuild-dir={folder / 'build'}", "-w", folder, REPOSITORY,
        env=os.environ | {"PATH": os.pathsep.join([scripts, os.environ.get("PATH", "")])},
    )  # fmt: skip
    (found,) = folder.glob("*.whl")
    return found


def test_one_wheel_serves_every_python_from_3_11_on(wheel: Path) -> None:
    assert re.fullmatch(rf"rawkit-{re.escape(rawkit.__version__)}-cp311-abi3-linux_\w+\.whl", wheel.name)


def test_it_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    strays = [
        name
        for name in names
        if not re.fullmatch(
            r"rawkit/([a-z_]+/)*\w+\.py|rawkit/py\.typed|rawkit/(_native|_fields)\.abi3\.so", name
        )
        and not name.startswith(f"rawkit-{rawkit.__version__}.dist-info/")
    ]
    assert strays == []
    modules = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "rawkit").rglob("*.py")}
    assert modules | {"rawkit/py.typed", "rawkit/_native.abi3.so", "rawkit/_fields.abi3.so"} <= set(names)
    assert f"rawkit-{rawkit.__version__}.dist-info/licenses/LICENSE" in names


def test_it_works_in_an_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    # This environment's pip installs into that one; the dependencies are borrowed from here.
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", wheel)
    home = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (home / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    code = (
        "import rawkit._fields; from rawkit.engine.checksum import checksum\n"
        "print(rawkit.__file__); print(checksum(bytes.fromhex('0001f203f4f5f6f7')))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    where, value = run(python, "-c", code, env=environment).split()
    assert Path(where).is_relative_to(tmp_path)
    assert int(value) == 0xFFFF - 0xDDF2  # the sum of RFC 1071 section 3, complemented
    assert run(tmp_path / "venv" / "bin" / "rawkit", "--version") == f"rawkit {rawkit.__version__}\n"
