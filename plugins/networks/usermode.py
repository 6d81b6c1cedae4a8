"""pasta and slirp4netns: a network stack in a program, which needs no rights on the host.

Each step has a program of its own, which ends with it. The host's loopback cannot be reached.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from torana.core.ops.exec.network_files import has_only_loopback_servers, host_resolv_conf
from torana.core.ops.exec.networks import NetworkNamespace
from torana.core.ops.runtime import RuntimeFailedError, Streams
from torana.plugins.networks.namespaces import network_namespace
from torana.plugins.runtimes.launcher import Launch, Program

_POLL_S: Final = 0.002
_PASTA_RESOLVER: Final = "169.254.1.1"
_SLIRP_RESOLVER: Final = "10.0.2.3"


class _UserModeNetwork:
    """Starts a program for each namespace, and waits until it is at work."""

    name = ""

    def launch(self, program: str, namespace: Path, ready: Path) -> Launch:
        raise NotImplementedError

    def nameservers(self) -> tuple[str, ...]:
        raise NotImplementedError

    @asynccontextmanager
    async def open(
        self, id: str, directory: Path, hostname: str
    ) -> AsyncIterator[NetworkNamespace | None]:
        program = shutil.which(self.name)
        if program is None:
            raise RuntimeFailedError(f"`{self.name}` is not on PATH")
        async with network_namespace(directory / "network") as namespace:
            running = await self._start(program, namespace, directory)
            try:
                yield NetworkNamespace(namespace, self.nameservers())
            finally:
                await running.kill()

    async def _start(self, program: str, namespace: Path, directory: Path) -> Program:
        ready, said = directory / "network-ready", directory / "network-log"
        ready.touch(mode=0o600)
        log_file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            launch = self.launch(program, namespace, ready)
            running = Program(launch, Streams(None, log_file, log_file))
        finally:
            os.close(log_file)
        try:
            while not ready.stat().st_size:
                if running.has_ended:
                    await running.wait()
                    raise RuntimeFailedError(f"{self.name} failed: {_last_line(said)}")
                await asyncio.sleep(_POLL_S)
        except BaseException:
            await running.kill()
            raise
        return running


class PastaNetwork(_UserModeNetwork):
    """pasta: connections become sockets of the host, addresses are the host's."""

    name = "pasta"

    def launch(self, program: str, namespace: Path, ready: Path) -> Launch:
        closed = ("-t", "none", "-u", "none", "-T", "none", "-U", "none")
        # Only where it is needed: answers of the host's own servers would come from that address.
        resolver = [word for server in self.nameservers() for word in ("--dns-forward", server)]
        line = (
            *(
                program,
                "--foreground",
                "--quiet",
                "--config-net",
                "--no-map-gw",
                "--runas",
                "0:0",
                *closed,
            ),
            *resolver,
            *("--pid", str(ready)),
            *("--netns", str(namespace)),
        )
        return Launch(line)

    def nameservers(self) -> tuple[str, ...]:
        return (_PASTA_RESOLVER,) if has_only_loopback_servers(host_resolv_conf()) else ()


class SlirpNetwork(_UserModeNetwork):
    """slirp4netns: a private network behind address translation."""

    name = "slirp4netns"

    def launch(self, program: str, namespace: Path, ready: Path) -> Launch:
        file = os.open(ready, os.O_WRONLY | os.O_CLOEXEC)
        line = (
            *(program, "--configure", "--mtu=65520", "--disable-host-loopback"),
            *(f"--ready-fd={file}", "--netns-type=path", str(namespace), "tap0"),
        )
        return Launch(line, files=(file,))

    def nameservers(self) -> tuple[str, ...]:
        return (_SLIRP_RESOLVER,)


def _last_line(file: Path) -> str:
    lines = [line for line in file.read_text(errors="replace").splitlines() if line.strip()]
    kept = [line for line in lines if "syslog" not in line] or lines
    return kept[-1].strip() if kept else "it says nothing"
