"""The command line. Importing this imports click and nothing else of weight."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from keyword import iskeyword
from typing import Any, NoReturn

import click

from arbiter import __version__
from arbiter.cli.app import App
from arbiter.cli.commands import COMMANDS
from arbiter.errors import ArbiterError

INTERRUPTED = 130
"""The exit code of a program that was ended by Ctrl-C: 128 and the signal's number."""


class Interrupted(Exception):
    """The user pressed Ctrl-C."""


class LazyGroup(click.Group):
    """A group whose commands are imported only when they are called.

    Args:
        table: command -> (module in the package, short help). The command is the module's function
            of that name, with "_" for "-", and one more "_" after a word that Python keeps.
        package: where the modules are.
    """

    def __init__(
        self,
        *args: Any,
        table: Mapping[str, tuple[str, str]],
        package: str = "arbiter.cli",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.table = table
        self.package = package

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's)
        """All names, in the order in which one needs them."""
        return list(self.table)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command."""
        if name not in self.table:
            return None
        module = import_module(f"{self.package}.{self.table[name][0]}")
        function = name.replace("-", "_")
        if iskeyword(function):
            function += "_"
        command: click.Command = getattr(module, function)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list in `--help`, from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name for one that does not exist."""
        if args[0] not in self.table and not args[0].startswith("-"):
            from difflib import get_close_matches

            from arbiter.errors import UnknownName

            near = get_close_matches(args[0], self.table, n=1)
            hint = f"did you mean {near[0]}?" if near else f"see: {ctx.command_path} --help"
            raise UnknownName(f"there is no command {args[0]!r}", hint)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Names of commands, and the group's own options."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=text)
            for name, (_, text) in self.table.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; click must not see Ctrl-C, for it would print a line of its own."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted from None


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nMore of each: arbiter COMMAND --help\n"
    "Shell completion, in the start-up file of\n"
    '  bash  eval "$(_ARBITER_COMPLETE=bash_source arbiter)"\n'
    '  zsh   eval "$(_ARBITER_COMPLETE=zsh_source arbiter)"\n'
    "  fish  _ARBITER_COMPLETE=fish_source arbiter | source",
)
@click.version_option(__version__, prog_name="arbiter", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--config", metavar="FILE", type=click.Path(), help="Settings file, instead of arbiter.toml."
)
@click.pass_obj
def cli(app: App, debug: bool, config: str | None) -> None:
    """Keep LLM servers on the cheapest GPU that the rules allow."""
    app.debug = debug
    if config is not None:
        app.config = config


def main() -> NoReturn:
    """The program `arbiter`."""
    code = run()
    if code == INTERRUPTED:
        # Threads that still wait for a provider would hold up the end for as long as it is silent.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: Sequence[str] | None = None, app: App | None = None) -> int:
    """Run one command and return the exit code.

    Args:
        arguments: without the program's name; None takes the process's own.
        app: what the commands are given; tests bring their own clock with it.
    """
    app = app or App()
    try:
        given = None if arguments is None else list(arguments)
        result = cli.main(given, prog_name="arbiter", standalone_mode=False, obj=app)
        sys.stdout.flush()
    except (Interrupted, KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        return _silenced()
    except SystemExit as error:  # click's own way to end, on a broken pipe and after completion
        return _silenced() if error.code == 1 else int(error.code or 0)
    except Exception as error:  # the last place before a traceback
        if app.debug:
            raise
        return _say(error)
    return result if isinstance(result, int) else 0


def _say(error: Exception) -> int:
    """One line on stderr, and the exit code."""
    if isinstance(error, ArbiterError):
        line = str(error)
    elif isinstance(error, click.ClickException):
        line = _usage(error)
    else:
        line = (
            f"arbiter failed inside: {type(error).__name__}: {error}; "
            "please report it with the output of: arbiter --debug ..."
        )
    click.echo(f"error: {line}", err=True)
    return 1


def _usage(error: click.ClickException) -> str:
    """click's message as a line of ours, with the command whose help to read."""
    message = " ".join(error.format_message().split()).rstrip(".")
    message = message[:1].lower() + message[1:]
    ctx = getattr(error, "ctx", None)
    return f"{message}; see: {ctx.command_path if ctx else 'arbiter'} --help"


def _silenced() -> int:
    """Whoever read our output has left: end without a word, and without one at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 1
