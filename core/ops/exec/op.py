"""`ExecVertexOp`: an exec op as the solver sees it.

Spec: reference of exec, sections 1 and 16; reference of the solver, section 6.2.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from typing import cast

from torana.core.cache.pending import all_ready
from torana.core.cache.ref import Tree
from torana.core.errors import NotFoundError, ToranaError
from torana.core.llb.ops import ExecOp, LinuxResources, Meta
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform
from torana.core.ops.exec.assemble import Assembly, assemble
from torana.core.ops.exec.errors import ExecError, InvalidExecOpError
from torana.core.ops.exec.key import InputKey, exec_key
from torana.core.ops.exec.keyedsecrets import KeyedSecrets
from torana.core.ops.exec.logs import LogLimiter
from torana.core.ops.exec.networks import open_network
from torana.core.ops.exec.plan import MountPlan, Outcome, plan_mounts
from torana.core.ops.exec.services import StepServices
from torana.core.ops.exec.sources import Sources, open_sources
from torana.core.ops.runtime import ContainerSpec, RuntimeFailedError
from torana.core.ops.steplogs import StepLog
from torana.core.pool import run_blocking
from torana.core.solver.op import CacheMap, CacheMapInput, Preprocess, Result

OnFailure = Callable[[ExecError, Sequence[Tree | None], Sequence[Tree | None]], Awaitable[None]]
"""Takes the inputs of a failed step, which stay the caller's, and takes over what its outputs were
committed to, in the order of outputs."""


class ExecVertexOp:
    """Runs a process on snapshots.

    Inputs are `Tree`s, None standing for scratch; outputs are one for each mount that has one, in
    the order of mounts. `make_local` goes into the cache map as every input's preprocess.
    Without `on_failure` the snapshots of a failed step are thrown away.
    """

    is_limited = True  # by the solver's `max_parallelism`

    def __init__(
        self,
        op: ExecOp,
        *,
        platform: Platform,
        input_count: int,
        services: StepServices,
        step_log: StepLog,
        resources: LinuxResources | None = None,
        make_local: Preprocess | None = None,
        on_failure: OnFailure | None = None,
        keyed_secrets: KeyedSecrets | None = None,
    ) -> None:
        self._op = op
        self._meta = op.meta or Meta()
        self._platform = platform
        self._input_count = input_count
        self._services = services
        self._step_log = step_log
        self._resources = resources
        self._make_local = make_local
        self._on_failure = on_failure
        self._secrets = keyed_secrets
        self._secret_ids = [] if keyed_secrets is None else keyed_secrets.used_by(op)

    async def cache_map(self, index: int) -> tuple[CacheMap, bool]:
        answer = self._plain_map()
        if self._secrets is not None and self._secret_ids:
            digest = await self._secrets.digest(answer.digest, self._secret_ids)
            answer = replace(answer, digest=digest)
        return answer, True

    def define(self) -> CacheMap | None:
        """Give the cache map, unless secrets are to be read for it."""
        return None if self._secret_ids else self._plain_map()

    def _plain_map(self) -> CacheMap:
        key = exec_key(self._op, self._platform, self._input_count)
        inputs = tuple(self._cache_input(entry) for entry in key.inputs)
        return CacheMap(digest=key.digest, inputs=inputs)

    def _cache_input(self, entry: InputKey) -> CacheMapInput:
        async def content(result: Result) -> Digest | None:
            tree = cast("Tree | None", result)
            return None if tree is None else await tree.content_digest(entry.content)

        return CacheMapInput(
            selector=entry.selector,
            content_digest=content if entry.content else None,
            preprocess=self._make_local,
        )

    async def exec(self, inputs: Sequence[Result]) -> Sequence[Result]:
        """Run the process.

        Raises:
            ExecError: it ended with a code that means failure.
            RuntimeFailedError: it could not be started.
            InvalidExecOpError: the op makes no sense.
        """
        if not self._meta.args:
            raise InvalidExecOpError("no arguments: nothing to run")
        plan = plan_mounts(self._op, len(inputs))
        edits = await run_blocking(self._services.devices.edits, self._op.cdi_devices)
        trees = [cast("Tree | None", tree) for tree in inputs]
        await all_ready(trees)
        async with AsyncExitStack() as stack:
            id, directory = stack.enter_context(self._services.folder.container())
            sources = await open_sources(self._op, plan, trees, self._services, directory, stack)
            network = await open_network(self._op, self._services, id, directory, stack)
            parts = Assembly(
                op=self._op,
                plan=plan,
                inputs=trees,
                sources=sources,
                services=self._services,
                id=id,
                directory=directory,
                resources=self._resources,
                network=network,
                devices=edits,
                platform=self._platform,
            )
            failure = await self._run(parts)
            if failure is not None and self._on_failure is None:
                raise failure
            outputs = await self._outputs(plan, trees, sources)
            if failure is None:
                return cast("Sequence[Result]", outputs)
            assert self._on_failure is not None
            await self._on_failure(failure, trees, outputs)
            raise failure

    async def _run(self, parts: Assembly) -> ExecError | None:
        """Run the container; what was mounted for it is unmounted when this returns."""
        mounted = ExitStack()
        try:
            try:
                spec = await run_blocking(assemble, parts, mounted)
            except (InvalidExecOpError, NotFoundError) as err:
                message = f"{_failed(self._meta.args)}: {err.message}"
                raise type(err)(message, hint=err.hint) from err
            except OSError as err:
                text = (err.strerror or str(err)).lower()
                place = err.filename if isinstance(err.filename, str | bytes) else ""
                place = os.fsdecode(place)
                raise ToranaError(f"cannot set up the mounts of a step: {text}: `{place}`") from err
            return await self._run_container(spec)
        finally:
            await run_blocking(mounted.close)

    async def _run_container(self, spec: ContainerSpec) -> ExecError | None:
        output = LogLimiter(self._step_log.log, self._services.log_limits)
        process = _failed(spec.args)
        try:
            status = await self._services.runtime.run(spec, output.write)
        except RuntimeFailedError as err:
            output.flush_clipped()
            raise RuntimeFailedError(f"{process}: {err.message}", hint=err.hint) from err
        if status.code in (self._meta.valid_exit_codes or (0,)):
            return None
        output.flush_clipped()
        message = f"{process}: exit code: {status.code}"
        if status.is_out_of_memory:
            message += ": cannot allocate memory"
        return ExecError(message, exit_code=status.code, log=output.last())

    async def _outputs(
        self, plan: MountPlan, inputs: Sequence[Tree | None], sources: Sources
    ) -> list[Tree | None]:
        outputs: list[Tree | None] = []
        try:
            for entry in plan.all:
                match entry.outcome:
                    case Outcome.COMMIT:
                        child = sources.children[entry.index]
                        ref = await child.commit()
                        del sources.children[entry.index]
                        outputs.append(ref)
                    case Outcome.INPUT:
                        tree = None if entry.mount.input == -1 else inputs[entry.mount.input]
                        outputs.append(None if tree is None else tree.clone())
                    case Outcome.NONE:
                        pass
        except BaseException:
            for tree in outputs:
                if tree is not None:
                    await asyncio.shield(tree.release())
            raise
        return outputs


def _failed(args: Sequence[str]) -> str:
    return f"process {go_quoted(' '.join(args))} did not complete successfully"


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"} | {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\v": "\\v",
}


def go_quoted(text: str) -> str:
    """Quote as Go's `%q` does, the form of BuildKit's messages."""
    return '"' + "".join(map(_quoted, text)) + '"'


def _quoted(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
