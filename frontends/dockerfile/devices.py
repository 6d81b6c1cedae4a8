"""`RUN --device`: `[name=]NAME[,required[=bool]]`."""

from __future__ import annotations

from torana.core.errors import BuildFileError
from torana.core.records import dataclass
from torana.frontends.kit.suggest import did_you_mean
from torana.frontends.kit.values import csv_fields, parse_bool


@dataclass(frozen=True, slots=True)
class Device:
    """A CDI device or class of devices."""

    name: str
    is_optional: bool = True


def parse_device(text: str) -> Device:
    """Read one value of the flag.

    Raises:
        BuildFileError: an unknown key, a second name, a bad boolean.
    """
    if not text:
        raise BuildFileError("failed to parse csv devices: EOF")
    name, is_required = "", False
    for index, part in enumerate(csv_fields(text)):
        key, equals, value = part.partition("=")
        lowered = key.lower()
        is_known = lowered in ("name", "required")
        if index == 0 and (not equals or not is_known) and lowered != "required":
            name = part
        elif lowered == "required":
            wanted = parse_bool(value) if equals else True
            if wanted is None:
                raise BuildFileError(f"invalid value for required: {value}")
            is_required = wanted
        elif not equals:
            raise BuildFileError(f"invalid field '{part}' must be a key=value pair")
        elif lowered == "name":
            if name:
                raise BuildFileError(f"device name already set to {name}")
            name = value
        else:
            hint = did_you_mean(key, ("name", "required"))
            raise BuildFileError(f"unexpected key '{key}' in '{part}'{hint}")
    return Device(name, not is_required)
