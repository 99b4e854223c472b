"""From a fresh clone to the demo's first served answer, as a newcomer would: `make demo`.

With a warm package cache; nothing else is shared with this checkout. The peer is none: what counts
is how long a person waits.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from _report import arguments, report, row

ROOT = Path(__file__).resolve().parents[1]
GOAL_S = 180.0
ENDPOINT = re.compile(r"answering: (http://\S+?/v1)")
KEY_FILE = re.compile(r"\$\(cat (\S+?)\)")


def first_answer(folder: Path) -> float:
    """Seconds from the start of the clone to the first answer of the demo's endpoint."""
    started = time.monotonic()
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder / "arbiter")], check=True)
    output = folder / "demo.log"
    with output.open("wb") as log:
        demo = subprocess.Popen(
            ["make", "demo"],
            cwd=folder / "arbiter",
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
    try:
        while time.monotonic() - started < 10 * GOAL_S:
            if demo.poll() is not None:
                sys.exit(f"the demo ended:\n{output.read_text()[-2000:]}")
            text = output.read_text(encoding="utf-8")
            endpoint, key = ENDPOINT.search(text), KEY_FILE.search(text)
            if endpoint and key:
                ask(endpoint.group(1), Path(key.group(1)).read_text().strip())
                return time.monotonic() - started
            time.sleep(0.1)
        sys.exit("the demo never answered")
    finally:
        os.killpg(demo.pid, signal.SIGINT)
        demo.wait(timeout=60)


def ask(endpoint: str, key: str) -> None:
    """One chat completion; anything but an answer that says it is simulated is an error."""
    question = {"model": "llama70b-awq", "messages": [{"role": "user", "content": "hello"}]}
    request = urllib.request.Request(
        f"{endpoint}/chat/completions",
        json.dumps(question).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        body = json.load(answer)
    if "simulated" not in body["choices"][0]["message"]["content"]:
        sys.exit(f"not the demo's answer: {body}")


def main() -> None:
    given = arguments(__doc__)
    seconds = []
    for _ in range(1 if given.quick else 3):
        folder = Path(tempfile.mkdtemp(prefix="arbiter-clone-"))
        try:
            seconds.append(first_answer(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    report([row("clone to first answer", "make demo", seconds, "s", goal=GOAL_S)], given.json)


if __name__ == "__main__":
    main()
