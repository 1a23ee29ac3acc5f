"""Commands with so many options that their help has headings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click


class GroupedCommand(click.Command):
    """A command whose help lists options under headings."""

    def __init__(self, *args: Any, groups: Mapping[str, Sequence[str]], **options: Any) -> None:
        """`groups`: the names of parameters by heading, in the order of the help; others come after."""
        super().__init__(*args, **options)
        self.groups = groups

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx)
            if row is not None and isinstance(parameter, click.Option):
                title = next((t for t, names in self.groups.items() if parameter.name in names), "Other")
                rows.setdefault(title, []).append(row)
        for title in (*self.groups, "Other"):
            if title in rows:
                with formatter.section(title):
                    formatter.write_dl(rows[title], col_max=26)
