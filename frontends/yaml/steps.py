"""Reading steps: one function per verb, from a node with its expressions expanded.

Where a path of another tree is named (`from:`), `Reader.origin` says which tree that is.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Callable, Mapping
from typing import Any, Final

from torana.core.llb.ops import CacheSharing, NetMode
from torana.core.oci.platform import Platform
from torana.core.records import dataclass
from torana.frontends.kit.suggest import suggest
from torana.frontends.kit.yamltree import Items, Mark, Node, Scalar, Table
from torana.frontends.yaml import fields
from torana.frontends.yaml.model import (
    AnyStep,
    BindMount,
    CacheMount,
    Copy,
    Exec,
    Fetch,
    Git,
    MakeDirectory,
    Origin,
    OriginKind,
    Packages,
    Place,
    Process,
    Remove,
    Repository,
    Run,
    SecretMount,
    Set,
    SshMount,
    Symlink,
    TmpfsMount,
    Write,
)

NETWORKS: Final = {"default": NetMode.UNSET, "none": NetMode.NONE, "host": NetMode.HOST}
_SHARING: Final = {
    "shared": CacheSharing.SHARED,
    "private": CacheSharing.PRIVATE,
    "locked": CacheSharing.LOCKED,
}
_SHOWN: Final = 60  # characters of a step in progress


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the steps of one file for one target platform.

    `secrets` are the declared ones with whether they must be given; None: none are declared, and
    any may be used.
    """

    origin: Callable[[str, Mark], Origin]
    target: Platform
    secrets: Mapping[str, bool] | None

    def step(self, verb: str, node: Table, place: Place) -> AnyStep:
        """Read a step.

        Raises:
            BuildFileError: a value does not fit; located.
        """
        name = fields.text(node.get("name"))
        made: AnyStep = _VERBS[verb](self, node, place, name or _shown(verb, node))
        return made

    def _origin(self, node: Node | None) -> Origin:
        """Give the tree that `from` names, the main context without one."""
        if node is None:
            return Origin(OriginKind.MAIN)
        return self.origin(fields.text(node), node.mark)

    def caches(self, node: Node | None) -> tuple[CacheMount, ...]:
        return tuple(self._cache(item) for item in node) if isinstance(node, Items) else ()

    def _cache(self, node: Node) -> CacheMount:
        if not isinstance(node, Table):
            return CacheMount(target=fields.text(node))
        origin = node.get("from")
        return CacheMount(
            target=fields.text(node.get("target")),
            id=fields.text(node.get("id")),
            sharing=_SHARING[fields.text(node.get("sharing")) or "shared"],
            mode=fields.mode(node.get("mode")),
            uid=fields.integer(node.get("uid")),
            gid=fields.integer(node.get("gid")),
            origin=self.origin(fields.text(origin), origin.mark) if origin else None,
            source=fields.text(node.get("source")) or "/",
            per_platform=fields.flag(node.get("per-platform"), True),
        )

    def binds(self, node: Node | None) -> tuple[BindMount, ...]:
        return tuple(self._bind(item) for item in node) if isinstance(node, Items) else ()

    def _bind(self, node: Node) -> BindMount:
        if not isinstance(node, Table):
            source, _, rest = fields.text(node).partition(":")
            target, _, access = rest.partition(":")
            if target == "rw" and not access:
                target, access = "", "rw"
            return BindMount(
                origin=Origin(OriginKind.MAIN),
                source=source,
                target=target or source,
                is_writable=access == "rw",
            )
        return BindMount(
            origin=self._origin(node.get("from")),
            source=fields.text(node.get("source")) or "/",
            target=fields.text(node.get("target")),
            is_writable=fields.flag(node.get("rw")),
        )

    def _secret(self, node: Node) -> SecretMount:
        if not isinstance(node, Table):
            id_ = fields.text(node)
            is_optional = not self._must_be_given(id_, node.mark)
            return SecretMount(id=id_, target=f"/run/secrets/{id_}", is_optional=is_optional)
        id_ = fields.text(node.get("id"))
        env = fields.optional_text(node.get("env"))
        target = fields.text(node.get("target"))
        mode = fields.mode(node.get("mode"))
        is_needed = self._must_be_given(id_, node.key("id"))
        return SecretMount(
            id=id_,
            env=env,
            target="" if env is not None else target or f"/run/secrets/{id_}",
            mode=0o400 if mode is None else mode,
            uid=fields.integer(node.get("uid")) or 0,
            gid=fields.integer(node.get("gid")) or 0,
            is_optional=fields.flag(node.get("optional"), not is_needed),
        )

    def _must_be_given(self, id_: str, mark: Mark) -> bool:
        if self.secrets is None:
            return True
        if id_ not in self.secrets:
            near = suggest(id_, self.secrets)
            hint = f"did you mean `{near}`?" if near else "declare it under `secrets:`"
            raise mark.error(f"no such secret is declared: `{id_}`", hint=hint)
        return self.secrets[id_]

    def agents(self, node: Node | None) -> tuple[SshMount, ...]:
        if isinstance(node, Items):
            return tuple(_agent(item) for item in node)
        if node is None:
            return ()
        return (SshMount(),) if fields.flag(node) else (SshMount(id=fields.text(node)),)

    def process(self, node: Table) -> Process:
        secrets, memories = node.get("secrets"), node.get("tmpfs")
        return Process(
            env=fields.environment(node.get("env")),
            workdir=fields.optional_text(node.get("workdir")),
            user=fields.optional_text(node.get("user")),
            network=network(node.get("network")),
            is_privileged=fields.flag(node.get("privileged")),
            caches=self.caches(node.get("cache")),
            secrets=tuple(map(self._secret, secrets)) if isinstance(secrets, Items) else (),
            agents=self.agents(node.get("ssh")),
            binds=self.binds(node.get("bind")),
            memories=tuple(map(_memory, memories)) if isinstance(memories, Items) else (),
            ignores_cache=fields.flag(node.get("no-cache")),
            has_readonly_root=fields.flag(node.get("readonly-root")),
        )

    # One per verb.

    def run(self, node: Table, place: Place, name: str) -> Run:
        text, script = fields.text(node.get("run")), fields.text(node.get("script"))
        if not text.strip() and not script:
            raise node.key("run").error("`run` is empty")
        if script:
            try:
                shlex.split(text)
            except ValueError as err:
                raise node.key("run").error(f"arguments of a script: {str(err).lower()}") from err
        return Run(
            name=name, place=place, text=text, script=script,
            shell=fields.texts(node.get("shell")) or None, process=self.process(node),
        )  # fmt: skip

    def exec(self, node: Table, place: Place, name: str) -> Exec:
        args = fields.texts(node.get("exec"))
        return Exec(name=name, place=place, args=args, process=self.process(node))

    def copy(self, node: Table, place: Place, name: str) -> Copy:
        sources, to = fields.texts(node.get("copy")), fields.text(node.get("to"))
        if len(sources) > 1 and not (to.endswith("/") or posixpath.basename(to) in (".", "..")):
            raise node.key("to").error(
                f"several files go to a folder: `{to}`", hint=f"end it with a slash: `{to}/`"
            )
        return Copy(
            name=name,
            place=place,
            sources=sources,
            to=to,
            origin=self._origin(node.get("from")),
            exclude=fields.texts(node.get("exclude")),
            mode=fields.mode(node.get("chmod")),
            owner=fields.owner(node.get("chown")),
            unpacks=fields.flag(node.get("extract")),
            keeps_parents=fields.flag(node.get("parents")),
            is_link=fields.flag(node.get("link")),
            follows_links=fields.flag(node.get("follow-symlinks"), True),
        )

    def fetch(self, node: Table, place: Place, name: str) -> Fetch:
        url = fields.text(node.get("fetch"))
        if not url.startswith(("https://", "http://")):
            raise node.key("fetch").error(f"not an address of https or http: `{url[:80]}`")
        extract = node.get("extract")
        unpacking = fields.table(extract)
        return Fetch(
            name=name,
            place=place,
            url=url,
            to=fields.text(node.get("to")),
            checksum=self._checksum(node),
            unpacks=fields.flag(extract),
            strip=(fields.integer(unpacking.get("strip")) or 0) if unpacking else 0,
            only=fields.texts(unpacking.get("only")) if unpacking else (),
            mode=fields.mode(node.get("chmod")),
            owner=fields.owner(node.get("chown")),
            auth=fields.text(node.get("auth")),
        )

    def _checksum(self, node: Table) -> str:
        given = node.get("sha256")
        if not isinstance(given, Table):
            return fields.checksum(given)
        wanted = self.target.format()
        by_platform = {}
        for name, entry in given.entries.items():
            found = fields.platform(Scalar(name, entry.key.mark))
            assert found is not None
            by_platform[found.format()] = entry.node
        if wanted not in by_platform:
            raise node.key("sha256").error(
                f"no checksum for {wanted}", hint=f"there are {', '.join(by_platform)}"
            )
        return fields.checksum(by_platform[wanted])

    def git(self, node: Table, place: Place, name: str) -> Git:
        agents = self.agents(node.get("ssh"))
        return Git(
            name=name,
            place=place,
            url=fields.text(node.get("git")),
            to=fields.text(node.get("to")),
            ref=fields.text(node.get("ref")),
            commit=fields.commit(node.get("commit")),
            subdir=fields.text(node.get("subdir")),
            keeps_git_dir=fields.flag(node.get("keep-git-dir")),
            has_submodules=fields.flag(node.get("submodules"), True),
            auth=fields.text(node.get("auth")),
            agent=agents[0].id if agents else None,
        )

    def write(self, node: Table, place: Place, name: str) -> Write:
        return Write(
            name=name,
            place=place,
            path=fields.text(node.get("write")),
            content=fields.text(node.get("content")),
            mode=fields.mode(node.get("chmod")),
            owner=fields.owner(node.get("chown")),
        )

    def mkdir(self, node: Table, place: Place, name: str) -> MakeDirectory:
        return MakeDirectory(
            name=name,
            place=place,
            paths=fields.texts(node.get("mkdir")),
            mode=fields.mode(node.get("chmod")),
            owner=fields.owner(node.get("chown")),
        )

    def remove(self, node: Table, place: Place, name: str) -> Remove:
        return Remove(
            name=name,
            place=place,
            paths=fields.texts(node.get("remove")),
            may_be_missing=fields.flag(node.get("missing-ok")),
        )

    def symlink(self, node: Table, place: Place, name: str) -> Symlink:
        path, to = fields.text(node.get("symlink")), fields.text(node.get("to"))
        return Symlink(name=name, place=place, path=path, to=to)

    def packages(self, node: Table, place: Place, name: str) -> Packages:
        manager = fields.text(node.get("with"))
        names = fields.texts(node.get("packages"))
        for each in names:
            if not each or each.startswith("-") or any(char.isspace() for char in each):
                raise node.key("packages").error(f"not the name of a package: `{each}`")
            if "=" in each and manager == "pacman":
                raise node.key("packages").error(f"pacman installs no versions: `{each}`")
        repositories = node.get("repositories")
        read = tuple(map(_repository, repositories)) if isinstance(repositories, Items) else ()
        if read and manager == "pacman":
            raise node.key("repositories").error("`repositories` are not for pacman")
        return Packages(
            name=name,
            place=place,
            names=tuple(sorted(set(names))),
            manager=manager,
            repositories=read,
            removes_index=fields.flag(node.get("remove-after"), True),
        )

    def set(self, node: Table, place: Place, name: str) -> Set:
        changes = node.get("set")
        assert isinstance(changes, Table)
        return settings(changes, place, name)


_VERBS: Final[Mapping[str, Callable[..., Any]]] = {
    "copy": Reader.copy,
    "exec": Reader.exec,
    "fetch": Reader.fetch,
    "git": Reader.git,
    "mkdir": Reader.mkdir,
    "packages": Reader.packages,
    "remove": Reader.remove,
    "run": Reader.run,
    "set": Reader.set,
    "symlink": Reader.symlink,
    "write": Reader.write,
}


def settings(node: Table, place: Place, name: str) -> Set:
    """Read `set`, and the same keys of a stage and of `defaults`."""
    return Set(
        name=name,
        place=place,
        env=fields.environment(node.get("env")),
        workdir=fields.optional_text(node.get("workdir")),
        user=fields.optional_text(node.get("user")),
        shell=fields.texts(node.get("shell")) or None,
        network=network(node.get("network")),
    )


def network(node: Node | None) -> NetMode | None:
    return NETWORKS[node.text] if isinstance(node, Scalar) else None


def _agent(node: Node) -> SshMount:
    if not isinstance(node, Table):
        return SshMount(id=fields.text(node))
    mode = fields.mode(node.get("mode"))
    return SshMount(
        id=fields.text(node.get("id")),
        target=fields.text(node.get("target")),
        mode=0o600 if mode is None else mode,
        is_optional=fields.flag(node.get("optional")),
    )


def _memory(node: Node) -> TmpfsMount:
    if not isinstance(node, Table):
        return TmpfsMount(target=fields.text(node))
    target = fields.text(node.get("target"))
    return TmpfsMount(target=target, size_bytes=fields.size(node.get("size")))


def _repository(node: Node) -> Repository:
    assert isinstance(node, Table)
    key, checksum = fields.text(node.get("key")), fields.checksum(node.get("sha256"))
    if key and not key.startswith(("https://", "http://")):
        raise node.key("key").error(f"a key is an address of https or http: `{key}`")
    if key and not checksum:
        raise node.key("key").error("a key needs `sha256`")
    return Repository(line=fields.text(node.get("line")), key=key, checksum=checksum)


def _shown(verb: str, node: Table) -> str:
    """Describe a step in one line."""
    value = node.get(verb)
    words = value.text if isinstance(value, Scalar) else " ".join(fields.texts(value))
    line = next((line.strip() for line in words.splitlines() if line.strip()), "")
    to = fields.text(node.get("to"))
    shown = f"{verb} {line}".rstrip() + (f" to {to}" if to and verb != "symlink" else "")
    is_cut = len(shown) > _SHOWN or "\n" in words.strip()
    return (
        f"{shown[: _SHOWN - 3]}..."
        if is_cut and len(shown) > _SHOWN
        else shown + ("..." if is_cut else "")
    )
