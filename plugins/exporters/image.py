"""The `image` exporter: keeps the image in Torana's store, unpacks it, pushes it.

Spec: exporters reference, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from torana.core.pool import run_blocking
from torana.plugins.exporter import ExportContext, ExportResult, Output
from torana.plugins.exporters import attributes
from torana.plugins.exporters.committing import CommittedImage, commit_image
from torana.plugins.exporters.imageoptions import check_options, read_options

_FLAGS: Final = (
    "danging-name-empty-only",
    "name-canonical",
    "push-by-digest",
    "registry.insecure",
    "store",
    "unpack",
    "unsafe-internal-store-allow-incomplete",
)


class ImageExporter:
    """Commits the image, names it in the store, unpacks it, pushes it."""

    type = "image"
    title = "exporting to image"

    def check(self, attrs: Mapping[str, str]) -> None:
        check_options(attrs)
        attributes.normalized_names(attrs, "")
        for key in _FLAGS:
            attributes.flag(attrs, key, False)
        if attributes.flag(attrs, "push", False) and not attributes.is_named_later(attrs):
            from torana.plugins.exporters.pushing import push_names

            by_digest = attributes.flag(attrs, "push-by-digest", False)
            push_names(attributes.names(attrs, ""), by_digest=by_digest)

    async def export(
        self,
        result: ExportResult,
        attrs: Mapping[str, str],
        output: Output | None,
        context: ExportContext,
    ) -> Mapping[str, str]:
        names = attributes.names(attrs, result.default_name)
        wants_push = attributes.flag(attrs, "push", False)
        if wants_push:
            # Names that cannot be pushed to should not cost an export.
            from torana.plugins.exporters.pushing import push_names, push_to

            by_digest = attributes.flag(attrs, "push-by-digest", False)
            is_insecure = attributes.flag(attrs, "registry.insecure", False)
            targets = push_names(names, by_digest=by_digest)
        options = read_options(attrs, result)
        stored = attributes.normalized_names(attrs, result.default_name)
        has_name = bool(stored or attrs.get("dangling-name-prefix"))
        is_stored = has_name and attributes.flag(attrs, "store", True)
        is_partial = attributes.flag(attrs, "unsafe-internal-store-allow-incomplete", False)
        unpacks = attributes.flag(attrs, "unpack", False)
        # A registry may have the base already, or be where it came from: then it stays there.
        is_lazy = not unpacks and (is_partial or not is_stored)
        image = await commit_image(result, options, context, is_lazy=is_lazy)
        dangling = _dangling_name(attrs, names, image)
        named = [*stored, dangling] if dangling else stored
        if named and is_stored:
            await run_blocking(context.content.sync)
            is_canonical = bool(names) and attributes.flag(attrs, "name-canonical", False)
            _name(named, image, context, is_canonical=is_canonical)
        if unpacks:
            from torana.plugins.exporters.unpacking import unpack_image

            await unpack_image(image, context)
        if wants_push:
            push = partial(push_to, targets, image, context, is_insecure=is_insecure)
            context.finish.append(push)
        answer = image.answer
        # Names as they were written; archives tell full ones.
        if told := [*names, *filter(None, [dangling])]:
            answer["image.name"] = ",".join(told)
        return answer


def _dangling_name(attrs: Mapping[str, str], names: Sequence[str], image: CommittedImage) -> str:
    """Give the name for an image that nobody else names, empty if none is wanted."""
    prefix = attrs.get("dangling-name-prefix", "")
    # Misspelt on the wire.
    is_only_unnamed = attributes.flag(attrs, "danging-name-empty-only", False)
    if not prefix or (is_only_unnamed and names):
        return ""
    return f"{prefix}@{image.root.digest}"


def _name(
    names: Sequence[str], image: CommittedImage, context: ExportContext, *, is_canonical: bool
) -> None:
    for name in names:
        context.images.set(name, image.root)
        if is_canonical and "@" not in name:
            context.images.set(f"{name}@{image.root.digest}", image.root)
        context.progress.status(f"naming to {name}", done=True)
