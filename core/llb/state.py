"""`State`: an immutable file tree in the making, the Python counterpart of Go's `client/llb`.

>>> base = image("docker.io/library/alpine:3.20")
>>> built = base.dir("/src").run(["make"], custom_name="build").root
>>> result = scratch().file(copy(built, "/src/app", "/app"))
>>> definition = result.marshal()

A state is an output of a vertex (None is scratch) plus what later processes inherit: environment,
working directory, user and the like. Nothing is done or looked up until `marshal`.

Longer than most: states, their options and the functions that begin one name each other's types.
"""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import TypedDict, Unpack

from torana.core.llb import ops as o
from torana.core.llb.actions import FileActions, copy, mkdir, mkfile, owner, rm, symlink
from torana.core.llb.caps import LLB_CAPS
from torana.core.llb.definition import Definition
from torana.core.llb.marshal import marshal
from torana.core.llb.vertices import (
    DiffVertex,
    ExecVertex,
    FileVertex,
    GivenVertex,
    MergeVertex,
    MountSpec,
    Options,
    Output,
    SecretSpec,
    SourceLocation,
    SourceVertex,
    SSHSpec,
    Target,
)
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform, host_platform
from torana.core.records import dataclass

__all__ = [
    "ExecState",
    "OptionArgs",
    "State",
    "copy",
    "diff",
    "from_definition",
    "git",
    "http",
    "image",
    "local",
    "merge",
    "mkdir",
    "mkfile",
    "oci_layout",
    "owner",
    "rm",
    "scratch",
    "source",
    "symlink",
]


class OptionArgs(TypedDict, total=False):
    """Options that every op takes; see `vertices.Options`."""

    custom_name: str
    description: Mapping[str, str]
    ignore_cache: bool
    export_cache: bool | None
    progress_group: o.ProgressGroup | None
    linux_resources: o.LinuxResources | None
    location: Sequence[SourceLocation]
    platform: Platform | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """What processes of a state inherit."""

    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    user: str = ""
    hostname: str = ""
    network: o.NetMode = o.NetMode.UNSET
    security: o.SecurityMode = o.SecurityMode.SANDBOX
    extra_hosts: tuple[o.HostIP, ...] = ()
    ulimit: tuple[o.Ulimit, ...] = ()
    cgroup_parent: str = ""
    platform: Platform | None = None


@dataclass(frozen=True, slots=True)
class State:
    """A file tree in the making; methods give new states."""

    output: Output | None = None
    inherited: Inherited = field(default_factory=Inherited)

    # What later processes see.

    def env(self, name: str, value: str) -> State:
        """Set a variable; a set one moves to the end."""
        kept = {key: text for key, text in self.inherited.env.items() if key != name}
        return self._inherit(env={**kept, name: value})

    def dir(self, path: str) -> State:
        """Set the working directory; a relative one is below the present one."""
        cwd = posixpath.normpath(posixpath.join(self.inherited.cwd, path))
        return self._inherit(cwd=cwd)

    def user(self, user: str) -> State:
        return self._inherit(user=user)

    def hostname(self, name: str) -> State:
        return self._inherit(hostname=name)

    def network(self, mode: o.NetMode) -> State:
        return self._inherit(network=mode)

    def security(self, mode: o.SecurityMode) -> State:
        return self._inherit(security=mode)

    def add_extra_host(self, host: str, ip: str) -> State:
        return self._inherit(extra_hosts=(*self.inherited.extra_hosts, o.HostIP(host, ip)))

    def add_ulimit(self, name: str, soft: int, hard: int | None = None) -> State:
        limit = o.Ulimit(name, soft, soft if hard is None else hard)
        return self._inherit(ulimit=(*self.inherited.ulimit, limit))

    def cgroup_parent(self, parent: str) -> State:
        return self._inherit(cgroup_parent=parent)

    def platform(self, platform: Platform) -> State:
        """Set the platform of later processes."""
        return self._inherit(platform=platform)

    def _inherit(self, **changes: object) -> State:
        return State(self.output, replace(self.inherited, **changes))  # type: ignore[arg-type]  # names are our own

    def with_output(self, output: Output | None) -> State:
        """Give the same settings on another tree."""
        return State(output, self.inherited)

    # What changes the tree.

    def run(
        self,
        args: Sequence[str],
        *,
        env: Sequence[str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
        hostname: str | None = None,
        network: o.NetMode | None = None,
        security: o.SecurityMode | None = None,
        extra_hosts: Sequence[o.HostIP] | None = None,
        ulimit: Sequence[o.Ulimit] | None = None,
        cgroup_parent: str | None = None,
        proxy_env: o.ProxyEnv | None = None,
        valid_exit_codes: Sequence[int] = (),
        remove_mount_stubs_recursive: bool = False,
        mounts: Sequence[MountSpec] = (),
        secrets: Sequence[SecretSpec] = (),
        ssh: Sequence[SSHSpec] = (),
        devices: Sequence[o.CDIDevice] = (),
        readonly_root: bool = False,
        sets_path: bool = True,
        **options: Unpack[OptionArgs],
    ) -> ExecState:
        """Run a process on this tree; what is not given is inherited from the state."""
        base = self.inherited
        variables = [f"{name}={value}" for name, value in base.env.items()]
        meta = o.Meta(
            args=tuple(args),
            env=tuple(variables if env is None else env),
            cwd=base.cwd if cwd is None else cwd,
            user=base.user if user is None else user,
            proxy_env=proxy_env,
            extra_hosts=base.extra_hosts if extra_hosts is None else tuple(extra_hosts),
            hostname=base.hostname if hostname is None else hostname,
            ulimit=base.ulimit if ulimit is None else tuple(ulimit),
            cgroup_parent=base.cgroup_parent if cgroup_parent is None else cgroup_parent,
            valid_exit_codes=tuple(valid_exit_codes),
            remove_mount_stubs_recursive=remove_mount_stubs_recursive,
        )
        root = MountSpec(target="/", source=self.output, readonly=readonly_root)
        made = Options(**options)
        if made.platform is None and base.platform is not None:
            made = replace(made, platform=base.platform)
        vertex = ExecVertex(
            meta=meta,
            mounts=tuple(sorted((root, *mounts), key=_target)),
            network=base.network if network is None else network,
            security=base.security if security is None else security,
            secrets=tuple(secrets),
            ssh=tuple(ssh),
            devices=tuple(devices),
            sets_path=sets_path,
            options=made,
        )
        return ExecState(vertex, root, self)

    def file(self, actions: FileActions, **options: Unpack[OptionArgs]) -> State:
        """Apply file actions to this tree, as one op."""
        vertex = FileVertex(self.output, actions.specs, Options(**options))
        return self.with_output(Output(vertex))

    # The end.

    def marshal(
        self, *, platform: Platform | None = None, caps: frozenset[str] = LLB_CAPS
    ) -> Definition:
        """Give the definition of this tree, scratch as an empty one.

        `platform` is that of ops which name none (default: the host's), `caps` what the engine can.
        """
        if self.output is None:
            return Definition()
        return marshal(self.output, Target(platform or host_platform(), caps))


def _target(mount: MountSpec) -> str:
    return mount.target


@dataclass(frozen=True, slots=True)
class ExecState:
    """A process; its trees are `root` and what `add_mount` gives."""

    vertex: ExecVertex
    _root: MountSpec
    _base: State

    @property
    def root(self) -> State:
        """The root tree after the process."""
        return self.mount_state(self._root)

    def mount_state(self, mount: MountSpec) -> State:
        """Give the tree at `mount` (one of those given to `run`) after the process.

        A mount without output gives what was mounted.
        """
        number = self.vertex.output_number(mount)
        if number == o.SKIP_OUTPUT:
            return self._base.with_output(mount.source)
        return self._base.with_output(Output(self.vertex, number))

    def add_mount(
        self,
        target: str,
        source: State | None = None,
        *,
        selector: str = "",
        readonly: bool = False,
        no_output: bool = False,
        type: o.MountType = o.MountType.BIND,
        tmpfs_size: int = 0,
        cache_id: str = "",
        sharing: o.CacheSharing = o.CacheSharing.SHARED,
        content_cache: o.MountContentCache = o.MountContentCache.DEFAULT,
    ) -> tuple[ExecState, State]:
        """Mount a tree, a cache or memory: gives the process with it, and the tree afterwards.

        The process given is a new one: take its `root`, not that of the process before.
        """
        spec = MountSpec(
            target=target,
            source=None if source is None else source.output,
            selector=selector,
            readonly=readonly,
            no_output=no_output,
            type=type,
            tmpfs_size=tmpfs_size,
            cache_id=cache_id,
            sharing=sharing,
            content_cache=content_cache,
        )
        mounts = tuple(sorted((*self.vertex.mounts, spec), key=_target))
        state = ExecState(replace(self.vertex, mounts=mounts), self._root, self._base)
        return state, state.mount_state(spec)


def scratch() -> State:
    """Give the empty tree."""
    return State()


def source(
    identifier: str,
    attrs: Mapping[str, str] | None = None,
    *,
    caps: Sequence[str] = (),
    has_platform: bool = False,
    **options: Unpack[OptionArgs],
) -> State:
    """Give the tree of any source op."""
    vertex = SourceVertex(
        identifier, dict(attrs or {}), tuple(caps), Options(**options), has_platform
    )
    return State(Output(vertex))


def image(
    ref: str,
    *,
    resolve_mode: str = "",
    record_type: str = "",
    layer_limit: int | None = None,
    checksum: str = "",
    **options: Unpack[OptionArgs],
) -> State:
    """Give the tree of an image; `ref` is normalised, with tag or digest."""
    attrs: dict[str, str] = {}
    caps = ["source.image"]
    if resolve_mode in ("pull", "local"):
        attrs["image.resolvemode"] = resolve_mode
    if resolve_mode == "pull":
        caps.append("source.image.resolvemode")
    if record_type:
        attrs["image.recordtype"] = record_type
    if layer_limit is not None:
        attrs["image.layerlimit"] = str(layer_limit)
        caps.append("source.image.layerlimit")
    if checksum:
        attrs["image.checksum"] = checksum
        caps.append("source.image.checksum")
    return source(f"docker-image://{ref}", attrs, caps=caps, has_platform=True, **options)


def oci_layout(
    ref: str,
    *,
    session_id: str = "",
    store_id: str = "",
    layer_limit: int | None = None,
    **options: Unpack[OptionArgs],
) -> State:
    """Give the tree of an image in an OCI layout; `ref` is `NAME@DIGEST`."""
    attrs: dict[str, str] = {}
    if session_id:
        attrs["oci.session"] = session_id
    if store_id:
        attrs["oci.store"] = store_id
    if layer_limit is not None:
        attrs["oci.layerlimit"] = str(layer_limit)
    return source(
        f"oci-layout://{ref}", attrs, caps=["source.ocilayout"], has_platform=True, **options
    )


def local(
    name: str,
    *,
    session_id: str = "",
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    follow_paths: Sequence[str] | None = None,
    shared_key_hint: str = "",
    differ_none: bool = False,
    **options: Unpack[OptionArgs],
) -> State:
    """Give a folder of the client; `differ_none` transfers all its files each time."""
    attrs: dict[str, str] = {}
    caps = ["source.local"]
    if session_id:
        attrs["local.session"] = session_id
        caps.append("source.local.sessionid")
    else:
        attrs["local.unique"] = secrets.token_hex(12)
        caps.append("source.local.unique")
    lists = (
        ("local.includepattern", "source.local.includepatterns", include),
        ("local.excludepatterns", "source.local.excludepatterns", exclude),
        ("local.followpaths", "source.local.followpaths", follow_paths),
    )
    for attr, cap, values in lists:
        if values:
            attrs[attr] = _json_list(values)
            caps.append(cap)
    if shared_key_hint:
        attrs["local.sharedkeyhint"] = shared_key_hint
        caps.append("source.local.sharedkeyhint")
    if differ_none:
        attrs["local.differ"] = "none"
    return source(f"local://{name}", attrs, caps=caps, **options)


def git(
    remote: str,
    *,
    url: str = "",
    ref: str = "",
    subdir: str = "",
    keep_git_dir: bool = False,
    checksum: str = "",
    skip_submodules: bool = False,
    mtime: str = "",
    fetch_by_commit: bool = False,
    mount_ssh_sock: str = "",
    known_ssh_hosts: str = "",
    auth_token_secret: str = "",
    auth_header_secret: str = "",
    **options: Unpack[OptionArgs],
) -> State:
    """Give a checkout; `remote` is `HOST/PATH` without scheme, `url` the real address."""
    attrs = {
        "git.authheadersecret": auth_header_secret or "GIT_AUTH_HEADER",
        "git.authtokensecret": auth_token_secret or "GIT_AUTH_TOKEN",
    }
    caps = ["source.git"]
    if auth_header_secret or auth_token_secret:
        caps.append("source.git.httpauth")
    texts = (
        ("git.fullurl", "source.git.fullurl", url),
        ("git.keepgitdir", "source.git.keepgitdir", "true" if keep_git_dir else ""),
        ("git.checksum", "source.git.checksum", checksum),
        ("git.skipsubmodules", "source.git.skipsubmodules", "true" if skip_submodules else ""),
        ("git.mtime", "source.git.mtime", mtime),
        ("git.fetchbycommit", "source.git.fetchbycommit", "true" if fetch_by_commit else ""),
        ("git.knownsshhosts", "source.git.knownsshhosts", known_ssh_hosts),
        ("git.mountsshsock", "source.git.mountsshsock", mount_ssh_sock),
    )
    for attr, cap, value in texts:
        if value:
            attrs[attr] = value
            caps.append(cap)
    if mount_ssh_sock and not known_ssh_hosts:
        caps.append("source.git.knownsshhosts")  # needed over ssh even when no key was found
    fragment = f"#{ref}" + (f":{subdir}" if subdir else "") if ref or subdir else ""
    return source(f"git://{remote}{fragment}", attrs, caps=caps, **options)


def http(
    url: str,
    *,
    filename: str = "",
    checksum: str = "",
    mode: int | None = None,
    uid: int | None = None,
    gid: int | None = None,
    auth_header_secret: str = "",
    headers: Mapping[str, str] | None = None,
    **options: Unpack[OptionArgs],
) -> State:
    """Give a tree with one downloaded file."""
    attrs: dict[str, str] = {}
    caps = ["source.http"]
    if checksum:
        attrs["http.checksum"] = checksum
        caps.append("source.http.checksum")
    if filename:
        attrs["http.filename"] = filename
    if mode is not None:
        attrs["http.perm"] = f"0{mode:o}"
        caps.append("source.http.perm")
    for attr, number in (("http.uid", uid), ("http.gid", gid)):
        if number is not None:
            attrs[attr] = str(number)
            caps.append("soruce.http.uidgid")
    if auth_header_secret:
        attrs["http.authheadersecret"] = auth_header_secret
        caps.append("source.http.auth")
    for name, value in (headers or {}).items():
        attrs[f"http.header.{name.lower()}"] = value
        caps.append("source.http.header")
    return source(url, attrs, caps=caps, **options)


def merge(states: Sequence[State], **options: Unpack[OptionArgs]) -> State:
    """Lay trees over each other, lowest first; scratch ones vanish."""
    real = [state for state in states if state.output is not None]
    if not real:
        return scratch()
    if len(real) == 1:
        return real[0]
    outputs = tuple(state.output for state in real if state.output is not None)
    return real[0].with_output(Output(MergeVertex(outputs, Options(**options))))


def diff(lower: State, upper: State, **options: Unpack[OptionArgs]) -> State:
    """Give what `upper` changes in `lower`."""
    if lower.output is None:
        return upper
    return upper.with_output(Output(DiffVertex(lower.output, upper.output, Options(**options))))


def from_definition(definition: Definition) -> State:
    """Give the tree of a ready-made definition; its ops keep their bytes, metadata and places.

    Raises:
        InvalidLLBError: the definition is not valid.
    """
    from torana.core.llb.validate import validate

    if not definition.ops:
        return scratch()
    decoded = validate(definition)
    vertices: dict[Digest, GivenVertex] = {}
    outputs: dict[tuple[Digest, int], Output] = {}

    def output(item: o.Input) -> Output:
        key = (item.digest, item.index)
        return outputs.setdefault(key, Output(vertices[item.digest], item.index))

    data = dict(zip(definition.digests(), definition.ops, strict=True))
    for digest, op in decoded.ordered.items():
        vertices[digest] = GivenVertex(
            digest,
            data[digest],
            tuple(output(item) for item in op.inputs),
            definition.metadata.get(digest, o.OpMetadata()),
            Options(location=_given_locations(definition, digest)),
        )
    return State(output(decoded.result))


def _given_locations(definition: Definition, digest: Digest) -> tuple[SourceLocation, ...]:
    from torana.core.errors import SourceRange

    source_map = definition.source
    if source_map is None or digest not in source_map.locations:
        return ()
    return tuple(
        SourceLocation(
            source_map.infos[location.source_index],
            tuple(SourceRange("", r.start, r.end) for r in location.ranges),
        )
        for location in source_map.locations[digest].locations
        if 0 <= location.source_index < len(source_map.infos)
    )


def _json_list(values: Sequence[str]) -> str:
    from torana.core.oci.image import compact_json

    return compact_json(list(values)).decode("utf-8", "surrogateescape")
