"""Which image a build wants as its frontend. Pure.

Spec: reference of the gateway, "Running a frontend image".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torana.core.errors import UnsupportedError, UserError
from torana.core.oci.platform import Platform
from torana.core.oci.reference import ImageReference, parse_reference
from torana.plugins.selection import FrontendNotAllowedError

_IMAGE: str = "docker-image:"


def parse_source(options: Mapping[str, str]) -> ImageReference:
    """Read the option `source`.

    Raises:
        UserError: it is missing or no reference, or an option of old that was removed is given.
    """
    source = options.get("source", "")
    if "gateway-devel" in options:
        raise UnsupportedError("gateway-devel has been removed")
    if not source:
        raise UserError("no source specified for gateway")
    return parse_reference(source).with_default_tag()


def replaced(
    source: ImageReference, options: Mapping[str, str], platform: Platform
) -> ImageReference:
    """Give what a named context puts in the place of `source`, or `source` itself.

    Raises:
        UnsupportedError: the context is no image.
    """
    name = source.familiar().removesuffix(":latest")
    for key in (f"context:{name}::{platform.normalized().format()}", f"context:{name}"):
        value = options.get(key)
        if value:
            if not value.startswith(_IMAGE):
                raise UnsupportedError(
                    f"frontend `{name}` cannot come from a context of this kind: `{value}`",
                    hint=f"give it as `{name}=docker-image://...`",
                )
            text = value.removeprefix(_IMAGE).removeprefix("//")
            return parse_reference(text).with_default_tag()
    return source


def check_allowed(source: ImageReference, allowed: Sequence[str] | None) -> None:
    """Compare with the repositories whose images may be run.

    Raises:
        FrontendNotAllowedError: it is none of them.
    """
    if allowed is None:
        return
    known = {parse_reference(each).name for each in allowed}
    if source.name not in known:
        raise FrontendNotAllowedError(
            f"'{source.name}' is not an allowed gateway source",
            hint="the configuration of the daemon lists those that are",
        )
