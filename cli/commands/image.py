"""`torana image`: the images that Torana keeps by name."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torana.cli.commands.store import open_worker
from torana.cli.progress.amounts import format_bytes
from torana.core.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from torana.core.content.images import StoredImage
    from torana.core.content.imagetree import StoredManifest
    from torana.core.worker import Worker

_COLUMNS = ("NAME", "DIGEST", "PLATFORMS", "SIZE", "UPDATED")
_UNKNOWN = "unknown"
_DIGITS = re.compile(r"(?:sha256:)?([0-9a-f]{6,64})")


@click.group()
def image() -> None:
    """Images that Torana keeps by name, as -t made them."""


@image.command("ls")
@click.argument("names", nargs=-1)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def list_images(names: tuple[str, ...], form: str) -> None:
    """List images: all, or those NAMES; digests do, too, wherever an image is named."""
    with open_worker() as worker:
        images = _found(worker, names) if names else worker.images.all() if worker else []
        rows = [_described(worker, each) for each in images] if worker else []
    if form == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    table = [_COLUMNS, *map(_row, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


@image.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--raw", "is_raw", is_flag=True, help="Print the manifest or index as it is.")
def inspect(names: tuple[str, ...], is_raw: bool) -> None:
    """Show manifests, configs and layers of images as JSON."""
    if is_raw and len(names) > 1:
        raise UsageError("--raw takes one name")
    with open_worker() as worker:
        found = _found(worker, names)
        assert worker is not None
        if is_raw:
            sys.stdout.buffer.write(worker.content.read(found[0].target.digest))
            return
        click.echo(json.dumps([_inspected(worker, each) for each in found], indent=2))


@image.command()
@click.argument("names", nargs=-1, required=True)
def rm(names: tuple[str, ...]) -> None:
    """Forget names; what nothing else needs goes with the next prune."""
    from torana.core.cache.manager import bump_generation

    with open_worker() as worker:
        found = _found(worker, names)
        assert worker is not None
        if by_digest := [each for each in names if _DIGITS.fullmatch(each)]:
            _check_names(worker, by_digest)
        for each in found:
            worker.images.remove(each.name)
            click.echo(each.name)
        bump_generation(worker.root)


@image.command()
@click.argument("name")
@click.argument("target", required=False)
@click.option("--insecure", "is_insecure", is_flag=True, help="Plain http, or TLS without checks.")
def push(name: str, target: str | None, is_insecure: bool) -> None:
    """Push an image to the registry that its name says, or to TARGET."""
    from torana.core.content.imagetree import image_blobs
    from torana.plugins.exporters.committing import CommittedImage
    from torana.plugins.exporters.pushing import push_image, push_names
    from torana.plugins.registry.access import default_access

    with open_worker() as worker:
        (stored,) = _found(worker, [name])
        assert worker is not None
        (reference,) = push_names([target or stored.name])
        access = default_access()
        pushed = push_image(
            CommittedImage(stored.target, None, image_blobs(worker.content, stored.target)),
            reference,
            access.insecure(reference.domain) if is_insecure else access,
            worker.content,
            _Lines(),
        )
        asyncio.run(pushed)
    click.echo(f"{reference}@{stored.target.digest}")


@image.command()
@click.argument("names", nargs=-1, required=True)
@click.option("-o", "--output", "dest", metavar="FILE|FOLDER|-", required=True)
@click.option(
    "--type",
    "kind",
    type=click.Choice(["docker", "oci", "layout"]),
    help="docker: what `docker load` reads, too; oci: without that; layout: a folder.  "
    "[docker where it can be]",
)
def save(names: tuple[str, ...], dest: str, kind: str | None) -> None:
    """Write images, byte for byte, to an archive (`-`: standard output) or a folder."""
    from torana.core.content.imagetree import image_blobs, is_index
    from torana.gateway.engines.output import ClientOutput
    from torana.plugins.exporters.layoutfiles import (
        NamedImage,
        layout_files,
        write_archive,
        write_layout,
    )

    if dest == "-" and (kind == "layout" or sys.stdout.isatty()):
        raise UsageError(
            "an image cannot go to the terminal"
            if kind != "layout"
            else "a folder cannot go to standard output",
            hint="-o FILE",
        )
    with open_worker() as worker:
        found = _found(worker, names)
        assert worker is not None
        has_index = [each.name for each in found if is_index(each.target)]
        if kind == "docker" and has_index:
            raise UsageError(
                f"`docker load` takes no image of several platforms: `{has_index[0]}`",
                hint="--type oci",
            )
        content = worker.content
        blobs = {b.digest for each in found for b in image_blobs(content, each.target)}
        images = [NamedImage(each.target, [each.name]) for each in found]
        is_docker = kind == "docker" or (kind is None and not has_index)
        files = layout_files(images, content, is_docker=is_docker)
        output = ClientOutput(dest)
        if kind == "layout":
            write_layout(output.directory(), sorted(blobs), files, content)
            return
        with output.file() as file:
            write_archive(file, sorted(blobs), files, content)


@image.command()
@click.argument("source", metavar="FILE|FOLDER|-")
@click.option("-t", "--tag", "name", metavar="NAME", help="Name, where the layout has none.")
def load(source: str, name: str | None) -> None:
    """Take images, byte for byte, from an OCI layout: an archive or a folder."""
    from torana.cli import memo
    from torana.core.oci.reference import parse_reference
    from torana.gateway.engines.embedded import open_root
    from torana.plugins.exporters.loading import load_archive, load_folder

    given = str(parse_reference(name).with_default_tag()) if name else None
    path = Path(source)
    if source != "-" and not path.exists():
        raise UsageError(f"no such file: `{source}`")
    worker = open_root(Path(memo.store_root()))
    try:
        if source != "-" and path.is_dir():
            found = load_folder(path, worker.content)
        else:
            opened = nullcontext(sys.stdin.buffer) if source == "-" else open(path, "rb")
            with opened as file:
                found = load_archive(file, source, worker.content)
        if given is not None and len(found) > 1:
            raise UsageError(f"-t: there are {len(found)} images: `{source}`")
        named = [([given] if given else each.names, each.root) for each in found]
        unnamed = [root for names, root in named if not names]
        if unnamed:
            raise UsageError(f"image has no name: {unnamed[0].digest}", hint="-t NAME")
        worker.content.sync()
        for names, root in named:
            for each in names:
                worker.images.set(each, root)
                click.echo(f"{each}@{root.digest}")
    finally:
        worker.close()


def _found(worker: Worker | None, names: Sequence[str]) -> list[StoredImage]:
    """Look images up, each once: by name, as it is written or as it is meant, or by digest.

    A digest is whole or its first digits, as `ls` shows them; it stands for one of the names.

    Raises:
        NotFoundError: one is not there.
        UsageError: a digest is that of several.
    """
    found: dict[str, StoredImage] = {}
    for name in names:
        stored = None if worker is None else _named(worker, name) or _digested(worker, name)
        if stored is None:
            raise NotFoundError(f"no such image: `{name}`", hint="`torana image ls` lists them")
        found.setdefault(stored.name, stored)
    return list(found.values())


def _check_names(worker: Worker, digests: Sequence[str]) -> None:
    """Refuse digests that stand for several names, of which only one would be forgotten."""
    for text in digests:
        if _named(worker, text) is not None:
            continue
        (stored,) = _found(worker, [text])
        same = [e.name for e in worker.images.all() if e.target.digest == stored.target.digest]
        if len(same) > 1:
            raise UsageError(
                f"the image has several names: `{text}`", hint="name them: " + " ".join(same)
            )


def _named(worker: Worker, name: str) -> StoredImage | None:
    from torana.core.errors import UserError
    from torana.core.oci.reference import parse_reference

    if (stored := worker.images.get(name)) is not None:
        return stored
    try:
        reference = parse_reference(name)
    except UserError:
        return None
    if reference.digest is None:
        return worker.images.get(str(reference.with_default_tag()))
    plain = replace(reference, digest=None).with_default_tag()
    stored = worker.images.get(str(plain))
    return stored if stored is not None and stored.target.digest == reference.digest else None


def _digested(worker: Worker, text: str) -> StoredImage | None:
    match = _DIGITS.fullmatch(text)
    if match is None:
        return None
    beginning = f"sha256:{match[1]}"
    found = [each for each in worker.images.all() if each.target.digest.startswith(beginning)]
    if len({each.target.digest for each in found}) > 1:
        raise UsageError(f"several images have this digest: `{text}`", hint="give more of it")
    return found[0] if found else None


def _manifests(worker: Worker, stored: StoredImage) -> list[StoredManifest]:
    from torana.core.content.imagetree import stored_manifests

    return stored_manifests(worker.content, stored.target)


def _described(worker: Worker, stored: StoredImage) -> dict[str, Any]:
    manifests = _manifests(worker, stored)
    platforms = [_platform(_config(worker, each), each) for each in manifests]
    return {
        "name": stored.name,
        "digest": stored.target.digest,
        "mediaType": stored.target.media_type,
        "platforms": [each for each in platforms if each],
        "size": sum(each.size for each in manifests),
        "updated": _time(stored.updated),
    }


def _inspected(worker: Worker, stored: StoredImage) -> dict[str, Any]:
    manifests = []
    for each in _manifests(worker, stored):
        config = _config(worker, each)
        manifests.append(
            {
                **each.descriptor.to_dict(),
                "platform": _platform(config, each),
                "config": {"digest": each.config.digest, "content": config},
                "layers": [layer.to_dict() for layer in each.layers],
            }
        )
    return {**_described(worker, stored), "manifests": manifests}


def _config(worker: Worker, manifest: StoredManifest) -> Mapping[str, Any]:
    try:
        config = json.loads(worker.content.read(manifest.config.digest))
    except ValueError:
        return {}
    return config if isinstance(config, dict) else {}


def _platform(config: Mapping[str, Any], manifest: StoredManifest) -> str:
    from torana.core.oci.platform import Platform

    named = manifest.descriptor.platform
    if named is None and config.get("os") and config.get("architecture"):
        named = Platform.from_dict(config)
    return "" if named is None or named.os == _UNKNOWN else named.format()


def _row(described: Mapping[str, Any]) -> tuple[str, ...]:
    from torana.core.errors import UserError
    from torana.core.oci.reference import parse_reference

    name = described["name"]
    try:
        name = parse_reference(name).familiar()
    except UserError:
        pass
    return (
        name,
        described["digest"].removeprefix("sha256:")[:12],
        ",".join(described["platforms"]) or "-",
        format_bytes(described["size"]),
        described["updated"],
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Lines:
    """Progress of a push as lines on standard error, one when something is done."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def status(self, id: str, *, current: int = 0, total: int = 0, done: bool = False) -> None:
        if done:
            size = f" {format_bytes(total)}" if total else ""
            click.echo(f"{time.monotonic() - self._started:6.1f}s {id}{size}", err=True)

    def warn(self, text: str) -> None:
        click.echo(f"warning: {text}", err=True)
