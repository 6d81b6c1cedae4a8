"""`Engine`: something that takes a build request. Embedded, `toranad` or stock BuildKit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Protocol

from torana.core.llb.definition import Definition
from torana.core.llb.policy import Policy, SourcePolicy
from torana.core.records import dataclass
from torana.core.solver.progress import ProgressSink
from torana.gateway.client.client import CacheImport
from torana.plugins.selection import FrontendRules


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """One `-o`: `dest` is a path on the client, `-` for standard output, None where not needed."""

    type: str
    attrs: Mapping[str, str] = field(default_factory=dict)
    dest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSource:
    """Where the value of a secret comes from: `type` names a reader, `fields` are for that.

    Built in are `file` (`src`) and `env` (`env`).
    """

    id: str
    type: str
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSource:
    """An ssh agent of the client: the socket of a running one, or files with keys for one."""

    id: str
    socket: Path | None = None
    keys: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """Everything that a build needs to know; either `frontend` or `definition`.

    `options` are frontend options as BuildKit names them (`target`, `build-arg:NAME`, ...).
    `local_dirs` are the client's folders by name (`context`, `dockerfile`).
    """

    frontend: str = ""
    definition: Definition | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    local_dirs: Mapping[str, Path] = field(default_factory=dict)
    oci_layouts: Mapping[str, Path] = field(default_factory=dict)  # by the name of their store
    exports: Sequence[ExportRequest] = ()
    cache_imports: Sequence[CacheImport] = ()  # as the client gave them, like the next
    cache_exports: Sequence[CacheImport] = ()
    secrets: Sequence[SecretSource] = ()
    agents: Sequence[AgentSource] = ()
    allow: frozenset[str] = frozenset()  # entitlements granted
    is_frontend_remote: bool = False  # a daemon runs the frontend, not this process
    find_syntax: Callable[[], str] | None = None  # gives what reads a file that names nothing
    rules: FrontendRules = field(default_factory=FrontendRules)  # what a syntax may name
    is_isolated: bool = False  # the frontend runs in a confined process of its own
    source_policy: SourcePolicy | None = None
    policies: Sequence[Policy] = ()  # of the project
    record: Path | None = None  # file for the frontend's conversation
    no_cache: bool = False  # with `definition`: ignore the cache for every op
    has_file_index: bool = True  # False: read all local files, whatever is known of them


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """What a build gave: the exporters' answers (`containerimage.digest`, ...).

    `reproducible_from` is the memo's view: the client's trees that the result depends on, or None
    when it also depends on something that cannot be looked at cheaply.
    """

    response: Mapping[str, str]
    reproducible_from: Sequence[ReadTree] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadTree:
    """Part of a client folder that a build looked at.

    `paths` are relative; empty means everything. `pruned` are relative paths that are excluded
    whole, without exceptions.
    """

    root: Path
    paths: tuple[str, ...] = ()
    pruned: frozenset[str] = frozenset()


class NoProgress:
    """A sink that shows nothing."""

    def emit(self, event: object) -> None:
        """Ignore the event."""


class Engine(Protocol):
    """Takes build requests. Conformance: the same build gives the same image on every engine."""

    async def build(self, request: BuildRequest, progress: ProgressSink) -> BuildResult:
        """Run a build and its exports.

        Raises:
            ToranaError: the build failed; `sources` and `hint` say where and what to do.
        """
        ...

    async def translate(self, request: BuildRequest) -> Definition | None:
        """Run the frontend only and give the definition of its result, None for scratch.

        Raises:
            UserError: the result has several platforms.
        """
        ...

    async def ask(self, request: BuildRequest, progress: ProgressSink) -> Mapping[str, bytes]:
        """Let the frontend answer the subrequest that the option `requestid` names.

        Gives the metadata of the answer: `result.json`, `result.txt`, `result.statuscode`.
        """
        ...

    async def close(self) -> None: ...
