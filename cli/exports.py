"""`-o` and `-t`: what to do with the result, as `docker buildx` spells it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torana.cli.frontendoptions import annotation_attributes
from torana.core.errors import UsageError
from torana.gateway.engines.engine import ExportRequest
from torana.plugins.booleans import parse_boolean

_IMAGES = ("image", "oci", "docker")
_FILES = ("oci", "tar")
_FOLDERS = ("local",)
_LAYOUTS = ("oci", "docker")
_EXAMPLES = {
    "-o": "type=oci,dest=image.tar",
    "--secret": "id=NAME,src=FILE",
    "--attest": "type=sbom",
    "--cache-to": "type=registry,ref=HOST/NAME:TAG",
    "--cache-from": "type=registry,ref=HOST/NAME:TAG",
}


def parse_fields(text: str, option: str) -> dict[str, str]:
    """Split `key=value,...`; a field may be wrapped in double quotes.

    Raises:
        UsageError: a field has no `=`.
    """
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as err:
        raise UsageError(f"invalid {option}: {err}: `{text}`") from err
    fields: dict[str, str] = {}
    for field in rows[0] if rows else []:
        key, equals, value = field.partition("=")
        if not equals:
            raise UsageError(
                f"invalid {option}: field must be a key=value pair: `{field}`",
                hint=f"for example `{option} {_EXAMPLES[option]}`",
            )
        fields[key.strip().lower()] = value
    return fields


def parse_output(text: str) -> ExportRequest:
    """Read one `-o`: `type=oci,dest=FILE`, a folder, or `-` for a tar on standard output.

    `type=docker` without a dest loads into a Docker daemon; `type=registry` is an image that is
    pushed.

    Raises:
        UsageError: no type, or a destination is missing or not wanted.
    """
    if text == "-":
        return ExportRequest(type="tar", dest="-")
    if "=" not in text and text:
        return ExportRequest(type="local", dest=text)
    fields = parse_fields(text, "-o")
    kind = fields.pop("type", "")
    if not kind:
        raise UsageError(
            "invalid -o: type is required", hint="for example `-o type=local,dest=out`"
        )
    dest = fields.pop("dest", None)
    if kind in ("registry", "image") and dest:
        raise UsageError(f"invalid -o: type={kind} takes no dest: `{dest}`")
    if kind == "registry":
        kind = "image"
        fields = {"push": "true", **fields}
    is_folder = fills_folder(kind, fields)
    if is_folder and not dest:
        raise UsageError(f"invalid -o: type={kind} needs dest=FOLDER")
    if is_folder and dest == "-":
        raise UsageError(f"invalid -o: type={kind} cannot go to standard output")
    if kind in _FILES and dest is None:
        dest = "-"
    return ExportRequest(type=kind, attrs=fields, dest=dest)


def fills_folder(kind: str, attrs: Mapping[str, str]) -> bool:
    """Say whether what an exporter writes is a folder, not one file."""
    return kind in _FOLDERS or (kind in _LAYOUTS and parse_boolean(attrs.get("tar", "")) is False)


def pushes(export: ExportRequest) -> bool:
    """Say whether an export goes to a registry."""
    return export.attrs.get("push", "false").lower() in ("", "1", "t", "true")


def with_targets(
    exports: Sequence[ExportRequest], *, is_pushed: bool, is_loaded: bool
) -> list[ExportRequest]:
    """Give the exports with what `--push` and `--load` ask for."""
    out = list(exports)
    if is_pushed:
        out = [
            replace(e, attrs={"push": "true", **e.attrs}) if e.type == "image" else e for e in out
        ]
        if not any(e.type == "image" for e in out):
            out.append(ExportRequest(type="image", attrs={"push": "true"}))
    if is_loaded and not any(e.type == "docker" and e.dest is None for e in out):
        out.append(ExportRequest(type="docker"))
    return out


def with_names(exports: Sequence[ExportRequest], tags: Sequence[str]) -> list[ExportRequest]:
    """Give the exports with the names of `-t`; names alone mean an image in Torana's store."""
    if not tags:
        return list(exports)
    names = ",".join(tags)
    named = [
        replace(e, attrs={**e.attrs, "name": e.attrs.get("name", names)})
        if e.type in _IMAGES
        else e
        for e in exports
    ]
    return named or [ExportRequest(type="image", attrs={"name": names})]


def with_annotations(
    exports: Sequence[ExportRequest], annotations: Sequence[str]
) -> list[ExportRequest]:
    """Give the exports with the annotations of the command line, which only images take.

    Raises:
        UsageError: an annotation is malformed, or nothing makes an image.
    """
    if not annotations:
        return list(exports)
    attributes = annotation_attributes(annotations)
    if not any(export.type in _IMAGES for export in exports):
        raise UsageError("--annotation needs an image: -t, or -o with type=image or type=oci")
    return [
        replace(export, attrs={**attributes, **export.attrs}) if export.type in _IMAGES else export
        for export in exports
    ]
