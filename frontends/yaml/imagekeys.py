"""Reading `image:`, and applying it to the config of a base image.

Spec: OCI image specification, Image Configuration, with Docker's health checks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from torana.core.oci.image import DEFAULT_PATH, compact_json
from torana.core.oci.platform import Platform
from torana.frontends.kit.yamltree import Items, Node, Scalar, Table
from torana.frontends.yaml import fields
from torana.frontends.yaml.model import Env, Image

_SHELL: Final = ("/bin/sh", "-c")
_PORT: Final = re.compile(r"([0-9]+)(?:-([0-9]+))?(?:/(tcp|udp|sctp))?")
_ORDER: Final = (
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
    "Shell",
)


def read_image(node: Table | None) -> Image:
    """Read the keys of `image:`."""
    if node is None:
        return Image()
    return Image(
        entrypoint=_command(node.get("entrypoint")),
        cmd=_command(node.get("cmd")),
        env=fields.environment(node.get("env")),
        labels=fields.environment(node.get("labels")),
        user=fields.optional_text(node.get("user")),
        workdir=fields.absolute(node.get("workdir")),
        ports=_ports(node.get("expose")),
        volumes=fields.texts(node.get("volumes")),
        stop_signal=fields.optional_text(node.get("stop-signal")),
        healthcheck=_healthcheck(node.get("healthcheck")),
    )


def _command(node: Node | None) -> tuple[str, ...] | None:
    if node is None:
        return None
    return (*_SHELL, node.text) if isinstance(node, Scalar) else fields.texts(node)


def _ports(node: Node | None) -> tuple[str, ...]:
    found = []
    for item in node if isinstance(node, Items) else ():
        match = _PORT.fullmatch(fields.text(item))
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if match is None or not first <= last <= 65535:
            raise item.mark.error(f"not a port: `{fields.text(item)}`")
        found += [f"{port}/{match[3] or 'tcp'}" for port in range(first, last + 1)]
    return tuple(found)


def _healthcheck(node: Node | None) -> Mapping[str, object] | None:
    if node is None:
        return None
    if not isinstance(node, Table):
        return {"Test": ["NONE"]}
    test = node.get("test")
    words = ["CMD-SHELL", test.text] if isinstance(test, Scalar) else ["CMD", *fields.texts(test)]
    found: dict[str, object] = {"Test": words}
    for key, member in (
        ("interval", "Interval"),
        ("timeout", "Timeout"),
        ("start-period", "StartPeriod"),
        ("start-interval", "StartInterval"),
    ):
        if (length := fields.duration_ns(node.get(key))) > 0:
            found[member] = length
    if (retries := fields.integer(node.get("retries"))) is not None:
        found["Retries"] = retries
    return found


def empty_config(platform: Platform) -> dict[str, Any]:
    """Give the config of scratch."""
    return {
        **platform.to_dict(),
        "rootfs": {"type": "layers", "diff_ids": None},
        "config": {"Env": [f"PATH={DEFAULT_PATH}"], "WorkingDir": "/"},
    }


def applied(base: Mapping[str, Any], image: Image) -> dict[str, Any]:
    """Give the config of an image on top of another."""
    config = {key: value for key, value in (base.get("config") or {}).items() if key != "OnBuild"}
    if image.entrypoint is not None:
        config["Entrypoint"] = list(image.entrypoint)
        config.pop("Cmd", None)  # was meant for another program
    if image.cmd is not None:
        config["Cmd"] = list(image.cmd)
        config["ArgsEscaped"] = True  # as Dockerfiles say, so that configs are the same
    config["Env"] = changed_env(config.get("Env") or (), image.env)
    labels = {**(config.get("Labels") or {}), **image.labels}
    config["Labels"] = {name: value for name, value in labels.items() if value is not None}
    config["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **{p: {} for p in image.ports}}
    config["Volumes"] = {**(config.get("Volumes") or {}), **{v: {} for v in image.volumes}}
    for member, value in (
        ("User", image.user),
        ("WorkingDir", image.workdir),
        ("StopSignal", image.stop_signal),
        ("Healthcheck", image.healthcheck),
    ):
        if value is not None:
            config[member] = value
    return {**base, "config": config}


def changed_env(entries: Any, changes: Env) -> list[str]:
    """Give `NAME=value` entries with some replaced in place, some removed, others appended."""
    found = {entry.partition("=")[0]: entry for entry in entries}
    for name, value in changes.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = f"{name}={value}"
    return list(found.values())


def encoded(config: Mapping[str, Any], platform: Platform, labels: Mapping[str, str]) -> bytes:
    """Give the bytes of a config for `platform`, members in one order, without a time."""
    inner = dict(config.get("config") or {})
    if labels:
        inner["Labels"] = {**(inner.get("Labels") or {}), **labels}
    for member in ("ExposedPorts", "Volumes", "Labels"):
        inner[member] = dict(sorted((inner.get(member) or {}).items()))
    out: dict[str, Any] = {}
    if config.get("author"):
        out["author"] = config["author"]
    kept = Platform.from_dict(config)
    same = (kept.os, kept.architecture) == (platform.os, platform.architecture)
    variant = platform.variant or (kept.variant if same else "")
    made = Platform(os=platform.os, architecture=platform.architecture, variant=variant)
    out |= made.normalized().to_dict()
    out["rootfs"] = config.get("rootfs") or {"type": "layers", "diff_ids": None}
    if config.get("history"):
        out["history"] = config["history"]
    known = {name: inner[name] for name in _ORDER if inner.get(name)}
    out["config"] = known
    return compact_json(out)
