"""What differs between two ops, in the words of somebody who writes build files."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence

from torana.core.llb import ops as o
from torana.core.llb.comparison import field_changes

_LONGEST = 80  # characters of a value


def differences(old: o.Op, new: o.Op) -> list[str]:
    """Say what differs apart from the inputs, one line each; nothing if that is all."""
    lines: list[str] = []
    match old.kind, new.kind:
        case o.ExecOp() as was, o.ExecOp() as now:
            lines += _exec(was, now)
        case o.SourceOp() as was_source, o.SourceOp() as now_source:
            lines += _source(was_source, now_source)
        case o.FileOp() as was_file, o.FileOp() as now_file:
            lines += _file(was_file, now_file)
    if old.platform != new.platform:
        lines.append(f"the platform is {new.platform} and was {old.platform}")
    return lines or [f"{line} (in the LLB)" for line in field_changes(old, new)]


def _exec(old: o.ExecOp, new: o.ExecOp) -> Iterator[str]:
    was, now = old.meta or o.Meta(), new.meta or o.Meta()
    if was.args != now.args:
        yield f"the command changed: {_command(was.args)} -> {_command(now.args)}"
    yield from _mapping("environment variable", _variables(was.env), _variables(now.env))
    for what, left, right in (
        ("the working folder", was.cwd, now.cwd),
        ("the user", was.user or "root", now.user or "root"),
        ("the host name", was.hostname, now.hostname),
        ("the network", old.network.name.lower(), new.network.name.lower()),
        ("the security mode", old.security.name.lower(), new.security.name.lower()),
    ):
        if left != right:
            yield f"{what} changed: `{left}` -> `{right}`"
    yield from _mapping("secret in variable", _secrets(old), _secrets(new))
    yield from _mapping("mount at", _mounts(old), _mounts(new))
    if was.extra_hosts != now.extra_hosts:
        yield "the extra hosts changed"
    if was.ulimit != now.ulimit:
        yield "the ulimits changed"


def _source(old: o.SourceOp, new: o.SourceOp) -> Iterator[str]:
    was, now = old.identifier, new.identifier
    if was != now:
        name, _, digest = now.partition("@")
        old_name, _, old_digest = was.partition("@")
        if name == old_name and name.startswith("docker-image://"):
            image = name.removeprefix("docker-image://")
            yield f"`{image}` is another image now: {old_digest or 'no digest'} -> {digest}"
        else:
            yield f"the source changed: `{was}` -> `{now}`"
    # What names the session says nothing about the files.
    hidden = {"local.session", "local.unique", "local.sharedkeyhint"}
    yield from _mapping(
        "source attribute",
        {key: value for key, value in old.attrs.items() if key not in hidden},
        {key: value for key, value in new.attrs.items() if key not in hidden},
    )


def _file(old: o.FileOp, new: o.FileOp) -> Iterator[str]:
    if len(old.actions) != len(new.actions):
        yield f"there are {len(new.actions)} file actions, and were {len(old.actions)}"
        return
    for was, now in zip(old.actions, new.actions, strict=True):
        left, right = was.action, now.action
        if left == right:
            continue
        if isinstance(left, o.Copy) and isinstance(right, o.Copy):
            for what in ("src", "dest", "mode", "owner", "include_patterns", "exclude_patterns"):
                before, after = getattr(left, what), getattr(right, what)
                if before != after:
                    label = what.replace("_", " ")
                    yield f"the copy's {label} changed: {_value(before)} -> {_value(after)}"
        elif isinstance(left, o.MkFile) and isinstance(right, o.MkFile) and left.path == right.path:
            yield f"the text of `{right.path}` changed"


def _command(args: Sequence[str]) -> str:
    shown = args[2] if len(args) == 3 and args[1] == "-c" else shlex.join(args)
    return _value(shown)


def _value(value: object) -> str:
    text = str(value)
    return f"`{text if len(text) <= _LONGEST else text[: _LONGEST - 1] + '…'}`"


def _variables(env: Sequence[str]) -> dict[str, str]:
    return dict(entry.partition("=")[::2] for entry in env)


def _secrets(op: o.ExecOp) -> dict[str, str]:
    return {each.name: each.id for each in op.secret_env}


def _mounts(op: o.ExecOp) -> dict[str, str]:
    return {mount.dest: _mount(mount) for mount in op.mounts if mount.dest != "/"}


def _mount(mount: o.Mount) -> str:
    words = [mount.mount_type.name.lower()]
    if mount.selector:
        words.append(f"from {mount.selector}")
    if mount.readonly:
        words.append("read-only")
    if mount.cache_opt is not None:
        words.append(f"{mount.cache_opt.id} {mount.cache_opt.sharing.name.lower()}")
    if mount.secret_opt is not None:
        words.append(mount.secret_opt.id)
    if mount.ssh_opt is not None:
        words.append(mount.ssh_opt.id)
    return " ".join(words)


def _mapping(what: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for key in [*old, *(key for key in new if key not in old)]:
        if key not in new:
            yield f"{what} `{key}` is gone; it was {_value(old[key])}"
        elif key not in old:
            yield f"{what} `{key}` is new: {_value(new[key])}"
        elif old[key] != new[key]:
            yield f"{what} `{key}` changed: {_value(old[key])} -> {_value(new[key])}"
