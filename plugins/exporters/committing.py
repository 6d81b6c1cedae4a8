"""From a result to an image in the content store: layers, config, manifest, index.

Spec: exporters reference, sections 7, 10 and 12.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from torana.core.cache.layers import Layer, LayerForm
from torana.core.errors import UserError
from torana.core.oci import image as oci
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest, InvalidDigestError
from torana.core.oci.layertypes import SOURCE_ANNOTATION, distributable, docker_layer
from torana.core.oci.platform import Platform
from torana.core.pool import run_blocking
from torana.core.records import dataclass
from torana.plugins.exporter import ExportContext, ExportResult, PlatformResult
from torana.plugins.exporters.imageoptions import ImageOptions

_HISTORY_KEYS: Final = ("created", "created_by", "author", "comment", "empty_layer")
_REWRITTEN: Final = "buildkit/rewritten-timestamp"
_OWN_ANNOTATIONS: Final = ("containerd.io/uncompressed", "buildkit/createdat")


@dataclass(frozen=True, slots=True)
class CommittedLayers:
    """The layers of one platform's image as its manifest has them, base first."""

    platform: Platform
    layers: Sequence[Layer]


@dataclass(frozen=True, slots=True)
class CommittedImage:
    """The root descriptor, the config's digest (not for an index), all blobs it needs."""

    root: Descriptor
    config_digest: Digest | None
    blobs: Sequence[Descriptor]
    platforms: Sequence[CommittedLayers] = ()

    @property
    def elsewhere(self) -> Mapping[Digest, Callable[[], Awaitable[None]]]:
        """What brings blobs here that are not, by digest."""
        layers = (layer for part in self.platforms for layer in part.layers)
        return {each.descriptor.digest: each.fetch for each in layers if each.fetch is not None}

    @property
    def answer(self) -> dict[str, str]:
        """What exporters tell of an image.

        Spec: exporters reference, section 2.
        """
        described = base64.b64encode(oci.compact_json(self.root.to_dict())).decode()
        answer = {
            "containerimage.digest": str(self.root.digest),
            "containerimage.descriptor": described,
        }
        if self.config_digest is not None:
            answer["containerimage.config.digest"] = str(self.config_digest)
        return answer


async def commit_image(
    result: ExportResult,
    options: ImageOptions,
    context: ExportContext,
    *,
    is_lazy: bool = False,
) -> CommittedImage:
    """Put the image of `result` into the content store; nothing is synced.

    With `is_lazy` layers that nobody has fetched stay where they are.

    Raises:
        UserError: a platform's config is not usable.
    """
    if options.rewrites_times and options.epoch is None:
        context.progress.warn("rewrite-timestamp is specified, but no source-date-epoch was found")
    manifests: list[Descriptor] = []
    blobs: list[Descriptor] = []
    platforms: list[CommittedLayers] = []
    config_digest: Digest | None = None
    for part in result.platforms:
        manifest, config, layers = await _commit_platform(part, options, context, is_lazy)
        platform = replace(part.platform, os_version="", os_features=())
        said = dict(options.annotations.manifest_descriptor(part.platform))
        manifests.append(replace(manifest, platform=platform, annotations=said))
        # Where blobs came from is not told in manifests, but to those who push.
        blobs += [*(layer.descriptor for layer in layers), config, manifest]
        platforms.append(CommittedLayers(part.platform, layers))
        config_digest = config.digest
    root = manifests[0]
    if result.is_map:
        index = await _store(
            oci.index(
                manifests, oci=options.oci_types, annotations=options.annotations.index or None
            ),
            oci.OCI_INDEX if options.oci_types else oci.DOCKER_INDEX,
            context,
        )
        root = replace(index, annotations=dict(options.annotations.index_descriptor))
        blobs.append(index)
        config_digest = None
    unique = {blob.digest: blob for blob in blobs}
    return CommittedImage(root, config_digest, list(unique.values()), platforms)


async def _commit_platform(
    part: PlatformResult, options: ImageOptions, context: ExportContext, is_lazy: bool
) -> tuple[Descriptor, Descriptor, list[Layer]]:
    context.progress.status("exporting layers")
    form = LayerForm(
        compression=options.compression,
        is_forced=options.is_compression_forced,
        latest=options.epoch if options.rewrites_times else None,
        base=_base_layers(part),
        is_lazy=is_lazy,
    )
    layers = await context.layers.layers(part.ref, form)
    cache = await _inline_cache(part, layers, form, context)
    if not options.prefers_foreign:
        layers = [replace(each, descriptor=distributable(each.descriptor)) for each in layers]
    context.progress.status("exporting layers", done=True)
    config = await _store(
        oci.compact_json(_config(part, layers, options, cache)),
        oci.OCI_CONFIG if options.oci_types else oci.DOCKER_CONFIG,
        context,
    )
    context.progress.status(f"exporting config {config.digest}", done=True)
    manifest = await _store(
        oci.manifest(
            config,
            [_in_manifest(layer, options) for layer in layers],
            oci=options.oci_types,
            annotations=options.annotations.manifest(part.platform) or None,
        ),
        oci.OCI_MANIFEST if options.oci_types else oci.DOCKER_MANIFEST,
        context,
    )
    context.progress.status(f"exporting manifest {manifest.digest}", done=True)
    return manifest, config, layers


async def _store(data: bytes, media_type: str, context: ExportContext) -> Descriptor:
    digest = await run_blocking(context.content.add, data)
    return Descriptor(media_type=media_type, digest=digest, size=len(data))


def _in_manifest(layer: Layer, options: ImageOptions) -> Descriptor:
    """Give a layer as manifests name it."""
    descriptor = layer.descriptor
    if not options.oci_types:
        named = docker_layer(descriptor.media_type)
        return replace(descriptor, media_type=named, annotations={})
    annotations = {
        key: value
        for key, value in descriptor.annotations.items()
        if key not in _OWN_ANNOTATIONS and not key.startswith(SOURCE_ANNOTATION)
    }
    if layer.is_clamped:
        annotations[_REWRITTEN] = str(options.epoch)
    return replace(descriptor, annotations=annotations)


def _base_layers(part: PlatformResult) -> tuple[Digest, ...]:
    """Give the diff ids of the base image, base first."""
    if part.base_config is None:
        return ()
    try:
        found = oci.parse_config(part.base_config)["rootfs"]["diff_ids"] or ()
        return tuple(Digest.parse(text) for text in found)
    except (KeyError, TypeError, InvalidDigestError):
        return ()


async def _inline_cache(
    part: PlatformResult, layers: Sequence[Layer], form: LayerForm, context: ExportContext
) -> dict[str, str]:
    """Give the member of the config that the build's cache is in, if it is wanted."""
    if context.inline_cache is None:
        return {}
    context.progress.status("preparing layers for inline cache")
    member = await context.inline_cache(part.id, layers, form)
    context.progress.status("preparing layers for inline cache", done=True)
    return {} if member is None else dict([member])


def _config(
    part: PlatformResult,
    layers: Sequence[Layer],
    options: ImageOptions,
    more: Mapping[str, str],
) -> dict[str, Any]:
    if part.config is None:
        config = oci.default_config(part.platform)
    else:
        config = oci.parse_config(part.config)
    for key in ("os", "architecture"):
        if not config.get(key):
            raise UserError(f"invalid image config for export: missing {key}")
    base = [] if part.base_config is None else oci.parse_config(part.base_config).get("history")
    history = _history(config.get("history") or [], layers)
    if options.epoch is not None:
        history = _clamped(history, base or [], options.epoch)
    created = _created(config, history, options.epoch)
    config["rootfs"] = {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}
    config["history"] = history
    config["created"] = created
    config.pop("moby.buildkit.cache.v0", None)
    config |= more
    return dict(sorted(config.items()))  # what is inside keeps the frontend's order, as in Go


def _history(entries: Sequence[Mapping[str, Any]], layers: Sequence[Layer]) -> list[dict[str, Any]]:
    """Make history and layers agree: surplus entries empty, missing ones made from the layers."""
    out: list[dict[str, Any]] = []
    position = 0
    for given in entries:
        entry = dict(given)
        if not entry.get("empty_layer"):
            if position < len(layers):
                entry.setdefault("created", _time(layers[position].created))
                position += 1
            else:
                entry["empty_layer"] = True
        out.append(entry)
    for layer in layers[position:]:
        out.append(
            {
                "created": _time(layer.created),
                "created_by": layer.description,
                "comment": "buildkit.exporter.image.v0",
            }
        )
    first = next((entry["created"] for entry in out if entry.get("created")), None)
    last = first
    for entry in out:
        last = entry.setdefault("created", last) or last
    return [_ordered(entry) for entry in out]


def _ordered(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Put the members of a history entry in the order of the Go type."""
    known = {key: entry[key] for key in _HISTORY_KEYS if key in entry}
    return {key: value for key, value in {**known, **entry}.items() if value is not None}


def _clamped(
    history: Sequence[dict[str, Any]], base: Sequence[Mapping[str, Any]], epoch: int
) -> list[dict[str, Any]]:
    """Bring times later than the epoch down to it, except those of the base image."""
    limit = _time(float(epoch))
    out = []
    kept = 0
    while kept < min(len(base), len(history)) and dict(base[kept]) == history[kept]:
        kept += 1
    for position, entry in enumerate(history):
        created = entry.get("created")
        is_late = created is None or _seconds(created) > epoch
        out.append({**entry, "created": limit} if position >= kept and is_late else entry)
    return out


def _created(
    config: Mapping[str, Any], history: Sequence[Mapping[str, Any]], epoch: int | None
) -> str | None:
    times = [entry["created"] for entry in history if entry.get("created")]
    created: str | None = config.get("created") or (times[-1] if times else None)
    if epoch is not None and (created is None or _seconds(created) > epoch):
        return _time(float(epoch))
    return created


def _time(seconds: float) -> str:
    """Give RFC 3339 in UTC, with as much of a fraction as there is."""
    moment = datetime.fromtimestamp(seconds, UTC)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{moment.microsecond:06d}".rstrip("0").rstrip(".")
    return f"{text}{fraction}Z"


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")[:32]).timestamp()
    except ValueError:
        return float("inf")
