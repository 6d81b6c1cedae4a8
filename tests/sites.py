"""Folders of installed distributions, made without an installer: what a wheel leaves behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A frontend that writes one file with what it was given; `{body}` comes first.
FRONTEND = """
from torana.core.llb import mkfile, scratch
from torana.gateway.client.client import SolveRequest

{top}

class Frontend:
    name = "{name}"

    async def build(self, client):
        {body}
        text = client.options.get("build-arg:TEXT", "")
        definition = scratch().file(mkfile("/{name}", text.encode())).marshal()
        return await client.solve(SolveRequest(definition=definition))
"""


@dataclass(frozen=True)
class Site:
    """A folder that stands on `sys.path` or in `PYTHONPATH`."""

    path: Path

    def install(
        self,
        distribution: str,
        version: str = "1.0",
        *,
        frontends: Mapping[str, str] | None = None,
        plugins: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        entry_points: str | None = None,
    ) -> Path:
        """Add a distribution: its entry points by group, and its files; gives its dist-info."""
        groups = {"torana.frontends": frontends or {}, "torana.plugins": plugins or {}}
        text = "".join(
            f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in entries.items())
            for group, entries in groups.items()
            if entries
        )
        info = self.path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        written = {
            f"{info.name}/METADATA": (
                f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n\nAbout it.\n"
            ),
            f"{info.name}/entry_points.txt": text if entry_points is None else entry_points,
            **(files or {}),
        }
        record = "".join(f"{name},,\n" for name in (*written, f"{info.name}/RECORD"))
        for name, content in {**written, f"{info.name}/RECORD": record}.items():
            place = self.path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content)
        return info

    def frontend(
        self,
        name: str,
        *,
        distribution: str = "",
        version: str = "1.0",
        manifest: Mapping[str, Any] | None = None,
        top: str = "",
        body: str = "pass",
    ) -> None:
        """Install a working frontend; `top` and `body` go into its module and its `build`."""
        distribution = distribution or f"torana-{name}"
        package = distribution.replace("-", "_")
        module = FRONTEND.format(name=name, top=top, body=body)
        files = {f"{package}/__init__.py": "", f"{package}/frontend.py": module}
        if manifest is not None:
            files[f"{package}/torana-frontend.json"] = json.dumps(manifest)
        self.install(
            distribution, version, frontends={name: f"{package}.frontend:Frontend"}, files=files
        )
