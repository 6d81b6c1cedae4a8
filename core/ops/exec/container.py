"""`OpenContainer`: mounts that stay, and processes that somebody talks to.

What a frontend's container is made of; nothing of it is committed.

Spec: reference of exec, section 19.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from torana.core.cache.pending import all_ready
from torana.core.cache.ref import Tree
from torana.core.errors import ConflictError, NotFoundError
from torana.core.llb.ops import ExecOp, Meta, SecretEnv, SecurityMode
from torana.core.ops.exec.assemble import Assembler, Assembly
from torana.core.ops.exec.environment import compose_environment
from torana.core.ops.exec.errors import InvalidExecOpError
from torana.core.ops.exec.networks import open_network
from torana.core.ops.exec.plan import Content, plan_mounts
from torana.core.ops.exec.services import StepServices
from torana.core.ops.exec.sources import open_sources, secret_environment
from torana.core.ops.exec.users import home_of, resolve_user
from torana.core.ops.runtime import (
    ContainerMount,
    ProcessSpec,
    RunningContainer,
    RunningProcess,
    Streams,
)
from torana.core.pool import run_blocking
from torana.core.records import dataclass
from torana.core.snapshots.rootfs import clean

_TERM: Final = "xterm"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerProcess:
    """A process to be started."""

    meta: Meta
    security: SecurityMode = SecurityMode.SANDBOX
    secret_env: tuple[SecretEnv, ...] = ()
    is_terminal: bool = False
    binds: tuple[ContainerMount, ...] = ()  # of this machine; only with the first process


class OpenContainer:
    """A container that lives until `close`. Used on one event loop."""

    def __init__(self, op: ExecOp, services: StepServices) -> None:
        self._op = op
        self._services = services
        self._stack = AsyncExitStack()
        self._mounted = ExitStack()
        self._lock = asyncio.Lock()
        self._running: RunningContainer | None = None
        self._selinux_label = ""
        self._is_closed = False

    @classmethod
    async def open(
        cls, op: ExecOp, inputs: Sequence[Tree | None], services: StepServices
    ) -> OpenContainer:
        """Open the mounts of `op` on `inputs`, which stay the caller's; its meta may be None.

        Raises:
            InvalidExecOpError: the mounts make no sense.
        """
        made = cls(op, services)
        try:
            await made._open(inputs)
        except BaseException:
            await asyncio.shield(made.close())
            raise
        return made

    async def _open(self, inputs: Sequence[Tree | None]) -> None:
        self._plan = plan_mounts(self._op, len(inputs))
        trees = [None if tree is None else tree.clone() for tree in inputs]
        for tree in trees:
            if tree is not None:
                self._stack.push_async_callback(tree.release)
        await all_ready(trees)
        id, directory = self._stack.enter_context(self._services.folder.container())
        sources = await open_sources(
            self._op, self._plan, trees, self._services, directory, self._stack
        )
        network = await open_network(self._op, self._services, id, directory, self._stack)
        parts = Assembly(
            op=self._op,
            plan=self._plan,
            inputs=trees,
            sources=sources,
            services=self._services,
            id=id,
            directory=directory,
            network=network,
        )
        self._assembler = Assembler(parts, self._mounted)

    async def start(self, process: ContainerProcess, streams: Streams) -> RunningProcess:
        """Start a process; the first one is the container's, with whose end the container ends.

        Raises:
            ConflictError: the first process has ended, or the container is closed.
            RuntimeFailedError: it did not start.
        """
        if not process.meta.args:
            raise InvalidExecOpError("no arguments: nothing to run")
        secrets = await secret_environment(process.secret_env, self._services)
        async with self._lock:
            if self._is_closed:
                raise ConflictError("container is closed")
            meta = _with_terminal(process.meta) if process.is_terminal else process.meta
            if self._running is None:
                base = self._op.meta or Meta()
                meta = replace(meta, hostname=base.hostname, extra_hosts=base.extra_hosts)
                op = replace(self._op, meta=meta, security=process.security)
                spec = await run_blocking(self._assembler.assemble, op, secrets, process.binds)
                spec = replace(spec, is_terminal=process.is_terminal)
                self._selinux_label = spec.selinux_label
                self._running = await self._services.runtime.start(spec, streams)
                return self._running
            rootfs = await run_blocking(self._assembler.tree, self._plan.root)
            user = await run_blocking(resolve_user, meta.user, rootfs)
            defaults = {"HOME": await run_blocking(home_of, user.uid, rootfs)}
            if self._services.traces is not None:
                defaults |= self._services.traces.environment()
            return await self._running.exec(
                ProcessSpec(
                    args=meta.args,
                    env=compose_environment(meta.env, meta.proxy_env, secrets, defaults=defaults),
                    cwd=clean(meta.cwd),
                    user=user,
                    insecure=process.security is SecurityMode.INSECURE,
                    apparmor_profile=self._services.apparmor_profile,
                    selinux_label=self._selinux_label,
                    is_terminal=process.is_terminal,
                ),
                streams,
            )

    async def path(self, index: int) -> Path:
        """Give the directory or file of this machine that mount `index` shows.

        Raises:
            NotFoundError: no such mount, or one without files that could be read.
        """
        if self._is_closed or not 0 <= index < len(self._plan.all):
            raise NotFoundError(f"no such mount: `{index}`")
        entry = self._plan.all[index]
        if entry.content in (Content.TMPFS, Content.SECRET, Content.SSH):
            raise NotFoundError(f"mount has no files to be read: `{entry.destination}`")
        async with self._lock:
            return await run_blocking(self._assembler.tree, entry)

    async def close(self) -> None:
        """Kill all processes and give everything back. Doing it again does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        async with self._lock:
            if self._running is not None:
                await self._running.kill()
            await run_blocking(self._mounted.close)
            await self._stack.aclose()


def _with_terminal(meta: Meta) -> Meta:
    if any(entry.startswith("TERM=") for entry in meta.env):
        return meta
    return replace(meta, env=(*meta.env, f"TERM={_TERM}"))
