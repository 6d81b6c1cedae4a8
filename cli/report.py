"""What a finished build tells: where the result is, its digest, the answer as a file."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from torana.cli.caches import describe
from torana.cli.exports import pushes
from torana.gateway.engines.engine import BuildRequest, BuildResult, ExportRequest
from torana.gateway.engines.output import whole_file


def summarize(
    request: BuildRequest, result: BuildResult, *, is_quiet: bool, address: str = ""
) -> tuple[str, str]:
    """Give the last words for standard output and standard error; `address` is a daemon's."""
    digest = result.response.get("containerimage.digest", "")
    if is_quiet:
        return (f"{digest}\n" if digest else ""), ""
    lines = [line for export in request.exports for line in _describe(export, digest, address)]
    lines += describe(request.cache_exports, result.response)
    if not lines and not request.cache_exports:
        lines = [
            "nothing was asked for: the result is in the build cache only",
            "hint: -t NAME keeps an image, -o FOLDER writes the files, "
            "-o type=oci,dest=FILE an archive",
        ]
    return "", "".join(f"{line}\n" for line in ["", *lines] if lines)


def _describe(export: ExportRequest, digest: str, address: str) -> list[str]:
    names = [name for name in export.attrs.get("name", "").split(",") if name]
    title = f"image {', '.join(names)}" if names else "image"
    if export.type == "docker" and export.dest is None and not address.startswith("docker:"):
        return [f"{title} {digest} is in the Docker daemon"]
    if pushes(export):
        return [f"{title} {digest} is pushed"]
    if address and export.dest is None:
        return [f"{title} {digest} is in the store of {address}"]
    if export.type == "image":
        example = names[0] if names else "NAME"
        return [
            f"{title} {digest} is in Torana's store",
            f"hint: `torana image save {example} -o {_file_name(example)}.tar` gets it out, "
            f"`torana image push {example}` publishes it, --load gives it to Docker",
        ]
    if export.type in ("oci", "docker"):
        where = "standard output" if export.dest == "-" else f"`{export.dest}`"
        return [f"{title} {digest} is in {where} ({export.type})"]
    if export.dest == "-":
        return [f"files are on standard output ({export.type})"]
    return [f"files are in `{export.dest}` ({export.type})"]


def _file_name(name: str) -> str:
    return name.rpartition("/")[2].partition(":")[0].partition("@")[0]


def write_files(result: BuildResult, metadata_file: str | None, iidfile: str | None) -> None:
    """Write `--metadata-file` and `--iidfile`, each whole or not at all."""
    if metadata_file is not None:
        metadata = {key: _decode(value) for key, value in sorted(result.response.items())}
        _write(Path(metadata_file), json.dumps(metadata, indent=2) + "\n")
    if iidfile is not None:
        response = result.response
        digest = response.get("containerimage.config.digest", response.get("containerimage.digest"))
        _write(Path(iidfile), digest or "")


def _decode(value: str) -> Any:
    """Show a base64 JSON object as an object, as `buildctl` does."""
    try:
        decoded = json.loads(base64.b64decode(value, validate=True))
    except ValueError:
        return value
    return decoded if isinstance(decoded, dict) else value


def _write(path: Path, text: str) -> None:
    with whole_file(path) as file:
        file.write(text.encode())
