"""Devices of this machine that steps may ask for, as CDI files describe them.

Spec: Container Device Interface 0.8; reference of exec, section 14.
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from torana.core.errors import ToranaError, UnsupportedError
from torana.core.llb.ops import CDIDevice
from torana.core.ops.exec.entitlements import NotEntitledError
from torana.core.ops.runtime import ContainerMount, DeviceNode, Hook
from torana.core.records import dataclass

log = logging.getLogger(__name__)

_FOLDERS: Final = ("/etc/cdi", "/var/run/cdi")
_KIND: Final = re.compile(r"[A-Za-z][\w.-]*/[A-Za-z][\w-]*\Z")
_CLASS: Final = "org.mobyproject.buildkit.device.class"
_AUTO: Final = "org.mobyproject.buildkit.device.autoallow"
_ALL: Final = "device"


class InvalidDeviceError(ToranaError):
    """A CDI file asks for something that cannot be given."""

    code = "DEVICE_INVALID"


@dataclass(frozen=True, slots=True)
class Device:
    """A device: `edits` are the `containerEdits` of its file and its own, raw."""

    kind: str  # `vendor/class`
    name: str
    edits: tuple[Mapping[str, Any], ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        return f"{self.kind}={self.name}"


@dataclass(frozen=True, slots=True)
class DeviceEdits:
    """What devices change of a container."""

    env: tuple[str, ...] = ()
    nodes: tuple[DeviceNode, ...] = ()
    mounts: tuple[ContainerMount, ...] = ()
    hooks: tuple[Hook, ...] = ()
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Devices:
    """The devices of a worker, read from its folders whenever they are asked for.

    `granted` and `aliases` are those of a build, as `of_build` gives them.
    """

    folders: tuple[Path, ...] = ()
    auto_allowed: frozenset[str] = frozenset()  # by the configuration
    granted: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Devices:
        """Give those of the usual folders, or of `TORANA_CDI_SPEC_DIRS` (separated by colons)."""
        text = environment.get("TORANA_CDI_SPEC_DIRS")
        folders = _FOLDERS if text is None else [part for part in text.split(":") if part]
        return cls(tuple(map(Path, folders)))

    def of_build(self, entitlements: Collection[str]) -> Devices:
        """Give the same to a build with these entitlements: `device`, `device=NAME,alias=OTHER`."""
        granted: set[str] = set()
        aliases: dict[str, str] = {}
        for text in entitlements:
            key, _, rest = text.partition("=")
            if key != _ALL:
                continue
            name, *options = rest.split(",")
            granted.add(name or "*")
            aliases |= {o.removeprefix("alias="): name for o in options if o.startswith("alias=")}
        return Devices(self.folders, self.auto_allowed, frozenset(granted), aliases)

    def check(self, wanted: Sequence[CDIDevice]) -> None:
        """Compare what a step wants with what is granted; devices that are missing do not count.

        Raises:
            NotEntitledError: it wants more.
        """
        refused = [each.name for each in wanted if not self._is_allowed(each.name)]
        if refused:
            what = (
                f"device {refused[0]} is"
                if len(refused) == 1
                else f"devices {', '.join(refused)} are"
            )
            raise NotEntitledError(
                f"{what} requested by the build but not allowed",
                hint=f"grant it with `--allow device={refused[0]}`",
            )

    def _is_allowed(self, name: str) -> bool:
        if "*" in self.granted or name in self.granted or name in self.aliases:
            return True
        return all(
            {device.full_name, device.kind, device.annotations.get(_CLASS)} & self.granted
            or {device.full_name, device.kind} & self.auto_allowed
            or device.annotations.get(_AUTO) == "true"
            for device in self.find(name)
        )

    def edits(self, wanted: Sequence[CDIDevice]) -> DeviceEdits:
        """Give what the devices change.

        Raises:
            UnsupportedError: a device that is not optional is not there.
            InvalidDeviceError: a file describes something else than CDI devices.
        """
        found: dict[str, Device] = {}
        for each in wanted:
            devices = self.find(each.name)
            if not devices and not each.optional:
                raise UnsupportedError(f'required device "{each.name}" is not registered')
            if not devices:
                log.warning("optional device is not registered: %s", each.name)
            found |= {device.full_name: device for device in devices}
        try:
            return _joined([edit for device in found.values() for edit in device.edits])
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            names = ", ".join(found)
            raise InvalidDeviceError(f"CDI file cannot be understood: {err}: `{names}`") from err

    def find(self, name: str) -> list[Device]:
        """Give the devices of a name: `KIND=NAME`, `KIND=*`, `KIND` (the first) or a class."""
        known = list(self._read())
        name = self.aliases.get(name, name)
        kind, has_name, wanted = name.partition("=")
        of_kind = [device for device in known if device.kind == kind]
        if has_name:
            return [device for device in of_kind if wanted in ("*", device.name)]
        if of_kind:
            named_all = [device for device in of_kind if device.name == "*"]
            return (named_all or of_kind)[:1]
        return [device for device in known if device.annotations.get(_CLASS) == name]

    def _read(self) -> Iterator[Device]:
        """Read all files; of devices with one name the one of the last folder counts."""
        found: dict[str, Device] = {}
        for folder in self.folders:
            try:
                names = sorted(os.listdir(folder))
            except OSError:
                continue
            for name in names:
                if name.endswith((".json", ".yaml", ".yml")):
                    found |= {device.full_name: device for device in _devices(folder / name)}
        yield from found.values()


def _devices(path: Path) -> list[Device]:
    """Read one file; one that is no CDI file is told in the log, and has no devices."""
    try:
        document = _document(path)
        kind = document["kind"]
        if not _KIND.match(kind):
            raise ValueError(f"no kind: {kind}")
        common = document.get("containerEdits") or {}
        annotations = document.get("annotations") or {}
        return [
            Device(
                kind,
                raw["name"],
                (common, raw.get("containerEdits") or {}),
                {**annotations, **(raw.get("annotations") or {})},
            )
            for raw in document["devices"]
        ]
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as err:
        log.warning("no CDI file: %s: %s", path, err)
        return []


def _document(path: Path) -> Any:
    if path.suffix == ".json":
        return json.loads(path.read_bytes())
    import yaml  # costs time, and most machines have no such files

    try:
        return yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as err:
        raise ValueError(str(err)) from err


def _joined(edits: Iterable[Mapping[str, Any]]) -> DeviceEdits:
    env: list[str] = []
    nodes: dict[str, DeviceNode] = {}
    mounts: dict[str, ContainerMount] = {}
    hooks: dict[Hook, None] = {}
    groups: list[int] = []
    for edit in edits:
        env += edit.get("env") or ()
        nodes |= {raw["path"]: _node(raw) for raw in edit.get("deviceNodes") or ()}
        mounts |= {raw["containerPath"]: _mount(raw) for raw in edit.get("mounts") or ()}
        hooks |= {_hook(raw): None for raw in edit.get("hooks") or ()}
        groups += map(int, edit.get("additionalGids") or ())
    return DeviceEdits(
        tuple(env), tuple(nodes.values()), tuple(mounts.values()), tuple(hooks), tuple(groups)
    )


def _node(raw: Mapping[str, Any]) -> DeviceNode:
    """Read a node; what the file leaves out is that of the machine's own node."""
    host_path = raw.get("hostPath") or raw["path"]
    kind, major, minor = raw.get("type") or "", raw.get("major"), raw.get("minor")
    mode = raw.get("fileMode")
    uid, gid = raw.get("uid"), raw.get("gid")
    if not kind or (kind != "p" and (major is None or minor is None)):
        try:
            found = os.stat(host_path)
        except OSError as err:
            raise ValueError(f"no such device: {host_path}") from err
        kind = _type(found.st_mode)
        if not kind:
            raise ValueError(f"no device: {host_path}")
        major, minor = os.major(found.st_rdev), os.minor(found.st_rdev)
        mode = stat.S_IMODE(found.st_mode) if mode is None else mode
        uid = found.st_uid if uid is None else uid
        gid = found.st_gid if gid is None else gid
    return DeviceNode(
        path=raw["path"],
        host_path=host_path,
        kind=kind,
        major=int(major or 0),
        minor=int(minor or 0),
        mode=0o666 if mode is None else int(mode) & 0o7777,
        uid=int(uid or 0),
        gid=int(gid or 0),
        access=raw.get("permissions") or "rwm",
    )


def _type(mode: int) -> str:
    if stat.S_ISCHR(mode):
        return "c"
    if stat.S_ISBLK(mode):
        return "b"
    return "p" if stat.S_ISFIFO(mode) else ""


def _mount(raw: Mapping[str, Any]) -> ContainerMount:
    kind = raw.get("type") or "bind"
    options = [option for option in raw.get("options") or () if option not in ("bind", "rbind")]
    return ContainerMount(
        destination=raw["containerPath"],
        source=raw["hostPath"],
        kind="bind" if kind == "none" else kind,
        options=tuple(options),
    )


def _hook(raw: Mapping[str, Any]) -> Hook:
    return Hook(
        stage=raw["hookName"],
        path=raw["path"],
        args=tuple(raw.get("args") or ()),
        env=tuple(raw.get("env") or ()),
        timeout_s=int(raw.get("timeout") or 0),
    )
