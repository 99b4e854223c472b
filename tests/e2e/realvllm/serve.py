"""Becomes `vllm serve` on a free port: serve.py ENVIRONMENT MODEL PORT_FILE. A local replica."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from arbiter.free_port import free_port


def main() -> None:
    """Write the port, and become the server."""
    environment, model, port_file = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    port = free_port()
    draft = port_file.with_suffix(".draft")
    draft.write_text(f"{port}\n")
    draft.rename(port_file)
    flags = {
        "--served-model-name": model,
        "--host": "127.0.0.1",
        "--port": str(port),
        "--max-model-len": "2048",
        "--max-num-seqs": "32",
        "--shutdown-timeout": "60",
        # on the CPU this is a share of a memory node, of which a busy machine has less free
        "--gpu-memory-utilization": "0.1",
        "--kv-cache-memory-bytes": "128M",
    }
    settings = {
        "VLLM_API_KEY": os.environ["ARBITER_API_KEY"],
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # the cores are shared
        "OMP_NUM_THREADS": "1",
    }
    python = str(environment / "venv" / "bin" / "python")
    words = [word for pair in flags.items() for word in pair]
    command = [python, "-m", "vllm.entrypoints.cli.main", "serve", str(environment / "tiny")]
    os.execve(python, [*command, "--enforce-eager", *words], {**os.environ, **settings})


if __name__ == "__main__":
    main()
