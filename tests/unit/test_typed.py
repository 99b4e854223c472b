"""Reading into one new type from many threads at once, in a process that may crash."""

from __future__ import annotations

import subprocess
import sys

import pytest

MANY = """
import dataclasses, sys, threading
import msgspec
from arbiter.typed import convert, decode

def structs(name, fields):
    return msgspec.defstruct(name, fields)

make = {"struct": structs, "dataclass": dataclasses.make_dataclass}[sys.argv[1]]
sys.setswitchinterval(1e-6)
read = []
for _ in range(60):
    inner = make("Inner", [("numbers", "dict[str, list[int]]")])
    outer = make("Outer", [("one", inner), ("other", list[inner])])
    together = threading.Barrier(4)
    def convert_it():
        together.wait()
        read.append(convert({"one": {"numbers": {"a": [1]}}, "other": []}, outer))
    def decode_it():
        together.wait()
        read.append(decode(b'{"one": {"numbers": {"a": [1]}}, "other": []}', outer))
    threads = [threading.Thread(target=one) for one in (convert_it, decode_it) * 2]
    for one in threads: one.start()
    for one in threads: one.join()
print(sum(one.one.numbers == {"a": [1]} for one in read))
"""


@pytest.mark.parametrize("kind", ["struct", "dataclass"])
def test_many_threads_may_be_the_first_to_read_into_a_type(kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MANY, kind], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "240\n", "")
