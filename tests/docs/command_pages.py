"""docs/commands.md, written from the commands themselves. `make docs` brings it up to date."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from arbiter.cli import cli

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"
WIDTH = 88

INTRODUCTION = """\
# Commands

Written from `arbiter --help` by `make docs`; a test compares them.

Commands that read have `--json`. Times are UTC in ISO 8601, money is a decimal string with its
currency in the key or beside it. An error is one line on stderr that says what is wrong, where, and
what to type next, with exit code 1; Ctrl-C exits with 130. `--debug` adds the traceback.
"""


def page() -> str:
    """The whole page."""
    root = context(cli, "arbiter")
    return "\n".join([INTRODUCTION, section("arbiter", root), *sections(root, "arbiter")])


def sections(group: click.Context, path: str) -> Iterator[str]:
    """A section for each command of a group, and for those of the groups in it."""
    assert isinstance(group.command, click.Group)
    for name in group.command.list_commands(group):
        command = group.command.get_command(group, name)
        assert command is not None
        inner = context(command, name, group)
        yield section(f"{path} {name}", inner)
        if isinstance(command, click.Group):
            yield from sections(inner, f"{path} {name}")


def context(
    command: click.Command, name: str, parent: click.Context | None = None
) -> click.Context:
    settings = {"help_option_names": ["-h", "--help"]}
    return click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH, **settings)


def section(title: str, of: click.Context) -> str:
    return f"## {title}\n\n```\n{of.command.get_help(of).rstrip()}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
