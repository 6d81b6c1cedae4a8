"""`torana frontend publish-image`: make an image of an installed frontend."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torana.cli import progress
from torana.cli.engines import address_of, open_engine
from torana.cli.exports import parse_output, with_names, with_targets
from torana.cli.recording import Recording
from torana.cli.report import summarize
from torana.core.errors import UsageError
from torana.gateway.engines.engine import BuildRequest
from torana.gateway.publishing.image import prepare
from torana.plugins.manager import PluginManager


def publish(name: str, options: Mapping[str, Any]) -> None:
    """Pack the frontend `name` and build its image.

    Raises:
        UsageError: nothing says where the image goes.
        NotFoundError: there is no such frontend.
    """
    wanted = with_targets(
        [parse_output(text) for text in options["outputs"]],
        is_pushed=options["is_pushed"],
        is_loaded=options["is_loaded"],
    )
    exports = with_names(wanted, options["tags"])
    if not exports:
        raise UsageError(
            "the image goes nowhere",
            hint="give -t NAME, -t NAME --push, or -o type=oci,dest=FILE",
        )
    found = PluginManager().find_installed(name)
    with tempfile.TemporaryDirectory(prefix="torana-frontend-") as folder:
        prepared = prepare(found, Path(folder), base=options["base"] or "")
        request = BuildRequest(
            frontend="dockerfile.v0",
            local_dirs={"context": prepared.path, "dockerfile": prepared.path},
            exports=exports,
        )
        recording = Recording(progress.open_display("quiet" if options["quiet"] else "auto"))
        try:
            result = asyncio.run(_build(request, recording, options))
        finally:
            recording.close()
    stdout, stderr = summarize(
        request, result, is_quiet=options["quiet"], address=address_of(options)
    )
    sys.stderr.write(stderr)
    sys.stdout.write(stdout)


async def _build(request: BuildRequest, recording: Recording, options: Mapping[str, Any]) -> Any:
    async with open_engine(options) as engine:
        return await engine.build(request, recording)
