"""`ImageConfig`: the config of the image that a stage becomes.

The JSON has the members that the standard image structure knows, in the order in which Go writes
them; others are dropped, as the original does.

Spec: OCI image specification, Image Configuration, and Docker's additions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from torana.core.oci.image import DEFAULT_PATH, compact_json, parse_config
from torana.core.oci.platform import Platform
from torana.core.records import dataclass

_COMMENT: Final = "buildkit.dockerfile.v0"  # of history entries

_HISTORY: Final = ("created", "created_by", "author", "comment", "empty_layer")
_HEALTHCHECK: Final = ("Test", "Interval", "Timeout", "StartPeriod", "StartInterval", "Retries")
_CONFIG: Final = (
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "ArgsEscaped",
    "Healthcheck",
    "OnBuild",
    "Shell",
)
_SORTED: Final = frozenset(("ExposedPorts", "Volumes", "Labels"))
_FRACTION: Final = re.compile(r"(\.\d*?)0*(?=Z|[+-]\d\d:\d\d$|$)")


@dataclass(slots=True)
class ImageConfig:
    """A config under construction; `config` holds the members of the inner `config` object."""

    platform: Platform
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    created: str = ""
    author: str = ""
    rootfs_type: str = "layers"
    diff_ids: list[str] | None = None

    @classmethod
    def empty(cls, platform: Platform) -> ImageConfig:
        """Give the config of scratch."""
        config: dict[str, Any] = {"WorkingDir": "/"}
        if platform.os != "windows":
            config["Env"] = [f"PATH={DEFAULT_PATH}"]
        return cls(platform, config)

    @classmethod
    def unknown(cls) -> ImageConfig:
        """Give the config of a tree that is no image."""
        return cls(Platform(os="", architecture=""), rootfs_type="")

    @classmethod
    def parse(cls, data: bytes) -> ImageConfig:
        """Read a config as a registry gives it.

        Raises:
            CorruptError: not a JSON object.
        """
        raw = parse_config(data)
        rootfs = raw.get("rootfs") or {}
        return cls(
            Platform.from_dict(raw),
            {key: value for key, value in (raw.get("config") or {}).items() if key in _CONFIG},
            [dict(entry) for entry in raw.get("history") or ()],
            str(raw.get("created") or ""),
            str(raw.get("author") or ""),
            str(rootfs.get("type", "")),
            rootfs.get("diff_ids"),
        )

    def copy(self) -> ImageConfig:
        """Give an independent copy; history entries are shared, since nobody changes one."""
        return ImageConfig(
            self.platform,
            _copied(self.config),
            list(self.history),
            self.created,
            self.author,
            self.rootfs_type,
            self.diff_ids,
        )

    @property
    def is_hollow(self) -> bool:
        """Whether the image has no layers at all: a config and nothing else."""
        return not self.diff_ids and all(entry.get("empty_layer") for entry in self.history)

    @property
    def env(self) -> list[tuple[str, str]]:
        """The environment as pairs, in order."""
        pairs = (entry.partition("=") for entry in self.config.get("Env") or ())
        return [(name, value) for name, _, value in pairs]

    def set_env(self, name: str, value: str) -> None:
        """Replace in place, or append."""
        entries: list[str] = self.config.setdefault("Env", None) or []
        self.config["Env"] = entries
        for index, entry in enumerate(entries):
            if entry.partition("=")[0] == name:
                entries[index] = f"{name}={value}"
                return
        entries.append(f"{name}={value}")

    def ensure_path(self, system: str) -> None:
        """Add the default PATH where there is none, for an image that runs on `system`."""
        if system != "windows" and not any(name == "PATH" for name, _ in self.env):
            self.set_env("PATH", DEFAULT_PATH)

    def add_history(self, text: str, *, layer: bool, created: str = "") -> None:
        entry: dict[str, Any] = {"created": created} if created else {}
        entry |= {"created_by": text, "comment": _COMMENT}
        if not layer:
            entry["empty_layer"] = True
        self.history.append(entry)

    def set_platform(self, target: Platform) -> None:
        """Make it an image for `target`; a base's variant and OS version stay where they fit."""
        old = self.platform
        same = (old.os, old.architecture) == (target.os, target.architecture)
        self.platform = Platform(
            os=target.os,
            architecture=target.architecture,
            variant=target.variant or (old.variant if same else ""),
            os_version=target.os_version or (old.os_version if same else ""),
            os_features=old.os_features,
        ).normalized()

    def to_json(self) -> bytes:
        """Give the canonical bytes."""
        out: dict[str, Any] = {}
        if self.created:
            out["created"] = _go_time(self.created)
        if self.author:
            out["author"] = self.author
        out |= self.platform.to_dict()
        out["rootfs"] = {"type": self.rootfs_type, "diff_ids": self.diff_ids}
        if self.history:
            out["history"] = [_history_entry(entry) for entry in self.history]
        out["config"] = {
            name: _member(name, value)
            for name in _CONFIG
            if (value := self.config.get(name)) or (name == "Healthcheck" and value is not None)
        }
        return compact_json(out)


def _copied(value: Any) -> Any:
    """Copy what JSON can be; several times as fast as `copy.deepcopy`."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _member(name: str, value: Any) -> Any:
    if name in _SORTED:
        return dict(sorted(value.items()))
    if name == "Healthcheck":
        return {key: value[key] for key in _HEALTHCHECK if value.get(key)}
    return value


def _history_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    out = {name: entry[name] for name in _HISTORY if entry.get(name)}
    if "created" in out:
        out["created"] = _go_time(out["created"])
    return out


def _go_time(text: str) -> str:
    """Drop trailing zeros of the fraction, as Go does when it writes a time again."""
    head, dot, _ = text.partition(".")
    if not dot:
        return text
    return head + _FRACTION.sub(lambda match: match[1].rstrip("."), text[len(head) :], count=1)
