"""Pushing a committed image: blobs at once, then manifests, the named one last.

Spec: exporters reference, section 13.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from torana.core.content.store import ContentStore
from torana.core.errors import ToranaError, UserError
from torana.core.oci import image as oci
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.layertypes import is_foreign
from torana.core.oci.reference import ImageReference, parse_reference
from torana.core.pool import tasks_together
from torana.plugins.exporter import ExportContext, Progress
from torana.plugins.exporters.committing import CommittedImage
from torana.plugins.registry.access import RegistryAccess, default_access
from torana.plugins.registry.push import Pusher
from torana.plugins.registry.threads import run_network

_REPORT_S: Final = 0.1  # between two reports of one upload
_MANIFESTS: Final = (oci.OCI_INDEX, oci.DOCKER_INDEX, oci.OCI_MANIFEST, oci.DOCKER_MANIFEST)


class PushError(ToranaError):
    """An image could not be pushed."""

    code = "PUSH_FAILED"


async def push_to(
    references: Sequence[ImageReference],
    image: CommittedImage,
    context: ExportContext,
    *,
    is_insecure: bool = False,
) -> None:
    """Push an image to all of `references`, one after the other.

    Raises:
        PushError: a registry does not take it.
    """
    access = context.registries or default_access()
    for reference in references:
        used = access.insecure(reference.domain) if is_insecure else access
        await push_image(image, reference, used, context.content, context.progress)


async def push_image(
    image: CommittedImage,
    reference: ImageReference,
    access: RegistryAccess,
    content: ContentStore,
    progress: Progress,
) -> None:
    """Push an image to a reference; one without a tag is pushed by digest.

    Raises:
        PushError: the registry does not take it; what it has by then stays there, without a name.
    """
    pusher = Pusher(access, reference, content, threading.Event())
    try:
        await _push(image, reference, pusher, progress)
    except ToranaError as err:
        raise PushError(f"failed to push {reference}: {err.message}", hint=err.hint) from err


def push_names(names: Sequence[str], *, by_digest: bool = False) -> list[ImageReference]:
    """Read the names that are pushed to.

    Raises:
        UserError: there is none, or one has a tag although it is pushed by digest.
    """
    if not names:
        raise UserError("the image has no name to push to", hint="add name=HOST/REPOSITORY")
    found = [parse_reference(name) for name in names]
    for reference in found:
        if by_digest and reference.tag:
            raise UserError(f"can't push tagged ref {reference} by digest")
    return found if by_digest else [reference.with_default_tag() for reference in found]


async def _push(
    image: CommittedImage,
    reference: ImageReference,
    pusher: Pusher,
    progress: Progress,
) -> None:
    blobs = [
        blob
        for blob in image.blobs
        if blob.media_type not in _MANIFESTS and not is_foreign(blob.media_type)
    ]
    manifests = [blob for blob in image.blobs if blob.media_type in _MANIFESTS]
    progress.status("pushing layers")
    async with tasks_together() as group:
        for blob in blobs:
            fetch = image.elsewhere.get(blob.digest)
            group.create_task(_blob(pusher, blob, progress, fetch))
    progress.status("pushing layers", done=True)
    for manifest in sorted(manifests, key=lambda entry: entry.digest == image.root.digest):
        is_root = manifest.digest == image.root.digest
        named = reference.tag if is_root and reference.tag else manifest.digest
        status = f"pushing manifest for {reference}@{manifest.digest}"
        if is_root:
            progress.status(status)
        await run_network(pusher.stop, partial(pusher.manifest, manifest, named))
        if is_root:
            progress.status(status, done=True)


async def _blob(
    pusher: Pusher,
    blob: Descriptor,
    progress: Progress,
    fetch: Callable[[], Awaitable[None]] | None,
) -> None:
    if fetch is not None:
        if await run_network(pusher.stop, partial(pusher.has, blob)):
            return
        await fetch()
    loop = asyncio.get_running_loop()
    shown = f"pushing {blob.digest}"
    last_s = 0.0

    def report(count: int) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s < _REPORT_S and count < blob.size:
            return
        last_s = now_s
        is_done = count >= blob.size
        status = partial(progress.status, shown, current=count, total=blob.size, done=is_done)
        loop.call_soon_threadsafe(status)

    await run_network(pusher.stop, partial(pusher.blob, blob, report))
