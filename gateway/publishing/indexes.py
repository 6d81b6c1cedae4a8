"""Where packages come from, as the user has told pip or uv, for the other one of the two.

Spec: "Configuration" of pip's documentation; "Environment variables" of uv's.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

_SYSTEM_FILE: Final = Path("/etc/pip.conf")
_SECTIONS: Final = ("global", "install")
# Names in pip's settings, what uv calls the same, and what else of uv's would say it.
_UV_NAMES: Final = {
    "index-url": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "extra-index-url": ("UV_EXTRA_INDEX_URL", "UV_INDEX"),
    "find-links": ("UV_FIND_LINKS",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "cert": ("SSL_CERT_FILE",),
}
_WITH_COMMAS: Final = frozenset({"find-links"})


def for_uv(environment: Mapping[str, str]) -> dict[str, str]:
    """Give an environment in which uv uses the indexes of pip, unless it has some of its own."""
    found = dict(environment)
    settings = _pip_settings(environment)
    for name, (variable, *others) in _UV_NAMES.items():
        if name in settings and not any(key in environment for key in (variable, *others)):
            separator = "," if name in _WITH_COMMAS else " "
            found[variable] = separator.join(settings[name].split())
    return found


def for_pip(environment: Mapping[str, str]) -> dict[str, str]:
    """Give an environment in which pip uses the indexes of uv, unless it has some of its own."""
    found = dict(environment)
    settings = _pip_settings(environment)
    for name, variables in _UV_NAMES.items():
        told = next((environment[key] for key in variables if environment.get(key)), None)
        if told is not None and name not in settings:
            addresses = (
                text.rpartition("=")[2] if "=http" in text else text
                for text in told.replace(",", " ").split()
            )
            found[_variable(name)] = " ".join(addresses)
    return found


def _pip_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Read pip's settings: those of the environment count more than those of files."""
    found: dict[str, str] = {}
    for file in _pip_files(environment):
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, "utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):  # pip itself would say so
            continue
        for section in _SECTIONS:
            if parser.has_section(section):
                found |= {key.replace("_", "-"): text for key, text in parser.items(section)}
    for name in _UV_NAMES:
        if environment.get(_variable(name)):
            found[name] = environment[_variable(name)]
    return {name: text for name, text in found.items() if text.strip()}


def _pip_files(environment: Mapping[str, str]) -> Iterator[Path]:
    """Give pip's files, those that count most last."""
    named = environment.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    home = Path(environment.get("HOME") or Path.home())
    for folder in environment.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":"):
        yield Path(folder, "pip/pip.conf")
    yield _SYSTEM_FILE
    yield home / ".pip/pip.conf"
    yield Path(environment.get("XDG_CONFIG_HOME") or home / ".config", "pip/pip.conf")
    yield Path(sys.prefix, "pip.conf")
    if named:
        yield Path(named)


def _variable(name: str) -> str:
    return f"PIP_{name.replace('-', '_').upper()}"
