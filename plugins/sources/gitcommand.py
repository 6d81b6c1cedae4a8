"""`GitCommand`: runs git apart from the machine's and the repository's own settings.

No configuration of the system, of a user or of hooks takes part; nothing is asked at a terminal;
submodules cannot reach files of this machine. Credentials travel in the environment, since command
lines can be read by every user.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Final

from torana.core.errors import ToranaError, UnsupportedError
from torana.core.records import dataclass

_SHA: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
_SETTINGS: Final = {
    "protocol.file.allow": "user",  # submodules are not of the user's making
    "core.hooksPath": os.devnull,
    "init.defaultBranch": "master",
    "advice.detachedHead": "false",
    "gc.auto": "0",
    "safe.directory": "*",  # the store's folders may belong to another id of our namespace
}


def is_sha(text: str) -> bool:
    """Say whether `text` is a full object id (SHA-1 or SHA-256)."""
    return _SHA.fullmatch(text) is not None


class GitError(ToranaError):
    """Git failed; `output` is what it said."""

    code = "GIT_FAILED"

    def __init__(self, message: str, output: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.output = output


@dataclass(frozen=True, slots=True, kw_only=True)
class GitCommand:
    """Git with a repository, a work tree and credentials; `log` takes what it says."""

    git_dir: Path | None = None
    work_tree: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)  # may hold credentials
    ssh_socket: Path | None = None
    known_hosts: Path | None = None
    log: Callable[[bytes], None] | None = None

    def at(self, *, git_dir: Path | None = None, work_tree: Path | None = None) -> GitCommand:
        """Give the same for another place."""
        # It runs there, so that relative paths would not be what they are here.
        return replace(
            self,
            git_dir=None if git_dir is None else git_dir.absolute(),
            work_tree=None if work_tree is None else work_tree.absolute(),
        )

    async def run(self, *arguments: str) -> str:
        """Run git and give what it prints; a fetch that a server cannot do is tried without.

        Raises:
            GitError: it failed.
            UnsupportedError: there is no git.
        """
        while True:
            code, output, errors = await self._run(arguments)
            if code == 0:
                return output
            fewer = _without_what_failed(arguments, errors)
            if fewer == arguments:
                raise GitError(_summary(arguments, errors), errors)
            arguments = fewer

    async def succeeds(self, *arguments: str) -> bool:
        """Say whether git exits with 0."""
        return (await self._run(arguments))[0] == 0

    async def _run(self, arguments: tuple[str, ...]) -> tuple[int, str, str]:
        place = []
        if self.git_dir is not None:
            place += [f"--git-dir={self.git_dir}"]
        if self.work_tree is not None:
            place += [f"--work-tree={self.work_tree}"]
        try:
            process = await asyncio.create_subprocess_exec(
                "git",
                *place,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=self.work_tree or self.git_dir,
                env=self._environment(),
                start_new_session=True,
                umask=0o022,
            )
        except FileNotFoundError:
            raise UnsupportedError(
                "git sources need the program `git`", hint="install git"
            ) from None
        try:
            output, errors = await process.communicate()
        except BaseException:
            _kill(process)
            await process.wait()
            raise
        if self.log is not None and errors:
            self.log(errors)
        assert process.returncode is not None
        return process.returncode, _text(output), _text(errors)

    def _environment(self) -> dict[str, str]:
        ssh = f"ssh -F {os.devnull}"
        if self.known_hosts is not None:
            # What this machine knows of hosts does not count.
            ssh += f" -o UserKnownHostsFile={self.known_hosts} -o StrictHostKeyChecking=yes"
            ssh += f" -o GlobalKnownHostsFile={os.devnull}"
        else:
            ssh += f" -o StrictHostKeyChecking=no -o UserKnownHostsFile={os.devnull}"
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": os.devnull,
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSH_COMMAND": ssh,
        }
        for name in (*_PROXIES, *map(str.lower, _PROXIES)):
            if name in os.environ:
                environment[name] = os.environ[name]
        if self.ssh_socket is not None:
            environment["SSH_AUTH_SOCK"] = str(self.ssh_socket)
        settings = {**_SETTINGS, **self.settings}
        environment["GIT_CONFIG_COUNT"] = str(len(settings))
        for number, (key, value) in enumerate(settings.items()):
            environment[f"GIT_CONFIG_KEY_{number}"] = key
            environment[f"GIT_CONFIG_VALUE_{number}"] = value
        return environment


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _kill(process: asyncio.subprocess.Process) -> None:
    """Kill git and its helpers, which do not die with it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _without_what_failed(arguments: tuple[str, ...], errors: str) -> tuple[str, ...]:
    """Leave out what old or strict servers refuse: shallow fetches, fetching by id."""
    if ("--depth" in errors or "shallow" in errors) and "--depth=1" in arguments:
        return tuple(argument for argument in arguments if argument != "--depth=1")
    is_refused = "not our ref" in errors or "unadvertised object" in errors
    if is_refused and arguments[0] == "fetch" and is_sha(arguments[-1]):
        return arguments[:-1]
    return arguments


def _summary(arguments: tuple[str, ...], errors: str) -> str:
    """Give the first line that says what failed."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    failing = [line for line in lines if line.startswith(("fatal:", "error:"))]
    return (failing or lines or [f"git {arguments[0]} failed"])[0]
