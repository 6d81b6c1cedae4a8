"""Definitions for people and programs: `text`, `json` and `dot` (for Graphviz).

Rendering never fails on a graph that can be read, even if indexes in it are wrong: it is used to
look at what is broken.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from torana.core.errors import UserError
from torana.core.llb import ops as o
from torana.core.llb.definition import Definition
from torana.core.llb.jsonform import to_json
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform

FORMS: Final = ("text", "json", "dot")
_MAX_LABEL: Final = 60
_SHAPES: Final = {"source": "ellipse", "exec": "box", "file": "note"}


def render(definition: Definition, form: str = "text") -> str:
    """Give `definition` in one of `FORMS`, ending with a line end.

    Raises:
        UserError: unknown form.
        InvalidLLBError: an op cannot be read.
    """
    match form:
        case "text":
            return "".join(f"{line}\n" for line in _text(definition))
        case "json":
            return json.dumps(json_value(definition), indent=2, ensure_ascii=False) + "\n"
        case "dot":
            return "".join(f"{line}\n" for line in _dot(definition))
    raise UserError(f"unknown form of LLB `{form}`", hint=f"known are {', '.join(FORMS)}")


def kind_name(op: o.Op) -> str:
    """Give the name of the op's kind in the schema; `terminal` for an op without kind."""
    names: dict[type, str] = {
        o.SourceOp: "source",
        o.ExecOp: "exec",
        o.FileOp: "file",
        o.BuildOp: "build",
        o.MergeOp: "merge",
        o.DiffOp: "diff",
        o.PassthroughOp: "passthrough",
    }
    return "terminal" if op.kind is None else names[type(op.kind)]


def summary(op: o.Op) -> str:
    """Say in one line what the op does, without its kind."""
    match op.kind:
        case o.SourceOp():
            return _clean(op.kind.identifier)
        case o.ExecOp():
            return _clean(" ".join(op.kind.meta.args)) if op.kind.meta else ""
        case o.FileOp():
            return ", ".join(_action(action.action) for action in op.kind.actions)
        case o.PassthroughOp():
            return _clean(op.kind.id)
        case _:
            return ""


def _action(action: o.FileActionKind | None) -> str:
    match action:
        case o.Copy():
            return _clean(f"copy {action.src} {action.dest}")
        case o.MkFile():
            return _clean(f"mkfile {action.path}")
        case o.MkDir():
            return _clean(f"mkdir {action.path}")
        case o.Rm():
            return _clean(f"rm {action.path}")
        case o.Symlink():
            return _clean(f"symlink {action.newpath} -> {action.oldpath}")
    return "nothing"


def _clean(text: str) -> str:
    """Give one line that any terminal can show: control characters are escaped."""
    shown = str(text).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


# --- text ------------------------------------------------------------------------------------


def _text(definition: Definition) -> Iterator[str]:
    if not definition.ops:
        yield "scratch"
        return
    decoded = definition.decoded()
    numbers = {digest: number for number, digest in enumerate(decoded)}
    for digest, op in decoded.items():
        if op.kind is None:
            yield "result " + ", ".join(_ref(item, numbers) for item in op.inputs)
            continue
        platform = f"  ({_platform(op.platform)})" if op.platform else ""
        yield f"[{numbers[digest]}] {kind_name(op)} {summary(op)}".rstrip() + platform
        yield f"    digest {digest}"
        for label, value in _details(op, numbers):
            yield f"    {label} {_clean(value)}"
        for label, value in _said(definition, digest):
            yield f"    {label} {_clean(value)}"


def _ref(item: o.Input, numbers: dict[Digest, int]) -> str:
    number = numbers.get(item.digest)
    name = f"[{_clean(item.digest)}]" if number is None else f"[{number}]"
    return name if item.index == 0 else f"{name}:{item.index}"


def _input(op: o.Op, number: int, numbers: dict[Digest, int]) -> str:
    if number == o.EMPTY:
        return "scratch"
    if 0 <= number < len(op.inputs):
        return _ref(op.inputs[number], numbers)
    return f"input {number}"


def _details(op: o.Op, numbers: dict[Digest, int]) -> Iterator[tuple[str, str]]:
    match op.kind:
        case o.SourceOp():
            yield from (("attr", f"{k}={v}") for k, v in sorted(op.kind.attrs.items()))
        case o.ExecOp():
            yield from _exec_details(op, op.kind, numbers)
        case o.FileOp():
            for position, item in enumerate(op.kind.actions):
                yield "action", _file_detail(op, position, item, numbers)
        case o.MergeOp():
            for part in op.kind.inputs:
                yield "layer", _input(op, part.input, numbers)
        case o.DiffOp():
            for label, side in (("lower", op.kind.lower), ("upper", op.kind.upper)):
                yield label, "missing" if side is None else _input(op, side.input, numbers)
        case o.BuildOp():
            for name, given in sorted(op.kind.inputs.items()):
                yield "input", f"{name} <- {_input(op, given.input, numbers)}"
            yield from (("attr", f"{k}={v}") for k, v in sorted(op.kind.attrs.items()))
        case o.PassthroughOp():
            for position, index in enumerate(op.kind.outputs):
                yield "output", f"{position} <- {_input(op, index, numbers)}"


def _exec_details(
    op: o.Op, kind: o.ExecOp, numbers: dict[Digest, int]
) -> Iterator[tuple[str, str]]:
    meta = kind.meta
    if meta is not None:
        yield "cwd", meta.cwd
        if meta.user:
            yield "user", meta.user
        if meta.hostname:
            yield "hostname", meta.hostname
        yield from (("env", entry) for entry in meta.env)
        yield from (("host", f"{entry.host} {entry.ip}") for entry in meta.extra_hosts)
        yield from (("ulimit", f"{u.name}={u.soft}:{u.hard}") for u in meta.ulimit)
    for mount in kind.mounts:
        yield "mount", _mount(op, mount, numbers)
    yield from (("secret", f"{s.name} <- {s.id}") for s in kind.secret_env)
    yield from (("device", device.name) for device in kind.cdi_devices)
    if kind.network:
        yield "network", kind.network.name.lower()
    if kind.security:
        yield "security", kind.security.name.lower()


def _mount(op: o.Op, mount: o.Mount, numbers: dict[Digest, int]) -> str:
    words = [mount.dest, mount.mount_type.name.lower()]
    if mount.mount_type in (o.MountType.BIND, o.MountType.CACHE):
        words.append("<- " + _input(op, mount.input, numbers) + mount.selector)
    if mount.cache_opt is not None:
        words.append(f"id={mount.cache_opt.id} {mount.cache_opt.sharing.name.lower()}")
    if mount.secret_opt is not None:
        words.append(f"id={mount.secret_opt.id}")
    if mount.ssh_opt is not None:
        words.append(f"id={mount.ssh_opt.id or 'default'}")
    if mount.tmpfs_opt is not None and mount.tmpfs_opt.size:
        words.append(f"size={mount.tmpfs_opt.size}")
    if mount.readonly:
        words.append("read-only")
    is_ignored = mount.mount_type in (o.MountType.SECRET, o.MountType.SSH)
    if mount.output != o.SKIP_OUTPUT and not is_ignored:
        words.append(f"-> output {mount.output}")
    return " ".join(words)


def _file_detail(op: o.Op, position: int, item: o.FileAction, numbers: dict[Digest, int]) -> str:
    def place(number: int) -> str:
        earlier = number - len(op.inputs)
        return f"action {earlier}" if earlier >= 0 else _input(op, number, numbers)

    words = [f"{position}: {_action(item.action)} on {place(item.input)}"]
    if isinstance(item.action, o.Copy):
        words.append(f"from {place(item.secondary_input)}")
    if item.output != o.SKIP_OUTPUT:
        words.append(f"-> output {item.output}")
    return " ".join(words)


def _said(definition: Definition, digest: Digest) -> Iterator[tuple[str, str]]:
    metadata = definition.metadata.get(digest, o.OpMetadata())
    if name := metadata.description.get("llb.customname"):
        yield "name", name
    if metadata.ignore_cache:
        yield "cache", "ignored"
    if metadata.progress_group is not None:
        yield "group", metadata.progress_group.name or metadata.progress_group.id
    if metadata.caps:
        yield "needs", " ".join(sorted(metadata.caps))
    for source, lines in _places(definition, digest):
        infos = definition.source.infos if definition.source else ()
        name = infos[source].filename if 0 <= source < len(infos) else f"source {source}"
        yield "from", " ".join([name, *(f"{a}" if a == b else f"{a}-{b}" for a, b in lines)])


def _places(definition: Definition, digest: Digest) -> list[tuple[int, list[tuple[int, int]]]]:
    if definition.source is None or digest not in definition.source.locations:
        return []
    return [
        (place.source_index, [(r.start.line, r.end.line) for r in place.ranges])
        for place in definition.source.locations[digest].locations
    ]


def _platform(platform: Platform) -> str:
    return _clean("/".join(p for p in (platform.os, platform.architecture, platform.variant) if p))


# --- json ------------------------------------------------------------------------------------


def json_value(definition: Definition) -> dict[str, Any]:
    """Give ops, metadata, places and source files as a JSON value."""
    rows: list[dict[str, Any]] = []
    for index, (digest, op) in enumerate(definition.decoded().items()):
        row: dict[str, Any] = {"index": index, "digest": str(digest), "op": to_json(op)}
        metadata = definition.metadata.get(digest)
        if metadata is not None:
            row["metadata"] = to_json(metadata)
        places = _places(definition, digest)
        if places:
            row["locations"] = [
                {"source": source, "lines": [list(lines) for lines in ranges]}
                for source, ranges in places
            ]
        if op.kind is None:
            row["terminal"] = True
        rows.append(row)
    infos = definition.source.infos if definition.source else ()
    sources = [
        {
            "filename": info.filename,
            "language": info.language,
            "data_digest": str(Digest.of(info.data)),
            "definition": [str(d) for d in info.definition.digests()] if info.definition else [],
        }
        for info in infos
    ]
    return {"ops": rows, "source_infos": sources}


# --- dot -------------------------------------------------------------------------------------


def _dot(definition: Definition) -> Iterator[str]:
    decoded = definition.decoded()
    numbers = {digest: number for number, digest in enumerate(decoded)}
    yield "digraph llb {"
    yield "  rankdir=LR;"
    for digest, op in decoded.items():
        if op.kind is None:
            label, shape = "result", "doublecircle"
        else:
            metadata = definition.metadata.get(digest, o.OpMetadata())
            name = metadata.description.get("llb.customname", "")
            said = _clean(name) or f"{kind_name(op)} {summary(op)}".rstrip()
            label, shape = _short(said), _SHAPES.get(kind_name(op), "hexagon")
        yield f"  n{numbers[digest]} [label={_quoted(label)}, shape={shape}];"
    for digest, op in decoded.items():
        for position, item in enumerate(op.inputs):
            if item.digest in numbers:
                label = _edge(op, position, item.index)
                attrs = f" [label={_quoted(label)}]" if label else ""
                yield f"  n{numbers[item.digest]} -> n{numbers[digest]}{attrs};"
    yield "}"


def _edge(op: o.Op, position: int, index: int) -> str:
    words = [f"output {index}"] if index else []
    if isinstance(op.kind, o.ExecOp):
        words += [_clean(m.dest) for m in op.kind.mounts if m.input == position]
    return " ".join(words)


def _short(text: str) -> str:
    return text if len(text) <= _MAX_LABEL else text[: _MAX_LABEL - 1] + "…"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
