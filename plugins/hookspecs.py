"""The hooks that plugins implement (pluggy). Each has a user among the built-in plugins.

A plugin is a module, a class or an object with functions of these names, marked by `hookimpl`; the
entry point in the group `torana.plugins` names it. It is loaded in the process of the engine when
something names what it offers: a flag, a configuration, an identifier in a build. A hook that finds
something returns None for names that are not its own; then the next plugin is asked, those that are
built in first.

`docs/hooks.md` is made of this module by `torana.plugins.reference`; a test compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import pluggy

from torana.plugins.manifest import API as API

if TYPE_CHECKING:
    from torana.core.llb.policy import Policy
    from torana.core.ops.runtime import Runtime
    from torana.core.ops.source import Source
    from torana.core.snapshots.choose import MakeSnapshotter
    from torana.plugins.cachebackend import CacheBackend
    from torana.plugins.displays import OpenDisplay
    from torana.plugins.exporter import Exporter
    from torana.plugins.secretreader import SecretReader

PROJECT: Final = "torana"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def torana_find_source(scheme: str) -> Source | None:
    """Return the source that serves `<scheme>://` identifiers.

    Called when an op of a build is resolved, on the event loop; must not block. The source is
    opened for each op, and asked for its key before it is asked for its content.

    Named by: identifiers in a build (`git://...`).
    Built in: `torana.plugins.sources`.
    Conformance: `torana.plugins.testing.sources.SourceSuite`.
    """


@hookspec(firstresult=True)
def torana_find_exporter(type: str) -> Exporter | None:
    """Return the exporter of `type`.

    Called before the build runs, so that a wrong type costs nothing; must not block. An exporter
    with a method `check` is asked about the attributes then, too.

    Named by: `-o type=...`.
    Built in: `torana.plugins.exporters`.
    Conformance: `torana.plugins.testing.exporters.ExporterSuite`.
    """


@hookspec
def torana_list_exporters() -> list[str]:  # type: ignore[empty-body]  # a specification
    """Return the types that `torana_find_exporter` knows, for messages and documents."""


@hookspec
def torana_list_runtimes() -> list[Runtime]:  # type: ignore[empty-body]  # a specification
    """Return container runtimes in order of preference.

    Of the built-in ones the first whose `probe` passes is used. Those of other plugins are used
    when they are named. Making the objects must not start anything.

    Named by: `TORANA_RUNTIME`, `worker.oci.binary` of toranad.toml.
    Built in: `torana.plugins.runtimes`.
    Conformance: `torana.core.testing.runtimes.RuntimeSuite`.
    """


@hookspec(firstresult=True)
def torana_find_snapshotter(name: str) -> MakeSnapshotter | None:
    """Return what makes the snapshotter `name`; it gets the root of the store.

    Called once when a store is opened, before there are threads. It keeps its data in
    `<root>/snapshots/<name>` and raises a `UserError` where it cannot work.

    Named by: `TORANA_SNAPSHOTTER`, `worker.oci.snapshotter` of toranad.toml.
    Built in: `torana.plugins.snapshotters`.
    Conformance: `torana.core.testing.snapshotters.SnapshotterSuite`.
    """


@hookspec(firstresult=True)
def torana_find_secret_reader(type: str) -> SecretReader | None:
    """Return what reads secrets of `type`.

    Called when the command line is read; must not block. The reader is asked on the event loop when
    a step mounts the secret, and what it gives goes to that step alone.

    Named by: `--secret id=...,type=TYPE,...`.
    Built in: `torana.plugins.secretreaders`.
    Conformance: `torana.plugins.testing.secrets.SecretReaderSuite`.
    """


@hookspec(firstresult=True)
def torana_find_policy(name: str, settings: Mapping[str, Any]) -> Policy | None:
    """Return the policy `name` with `settings`, the table of that name in `torana.toml`.

    Called before the build runs; must not block. Settings that make no sense are a `UserError`.
    A build whose project names a policy that nobody offers is refused.

    Named by: `[policies.NAME]` in `torana.toml`.
    Built in: `torana.plugins.policies`.
    Conformance: `torana.plugins.testing.policies.PolicySuite`.
    """


@hookspec(firstresult=True)
def torana_find_display(mode: str) -> OpenDisplay | None:
    """Return what opens the progress display of `mode`, a sink for the events of a build.

    Called once per command, before the build runs.

    Named by: `--progress MODE`, `BUILDKIT_PROGRESS`.
    Built in: `torana.cli.progress.builtin`.
    Conformance: `torana.plugins.testing.displays.DisplaySuite`.
    """


@hookspec
def torana_list_displays() -> list[str]:  # type: ignore[empty-body]  # a specification
    """Return the modes that `torana_find_display` knows, for messages and documents."""


@hookspec(firstresult=True)
def torana_find_cache_backend(type: str) -> CacheBackend | None:
    """Return the backend for build caches of `type`, a kind of place to read and write them.

    Called before a build; must not block. An import that fails is told as a warning and the build
    goes on without it; an export that fails fails the build.

    Named by: `--cache-from type=TYPE,...`, `--cache-to type=TYPE,...`.
    Built in: `torana.plugins.caches`.
    Conformance: `torana.plugins.testing.caches.CacheBackendSuite`; for those that write into images
    `torana.plugins.testing.caches.InlineCacheSuite`.
    """


@hookspec
def torana_list_cache_backends() -> list[str]:  # type: ignore[empty-body]  # a specification
    """Return the types that `torana_find_cache_backend` knows, for messages and documents."""
