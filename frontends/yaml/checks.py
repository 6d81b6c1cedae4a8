"""Running `tests:`: they gate a result and leave nothing in it.

A process with a shell to run it is an op of its own, whose output and exit status go to a folder
that nobody exports: it is cached like any step. Without a shell it runs in a container of the
engine. What was printed, and files of the finished tree, are compared here, so that an image needs
no tools to be tested.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from torana.core.errors import BuildFileError, NotFoundError, ToranaError
from torana.core.llb.actions import FileActions
from torana.core.llb.state import State, scratch
from torana.core.records import dataclass
from torana.frontends.kit.context import BuildContext
from torana.frontends.yaml import model as m
from torana.frontends.yaml.built import Built
from torana.frontends.yaml.conversion import Conversion
from torana.frontends.yaml.expressions.pattern import Pattern
from torana.frontends.yaml.mounts import Mounts
from torana.gateway.client.client import Reference, Stat

_FOLDER: Final = "/dev/torana-test"
_SHELL: Final = "/bin/sh"
_WRAPPER: Final = f'"$@" >{_FOLDER}/stdout 2>{_FOLDER}/stderr; echo "$?" >{_FOLDER}/status'
_SHOWN: Final = 400  # characters of output in messages
_TYPES: Final = {"file": stat.S_ISREG, "dir": stat.S_ISDIR, "symlink": stat.S_ISLNK}


class TestFailedError(BuildFileError):
    """A test of a stage found something else than it says."""

    code = "TEST_FAILED"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a process did."""

    status: int
    stdout: str
    stderr: str


async def run_tests(conversion: Conversion, stages: Sequence[m.Stage]) -> None:
    """Run the tests of stages that are emitted, one after the other.

    Raises:
        TestFailedError: one failed; located.
    """
    emitter = conversion.emitter
    assert emitter is not None, "emit first"
    for stage in stages:
        built = emitter.built[stage.name]
        tree = await _solve(conversion, built.tree) if stage.tests else None
        for test in stage.tests:
            await _Checker(conversion, stage, built, tree, test).check()


async def _solve(conversion: Conversion, state: State) -> Reference | None:
    if state.output is None:
        return None
    return await conversion.context.solve_result(conversion.marshal(state))


@dataclass(frozen=True, slots=True)
class _Checker:
    conversion: Conversion
    stage: m.Stage
    built: Built
    tree: Reference | None
    test: m.Test

    @property
    def context(self) -> BuildContext:
        return self.conversion.context

    async def check(self) -> None:
        test = self.test
        if test.text is not None or test.args:
            outcome = await self._run()
            if outcome.status != test.exit_code:
                raise self._failed(f"it ended with {outcome.status}, not {test.exit_code}", outcome)
            self._compare("standard output", outcome.stdout, test.stdout, outcome)
            self._compare("standard error", outcome.stderr, test.stderr, outcome)
        for path, wanted in test.files.items():
            await self._check_file(path, wanted)

    def _failed(self, message: str, outcome: Outcome | None = None) -> TestFailedError:
        mark = self.test.mark
        hint = None
        if outcome is not None:
            printed = (outcome.stderr or outcome.stdout).strip()
            shown = printed if len(printed) <= _SHOWN else f"...{printed[-_SHOWN:]}"
            hint = f"it printed: {shown}" if shown else "it printed nothing"
        return TestFailedError(
            f"test `{self.test.name}` of stage `{self.stage.name}`: {message}",
            mark.range,
            hint=hint,
            sources=(mark.file.excerpt((mark.range,)),),
        )

    def _compare(self, what: str, text: str, wanted: m.TextCheck | None, outcome: Outcome) -> None:
        if wanted is None:
            return
        if wanted.equals is not None and text.rstrip("\n") != wanted.equals.rstrip("\n"):
            raise self._failed(f"{what} is not `{_cut(wanted.equals)}`", outcome)
        if wanted.is_empty is not None and wanted.is_empty != (not text):
            raise self._failed(f"{what} is {'not ' if text else ''}empty", outcome)
        self._contents(what, text, wanted.contains, wanted.matches, outcome)

    def _contents(
        self,
        what: str,
        text: str,
        contains: Sequence[str],
        matches: Sequence[str],
        outcome: Outcome | None = None,
    ) -> None:
        for part in contains:
            if part not in text:
                raise self._failed(f"{what} does not contain `{_cut(part)}`", outcome)
        for pattern in matches:
            compiled = Pattern.parse(pattern)
            if not any(compiled.matches(line) for line in text.split("\n")):
                raise self._failed(f"no line of {what} matches {pattern}", outcome)

    # Processes.

    async def _run(self) -> Outcome:
        args = self.test.args if self.test.text is None else (_SHELL, "-ec", self.test.text)
        if self.test.text is not None or await self._exists(_SHELL):
            return await self._step(args)
        return await self._container(args)

    async def _exists(self, path: str) -> bool:
        if self.tree is None:
            return False
        try:
            await self.tree.stat(path)
        except ToranaError:
            return False
        return True

    async def _step(self, args: Sequence[str]) -> Outcome:
        emitter = self.conversion.emitter
        assert emitter is not None
        config = self.built.config.get("config") or {}
        env = dict(each.split("=", 1) for each in config.get("Env") or () if "=" in each)
        cwd = config.get("WorkingDir") or "/"
        mounts = Mounts(
            cwd, self.built.platform, emitter.caps,
            lambda origin: emitter.tree(origin, self.built.platform, self.test.mark),
        )  # fmt: skip
        folder = mounts.empty(_FOLDER)
        executed = emitter.exec(
            self.built,
            (_SHELL, "-c", _WRAPPER, _SHELL, *args),
            env=env,
            cwd=cwd,
            user=config.get("User") or "",
            mounts=[*mounts.of(m.Process(binds=self.test.binds), ()), folder],
            custom_name=f"[{self.stage.name} test] {self.test.name}",
            location=emitter.location((self.test.mark,)),
        )
        output = executed.mount_state(folder)
        # What is read lies alone in its tree, so that nothing else is fetched.
        state = scratch().file(
            FileActions().copy(output, "/out", "/", dir_copy_contents=True),
            custom_name=f"[{self.stage.name} test] output of {self.test.name}",
        )
        reference = await self.context.solve(state)
        assert reference is not None
        stdout, stderr, status = [
            (await reference.read_file(f"/{name}")).decode("utf-8", "replace")
            for name in ("stdout", "stderr", "status")
        ]
        return Outcome(int(status), stdout, stderr)

    async def _container(self, args: Sequence[str]) -> Outcome:
        from torana.gateway.client.containers import (
            ContainerMount,
            ContainerSpec,
            ProcessSpec,
            run,
        )

        config = self.built.config.get("config") or {}
        mounts = [ContainerMount(dest="/", reference=self.tree)]
        emitter = self.conversion.emitter
        assert emitter is not None
        for bind in self.test.binds:
            origin = emitter.tree(bind.origin, self.built.platform, self.test.mark)
            reference = await _solve(self.conversion, origin)
            selector = "" if bind.source in (".", "/") else bind.source
            mounts.append(
                ContainerMount(
                    dest=bind.target, reference=reference, selector=selector, readonly=True
                )
            )
        spec = ContainerSpec(mounts=mounts, platform=self.built.platform)
        process = ProcessSpec(
            args=args,
            env=tuple(config.get("Env") or ()),
            cwd=config.get("WorkingDir") or "/",
            user=config.get("User") or "",
        )
        try:
            async with await self.context.client.new_container(spec) as container:
                done = await run(container, process)
        except ToranaError as err:
            if not err.sources:
                err.sources = (self.test.mark.file.excerpt((self.test.mark.range,)),)
            raise
        return Outcome(
            done.exit_code,
            done.stdout.decode("utf-8", "replace"),
            done.stderr.decode("utf-8", "replace"),
        )

    # Files.

    async def _check_file(self, path: str, wanted: m.FileCheck) -> None:
        found = await self._stat(path)
        if found is None or not wanted.exists:
            if (found is not None) != wanted.exists:
                raise self._failed(f"`{path}` {'does not exist' if wanted.exists else 'exists'}")
            return
        if wanted.type and not _TYPES[wanted.type](found.mode):
            raise self._failed(f"`{path}` is no {wanted.type}")
        mode = stat.S_IMODE(found.mode)
        if wanted.mode is not None and mode != wanted.mode:
            raise self._failed(f"`{path}` has mode {mode:04o}, not {wanted.mode:04o}")
        if wanted.owner is not None:
            await self._check_owner(path, found, wanted.owner)
        if not (wanted.contains or wanted.matches or wanted.sha256):
            return
        assert self.tree is not None
        data = await self.tree.read_file(path)
        if wanted.sha256 and f"sha256:{sha256(data).hexdigest()}" != wanted.sha256:
            raise self._failed(f"`{path}` has another checksum: sha256:{sha256(data).hexdigest()}")
        self._contents(
            f"`{path}`", data.decode("utf-8", "replace"), wanted.contains, wanted.matches
        )

    async def _stat(self, path: str) -> Stat | None:
        """Give metadata of a path itself: links are not followed."""
        if self.tree is None:
            return None
        parent, _, name = path.rstrip("/").rpartition("/")
        try:
            if not name:
                return await self.tree.stat("/")
            entries = await self.tree.read_dir(parent or "/", include=None)
        except NotFoundError:
            return None
        except ToranaError as err:
            if "no such file" in err.message or "not a directory" in err.message:
                return None
            raise
        return next((entry for entry in entries if entry.path.rpartition("/")[2] == name), None)

    async def _check_owner(self, path: str, found: Stat, wanted: m.Owner) -> None:
        pairs = ((found.uid, wanted.user, "/etc/passwd"), (found.gid, wanted.group, "/etc/group"))
        for number, who, table in pairs:
            if who is None:
                continue
            expected = who if isinstance(who, int) else await self._look_up(who, table)
            if number != expected:
                raise self._failed(f"`{path}` belongs to {found.uid}:{found.gid}, not to `{who}`")

    async def _look_up(self, name: str, table: str) -> int | None:
        assert self.tree is not None
        data = await self.context.read_optional(self.tree, table) or b""
        for line in data.decode("utf-8", "replace").splitlines():
            parts = line.split(":")
            if len(parts) > 2 and parts[0] == name and parts[2].isdigit():
                return int(parts[2])
        return None


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
