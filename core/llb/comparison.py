"""What differs between two definitions, in words.

Digests hide what changed: one new argument gives each later op a new digest. So ops are paired by
what they do apart from their inputs, then by name, then by kind in order; a pair whose only
difference is that an input was changed is not listed.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from typing import Any

from torana.core.llb import ops as o
from torana.core.llb.codec import encode
from torana.core.llb.definition import Definition
from torana.core.llb.jsonform import to_json
from torana.core.llb.render import kind_name, summary
from torana.core.oci.digest import Digest
from torana.core.records import dataclass


@dataclass(frozen=True, slots=True)
class OpChange:
    """An op that is in both definitions, and how it differs: one line per field."""

    before: Digest
    after: Digest
    label: str
    details: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Differences of two definitions; labels say what an op is."""

    added: tuple[tuple[Digest, str], ...] = ()
    removed: tuple[tuple[Digest, str], ...] = ()
    changed: tuple[OpChange, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        lines = [f"- {label}" for _, label in self.removed]
        lines += [f"+ {label}" for _, label in self.added]
        for change in self.changed:
            lines.append(f"~ {change.label}")
            lines += [f"    {detail}" for detail in change.details]
        return "\n".join(lines) or "no difference"


@dataclass(frozen=True, slots=True)
class _Side:
    definition: Definition
    ops: dict[Digest, o.Op]

    def metadata(self, digest: Digest) -> o.OpMetadata:
        return self.definition.metadata.get(digest, o.OpMetadata())

    def name(self, digest: Digest) -> str:
        return self.metadata(digest).description.get("llb.customname", "")

    def label(self, digest: Digest) -> str:
        op = self.ops[digest]
        if op.kind is None:
            return "result"
        what = f"{kind_name(op)} {summary(op)}".rstrip()
        name = self.name(digest)
        return f"{what} ({name})" if name else what


def compare(old: Definition, new: Definition) -> Comparison:
    """Say which ops were added, removed and changed from `old` to `new`.

    Raises:
        InvalidLLBError: an op cannot be read.
    """
    before, after = _Side(old, old.decoded()), _Side(new, new.decoded())
    paired = _pair(before, after)  # digest in new → digest in old
    matched = set(paired.values())
    changed = []
    for digest in after.ops:
        if digest in paired:
            details = tuple(_differences(before, after, paired[digest], digest, paired))
            if details:
                label = after.label(digest)
                changed.append(OpChange(paired[digest], digest, label, details))
    return Comparison(
        added=tuple((d, after.label(d)) for d in after.ops if d not in paired),
        removed=tuple((d, before.label(d)) for d in before.ops if d not in matched),
        changed=tuple(changed),
    )


def partners(old: Definition, new: Definition) -> dict[Digest, Digest]:
    """Pair ops: digest in `new` -> digest in `old`, for those that were there before.

    Raises:
        InvalidLLBError: an op cannot be read.
    """
    return _pair(_Side(old, old.decoded()), _Side(new, new.decoded()))


def field_changes(old: o.Op, new: o.Op) -> list[str]:
    """Say which fields differ, one line each, inputs aside."""
    return list(_fields(_flat(_without_inputs(old)), _flat(_without_inputs(new))))


def _pair(before: _Side, after: _Side) -> dict[Digest, Digest]:
    partners: dict[Digest, Digest] = {d: d for d in after.ops if d in before.ops}
    rules: tuple[Callable[[_Side, Digest], Hashable], ...] = (_own_part, _named, _kind)
    for rule in rules:
        taken = set(partners.values())
        free: dict[Hashable, deque[Digest]] = defaultdict(deque)
        for digest in before.ops:
            if digest not in taken:
                free[rule(before, digest)].append(digest)
        for digest in after.ops:
            key = rule(after, digest)
            if digest not in partners and key is not None and free[key]:
                partners[digest] = free[key].popleft()
    return partners


def _own_part(side: _Side, digest: Digest) -> Hashable:
    """What the op does apart from where its inputs come from."""
    op = side.ops[digest]
    inputs = tuple(o.Input(Digest(""), item.index) for item in op.inputs)
    return encode(replace(op, inputs=inputs))


def _named(side: _Side, digest: Digest) -> Hashable:
    name = side.name(digest)
    return (kind_name(side.ops[digest]), name) if name else None


def _kind(side: _Side, digest: Digest) -> Hashable:
    return kind_name(side.ops[digest])


def _differences(
    before: _Side, after: _Side, old: Digest, new: Digest, partners: dict[Digest, Digest]
) -> Iterator[str]:
    was, now = before.ops[old], after.ops[new]
    yield from _fields(_flat(_without_inputs(was)), _flat(_without_inputs(now)))
    for number in range(max(len(was.inputs), len(now.inputs))):
        left = was.inputs[number] if number < len(was.inputs) else None
        right = now.inputs[number] if number < len(now.inputs) else None
        if left and right and left.index == right.index:
            if partners.get(right.digest, right.digest) == left.digest:
                continue
        yield f"input {number}: {_source(before, left)} -> {_source(after, right)}"
    yield from _fields(
        _flat(before.metadata(old), "metadata"), _flat(after.metadata(new), "metadata")
    )


def _source(side: _Side, item: o.Input | None) -> str:
    if item is None:
        return "none"
    label = side.label(item.digest) if item.digest in side.ops else str(item.digest)
    return f"`{label}`" + (f" output {item.index}" if item.index else "")


def _without_inputs(op: o.Op) -> o.Op:
    return replace(op, inputs=())


def _fields(was: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    for path in [*was, *(path for path in now if path not in was)]:
        if path not in now:
            yield f"{path}: {was[path]!r} removed"
        elif path not in was:
            yield f"{path}: {now[path]!r} added"
        elif was[path] != now[path]:
            yield f"{path}: {was[path]!r} -> {now[path]!r}"


def _flat(message: Any, prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, item in value.items():
                walk(f"{path}.{key}" if path else key, item)
        elif isinstance(value, list):
            for number, item in enumerate(value):
                walk(f"{path}[{number}]", item)
        else:
            out[path] = value

    for key, item in to_json(message).items():
        walk(f"{prefix}.{key}" if prefix else key, item)
    return out
