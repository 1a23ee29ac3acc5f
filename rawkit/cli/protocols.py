"""`rawkit protocols`: which header classes there are, what announces them, their layouts; pages of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rawkit.wire.header import Header
    from rawkit.wire.layout import Layout
    from rawkit.wire.option import Option


MANY = 8
"""Numbers that announce one class, of which no more are named."""


@click.command(
    name="protocols",
    epilog="""\b
Examples:
  rawkit protocols
  rawkit protocols tcp
  rawkit protocols mss
  rawkit protocols --json | jq -r 'select(.type == "protocol") | .name'

Exit status: 0; 2 for a name that there is not.""",
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--json", "as_json", is_flag=True, help="As JSON, one object per protocol.")
@click.option(
    "--write",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIRECTORY",
    help="Write Markdown pages of rawkit's own protocols.",
)
def command(names: tuple[str, ...], as_json: bool, folder: Path | None) -> None:
    """List the protocols that rawkit knows, or show the layout of those named: a diagram, and the fields.

    Names are those of expressions ("ip", "tcp", "icmpecho"), of options too ("mss"); case does not matter.
    """
    from rawkit.cli.output import JsonLines, emit

    if folder is not None:
        if names or as_json:
            raise click.UsageError("--write goes alone")
        written = write_pages(folder)
        emit(f"{written} pages in {folder}")
        return
    chosen = _chosen(names)
    if as_json:
        lines = JsonLines("protocols")
        for cls in chosen:
            lines.write("protocol", **record(cls))
    elif names:
        emit("\n\n".join(_explained(cls) for cls in chosen))
    else:
        width = max(len(cls.__name__) for cls in chosen)
        for cls in chosen:
            announced = ", ".join(announcements(cls))
            emit(f"{cls.__name__:<{width}}  {first_line(cls)}" + (f"  [{announced}]" if announced else ""))


def header_classes() -> list[type[Header]]:
    """Every header class that stands for something on the wire, extensions included, by name."""
    from rawkit.wire.expression import _subclasses
    from rawkit.wire.header import Header
    from rawkit.wire.registry import load_all

    load_all()
    return sorted(
        (cls for cls in set(_subclasses(Header)) if _stands(cls)), key=lambda cls: cls.__name__.lower()
    )


def _stands(cls: type[Header]) -> bool:
    """Whether anything can lead to this class: a number, a variant, a header that it always follows."""
    from rawkit.wire.header import LINKTYPES

    return (
        bool(announcements(cls))
        or cls in LINKTYPES.values()
        or not cls.__module__.startswith("rawkit.wire.")
        or not cls.__subclasses__()
    )


def option_classes() -> list[type[Option]]:
    """Every option with a number that a list may hold, all shapes of it, by name."""
    from rawkit.wire.expression import _subclasses
    from rawkit.wire.option import Option
    from rawkit.wire.registry import load_all

    load_all()
    found = {cls for cls in _subclasses(Option) if cls.kind >= 0}
    return sorted(found, key=lambda option: option.__name__.lower())


def _chosen(names: tuple[str, ...]) -> list[type[Layout]]:
    from difflib import get_close_matches

    from rawkit.wire.expression import ALIASES

    classes = header_classes()
    if not names:
        return [*classes]
    by_name: dict[str, type[Layout]] = {cls.__name__.lower(): cls for cls in (*option_classes(), *classes)}
    for name in names:
        if ALIASES.get(name.lower(), name.lower()) not in by_name:
            close = get_close_matches(name.lower(), sorted({*by_name, *ALIASES}), n=1)
            hint = f"did you mean {close[0]!r}?" if close else "'rawkit protocols' lists them"
            raise click.UsageError(f"no protocol {name!r}; {hint}")
    return [by_name[ALIASES.get(name.lower(), name.lower())] for name in names]


# ---- what is known of a class ------------------------------------------------------------------------


def document(cls: type[Layout]) -> str:
    """The class's own docstring, without indentation."""
    import inspect

    return inspect.cleandoc(vars(cls).get("__doc__") or "")


def first_line(cls: type[Layout]) -> str:
    """The first paragraph of the docstring, or of the module's, as one line."""
    import sys

    text = document(cls) or sys.modules[cls.__module__].__doc__ or ""
    return " ".join(text.strip().split("\n\n")[0].split())


def announcements(cls: type[Layout], own: bool = False) -> list[str]:
    """What leads to this class: "IPv4.protocol 6", "linktype 1"; with `own` only by rawkit's own classes."""
    from rawkit.wire.expression import _subclasses
    from rawkit.wire.header import LINKTYPES, Header
    from rawkit.wire.option import Option

    if issubclass(cls, Option) and cls.kind >= 0:
        family = next(base for base in cls.__mro__ if "members" in vars(base))
        return [f"kind {cls.kind} of {family.__name__}"]
    found: dict[str, list[int]] = {}
    tables: list[int] = []
    for lower in _subclasses(Header):
        if own and not lower.__module__.startswith("rawkit.wire."):
            continue
        if vars(lower).get("discriminator"):
            place = f"{lower.__name__}.{lower.discriminator}"
            found.setdefault(place, []).extend(n for n, c in lower.variants.items() if c is cls)
        # Classes that share their numbers have one table: it is told of its first owner.
        if id(lower.uppers) in tables:
            continue
        tables.append(id(lower.uppers))
        place = f"{lower.__name__}.{'/'.join(lower.selected_by)}"
        found.setdefault(place, []).extend(n for n, c in lower.uppers.items() if c is cls)
        if lower.followed_by is cls:
            found.setdefault(f"after {lower.__name__}", [])
    texts = [f"linktype {n}" for n, c in sorted(LINKTYPES.items()) if c is cls]
    for place, numbers in sorted(found.items()):
        if not numbers:
            continue
        shown = [f"{n:#06x}" if "ethertype" in place else str(n) for n in sorted(set(numbers))]
        if len(shown) > MANY:
            shown = [*shown[:3], f"... {shown[-1]} ({len(shown)} numbers)"]
        texts.append(f"{place} {', '.join(shown)}")
    return texts


def fields_of(cls: type[Layout]) -> list[dict[str, Any]]:
    """The fields as plain values: name, first bit and width (0: any), default, names, what computes it.

    A field that "moves" is there, and at that place, when those before it are there and empty.
    """
    from rawkit.wire.field import AUTO, FlagBits
    from rawkit.wire.show import plain

    rows = []
    for row in cls.fields:
        default = row.spec.default
        shown = None if default is ... or default is None else plain(default)
        if default is not ... and default is not None and default is not AUTO:
            shown = plain(row.kind.read(default))
        rows.append(
            {
                "name": row.name,
                "offset": row.offset,
                "width": row.width,
                "moves": row.moved,
                "default": shown,
                "required": default is ...,
                "computed": row.spec.rule is not None,
                "names": {str(number): name for number, name in row.spec.names.items()},
                "flags": list(row.kind.names) if isinstance(row.kind, FlagBits) else [],
            }
        )
    return rows


def options_of(cls: type[Layout]) -> list[type[Option]]:
    """The option classes that the header's list may hold, by kind."""
    from rawkit.wire.option import OptionList

    for row in cls.fields:
        if isinstance(row.kind, OptionList):
            return [option for _, option in sorted(row.kind.family.members.items())]
    return []


def record(cls: type[Layout]) -> dict[str, Any]:
    """A class as plain values, for JSON."""
    return {
        "name": cls.__name__,
        "module": cls.__module__,
        "text": first_line(cls),
        "announced_by": announcements(cls),
        "min_len": cls.min_len,
        "fields": fields_of(cls),
        "options": [
            {"name": option.__name__, "kind": option.kind, "text": first_line(option)}
            for option in options_of(cls)
        ],
    }


# ---- text ----------------------------------------------------------------------------------------------


def _explained(cls: type[Layout]) -> str:
    from rawkit.wire.option import Option
    from rawkit.wire.show import diagram

    announced = announcements(cls)
    parts = [f"{cls.__name__}: {document(cls) or first_line(cls)}"]
    if announced:
        parts.append(f"announced by {'; '.join(announced)}")
    rows = [(field["name"], _place(field), _default(field), _meaning(field, 8)) for field in fields_of(cls)]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    table = ["  ".join([*map(str.ljust, row[:3], widths), row[3]]).rstrip() for row in rows]
    if rows:
        behind = ["Behind kind and length:"] if issubclass(cls, Option) else []
        parts += [*behind, diagram(cls), "\n".join(table)]
    options = options_of(cls)
    if options:
        width = max(len(option.__name__) for option in options)
        shown = [f"{option.kind:>3}  {option.__name__:<{width}}  {first_line(option)}" for option in options]
        parts.append("options\n" + "\n".join(shown))
    return "\n\n".join(parts)


def _place(field: dict[str, Any]) -> str:
    octet, bit = divmod(field["offset"], 8)
    where = f"{octet}" if not bit else f"{octet}.{bit}"
    if field["moves"]:
        where += " (moves)"
    if not field["width"]:
        return f"octet {where}, any length"
    return f"octet {where}, {field['width']} bit{'s' if field['width'] > 1 else ''}"


def _default(field: dict[str, Any]) -> str:
    if field["required"]:
        return "required"
    if field["default"] == "auto":
        return "computed" if field["computed"] else "auto"
    if field["default"] is None:
        return "absent"
    return "empty" if field["default"] in ("", []) else str(field["default"])


def _meaning(field: dict[str, Any], most: int) -> str:
    if field["flags"]:
        return f"lowest bit first: {' '.join(field['flags'])}"
    names = [f"{number} {name}" for number, name in field["names"].items()]
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


# ---- pages ---------------------------------------------------------------------------------------------

NOTE = "<!-- Written by `make docs` from the classes; changes made here are lost. -->"


def write_pages(folder: Path) -> int:
    """Write one page for each module of rawkit's protocols, and an index; returns how many.

    Pages of protocols that are gone are removed.
    """
    pages = pages_of()
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.md"):
        if old.name not in pages and NOTE in old.read_text(encoding="utf-8"):
            old.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    return len(pages)


def pages_of() -> dict[str, str]:
    """File name to the text of its page, README.md being the index."""
    import sys

    by_module: dict[str, list[type[Header]]] = {}
    for cls in header_classes():
        if cls.__module__.startswith("rawkit.wire."):
            by_module.setdefault(cls.__module__, []).append(cls)
    pages: dict[str, str] = {}
    index = [NOTE, "# Protocols", "", "| header | what it is | announced by |", "|---|---|---|"]
    for module in sorted(by_module):
        name = module.rpartition(".")[2]
        classes = sorted(by_module[module], key=lambda cls: _line_of(cls))
        title = " ".join((sys.modules[module].__doc__ or name).strip().split("\n\n")[0].split())
        parts = [NOTE, f"# {title.rstrip('.')}"]
        for cls in classes:
            parts += _page_part(cls)
            announced = _cell("; ".join(announcements(cls, own=True)))
            link = f"[{cls.__name__}]({name}.md#{cls.__name__.lower()})"
            index.append(f"| {link} | {_cell(first_line(cls))} | {announced} |")
        pages[f"{name}.md"] = "\n\n".join(parts) + "\n"
    pages["README.md"] = "\n".join([index[0], "", *index[1:]]) + "\n"
    return pages


def _line_of(cls: type[Layout]) -> int:
    """Where the class stands in its file."""
    import inspect

    return inspect.getsourcelines(cls)[1]


def _page_part(cls: type[Header]) -> list[str]:
    announced = announcements(cls, own=True)
    parts = [f"## {cls.__name__}", document(cls) or first_line(cls)]
    if announced:
        parts.append(f"Announced by {'; '.join(announced)}.")
    parts.append(f"```\n{cls.diagram()}\n```")
    rows = ["| field | place | default | values |", "|---|---|---|---|"]
    for field in fields_of(cls):
        cells = [f"`{field['name']}`", _place(field), _default(field), _meaning(field, 64)]
        rows.append(f"| {' | '.join(map(_cell, cells))} |")
    parts.append("\n".join(rows))
    options = [option for option in options_of(cls) if option.__module__.startswith("rawkit.wire.")]
    if options:
        rows = ["| option | kind | fields | what it is |", "|---|---|---|---|"]
        for option in options:
            names = ", ".join(f"`{row.name}`" for row in option.fields)
            rows.append(f"| {option.__name__} | {option.kind} | {names} | {_cell(first_line(option))} |")
        parts.append("\n".join(rows))
    return parts


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    command()
