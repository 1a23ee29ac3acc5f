"""The direction of the arrows between rooms (docs/design/architecture.md), and what an import loads."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import rawkit

PACKAGE = Path(rawkit.__file__).parent

# Room to the rooms it may import. A module directly under rawkit/ is a room of its own.
COMPILED = {"_native": "engine", "_fields": "wire"}  # compiled modules, each with the room that imports it
BASE = {"errors", "addr", "clock", "units"}
ROOMS = {
    "errors": set(),
    "units": {"errors"},
    "addr": {"errors"},
    "clock": set(),
    "wire": {"errors", "addr"},
    "transport": {"errors", "addr", "wire"},
    "sim": {"errors", "addr", "units", "wire", "transport"},
    "report": {"errors", "addr", "wire", "transport", "sim", "pcap"},
    "net": {"errors", "addr"},
    "engine": {"errors", "wire", "net"},
    "pcap": {"errors", "wire", "engine"},
    "privileges": {"errors", "engine"},
    "lab": {"errors", "addr", "units", "transport", "sim", "engine", "net"},
    "bulk": {"errors", "wire", "engine", "pcap"},
    "link": {"errors", "addr", "units", "wire", "transport", "engine", "net"},
    "interop": {"errors", "addr", "wire", "engine", "net", "pcap"},
    "tools": BASE | {"wire", "transport", "engine", "pcap", "bulk", "net", "link", "lab", "interop"},
    "testing": BASE | {"wire", "engine", "pcap", "lab", "tools"},
    "cli": BASE
    | {"wire", "transport", "sim", "engine", "pcap", "bulk", "net", "link", "lab", "tools", "interop"}
    | {"privileges", "report"},
    "late": set(),
}
for allowed in ROOMS.values():
    allowed.add("late")
# Methods that people look for on an object, and that only hand it on to a room above. The import stands in a
# function, so that importing the object's own room loads no other.
LATE = {
    ("rawkit.wire.packet", "rawkit.interop.scapy"),
    ("rawkit.sim.transfer", "rawkit.report.run"),
    ("rawkit.sim.transfer", "rawkit.report.files"),
}
# Modules that are for nothing else than the library.
ABOUT = {
    "rawkit.tools.payloadreplay": ("asyncio",),
    "rawkit.link.aio": ("asyncio",),
    "rawkit.sim.loop": ("asyncio",),
    "rawkit.transport.streams": ("asyncio",),
}
HEAVY = {"matplotlib", "plotly", "scapy", "dpkt", "pyroute2", "rich", "numpy", "asyncio"}


def room_of(module: str) -> str:
    """ "rawkit.wire.tcp" is of the room "wire"; "rawkit" itself is of no room."""
    return module.split(".")[1] if "." in module else ""


def module_of(path: Path) -> str:
    parts = ["rawkit", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> list[tuple[int, str]]:
    """Every module that a file imports, at its top or inside a function, with the line."""
    found = []
    module = module_of(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]).rstrip(".")
            if base == "rawkit":  # from rawkit import wire
                found += [(node.lineno, f"rawkit.{alias.name}") for alias in node.names]
            else:
                found.append((node.lineno, base))
    return found


def wrong_arrows(path: Path) -> list[str]:
    """What this file imports of rawkit although its room may not."""
    module = module_of(path)
    room = room_of(module)
    if room in ("", "__main__"):  # the public names reach every room; `python -m rawkit` is the command line
        return []
    problems = []
    lines = path.read_text(encoding="utf-8").splitlines()
    for line, name in imports_of(path):
        if name.split(".")[0] != "rawkit" or ((module, name) in LATE and lines[line - 1].startswith("    ")):
            continue
        target = room_of(name)
        if target in COMPILED:
            allowed = room == COMPILED[target]
        elif target == "" or target not in ROOMS:
            allowed = room == "cli"  # a public name from the top, which may lead anywhere
        else:
            allowed = target == room or target in ROOMS[room]
        if not allowed:
            problems.append(f"{path}:{line}: {room} imports {name}")
    return problems


SOURCES = sorted(PACKAGE.rglob("*.py"))


def test_every_room_is_in_the_table() -> None:
    rooms = {room_of(module_of(path)) for path in SOURCES} - {"", "__main__"}
    assert rooms <= ROOMS.keys()


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_arrows_point_one_way(path: Path) -> None:
    assert wrong_arrows(path) == []


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("wire/x.py", "from rawkit.engine import batch"),
        ("wire/x.py", "def f():\n    import rawkit.pcap.reader"),
        ("wire/x.py", "from rawkit import engine"),
        ("wire/x.py", "from ..engine.batch import FrameBatch"),
        ("wire/packet.py", "from rawkit.interop.scapy import to_scapy"),
        ("wire/x.py", "def f():\n    from rawkit.interop.scapy import to_scapy"),
        ("errors.py", "from rawkit import addr"),
        ("pcap/x.py", "from rawkit import _native"),
        ("wire/x.py", "from rawkit import _native"),
        ("transport/x.py", "from rawkit import _fields"),
        ("net/x.py", "import rawkit"),
        ("tools/x.py", "from rawkit.cli.output import emit"),
    ],
)
def test_a_wrong_arrow_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, source: str
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    path = tmp_path / where
    path.parent.mkdir(exist_ok=True)
    path.write_text(source)
    assert len(wrong_arrows(path)) == 1


def fresh(code: str) -> str:
    """What `code` prints in a new interpreter that finds rawkit where this one does."""
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_heavy_library_is_imported_on_the_way() -> None:
    """One interpreter imports all modules, those that are about such a library last."""
    modules = [module for module in map(module_of, SOURCES) if module != "rawkit.__main__"]
    code = f"""
import importlib, sys
for module in {sorted(modules, key=ABOUT.__contains__)}:
    importlib.import_module(module)
    print(module, *({HEAVY} & sys.modules.keys()))
"""
    loaded = {module: set(heavy) for module, *heavy in map(str.split, fresh(code).splitlines())}
    assert loaded.keys() == set(modules)
    allowed: set[str] = set()
    for module, heavy in loaded.items():
        allowed |= {*ABOUT.get(module, ())}
        assert heavy <= allowed, module


def test_the_transport_kit_and_the_simulator_reach_no_socket_clock_or_chance() -> None:
    banned = {
        "socket",
        "time",
        "datetime",
        "random",
        "secrets",
        "os",
        "select",
        "threading",
        "asyncio",
        "cffi",
    }
    for path in (*(PACKAGE / "transport").rglob("*.py"), *(PACKAGE / "sim").rglob("*.py")):
        about = ABOUT.get(module_of(path), ())
        assert [name for _, name in imports_of(path) if name.split(".")[0] in banned - {*about}] == [], path


def test_importing_rawkit_loads_no_room_and_not_the_engine() -> None:
    loaded = fresh("import sys, rawkit; print(*sys.modules)").split()
    assert [name for name in loaded if name.startswith("rawkit.")] == ["rawkit.late"]


def test_the_help_imports_no_command() -> None:
    code = (
        "import sys\nfrom rawkit.cli.main import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print('loaded:', *[name for name in sys.modules if name.startswith('rawkit.')])"
    )
    loaded = fresh(code).partition("loaded:")[2].split()
    assert sorted(loaded) == [
        "rawkit.cli",
        "rawkit.cli.errors",
        "rawkit.cli.main",
        "rawkit.cli.output",
        "rawkit.errors",
        "rawkit.late",
    ]


def test_public_names_resolve_and_are_declared_to_type_checkers() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    declared = {
        alias.asname: node.module
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If)
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert declared.keys() == set(rawkit.__all__)
    for name in rawkit.__all__:
        assert getattr(rawkit, name) is getattr(sys.modules[declared[name]], name)
    assert set(rawkit.__all__) <= set(dir(rawkit))


def test_a_name_that_is_not_there_says_so() -> None:
    with pytest.raises(AttributeError, match="module 'rawkit' has no attribute 'pong'"):
        rawkit.pong  # noqa: B018


def test_one_version_everywhere() -> None:
    repository = Path(__file__).parent.parent
    import tomllib

    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == rawkit.__version__
    assert f"version: '{rawkit.__version__}'," in (repository / "meson.build").read_text(encoding="utf-8")


@pytest.mark.skipif("RAWKIT_TEST_INSTALLED" not in os.environ, reason="only `make test` installs the package")
def test_it_is_the_installed_package_that_is_tested() -> None:
    assert PACKAGE.is_relative_to(sys.prefix)
