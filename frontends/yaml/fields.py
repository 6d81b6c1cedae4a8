"""Reading typed values out of nodes whose shape is valid and whose expressions are expanded."""

from __future__ import annotations

import posixpath
import re
from typing import Final

from torana.core.errors import ToranaError
from torana.core.oci.platform import Platform, parse_platform
from torana.core.quantities import parse_duration_s, parse_size
from torana.frontends.kit.yamltree import Items, Mark, Node, Scalar, Table
from torana.frontends.yaml.expressions.pattern import InvalidPatternError, Pattern
from torana.frontends.yaml.model import Env, Owner

_SHA256: Final = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


def text(node: Node | None) -> str:
    """Give the text of a scalar; empty without one."""
    return node.text if isinstance(node, Scalar) else ""


def optional_text(node: Node | None) -> str | None:
    return node.text if isinstance(node, Scalar) else None


def texts(node: Node | None) -> tuple[str, ...]:
    """Give text or a list of text as a list."""
    if isinstance(node, Items):
        return tuple(text(item) for item in node.items)
    return () if node is None else (text(node),)


def flag(node: Node | None, otherwise: bool = False) -> bool:
    return otherwise if node is None else node.value is True if isinstance(node, Scalar) else True


def integer(node: Node | None) -> int | None:
    return int(node.text) if isinstance(node, Scalar) else None


def table(node: Node | None) -> Table | None:
    return node if isinstance(node, Table) else None


def mode(node: Node | None) -> int | None:
    """Read an octal mode as written."""
    return int(node.text, 8) if isinstance(node, Scalar) else None


def owner(node: Node | None) -> Owner | None:
    """Read `USER[:GROUP]`, names or ids."""
    if not isinstance(node, Scalar):
        return None
    user, colon, group = node.text.partition(":")
    if not user or (colon and not group):
        raise node.mark.error(f"not an owner: `{node.text}`", hint="it is `user` or `user:group`")
    return Owner(user=_who(user), group=_who(group) if colon else None)


def _who(name: str) -> int | str:
    return int(name) if name.isascii() and name.isdigit() and len(name) < 11 else name


def environment(node: Node | None) -> Env:
    """Read variables; null unsets one."""
    if not isinstance(node, Table):
        return {}
    return {
        name: None if _is_null(entry.node) else text(entry.node)
        for name, entry in node.entries.items()
    }


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None


def checksum(node: Node | None) -> str:
    """Read a SHA-256 as digest; empty without one."""
    if not isinstance(node, Scalar):
        return ""
    match = _SHA256.fullmatch(node.text)
    if match is None:
        raise node.mark.error(f"not 64 hexadecimal digits: `{node.text[:80]}`")
    return f"sha256:{match[1]}"


def commit(node: Node | None) -> str:
    if not isinstance(node, Scalar):
        return ""
    if _COMMIT.fullmatch(node.text) is None:
        raise node.mark.error(
            f"not a whole commit: `{node.text[:80]}`", hint="40 hexadecimal digits"
        )
    return node.text


def platform(node: Node | None) -> Platform | None:
    if not isinstance(node, Scalar):
        return None
    try:
        return parse_platform(node.text).normalized()
    except ToranaError as err:
        raise node.mark.error(
            f"not a platform: `{node.text}`", hint="for example linux/amd64"
        ) from err


def platform_text(text: str) -> Platform | None:
    """Read a platform that was checked before; None for empty text."""
    return parse_platform(text).normalized() if text else None


def rooted(path: str) -> str:
    """Give a path of a tree as an absolute one that stays in the tree."""
    joined = posixpath.normpath(posixpath.join("/", path.lstrip("/")))
    return joined[1:] if joined.startswith("//") else joined


def absolute(node: Node | None) -> str | None:
    """Read a path that must begin with a slash."""
    if not isinstance(node, Scalar):
        return None
    if not node.text.startswith("/"):
        raise node.mark.error(f"not an absolute path: `{node.text}`")
    return node.text


def size(node: Node | None) -> int:
    if not isinstance(node, Scalar):
        return 0
    try:
        found = parse_size(node.text)
    except ToranaError as err:
        raise node.mark.error(f"not a size: `{node.text}`", hint="for example 64m") from err
    if found.percent:
        raise node.mark.error(f"not a size: `{node.text}`", hint="for example 64m")
    return found.size_bytes


def duration_ns(node: Node | None) -> int:
    if not isinstance(node, Scalar):
        return 0
    try:
        return round(parse_duration_s(node.text) * 1_000_000_000)
    except ToranaError as err:
        raise node.mark.error(f"not a duration: `{node.text}`", hint="for example 1m30s") from err


def patterns(node: Node | None) -> tuple[str, ...]:
    """Read regular expressions."""
    found = texts(node)
    for each in found:
        check_pattern(each, node.mark if node is not None else None)
    return found


def check_pattern(pattern: str, mark: Mark | None) -> None:
    try:
        Pattern.parse(pattern)
    except InvalidPatternError as err:
        assert mark is not None
        raise mark.error(f"not a pattern: {err}") from err
