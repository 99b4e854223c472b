"""Clients of a run: streams through the gateway, each followed to its end. A process of its own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from arbiter.chaos.world import KEY, MODEL, SERVICE

TOKENS = 24
PAUSE_S, FAILED_PAUSE_S = 0.02, 0.1
TIMEOUT_S = 20.0

OK, FAILED, CUT = "ok", "failed", "cut"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request.

    Attributes:
        began, ended: on the wall clock, seconds since 1970.
        what: "ok"; "failed" before the first byte of the answer; "cut" within it.
        first_s: seconds to the first token, None where there was none.
        server: the port of the server that answered, "" where none did.
    """

    began: float
    ended: float
    what: str
    why: str = ""
    first_s: float | None = None
    server: str = ""


def ask(port: int, tokens: int = TOKENS) -> Outcome:
    """One stream."""
    began, first, server = time.time(), None, ""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    what = FAILED
    try:
        body = {"model": MODEL, "prompt": "hello", "max_tokens": tokens, "stream": True}
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        body["ignore_eos"] = True
        path = f"/{SERVICE}/v1/completions"
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status != 200:
            text = answer.read(300).decode(errors="replace")
            return Outcome(began, time.time(), FAILED, f"{answer.status} {text[:120]}")
        what, done, aborted = CUT, False, False
        server = (answer.getheader("Server") or "").rpartition("/")[2]
        for line in answer:
            if line.startswith(b"data: "):
                first = first or time.time() - began
                done = done or b"[DONE]" in line
                aborted = aborted or b'"abort"' in line
        if done and not aborted:
            return Outcome(began, time.time(), OK, "", first, server)
        return Outcome(began, time.time(), CUT, "aborted" if aborted else "no end", first, server)
    except (OSError, http.client.HTTPException) as error:
        why = f"{type(error).__name__}: {error}"
        return Outcome(began, time.time(), what, why, first, server)
    finally:
        connection.close()


class Clients:
    """So many clients, each asking again as soon as it was answered."""

    def __init__(self, port: int, count: int, tokens: int = TOKENS) -> None:
        self.outcomes: list[Outcome] = []
        self._port, self._tokens = port, tokens
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number / count,), daemon=True)
            for number in range(count)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[Outcome]:
        """Ask nothing more, wait for the last answers, and tell what became of all."""
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S + 5)
        return self.outcomes

    def _run(self, offset: float) -> None:
        self._stop.wait(offset * 0.4)
        while not self._stop.is_set():
            self.outcomes.append(ask(self._port, self._tokens))
            self._stop.wait(PAUSE_S if self.outcomes[-1].what == OK else FAILED_PAUSE_S)


def start(port: int, count: int, file: Path, tokens: int = TOKENS) -> int:
    """Fork a process of clients that writes its outcomes to a file when it gets SIGTERM."""
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        return pid
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        clients = Clients(port, count, tokens)
        clients.start()
        signal.sigwait({signal.SIGTERM})
        file.write_bytes(msgspec.json.encode(clients.stop()))
        os._exit(0)
    finally:
        os._exit(1)
