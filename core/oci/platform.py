"""`Platform`: operating system and processor that something runs on."""

from __future__ import annotations

import os as _os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from torana.core.errors import UserError
from torana.core.records import dataclass

_OS_PATTERN: Final = r"^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.%-]*)((?:\+[A-Za-z0-9_.%-]+)*)\))?$"
_PART_PATTERN: Final = r"^[A-Za-z0-9_.-]+$"
_KNOWN_OS: Final = frozenset(
    "aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 "
    "solaris wasip1 windows zos".split()
)
_KNOWN_ARCHITECTURES: Final = frozenset(
    "386 amd64 amd64p32 arm armbe arm64 arm64be ppc64 ppc64le loong64 mips mipsle mips64 mips64le "
    "mips64p32 mips64p32le ppc riscv riscv64 s390 s390x sparc sparc64 wasm".split()
)
_ARCHITECTURE_ALIASES: Final = {
    "i386": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}


class InvalidPlatformError(UserError):
    """Text is not a platform."""

    code = "PLATFORM_INVALID"


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """A platform as in OCI indexes and `pb.Platform`.

    Spec: OCI image specification, Image Index, `platform`.
    """

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form, members in the order of the OCI Go types."""
        out: dict[str, Any] = {"architecture": self.architecture, "os": self.os}
        if self.os_version:
            out["os.version"] = self.os_version
        if self.os_features:
            out["os.features"] = list(self.os_features)
        if self.variant:
            out["variant"] = self.variant
        return out

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Platform:
        """Read the JSON form; missing members are empty."""
        return cls(
            os=str(raw.get("os", "")),
            architecture=str(raw.get("architecture", "")),
            variant=str(raw.get("variant", "")),
            os_version=str(raw.get("os.version", "")),
            os_features=tuple(raw.get("os.features") or ()),
        )

    def normalized(self) -> Platform:
        """Replace aliases (`x86_64`, `armhf`, `macos`) and drop variants that are the default."""
        architecture, variant = _normalize_architecture(self.architecture, self.variant)
        return replace(self, os=_normalize_os(self.os), architecture=architecture, variant=variant)

    def format(self) -> str:
        """Give `os/architecture[/variant]`, the form used as platform id."""
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def format_all(self) -> str:
        """Give the form with OS version and features: `windows(10.0.17763+win32k)/amd64`."""
        if not (self.os_version or self.os_features):
            return self.format()
        features = "".join(f"+{_escape(feature)}" for feature in self.os_features)
        system = f"{self.os}({_escape(self.os_version)}{features})"
        return "/".join(part for part in (system, self.architecture, self.variant) if part)


def parse_platform(text: str) -> Platform:
    """Parse `os[/architecture[/variant]]` or an architecture alone, unnormalised but for aliases.

    One part alone is an operating system (with the host's architecture) or an architecture (linux).

    Raises:
        InvalidPlatformError: the text names no platform.
    """
    parts = text.split("/")
    if len(parts) > 3:
        raise InvalidPlatformError(f'"{text}": cannot parse platform specifier: invalid argument')
    system = re.match(_OS_PATTERN, parts[0])
    if system is None or "\n" in parts[0]:
        raise InvalidPlatformError(
            f'"{parts[0]}" is an invalid OS component of "{text}": OSAndVersion specifier '
            f"component must match {_quoted(_OS_PATTERN)}: invalid argument"
        )
    for part in parts[1:]:
        if re.fullmatch(_PART_PATTERN[1:-1], part) is None:
            raise InvalidPlatformError(
                f'"{part}" is an invalid component of "{text}": platform specifier component must '
                f"match {_quoted(_PART_PATTERN)}: invalid argument"
            )
    name = _normalize_os(system[1])
    version = _unescape(system[2] or "")
    features = tuple(_unescape(feature) for feature in (system[3] or "").split("+") if feature)
    if len(parts) == 1:
        return _parse_single(text, name, version, features)
    variant = parts[2] if len(parts) == 3 else ""
    architecture, variant = _normalize_architecture(parts[1], variant)
    if len(parts) == 2 and architecture == "arm" and variant == "v7":
        variant = ""
    if len(parts) == 3 and architecture == "arm64" and not variant:
        variant = "v8"
    return Platform(
        os=name,
        architecture=architecture,
        variant=variant,
        os_version=version,
        os_features=features,
    )


def _parse_single(text: str, name: str, version: str, features: tuple[str, ...]) -> Platform:
    if name in _KNOWN_OS:
        host = host_platform()
        variant = "" if host.architecture == "arm" and host.variant == "v7" else host.variant
        return Platform(
            os=name,
            architecture=host.architecture,
            variant=variant,
            os_version=version,
            os_features=features,
        )
    architecture, variant = _normalize_architecture(text, "")
    if architecture not in _KNOWN_ARCHITECTURES:
        raise InvalidPlatformError(
            f'"{text}": unknown operating system or architecture: invalid argument'
        )
    if architecture == "arm" and variant == "v7":
        variant = ""
    return Platform(os="linux", architecture=architecture, variant=variant)


def host_platform() -> Platform:
    """Give the platform of this machine, normalised."""
    machine = _os.uname().machine.lower()
    if machine.startswith("armv"):
        return Platform(os="linux", architecture="arm", variant=machine[3:5]).normalized()
    return Platform(os="linux", architecture=machine).normalized()


def matches(wanted: Platform, offered: Platform) -> bool:
    """Say whether a thing made for `offered` satisfies `wanted` exactly, after normalising."""
    a, b = wanted.normalized(), offered.normalized()
    return (a.os, a.architecture, a.variant) == (b.os, b.architecture, b.variant)


def best_match(wanted: Platform, offered: Iterable[Platform]) -> int | None:
    """Give the index of the best of `offered` for `wanted`, None if none runs there.

    An exact match wins; else compatible lower variants (arm v7 takes v6 and v5, amd64 v3 takes v2
    and plain, 64-bit processors take their 32-bit siblings last).
    """
    order = list(_compatible(wanted.normalized()))
    best: tuple[int, int] | None = None
    for index, platform in enumerate(offered):
        candidate = platform.normalized()
        key = (candidate.os, candidate.architecture, candidate.variant)
        if key in order:
            rank = (order.index(key), index)
            best = rank if best is None else min(best, rank)
    return None if best is None else best[1]


def _compatible(wanted: Platform) -> Iterable[tuple[str, str, str]]:
    system, architecture, variant = wanted.os, wanted.architecture, wanted.variant
    yield system, architecture, variant
    level = int(variant[1:]) if re.fullmatch(r"v\d", variant) else 0
    if architecture == "arm":
        yield from ((system, "arm", f"v{lower}") for lower in range(level - 1, 4, -1))
    elif architecture == "amd64":
        yield from ((system, "amd64", f"v{lower}") for lower in range(level - 1, 1, -1))
        yield system, "amd64", ""
        yield system, "386", ""
    elif architecture == "arm64":
        yield system, "arm64", ""
        yield from ((system, "arm", f"v{lower}") for lower in range(8, 4, -1))


def _normalize_os(name: str) -> str:
    lowered = name.lower()
    return "darwin" if lowered == "macos" else lowered


def _normalize_architecture(architecture: str, variant: str) -> tuple[str, str]:
    architecture, variant = architecture.lower(), variant.lower()
    if architecture in _ARCHITECTURE_ALIASES:
        architecture, implied = _ARCHITECTURE_ALIASES[architecture]
        variant = implied or variant
    match architecture, variant:
        case ("amd64", "v1") | ("arm64", "8" | "v8") | ("386", _):
            variant = ""
        case "arm", "" | "7":
            variant = "v7"
        case "arm", "5" | "6" | "8":
            variant = f"v{variant}"
    return architecture, variant


def _escape(text: str) -> str:
    return "".join(c if c.isalnum() or c in "_.-" else f"%{ord(c):02X}" for c in text)


def _unescape(text: str) -> str:
    return re.sub(r"%([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), text)


def _quoted(pattern: str) -> str:
    return '"' + pattern.replace("\\", "\\\\") + '"'
