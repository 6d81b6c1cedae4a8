"""`Worker`: content, snapshots, cache and ops of one root, put together.

Sources, secrets and the container runtime are handed in from above.
"""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from torana.core import leftovers
from torana.core.cache.executions import Executions
from torana.core.cache.imagelayers import ImageLayers
from torana.core.cache.keys import SqliteKeyStore
from torana.core.cache.layers import LayerStore
from torana.core.cache.local import LocalSelection, LocalTree
from torana.core.cache.localstats import LocalStats
from torana.core.cache.manager import CacheManager
from torana.core.cache.storeroot import make_reserve, make_root
from torana.core.cache.upkeep import Upkeep
from torana.core.content.images import ImageStore
from torana.core.content.store import ContentStore
from torana.core.database import Database
from torana.core.llb import ops as o
from torana.core.llb.definition import Definition
from torana.core.loading import LLBVertex, is_shared, load
from torana.core.oci.platform import Platform, host_platform
from torana.core.ops.build import BuildVertexOp
from torana.core.ops.diff import DiffVertexOp
from torana.core.ops.exec.cdi import Devices
from torana.core.ops.exec.limits import StepLimits
from torana.core.ops.exec.network_files import DNSConfig
from torana.core.ops.exec.networks import NetworkProvider
from torana.core.ops.exec.services import SecretProvider, SSHProvider, StepServices
from torana.core.ops.file.op import FileVertexOp
from torana.core.ops.local import LocalOptions, LocalSource
from torana.core.ops.merge import MergeVertexOp
from torana.core.ops.once import OnceOp
from torana.core.ops.passthrough import PassthroughVertexOp
from torana.core.ops.runtime import (
    Runtime,
)
from torana.core.ops.source import (
    FindSource,
    Source,
    SourceProgress,
    SourceServices,
    SourceVertexOp,
    open_source,
)
from torana.core.ops.steplogs import SharedLog, StepLogs
from torana.core.results import RefResults
from torana.core.snapshots import namespace
from torana.core.snapshots.choose import MakeSnapshotter, choose
from torana.core.solver.op import Op, Result
from torana.core.solver.opcontext import OpContext
from torana.core.solver.slots import Slots
from torana.core.solver.solver import Solver
from torana.core.solver.vertex import Vertex

if TYPE_CHECKING:
    from torana.core.cache.policy import GCPolicy
    from torana.core.cache.prune import OnRecord
    from torana.core.cache.usage import UsageRecord
    from torana.core.ops.exec.caches import CacheMounts
    from torana.core.ops.exec.folder import ExecutorFolder

# How long after a step other builds may still not have seen the keys of its result.
_JUST_DONE_S = 60.0


class Worker:
    """One root, opened by this process. `open` first enters private namespaces."""

    def __init__(self, root: Path, *, snapshotter: str | MakeSnapshotter = "auto") -> None:
        make_root(root)
        self.root = root
        self.platform = host_platform()
        self.dns: DNSConfig | None = None  # of steps; None: the host's
        self.network: NetworkProvider | None = None  # of steps; None: the host's
        self.trace_socket: Path | None = None  # where steps send spans
        self.user = namespace.identity()
        make = partial(choose, wanted=snapshotter) if isinstance(snapshotter, str) else snapshotter
        self.choice = make(root, is_mapped_user=self.user.is_mapped)
        self.database = Database(root / "torana.db")
        self.refs = CacheManager(root, self.database, self.choice.snapshotter)
        self.content = ContentStore(root / "content", self.refs.hold_blob)
        self.keys = SqliteKeyStore(self.database)
        self.results = RefResults(self.refs)
        self.layers = LayerStore(self.refs, self.content)
        self.images = ImageStore(self.database)
        self.image_layers = ImageLayers(self.refs, self.content)
        self.executions = Executions(root, self.database)
        self.upkeep = Upkeep(self.refs, self.content, self.images)
        self.upkeep.on_prune.append(self.executions.forget_old)
        leftovers.watch(self.upkeep, self.refs, self.keys, self.results)
        self.refs.records.on_delete.append(self.keys.release)
        self.dropped = self.upkeep.reconcile()
        make_reserve(root)
        self.limits = StepLimits.from_environment(os.environ)
        self.devices = Devices.from_environment(os.environ)
        self.apparmor_profile = os.environ.get("TORANA_APPARMOR_PROFILE", "")  # of steps
        self.cgroup_parent = ""  # of steps that name none
        self.has_selinux = os.environ.get("TORANA_SELINUX", "") not in ("", "0")  # labels of steps
        self._executor: ExecutorFolder | None = None
        self._slots = Slots(0)
        self._logs = StepLogs()

    def limit_parallelism(self, count: int) -> None:
        """Let at most `count` sources, steps and file ops of all builds run at once; 0: any.

        Counts for builds that are opened from now on.
        """
        self._slots = Slots(count)

    @classmethod
    def open(cls, root: Path, *, snapshotter: str | MakeSnapshotter = "auto") -> Worker:
        """Open a root from a process that may then mount.

        Raises:
            UnsupportedError: neither root nor user namespaces are to be had.
        """
        namespace.enter()
        _forbid_core_dumps()
        # Graphs are many small objects that live until the end: looking for garbage among them
        # every 700 objects, as is Python's default, takes as long as solving does.
        gc.set_threshold(50_000, 20, 50)
        return cls(root, snapshotter=snapshotter)

    def solver(
        self,
        *,
        find_source: FindSource,
        runtime: Runtime,
        secrets: SecretProvider | None = None,
        ssh: SSHProvider | None = None,
        memo: dict[Any, Any] | None = None,
        keeps_failures: bool = False,
        entitlements: frozenset[str] = frozenset(),
        keyed_secrets: frozenset[str] = frozenset(),
        traceparent: str = "",
    ) -> Solver:
        """Make the solver of one build, with sources and secrets of its client.

        `memo` is what its sources remember of names that they resolved. With `keeps_failures`
        errors of steps have the state of their mounts. `entitlements` are for what build ops load.
        Steps that use one of `keyed_secrets` run again when its value has changed. `traceparent` is
        the span that spans of steps belong to.
        """
        memo = {} if memo is None else memo

        def resolve(vertex: Vertex, context: OpContext) -> Op:
            log = SharedLog(context)
            op = self._op(
                vertex,
                context,
                log,
                find_source,
                memo,
                partial(self.services, runtime, secrets, ssh, traceparent),
                secrets,
                ssh,
                keeps_failures,
                entitlements,
                keyed_secrets,
            )
            if not is_shared(vertex):
                return op
            return OnceOp(
                op,
                executions=self.executions,
                results=self.results,
                since=time.time() - _JUST_DONE_S,
                log=log,
                logs=self._logs,
            )

        return Solver(
            resolve_op=resolve,
            keys=self.keys,
            results=self.results,
            slots=self._slots,
        )

    def local_source(
        self, folders: Mapping[str, Path], session_id: str, *, has_file_index: bool = True
    ) -> Source:
        """Give the source that reads `local://` from folders of this machine, in place.

        Without `has_file_index` all files are read, whatever is known of them.
        """
        open_tree = partial(self._local_tree, has_index=has_file_index)
        return LocalSource(folders, session_id=session_id, open_tree=open_tree)

    def _local_tree(
        self, name: str, folder: Path, options: LocalOptions, *, has_index: bool
    ) -> LocalTree:
        selection = LocalSelection(
            include=options.include or (),
            exclude=options.exclude or (),
            follow=options.follow_paths or (),
            has_index=has_index and options.is_compared,
        )
        if options.metadata_only:
            return LocalStats(
                folder,
                manager=self.refs,
                selection=selection,
                contents=options.metadata_exceptions,
            )
        return LocalTree(folder, manager=self.refs, selection=selection)

    def _op(
        self,
        vertex: Vertex,
        context: OpContext,
        log: SharedLog,
        find: FindSource,
        memo: dict[Any, Any],
        step_services: Callable[[], StepServices],
        secrets: SecretProvider | None,
        ssh: SSHProvider | None,
        keeps_failures: bool,
        entitlements: frozenset[str],
        keyed_secrets: frozenset[str],
    ) -> Op:
        assert isinstance(vertex.sys, LLBVertex)
        op = vertex.sys.op
        platform: Platform = op.platform or self.platform
        count = len(vertex.inputs)
        kind = op.kind
        match kind:
            case o.SourceOp():
                services = self.source_services(context, memo, secrets, ssh)
                return SourceVertexOp(open_source(kind, platform, find, services))
            case o.ExecOp():
                from torana.core.ops.exec.errors import keep_failure
                from torana.core.ops.exec.keyedsecrets import KeyedSecrets
                from torana.core.ops.exec.op import ExecVertexOp  # many builds run no step

                devices = self.devices.of_build(entitlements)
                devices.check(kind.cdi_devices)
                return ExecVertexOp(
                    kind,
                    platform=platform,
                    input_count=count,
                    services=replace(step_services(), devices=devices),
                    step_log=log,
                    resources=vertex.sys.metadata.linux_resources,
                    on_failure=keep_failure(kind) if keeps_failures else None,
                    keyed_secrets=KeyedSecrets(keyed_secrets, secrets, self.root)
                    if keyed_secrets and secrets is not None
                    else None,
                )
            case o.FileOp():
                return FileVertexOp(
                    kind,
                    name=vertex.name,
                    input_count=count,
                    refs=self.refs,
                    copies=self.refs.copies,
                )
            case o.MergeOp():
                return MergeVertexOp(kind, name=vertex.name, input_count=count, refs=self.refs)
            case o.DiffOp():
                return DiffVertexOp(kind, name=vertex.name, input_count=count, refs=self.refs)
            case o.PassthroughOp():
                return PassthroughVertexOp(kind, input_count=count)
            case o.BuildOp():

                async def solve(definition: Definition) -> Result | None:
                    return await context.build(load(definition, entitlements=entitlements))

                return BuildVertexOp(kind, input_count=count, solve=solve)
            case None:
                raise AssertionError("validated definitions have no op without a kind")
            case _:
                assert_never(kind)

    def source_services(
        self,
        progress: SourceProgress,
        memo: dict[Any, Any],
        secrets: SecretProvider | None = None,
        ssh: SSHProvider | None = None,
    ) -> SourceServices:
        """Give what sources of one build use of this worker."""
        return SourceServices(
            root=self.root,
            refs=self.refs,
            content=self.content,
            images=self.images,
            image_layers=self.image_layers,
            database=self.database,
            memo=memo,
            progress=progress,
            secrets=secrets,
            ssh=ssh,
        )

    async def empty_caches(self, ids: Mapping[str, bool]) -> None:
        """Let the cache mounts of these ids start anew; True: those on a base."""
        if ids:
            await self._cache_mounts.empty(ids)

    @cached_property
    def _cache_mounts(self) -> CacheMounts:
        from torana.core.ops.exec.caches import CacheMounts

        return CacheMounts(self.refs)

    def services(
        self,
        runtime: Runtime,
        secrets: SecretProvider | None = None,
        ssh: SSHProvider | None = None,
        traceparent: str = "",
    ) -> StepServices:
        """Give what steps and containers of one build use of this worker."""
        from torana.core.ops.exec.folder import ExecutorFolder
        from torana.core.ops.exec.traces import StepTraces

        socket = self.trace_socket
        if self._executor is None:
            self._executor = ExecutorFolder(self.root)
        return StepServices(
            refs=self.refs,
            runtime=runtime,
            folder=self._executor,
            caches=self._cache_mounts,
            secrets=secrets,
            ssh=ssh,
            dns=self.dns,
            network=self.network,
            limits=self.limits,
            apparmor_profile=self.apparmor_profile,
            cgroup_parent=self.cgroup_parent,
            has_selinux=self.has_selinux,
            traces=None if socket is None else StepTraces(socket=socket, parent=traceparent),
        )

    def flush(self) -> None:
        """Bring what builds wrote to the disk, if anything is not there. Blocks."""
        self.content.sync()
        if self.refs.records.unsynced():
            self.refs.flush()

    # Upkeep

    def build_ended(self) -> None:
        """Forget keys of results that were never made; to be called when a job is discarded."""
        with suppress(OSError):  # on a full disk they stay; whoever looks them up drops them
            for id in self.results.never_made():
                self.keys.release(id)

    def disk_usage(self, filters: Sequence[str] = ()) -> list[UsageRecord]:
        """Give the cache records that match, newest use first. Blocks.

        Raises:
            InvalidFilterError: a filter cannot be understood.
        """
        return self.upkeep.disk_usage(filters)

    def prune(
        self, policies: Sequence[GCPolicy], on_record: OnRecord | None = None
    ) -> list[UsageRecord]:
        """Delete what the policies ask for and nobody holds; gives the records. Blocks.

        Raises:
            InvalidFilterError: a filter cannot be understood.
        """
        return self.upkeep.prune(policies, on_record)

    def close(self) -> None:
        """Give everything back."""
        if self._executor is not None:
            self._executor.close()
            self._executor = None
        self.refs.close()
        self.database.close()


def _forbid_core_dumps() -> None:
    """Let no crash write the memory of this process, which may hold secrets, to a disk.

    Steps inherit it, and may raise it again.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
