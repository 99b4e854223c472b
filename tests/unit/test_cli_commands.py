"""The command line as a whole: what it imports, how it ends, and what it says when misused."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path

import click
import pytest
from cli_world import Machine, market

from arbiter import __version__
from arbiter.cli import cli, run
from arbiter.cli.app import App
from arbiter.cli.commands import COMMANDS

PYTHON = sys.executable


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_of_each_command_what_it_says_of_itself(name: str) -> None:
    assert command(name).get_short_help_str(limit=200) == COMMANDS[name][1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_with_examples(machine: Machine, name: str) -> None:
    ended = machine.arbiter(name, "--help")
    assert ended.code == 0
    assert f"arbiter {name}" in ended.out
    assert "Examples:" in ended.out


def modules_after(*arguments: str) -> set[str]:
    """The modules that a fresh process has imported after a command."""
    code = (
        "import sys\nfrom arbiter.cli import run\n"
        f"run({list(arguments)!r})\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_help_imports_no_command_and_nothing_heavy() -> None:
    loaded = modules_after("--help")
    heavy = {"yaml", "msgspec", "rich", "sqlalchemy", "httpx", "pydantic", "decimal", "sqlite3"}
    assert not loaded & heavy
    own = {name for name in loaded if name.split(".")[0] == "arbiter"}
    assert own == {
        "arbiter",
        "arbiter.cli",
        "arbiter.cli.app",
        "arbiter.cli.commands",
        "arbiter.errors",
    }


def test_offers_imports_neither_sqlalchemy_nor_pydantic_nor_rich(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    market(machine)
    monkeypatch.setenv("ARBITER_DATABASE_URL", machine.url)
    loaded = modules_after("offers", "llama8b", "--json")
    assert "arbiter.market" in loaded
    assert not loaded & {"sqlalchemy", "alembic", "pydantic", "rich", "httpx", "boto3", "sky"}


def test_the_version_is_the_packages(machine: Machine) -> None:
    ended = machine.arbiter("--version")
    assert (ended.code, ended.out) == (0, f"arbiter {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["offrs"], "there is no command 'offrs'; did you mean offers?"),
        (["zzz"], "there is no command 'zzz'; see: arbiter --help"),
        (["offers", "--goo", "L4"], "no such option: --goo"),
        (["offers", "--limit", "many"], "'many' is not a valid integer range"),
        (["offers", "--explain"], "--explain needs a MODEL"),
        (["plan"], "missing argument 'MODEL|SERVICE'; see: arbiter plan --help"),
        (["offers", "a", "b"], "got unexpected extra argument (b); see: arbiter offers --help"),
    ],
)
def test_misuse_is_one_line_and_exit_1(machine: Machine, arguments: list[str], said: str) -> None:
    """Exit 2 is taken: it means that `plan` found changes."""
    ended = machine.arbiter(*arguments)
    assert ended.code == 1
    assert ended.out == ""
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    assert said in ended.err


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "Commands:" in capsys.readouterr().out


def test_a_failure_inside_shows_its_traceback_only_with_debug(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("wires crossed")

    monkeypatch.setattr(command("offers"), "callback", broken)
    ended = machine.arbiter("offers")
    assert ended.code == 1
    assert ended.err.startswith("error: arbiter failed inside: RuntimeError: wires crossed; ")
    with pytest.raises(RuntimeError):
        machine.arbiter("--debug", "offers")


def test_ctrl_c_inside_a_command_is_one_line_and_130(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command("offers"), "callback", interrupted)
    ended = machine.arbiter("offers")
    assert (ended.code, ended.out, ended.err) == (130, "", "interrupted\n")


def test_ctrl_c_does_not_wait_for_a_silent_provider(machine: Machine) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    port = silent.getsockname()[1]
    machine.settings(f'[providers.azure]\nendpoint = "http://127.0.0.1:{port}"\n')
    polling = subprocess.Popen(
        [PYTHON, "-m", "arbiter", "--config", str(machine.toml), "poll", "azure"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        connection, _ = silent.accept()  # it has begun to ask
        polling.send_signal(signal.SIGINT)
        began = time.monotonic()
        out, err = polling.communicate(timeout=20)
        assert time.monotonic() - began < 15, "it waited for the provider"
        connection.close()
    finally:
        polling.kill()
        silent.close()
    assert (polling.returncode, out, err) == (130, "", "interrupted\n")


def test_a_reader_that_leaves_is_no_error(machine: Machine) -> None:
    market(machine)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [PYTHON, "-m", "arbiter", "--config", str(machine.toml), "offers", "--json"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode != 0


# --- completion -----------------------------------------------------------------------------


def completed(machine: Machine, line: str) -> list[str]:
    """What bash is offered for the last word of a line."""
    words = line.split(" ")
    done = subprocess.run(
        [PYTHON, "-c", "from arbiter.cli import main; main()"],
        env={
            **os.environ,
            "ARBITER_DATABASE_URL": machine.url,
            "_ARBITER_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        },
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return [offer.partition(",")[2] for offer in done.stdout.split()]


def test_completion_knows_commands_models_services_providers_and_levels(machine: Machine) -> None:
    store = machine.store()
    with store.begin() as connection:
        from arbiter.domain import Service
        from arbiter.store import fleet

        fleet.add_service(connection, Service("chat", "llama8b"), machine.clock.now())
    store.close()
    assert completed(machine, "arbiter of") == ["offers"]
    assert "llama70b-awq" in completed(machine, "arbiter offers llama70")
    assert completed(machine, "arbiter status ch") == ["chat"]
    assert "azure" in completed(machine, "arbiter poll az")
    assert "eu-operator" in completed(machine, "arbiter offers --sovereignty eu-o")
    assert "H100" in completed(machine, "arbiter offers --gpu h1")


def test_completion_of_what_cannot_be_read_is_empty(machine: Machine) -> None:
    assert completed(machine, "arbiter status ch") == []


def test_settings_are_read_only_by_commands_that_need_them(tmp_path: Path) -> None:
    err = io.StringIO()
    with redirect_stderr(err):
        assert run(["--config", str(tmp_path / "none.toml"), "poll", "--help"], App()) == 0
    assert err.getvalue() == ""
