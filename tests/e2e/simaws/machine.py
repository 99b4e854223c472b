"""An instance: a Linux of its own on an overlay of the image, reachable at a loopback address.

Mounts, processes, network, host name and IPC are the instance's own. TCP port 22 leads to its
sshd, further ports to servers on its own loopback, as far as the security groups allow.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

BOOT_S = 10.0

BOOT = """\
set -e
exec 3<&0 </dev/null
ip link set lo up
hostname {name}
mount --make-rprivate /
mount -t overlay overlay -o lowerdir={image},upperdir={home}/upper,workdir={home}/work {home}/root
cd {home}/root
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t tmpfs -o mode=755 run run
mkdir -p run/sshd home/ubuntu/.ssh
printf '%s\\n' {keys} >>home/ubuntu/.ssh/authorized_keys
chown -R 1000:1000 home/ubuntu/.ssh
chmod 700 home/ubuntu/.ssh
echo {name} >etc/hostname
echo '127.0.0.1 localhost {name}' >etc/hosts
touch run/booted
exec chroot . /bin/bash -c 'cat <&3 >/dev/null & wait $!'
"""
# The first process waits for its input to close: the instance ends with whoever runs it, also
# when that is killed without notice.

Allowed = Callable[[int], bool]


class Machine:
    """One running instance.

    Args:
        folder: where its disk is; made here and removed by `end`.
        address: a loopback address that nothing else uses, as long as it is not stopped.
        keys: public keys that may log in as ubuntu.
        ports: TCP ports besides 22 that lead inside.
        allowed: whether a security group lets a port in.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        image: Path,
        address: str,
        keys: Sequence[str],
        ports: Sequence[int],
        allowed: Allowed,
    ) -> None:
        self.name = name
        self.address = address
        self._folder = folder
        self._allowed = allowed
        self._ports = (22, *ports)
        self._listeners: list[socket.socket] = []
        for part in ("upper", "work", "root"):
            (folder / part).mkdir(parents=True)
        fields = {"name": name, "image": image, "home": folder, "keys": shlex.join(keys)}
        self._script = BOOT.format_map(fields)
        self._power_on()

    def start(self, address: str) -> None:
        """Boot again from its disk, at another address."""
        self.address = address
        self._power_on()

    def end(self) -> None:
        """Power off, and forget the disk."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def stop(self) -> None:
        """Power off; the disk stays."""
        for listener in self._listeners:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self._listeners.clear()
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _power_on(self) -> None:
        self._process = self._boot(self._script)
        try:
            self._pid = self._first_process()
            for port in self._ports:
                self._listen(port)
        except BaseException:
            self.end()
            raise

    def _boot(self, script: str) -> subprocess.Popen[bytes]:
        apart = ["unshare", "-m", "-p", "-n", "-u", "-i", "--fork", "--kill-child"]
        with (self._folder / "boot.log").open("wb") as log:
            return subprocess.Popen(
                [*apart, "bash", "-c", script],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={"PATH": os.environ["PATH"]},
            )

    def _first_process(self) -> int:
        """The process id, seen from here, of the first process inside."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        until = time.monotonic() + BOOT_S
        while time.monotonic() < until and self._process.poll() is None:
            found = children.read_text().split()
            if found and Path(f"/proc/{found[0]}/root/run/booted").exists():
                return int(found[0])
            time.sleep(0.05)
        raise RuntimeError(f"{self.name}: {(self._folder / 'boot.log').read_text()}")

    def _listen(self, port: int) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.address, port))
        listener.listen(128)
        self._listeners.append(listener)
        threading.Thread(target=self._serve, args=(listener, port), daemon=True).start()

    def _serve(self, listener: socket.socket, port: int) -> None:
        inside = ["nsenter", "-t", str(self._pid)]
        if port == 22:
            command = [*inside, *["-m", "-n", "-p", "-u", "-i", "-r", "-w", "/usr/sbin/sshd", "-i"]]
        else:
            command = [*inside, "-n", "socat", "STDIO", f"TCP:127.0.0.1:{port}"]
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                if self._allowed(port):
                    wire = connection.fileno()
                    process = subprocess.Popen(
                        command, stdin=wire, stdout=wire, stderr=subprocess.DEVNULL
                    )
                    threading.Thread(target=process.wait, daemon=True).start()
