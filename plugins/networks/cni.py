"""CNI: networks by the plugins that container engines share, as an administrator configured them.

Spec: CNI specification 1.0, sections 2 (execution protocol) and 4 (plugin delegation).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from torana.core.errors import UserError
from torana.core.ops.exec.networks import NetworkNamespace
from torana.core.ops.runtime import RuntimeFailedError
from torana.core.records import dataclass
from torana.plugins.networks.namespaces import network_namespace

DEFAULT_CONFIG: Final = Path("/etc/buildkit/cni.json")
DEFAULT_FOLDERS: Final = (Path("/opt/cni/bin"), Path("/usr/lib/cni"), Path("/usr/libexec/cni"))
_INTERFACE: Final = "eth0"
_VERSION: Final = "1.0.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeSettings:
    """Of the bridge that is made without a file; the defaults are BuildKit's."""

    name: str = "buildkit0"
    subnet: str = "10.10.0.0/16"


@dataclass(frozen=True, slots=True, kw_only=True)
class CNISettings:
    """Where configuration and plugins are."""

    config: Path = DEFAULT_CONFIG
    folders: tuple[Path, ...] = DEFAULT_FOLDERS
    bridge: BridgeSettings = field(default_factory=BridgeSettings)


@dataclass(frozen=True, slots=True)
class NetworkList:
    """The plugins of a network, in the order of their work."""

    name: str
    version: str
    plugins: tuple[Mapping[str, Any], ...]


def read_network(file: Path) -> NetworkList:
    """Read a network configuration: one plugin, or a list.

    Raises:
        UserError: it is not there, or is none.
    """
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError) as err:
        raise UserError(f"cni: cannot read the network: {err}: `{file}`") from err
    match document:
        case {"name": str(name), "plugins": [*plugins]} if all(map(_is_plugin, plugins)):
            pass
        case {"name": str(name), "type": str()}:
            plugins = [document]
        case _:
            raise UserError(f"cni: not a network configuration: `{file}`")
    return NetworkList(name, str(document.get("cniVersion", _VERSION)), tuple(plugins))


def bridge_network(settings: BridgeSettings, leases: Path) -> NetworkList:
    """Give a bridge with address translation; `leases` is where addresses are noted."""
    bridge = {
        "type": "bridge",
        "bridge": settings.name,
        "isDefaultGateway": True,
        "forceAddress": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "dataDir": str(leases), "subnet": settings.subnet},
    }
    return NetworkList(
        f"torana-{settings.name}",
        _VERSION,
        (bridge, {"type": "firewall", "ingressPolicy": "same-bridge"}),
    )


class CNINetwork:
    """Gives each container a namespace that the plugins of one network have set up."""

    def __init__(self, name: str, network: NetworkList, folders: Sequence[Path]) -> None:
        self.name = name
        self._network = network
        self._folders = folders

    @asynccontextmanager
    async def open(
        self, id: str, directory: Path, hostname: str
    ) -> AsyncIterator[NetworkNamespace | None]:
        async with network_namespace(directory / "network") as namespace:
            result: dict[str, Any] = {}
            try:
                for plugin in self._network.plugins:
                    result = await self._call("ADD", plugin, id, namespace, result)
                servers = result.get("dns", {}).get("nameservers") or ()
                yield NetworkNamespace(namespace, tuple(servers))
            finally:
                # All of them, in reverse: DEL of what was not added does nothing.
                deleting = asyncio.ensure_future(self._delete(id, namespace, result))
                try:
                    await asyncio.shield(deleting)
                except asyncio.CancelledError:
                    await asyncio.wait([deleting])
                    raise

    async def _delete(self, id: str, namespace: Path, result: dict[str, Any]) -> None:
        failure: RuntimeFailedError | None = None
        for plugin in reversed(self._network.plugins):
            try:
                await self._call("DEL", plugin, id, namespace, result)
            except RuntimeFailedError as err:
                failure = failure or err
        if failure is not None:
            raise failure

    async def _call(
        self,
        command: str,
        plugin: Mapping[str, Any],
        id: str,
        namespace: Path,
        previous: dict[str, Any],
    ) -> dict[str, Any]:
        kind = str(plugin["type"])
        document = {**plugin, "name": self._network.name, "cniVersion": self._network.version}
        if previous:
            document["prevResult"] = previous
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": id,
            "CNI_NETNS": str(namespace),
            "CNI_IFNAME": _INTERFACE,
            "CNI_PATH": ":".join(map(str, self._folders)),
        }
        process = await asyncio.create_subprocess_exec(
            str(self._program(kind)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
        out, err = await process.communicate(json.dumps(document).encode())
        if process.returncode != 0:
            raise RuntimeFailedError(f"cni: {kind}: {command}: {_reason(out) or err.decode()}")
        found = json.loads(out) if out.strip() else {}
        return found if isinstance(found, dict) else {}

    def _program(self, kind: str) -> Path:
        for folder in self._folders:
            if os.access(folder / kind, os.X_OK):
                return folder / kind
        raise RuntimeFailedError(
            f"cni: no such plugin: `{kind}`", hint="install `containernetworking-plugins`"
        )


def _is_plugin(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("type"), str)


def _reason(out: bytes) -> str:
    try:
        document = json.loads(out)
    except ValueError:
        return out.decode(errors="replace").strip()
    found = " ".join(str(document.get(key, "")) for key in ("msg", "details"))
    return found.strip()
