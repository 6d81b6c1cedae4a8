"""Cache keys of exec ops: the definition key, and which parts of inputs count by content.

Pure. Spec: reference of the solver, section 6.2; member names and order are BuildKit's JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from torana.core.cache.ref import Selector
from torana.core.llb.ops import (
    CacheOpt,
    CacheSharing,
    ExecOp,
    Meta,
    Mount,
    MountContentCache,
    MountType,
    SecretOpt,
    SSHOpt,
)
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform
from torana.core.ops.exec.errors import InvalidExecOpError
from torana.core.ops.keyjson import key_json
from torana.core.records import dataclass
from torana.core.snapshots.rootfs import clean

_NO_CONTENT: Final = (MountType.SECRET, MountType.SSH, MountType.TMPFS)


@dataclass(frozen=True, slots=True)
class InputKey:
    """How an input counts.

    `selector` is None for an input that no mount uses. `content` lists what is hashed of it; empty
    means that its content is no key.
    """

    selector: Digest | None = None
    content: tuple[Selector, ...] = ()


@dataclass(frozen=True, slots=True)
class ExecKey:
    """What identifies an exec op."""

    digest: Digest
    inputs: tuple[InputKey, ...]


def exec_key(op: ExecOp, platform: Platform, input_count: int) -> ExecKey:
    """Compute the key of `op`.

    Raises:
        InvalidExecOpError: a mount uses an input that is not there, or wants its content as key
            where that is unsafe.
    """
    message: dict[str, Any] = {
        "Type": "buildkit.exec.v0",
        "Exec": op_json(op),
        "OS": platform.os,
        "Arch": platform.architecture,
        "Variant": platform.variant,
        "OSVersion": platform.os_version,
        "OSFeatures": list(platform.os_features),
    }
    required = ("Type", "Exec", "OS", "Arch")
    present = {name: value for name, value in message.items() if value or name in required}
    return ExecKey(Digest.of(key_json(present)), _input_keys(op.mounts, input_count))


def op_json(op: ExecOp) -> dict[str, Any]:
    """Give the members of `op` that are part of its key."""
    mounts = [_keyed_mount(mount) for mount in op.mounts]
    if len(mounts) == 1 and _is_plain_root(mounts[0]):
        mounts = []
    return _present(
        meta=None if op.meta is None else _meta_json(op.meta),
        mounts=[_mount_json(mount) for mount in mounts],
        network=int(op.network),
        security=int(op.security),
        secretenv=[
            _present(ID=secret.id, name=secret.name, optional=secret.optional)
            for secret in op.secret_env
        ],
        cdiDevices=[
            _present(name=device.name, optional=device.optional) for device in op.cdi_devices
        ],
    )


def _keyed_mount(mount: Mount) -> Mount:
    """Drop what must not change the key: selectors count by digest, cache ids only by default."""
    cache = mount.cache_opt
    if cache is not None and not _is_default_cache(cache, mount.dest):
        cache = CacheOpt()  # the message stays
    return replace(mount, selector="", cache_opt=cache)


def _is_default_cache(cache: CacheOpt, dest: str) -> bool:
    if cache.sharing is not CacheSharing.SHARED:
        return False
    _, slash, rest = cache.id.partition("/")
    return cache.id == dest or (bool(slash) and rest == dest)


def _is_plain_root(mount: Mount) -> bool:
    return (
        mount.dest == "/"
        and not mount.readonly
        and mount.mount_type is MountType.BIND
        and mount.cache_opt is None
        and mount.ssh_opt is None
        and mount.secret_opt is None
        and not mount.result_id
    )


def _input_keys(mounts: Iterable[Mount], count: int) -> tuple[InputKey, ...]:
    paths: list[list[str]] = [[] for _ in range(count)]
    by_content = [False] * count
    for mount in mounts:
        if mount.mount_type in _NO_CONTENT or mount.input == -1:
            continue
        if not 0 <= mount.input < count:
            raise InvalidExecOpError(f"missing input {mount.input}")
        paths[mount.input].append(clean(mount.selector))
        by_content[mount.input] = _counts_by_content(mount)
    return tuple(
        InputKey(
            Digest.of_text("\0".join(used)),
            _content_selectors(used) if content else (),
        )
        if used
        else InputKey()
        for used, content in zip(paths, by_content, strict=True)
    )


def _counts_by_content(mount: Mount) -> bool:
    """Say whether the result can only depend on what is hashed, and so its digest can be a key."""
    safe = mount.output == -1 or mount.readonly or clean(mount.selector) == "/"
    match mount.content_cache:
        case MountContentCache.OFF:
            return False
        case MountContentCache.ON:
            if not safe:
                raise InvalidExecOpError(f"invalid mount cache content: `{mount.dest}`")
            return True
        case _:
            return safe and mount.dest != "/"


def _content_selectors(paths: Iterable[str]) -> tuple[Selector, ...]:
    kept: list[str] = []
    for path in sorted(set(paths), key=lambda path: path.rstrip("/") + "/"):
        if not kept or not path.startswith(kept[-1].rstrip("/") + "/"):
            kept.append(path)
    if kept == ["/"]:
        return (Selector(),)
    return tuple(Selector(path=path, follow_links=True) for path in sorted(kept))


def _meta_json(meta: Meta) -> dict[str, Any]:
    return _present(
        args=list(meta.args),
        env=list(meta.env),
        cwd=meta.cwd,
        user=meta.user,
        extraHosts=[_present(Host=extra.host) for extra in meta.extra_hosts],
        hostname=meta.hostname,
        ulimit=[_present(Name=u.name, Soft=u.soft, Hard=u.hard) for u in meta.ulimit],
        cgroupParent=meta.cgroup_parent,
        removeMountStubsRecursive=meta.remove_mount_stubs_recursive,
        validExitCodes=list(meta.valid_exit_codes),
    )


def _mount_json(mount: Mount) -> dict[str, Any]:
    options: dict[str, dict[str, Any] | None] = {
        "TmpfsOpt": None if mount.tmpfs_opt is None else _present(size=mount.tmpfs_opt.size),
        "cacheOpt": None
        if mount.cache_opt is None
        else _present(ID=mount.cache_opt.id, sharing=int(mount.cache_opt.sharing)),
        "secretOpt": _owned_json(mount.secret_opt),
        "SSHOpt": _owned_json(mount.ssh_opt),
    }
    return _present(
        input=mount.input,
        selector=mount.selector,
        dest=mount.dest,
        output=mount.output,
        readonly=mount.readonly,
        mountType=int(mount.mount_type),
        **options,
        resultID=mount.result_id,
        contentCache=int(mount.content_cache),
    )


def _owned_json(option: SecretOpt | SSHOpt | None) -> dict[str, Any] | None:
    if option is None:
        return None
    return _present(
        ID=option.id, uid=option.uid, gid=option.gid, mode=option.mode, optional=option.optional
    )


def _present(**members: Any) -> dict[str, Any]:
    """Leave out what is zero or empty; a message that is there is written even without members."""
    return {name: v for name, v in members.items() if v or isinstance(v, Mapping)}
