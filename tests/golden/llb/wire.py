"""A decoder of `pb.Op` bytes to the JSON form of the golden files, independent of `core.llb`.

The golden runner shows differences of ops with it, and the stub client looks into definitions, so
that neither trusts the code under test to read what it wrote.

Spec: solver/pb/ops.proto; the JSON form is protojson with the field names of the schema.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Field:
    """One field: `kind` is a scalar kind, `map`, an enum's value names or a message's name."""

    name: str
    kind: str | tuple[str, ...]
    repeated: bool = False


def _f(name: str, kind: str | tuple[str, ...] = "string", repeated: bool = False) -> Field:
    return Field(name, kind, repeated)


_CHOWN: Final = _f("owner", "ChownOpt")
SCHEMA: Final[dict[str, dict[int, Field]]] = {
    "Op": {
        1: _f("inputs", "Input", True),
        2: _f("exec", "ExecOp"),
        3: _f("source", "SourceOp"),
        4: _f("file", "FileOp"),
        5: _f("build", "BuildOp"),
        6: _f("merge", "MergeOp"),
        7: _f("diff", "DiffOp"),
        10: _f("platform", "Platform"),
        11: _f("constraints", "WorkerConstraints"),
    },
    "Input": {1: _f("digest"), 2: _f("index", "int64")},
    "Platform": {
        1: _f("Architecture"),
        2: _f("OS"),
        3: _f("Variant"),
        4: _f("OSVersion"),
        5: _f("OSFeatures", repeated=True),
    },
    "WorkerConstraints": {1: _f("filter", repeated=True)},
    "SourceOp": {1: _f("identifier"), 2: _f("attrs", "map")},
    "ExecOp": {
        1: _f("meta", "Meta"),
        2: _f("mounts", "Mount", True),
        3: _f("network", ("UNSET", "HOST", "NONE")),
        4: _f("security", ("SANDBOX", "INSECURE")),
        5: _f("secretenv", "SecretEnv", True),
        6: _f("cdiDevices", "CDIDevice", True),
    },
    "Meta": {
        1: _f("args", repeated=True),
        2: _f("env", repeated=True),
        3: _f("cwd"),
        4: _f("user"),
        5: _f("proxy_env", "ProxyEnv"),
        6: _f("extraHosts", "HostIP", True),
        7: _f("hostname"),
        9: _f("ulimit", "Ulimit", True),
        10: _f("cgroupParent"),
        11: _f("removeMountStubsRecursive", "bool"),
        12: _f("validExitCodes", "int32", True),
    },
    "ProxyEnv": {
        1: _f("http_proxy"),
        2: _f("https_proxy"),
        3: _f("ftp_proxy"),
        4: _f("no_proxy"),
        5: _f("all_proxy"),
    },
    "HostIP": {1: _f("Host"), 2: _f("IP")},
    "Ulimit": {1: _f("Name"), 2: _f("Soft", "int64"), 3: _f("Hard", "int64")},
    "SecretEnv": {1: _f("ID"), 2: _f("name"), 3: _f("optional", "bool")},
    "CDIDevice": {1: _f("name"), 2: _f("optional", "bool")},
    "Mount": {
        1: _f("input", "int64"),
        2: _f("selector"),
        3: _f("dest"),
        4: _f("output", "int64"),
        5: _f("readonly", "bool"),
        6: _f("mountType", ("BIND", "SECRET", "SSH", "CACHE", "TMPFS")),
        19: _f("TmpfsOpt", "TmpfsOpt"),
        20: _f("cacheOpt", "CacheOpt"),
        21: _f("secretOpt", "SecretOpt"),
        22: _f("SSHOpt", "SecretOpt"),
        23: _f("resultID"),
        24: _f("contentCache", ("DEFAULT", "ON", "OFF")),
    },
    "TmpfsOpt": {1: _f("size", "int64")},
    "CacheOpt": {1: _f("ID"), 2: _f("sharing", ("SHARED", "PRIVATE", "LOCKED"))},
    "SecretOpt": {
        1: _f("ID"),
        2: _f("uid", "uint32"),
        3: _f("gid", "uint32"),
        4: _f("mode", "uint32"),
        5: _f("optional", "bool"),
    },
    "FileOp": {2: _f("actions", "FileAction", True)},
    "FileAction": {
        1: _f("input", "int64"),
        2: _f("secondaryInput", "int64"),
        3: _f("output", "int64"),
        4: _f("copy", "Copy"),
        5: _f("mkfile", "MkFile"),
        6: _f("mkdir", "MkDir"),
        7: _f("rm", "Rm"),
        8: _f("symlink", "Symlink"),
    },
    "Copy": {
        1: _f("src"),
        2: _f("dest"),
        3: _CHOWN,
        4: _f("mode", "int32"),
        5: _f("followSymlink", "bool"),
        6: _f("dirCopyContents", "bool"),
        7: _f("attemptUnpackDockerCompatibility", "bool"),
        8: _f("createDestPath", "bool"),
        9: _f("allowWildcard", "bool"),
        10: _f("allowEmptyWildcard", "bool"),
        11: _f("timestamp", "int64"),
        12: _f("include_patterns", repeated=True),
        13: _f("exclude_patterns", repeated=True),
        14: _f("alwaysReplaceExistingDestPaths", "bool"),
        15: _f("modeStr"),
        16: _f("required_paths", repeated=True),
    },
    "MkFile": {
        1: _f("path"),
        2: _f("mode", "int32"),
        3: _f("data", "bytes"),
        4: _CHOWN,
        5: _f("timestamp", "int64"),
    },
    "MkDir": {
        1: _f("path"),
        2: _f("mode", "int32"),
        3: _f("makeParents", "bool"),
        4: _CHOWN,
        5: _f("timestamp", "int64"),
    },
    "Rm": {1: _f("path"), 2: _f("allowNotFound", "bool"), 3: _f("allowWildcard", "bool")},
    "Symlink": {1: _f("oldpath"), 2: _f("newpath"), 3: _CHOWN, 4: _f("timestamp", "int64")},
    "ChownOpt": {1: _f("user", "UserOpt"), 2: _f("group", "UserOpt")},
    "UserOpt": {1: _f("byName", "NamedUserOpt"), 2: _f("byID", "uint32")},
    "NamedUserOpt": {1: _f("name"), 2: _f("input", "int64")},
    "MergeOp": {1: _f("inputs", "SideInput", True)},
    "SideInput": {1: _f("input", "int64")},
    "DiffOp": {1: _f("lower", "SideInput"), 2: _f("upper", "SideInput")},
}


def decode_op(raw: bytes) -> dict[str, Any]:
    """Give the JSON form of one op; 64-bit integers as text, bytes as base64, defaults left out."""
    return _message(raw, "Op")


def _message(raw: bytes, name: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for number, value in _records(raw):
        field = SCHEMA[name][number]
        if field.kind == "map":
            assert isinstance(value, bytes)
            entry = dict(_records(value))
            key, text = entry.get(1, b""), entry.get(2, b"")
            assert isinstance(key, bytes)
            assert isinstance(text, bytes)
            out.setdefault(field.name, {})[key.decode()] = text.decode()
        elif field.repeated:
            out.setdefault(field.name, []).append(_value(value, field.kind))
        else:
            out[field.name] = _value(value, field.kind)
    return out


def _value(value: int | bytes, kind: str | tuple[str, ...]) -> Any:
    if isinstance(value, int):
        if isinstance(kind, tuple):
            return kind[value]
        if kind == "bool":
            return bool(value)
        signed = value - (1 << 64) if value >> 63 else value
        return str(signed) if kind == "int64" else signed
    if kind == "string":
        return value.decode()
    if kind == "bytes":
        return base64.b64encode(value).decode()
    assert isinstance(kind, str)
    return _message(value, kind)


def _records(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, at = _varint(raw, at)
            yield number, value
        else:
            assert wire_type == 2, f"wire type {wire_type}"
            size, at = _varint(raw, at)
            yield number, raw[at : at + size]
            at += size


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
