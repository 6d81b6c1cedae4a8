"""`probe`: the start test of a runtime, `true` out of the host's own folders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from torana.core.ops.runtime import ContainerMount, ContainerSpec, Runtime

_SYSTEM_FOLDERS: Final = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/nix", "/gnu")


async def probe(runtime: Runtime, directory: Path) -> str | None:
    """Run a container below `directory` and say why that failed, or None; leaves nothing."""
    folders = [path for path in _SYSTEM_FOLDERS if os.path.isdir(path)]
    true = _true(folders)
    if true is None:
        return "no `true` to test it with"
    place = directory / f"probe-{runtime.name}-{os.getpid()}"
    rootfs = place / "rootfs"
    rootfs.mkdir(parents=True)
    for path in folders:
        (rootfs / path[1:]).mkdir()
    spec = ContainerSpec(
        id=f"torana-{place.name}",
        directory=place,
        rootfs=rootfs,
        args=(true,),
        env=("PATH=/usr/bin:/bin",),
        hostname="probe",
        mounts=tuple(
            ContainerMount(destination=path, source=os.path.realpath(path), options=("ro",))
            for path in folders
        ),
    )
    said: list[bytes] = []
    try:
        status = await runtime.run(spec, lambda _, data: said.append(data))
    except Exception as err:  # whatever is wrong, the next runtime may do
        return str(err)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if status.code == 0:
        return None
    return f"code {status.code}: {b''.join(said).decode(errors='replace').strip()}"


def _true(folders: Sequence[str]) -> str | None:
    """Give a `true` that lies in one of the folders that the container sees."""
    for path in (shutil.which("true"), "/usr/bin/true", "/bin/true"):
        if path and os.access(path, os.X_OK) and path.startswith(tuple(f"{f}/" for f in folders)):
            return path
    return None
