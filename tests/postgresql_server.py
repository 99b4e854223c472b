"""A PostgreSQL server of the tests' own: made in a temporary folder, gone with the test run."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from arbiter.free_port import free_port

if TYPE_CHECKING:
    import psycopg

ACCOUNT = "arbiter"
START_S = 60.0
# The data is worth nothing: trade every promise of durability for speed.
OPTIONS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "jit=off")


class NoPostgresql(Exception):
    """PostgreSQL cannot be run on this machine; the text says what is missing."""


@dataclass(frozen=True)
class PostgresqlServer:
    """A running server.

    Attributes:
        port: where it listens, on 127.0.0.1 only.
        folder: holds its Unix socket and `server.log`.
    """

    port: int
    folder: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of one of its databases."""
        return f"postgresql+psycopg://{ACCOUNT}@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a new and empty database, dropped at the end."""
        name = self.new_name()
        self.create(name)
        try:
            yield self.url(name)
        finally:
            self.drop(name)

    def new_name(self) -> str:
        """A name that no database of this server has had."""
        return f"test_{next(self._numbers)}"

    def create(self, name: str, template: str = "template1") -> None:
        """Make a database that lasts until it is dropped.

        Args:
            template: what it is a copy of; an empty one unless said otherwise.
        """
        self.administer(f"CREATE DATABASE {name} TEMPLATE {template}")

    def drop(self, name: str) -> None:
        """Drop a database, with whoever is still connected."""
        self.administer(f"DROP DATABASE {name} WITH (FORCE)")

    def administer(self, statement: str) -> None:
        """Do one thing from the server's own database."""
        with self.connect() as connection:
            connection.execute(statement)

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """A psycopg connection in autocommit, to the server's own database or another."""
        import psycopg

        conninfo = f"host={self.folder} port={self.port} user={ACCOUNT} dbname={database}"
        return psycopg.connect(conninfo, autocommit=True)


@contextmanager
def running_postgresql(*options: str) -> Iterator[PostgresqlServer]:
    """A server for as long as the context lasts.

    Args:
        options: further settings, each as `name=value`.

    Raises:
        NoPostgresql: it is not installed, or this user may not run it.
    """
    initdb, postgres = _program("initdb"), _program("postgres")
    prefix = _as_somebody()
    folder = Path(tempfile.mkdtemp(prefix="arbiter-pg-"))  # short: a socket's path has 107 bytes
    try:
        _give_away(folder)
        make = [*prefix, initdb, "-D", folder / "data", "-U", ACCOUNT, "-A", "trust", "-E", "UTF8"]
        _run([*make, "--no-locale", "--no-sync"], cwd=folder)
        process, server = _started([*prefix, postgres, "-D", folder / "data"], folder, options)
        try:
            yield server
        finally:
            _end(process)  # setpriv has become postgres: this is the server's own pid
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found:
        return found
    packaged = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=_version)
    if packaged:
        return str(packaged[-1])
    raise NoPostgresql("needs a PostgreSQL server: apt-get install postgresql")


def _version(program: Path) -> int:
    version = program.parent.parent.name
    return int(version) if version.isdigit() else 0


def _account() -> pwd.struct_passwd | None:
    """Whom to run the server as: PostgreSQL refuses root. None: the present user will do."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoPostgresql("needs a user other than root to run PostgreSQL: adduser --system postgres")


def _as_somebody() -> list[str]:
    """The words before a command that change the user and end it when the tests are killed."""
    account = _account()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        if account is None:
            return []
        raise NoPostgresql("needs setpriv to leave root: apt-get install util-linux")
    words = [setpriv, "--pdeathsig", "INT"]
    if account is not None:
        words += ["--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--clear-groups"]
    return words


def _give_away(folder: Path) -> None:
    account = _account()
    if account is not None:
        os.chown(folder, account.pw_uid, account.pw_gid)


def _run(command: list[str | Path], cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"initdb failed with {done.returncode}: {done.stderr.strip()}")


def _started(
    command: list[str | Path], folder: Path, options: Sequence[str]
) -> tuple[subprocess.Popen[bytes], PostgresqlServer]:
    server = PostgresqlServer(free_port(), folder)
    arguments = ["-k", folder, "-h", "127.0.0.1", "-p", str(server.port)]
    settings = [word for option in (*OPTIONS, *options) for word in ("-c", option)]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *arguments, *settings], cwd=folder, stdout=log, stderr=log
        )
    _await_answer(process, server)
    return process, server


def _await_answer(process: subprocess.Popen[bytes], server: PostgresqlServer) -> None:
    import psycopg

    deadline = time.monotonic() + START_S
    while True:
        try:
            server.connect().close()
            return
        except psycopg.OperationalError as error:
            if process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            process.kill()
            process.wait()
            log = (server.folder / "server.log").read_text(errors="replace")
            raise RuntimeError(f"PostgreSQL did not start: {error}\n{log[-2000:]}") from error


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)  # "fast": ends whoever is still connected
    try:
        process.wait(START_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
