"""`RunningDaemon`: a real `toranad` process on a private folder, for tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from torana.core.records import dataclass

_TORANAD = (sys.executable, "-c", "from torana.cli.daemon import main; main()")
_STOP_S = 30.0


@dataclass(slots=True)
class RunningDaemon:
    """A daemon that has said that it is ready; `address` is `unix:///...`."""

    process: subprocess.Popen[bytes]
    address: str
    root: Path
    log: Path

    @property
    def target(self) -> str:
        """The address as grpc wants it."""
        return self.address.replace("unix://", "unix:")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it and give its exit code; doing it again only gives the code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def start_daemon(
    folder: Path,
    arguments: Sequence[str] = (),
    *,
    name: str = "d",
    environment: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> RunningDaemon:
    """Start a daemon on `<folder>/root` and wait until it is ready.

    `prefix` is a command that runs it, as another user for instance, whose the folder must be.

    `folder` must have a short path, since addresses of sockets have at most 107 bytes.

    Raises:
        RuntimeError: it ended before it was ready; the text is its log.
    """
    root, log = folder / "root", folder / f"{name}.log"
    address = f"unix://{folder}/{name}.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, open(log, "wb") as output:
        ready.bind(os.fspath(folder / f"{name}.ready"))
        os.chmod(folder / f"{name}.ready", 0o777)
        ready.settimeout(0.2)
        process = subprocess.Popen(
            [*prefix, *_TORANAD, "--root", str(root), "--addr", address, *arguments],
            stderr=output,
            env={**os.environ, **(environment or {}), "NOTIFY_SOCKET": f"{folder}/{name}.ready"},
        )
        while True:
            try:
                assert ready.recv(100) == b"READY=1"
                return RunningDaemon(process, address, root, log)
            except TimeoutError:
                if process.poll() is not None:
                    raise RuntimeError(log.read_text()) from None
