"""The image that every simulated instance boots: Debian, a user, and SkyPilot's own runtime.

With the runtime in the image an instance needs no network, and a launch takes seconds. Run as a
program, it makes everything that the end-to-end tests need and prints where it is:

    python tests/e2e/simaws/image.py
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from simaws.cache import cached

SUITE = "bookworm"
# fmt: off
PACKAGES = [
    "openssh-server", "openssh-client", "sudo", "python3", "python3-venv", "rsync", "curl",
    "procps", "iproute2", "ca-certificates", "netcat-openbsd", "hostname", "less", "psmisc",
    "patch", "systemd",
]
# fmt: on
MOTO = "moto[server,ec2,iam,ssm]==5.2.5"
RUNTIME = ("setuptools<70", "click<8.3.0", "ray[default]==2.9.3", "pydantic-core==2.41.1")
"""What SkyPilot 0.14.1 installs on every machine before its own wheel."""

SSHD = """\
PasswordAuthentication no
UsePAM no
MaxSessions 100
MaxStartups 100
Subsystem sftp internal-sftp
"""

BAKE = f"""\
set -e
export HOME=/home/ubuntu UV_CACHE_DIR=/home/ubuntu/.cache/uv UV_LINK_MODE=copy
export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
cd
uv=/home/ubuntu/.local/bin/uv
$uv venv -q --seed skypilot-runtime --python /usr/bin/python3
export VIRTUAL_ENV=/home/ubuntu/skypilot-runtime
$uv pip install -q {shlex.join(RUNTIME)}
hash=$(ls /wheel)
$uv pip install -q "$(echo /wheel/$hash/skypilot-*.whl)[aws, remote]"
$uv venv -q --seed --relocatable --system-site-packages --python /usr/bin/python3 sky-user-env
mkdir -p .sky/wheels
echo "$hash" > .sky/wheels/current_sky_wheel_hash
rm -rf .cache
"""


class NoImage(Exception):
    """The image cannot be built here; the message says what it needs."""


def image() -> Path:
    """The root file system of every instance; some two minutes the first time.

    Raises:
        NoImage: there is no Debian mirror to build it from.
    """
    base = cached("debian", f"{SUITE} {PACKAGES}", _debootstrap)
    inputs = f"{base.name} {SSHD} {BAKE} {version('skypilot')}"
    return cached("image", inputs, lambda root: _bake(base, root))


def moto_python() -> Path:
    """The interpreter of an environment that holds moto and nothing of arbiter."""
    return cached("moto", f"{MOTO} {sys.version}", _install_moto) / "bin" / "python"


def _debootstrap(root: Path) -> None:
    include = f"--include={','.join(PACKAGES)}"
    path = root.parent / "debootstrap.log"
    with path.open("w") as log:
        done = subprocess.run(
            ["debootstrap", "--variant=minbase", include, SUITE, str(root)],
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        why = path.read_text().strip().splitlines()[-1:]
        raise NoImage(f"needs a Debian mirror to build its image from; see {path}: {why}")


def _bake(base: Path, root: Path) -> None:
    subprocess.run(["cp", "-a", "--reflink=auto", f"{base}/.", str(root)], check=True)
    home = root / "home" / "ubuntu"
    subprocess.run(["chroot", str(root), "useradd", "-m", "-s", "/bin/bash", "ubuntu"], check=True)
    subprocess.run(["chroot", str(root), "passwd", "-q", "-d", "ubuntu"], check=True)
    (root / "run" / "sshd").mkdir(parents=True, exist_ok=True)
    (root / "etc/sudoers.d/ubuntu").write_text("ubuntu ALL=(ALL) NOPASSWD:ALL\n")
    (root / "etc/ssh/sshd_config").write_text(SSHD)
    (home / ".local/bin").mkdir(parents=True)
    shutil.copy(_uv(), home / ".local/bin/uv")
    for name in ("etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt"):
        shutil.copy(f"/{name}", root / name)
    _put_wheel(root / "wheel")
    (root / "bake.sh").write_text(BAKE)
    subprocess.run(["chroot", str(root), "chown", "-R", "ubuntu:", "/home/ubuntu"], check=True)
    # In a mount namespace of its own, so that nothing stays mounted whatever happens.
    steps = (
        f"cd {shlex.quote(str(root))} && mount -t proc proc proc && mount --bind /dev dev "
        "&& exec chroot . su ubuntu -c 'bash /bake.sh'"
    )
    subprocess.run(["unshare", "-m", "--propagation", "private", "bash", "-c", steps], check=True)


def _put_wheel(target: Path) -> None:
    """The wheel that the API server will ship, under its hash: machines that have it keep it."""
    build = "from sky.backends import wheel_utils as w; print('wheel', *w.build_sky_wheel())"
    done = subprocess.run(
        [sys.executable, "-c", build], check=True, stdout=subprocess.PIPE, text=True
    )
    built, digest = done.stdout.splitlines()[-1].split()[1:]
    shutil.copytree(built, target / digest)
    subprocess.run(["chmod", "-R", "a+rX", str(target)], check=True)


def _install_moto(root: Path) -> None:
    uv = _uv()
    subprocess.run(
        [uv, "venv", "-q", "--relocatable", "--python", sys.executable, root], check=True
    )
    python = str(root / "bin" / "python")
    subprocess.run([uv, "pip", "install", "-q", "--python", python, MOTO], check=True)


def _uv() -> str:
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise RuntimeError("uv is not installed; run `make install`")
    return found


if __name__ == "__main__":
    print("moto   ", moto_python())
    print("image  ", image())
