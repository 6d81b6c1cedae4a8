"""Opening what mounts are made of: children of inputs, caches, secrets, agents.

Everything that waits for somebody else happens here, on the event loop; `assemble` does the rest in
one go in a thread.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import field
from pathlib import Path

from torana.core.cache.ref import ImmutableRef, MutableRef, RecordType, Tree
from torana.core.errors import UnsupportedError
from torana.core.llb.ops import CacheOpt, CacheSharing, ExecOp, SecretEnv, SecretOpt, SSHOpt
from torana.core.ops.exec.caches import CacheRequest
from torana.core.ops.exec.errors import InvalidExecOpError, SecretNotFoundError
from torana.core.ops.exec.plan import Content, MountPlan, PlannedMount
from torana.core.ops.exec.services import StepServices
from torana.core.records import dataclass


@dataclass(slots=True)
class Sources:
    """What was opened, by index of the mount; a mount that is in none of them is skipped."""

    children: dict[int, MutableRef] = field(default_factory=dict)
    caches: dict[int, Path] = field(default_factory=dict)
    secrets: dict[int, bytes] = field(default_factory=dict)
    sockets: dict[int, Path] = field(default_factory=dict)
    secret_env: list[tuple[str, str]] = field(default_factory=list)


async def open_sources(
    op: ExecOp,
    plan: MountPlan,
    inputs: Sequence[Tree | None],
    services: StepServices,
    directory: Path,
    stack: AsyncExitStack,
) -> Sources:
    """Open the sources of all mounts.

    What must be closed after the run goes on `stack`, but for children: they end by commit or
    release, and the caller sees to that from the moment that they are in the result.

    Raises:
        SecretNotFoundError: a required secret is missing.
        UnsupportedError: a required agent cannot be had.
    """
    sources = Sources()
    stack.push_async_callback(_release_left, sources)
    opener = _Opener(op, inputs, services, directory, stack, sources)
    sources.secret_env = await secret_environment(op.secret_env, services)
    # Cheap and likely to fail first; locked caches may wait long and so come last.
    order = {Content.SECRET: 0, Content.SSH: 1, Content.CHILD: 2}
    effective = {id(entry) for entry in (plan.root, *plan.others)}
    for entry in sorted(plan.all, key=lambda entry: order.get(entry.content, 2)):
        # A mount that another one replaces still has its output.
        if entry.content is Content.CHILD or id(entry) in effective:
            await opener.open(entry)
    await opener.open_caches()
    return sources


async def secret_environment(
    wanted: Sequence[SecretEnv], services: StepServices
) -> list[tuple[str, str]]:
    """Read secrets that become environment variables; gives names and values.

    Raises:
        SecretNotFoundError: a required one is missing.
        InvalidExecOpError: one without an id, or whose value cannot be a variable.
    """
    found = []
    for secret in wanted:
        if not secret.id:
            raise InvalidExecOpError(f'secret ID missing for "{secret.name}" environment variable')
        value = await _secret(services, secret.id, optional=secret.optional) or b""
        try:
            text = value.decode()
        except UnicodeDecodeError:
            # From None: the exception itself shows the value.
            raise InvalidExecOpError(
                f"secret {secret.id}: not text, as an environment variable must be"
            ) from None
        if "\0" in text:
            raise InvalidExecOpError(f"secret {secret.id}: has a zero byte")
        found.append((secret.name, text))
    return found


async def _secret(services: StepServices, id: str, *, optional: bool) -> bytes | None:
    provider = services.secrets
    value = None if provider is None else await provider.get(id)
    if value is None and not optional:
        raise SecretNotFoundError(
            f"secret {id}: not found", hint=f"give it with `--secret id={id},src=FILE`"
        )
    return value


async def _release_left(sources: Sources) -> None:
    while sources.children:
        _, child = sources.children.popitem()
        await child.release()


class _Opener:
    def __init__(
        self,
        op: ExecOp,
        inputs: Sequence[Tree | None],
        services: StepServices,
        directory: Path,
        stack: AsyncExitStack,
        sources: Sources,
    ) -> None:
        self._op = op
        self._inputs = inputs
        self._services = services
        self._directory = directory
        self._stack = stack
        self._sources = sources
        self._caches: list[tuple[CacheRequest, int]] = []
        meta = op.meta
        self._name = f"exec {' '.join(meta.args)}" if meta is not None else "exec"

    async def open(self, entry: PlannedMount) -> None:
        match entry.content:
            case Content.CHILD:
                await self._open_child(entry)
            case Content.CACHE:
                await self._request_cache(entry)
            case Content.SECRET:
                await self._open_secret(entry)
            case Content.SSH:
                await self._open_ssh(entry)
            case _:
                pass  # inputs are mounted in `assemble`, tmpfs by the runtime

    async def _open_child(self, entry: PlannedMount) -> None:
        parent = await self._snapshot(entry)
        try:
            opening = asyncio.ensure_future(
                self._services.refs.new_mutable(
                    parent,
                    description=f"mount {entry.mount.dest} from {self._name}",
                    record_type=RecordType.REGULAR,
                )
            )
            # A cancellation must not lose a snapshot that is just being made.
            try:
                child = await asyncio.shield(opening)
            except asyncio.CancelledError:
                await asyncio.wait([opening])
                if not opening.cancelled() and opening.exception() is None:
                    await opening.result().release()
                raise
            self._sources.children[entry.index] = child
        finally:
            if parent is not None:
                await parent.release()

    async def _snapshot(self, entry: PlannedMount) -> ImmutableRef | None:
        tree = None if entry.mount.input == -1 else self._inputs[entry.mount.input]
        return None if tree is None else await tree.snapshot()

    async def _request_cache(self, entry: PlannedMount) -> None:
        options = entry.mount.cache_opt or CacheOpt()
        base = await self._snapshot(entry)
        if base is not None:
            self._stack.push_async_callback(base.release)
        description = f"cached mount {entry.mount.dest} from {self._name}"
        if options.id:
            description += f' with id "{options.id}"'
        id = options.id or entry.mount.dest
        request = CacheRequest(id, CacheSharing(options.sharing), description, base)
        self._caches.append((request, entry.index))

    async def open_caches(self) -> None:
        """Open all caches, in an order that is the same for all steps: none waits for another
        that waits for it."""
        opened: dict[str, Path] = {}
        for request, index in sorted(self._caches, key=lambda wanted: wanted[0].key):
            path = opened.get(request.key)
            if path is None:
                path = await self._stack.enter_async_context(self._services.caches.use(request))
                opened[request.key] = path
            self._sources.caches[index] = path

    async def _open_secret(self, entry: PlannedMount) -> None:
        options = entry.mount.secret_opt or SecretOpt()
        if not options.id:
            raise InvalidExecOpError("secret ID missing from mount options")
        value = await _secret(self._services, options.id, optional=options.optional)
        if value is not None:
            self._sources.secrets[entry.index] = value

    async def _open_ssh(self, entry: PlannedMount) -> None:
        options = entry.mount.ssh_opt or SSHOpt()
        id = options.id or "default"
        if self._services.ssh is None:
            if options.optional:
                return
            raise UnsupportedError("ssh mounts need a client that forwards its agent")
        name = f"ssh-{entry.index}.sock"
        # Addresses of sockets are at most 107 bytes long, our folder's path may be longer.
        descriptor = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._stack.callback(os.close, descriptor)
        short = Path(f"/proc/self/fd/{descriptor}", name)
        if await self._stack.enter_async_context(self._services.ssh.forward(id, short)):
            self._sources.sockets[entry.index] = self._directory / name
        elif not options.optional:
            raise UnsupportedError(
                f'no SSH key "{id}" forwarded from the client', hint=f"give it with `--ssh {id}`"
            )
