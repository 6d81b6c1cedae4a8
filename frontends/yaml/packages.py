"""`packages:`: one process per step, with the index and the archives in caches.

Spec: apt-get(8), apk(8), dnf(8), zypper(8), pacman(8).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import field

from torana.core.errors import UnsupportedError
from torana.core.records import dataclass
from torana.frontends.yaml.model import Packages


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What is run: `files` are written and `downloads` (address, checksum) fetched before."""

    script: str
    caches: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    downloads: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def installation(step: Packages) -> Installation:
    """Give what installs the packages of a step.

    Raises:
        UnsupportedError: the package manager has no such thing.
    """
    match step.manager:
        case "apt":
            return _apt(step)
        case "apk":
            return _apk(step)
        case "dnf":
            return _dnf(step)
        case "zypper":
            return _zypper(step)
        case "pacman":
            return _pacman(step)
    raise UnsupportedError(f"no such package manager: `{step.manager}`")


def _quoted(names: tuple[str, ...]) -> str:
    return " ".join(shlex.quote(name) for name in names)


def _apt(step: Packages) -> Installation:
    files, downloads = {}, {}
    for number, repository in enumerate(step.repositories, 1):
        line = repository.line
        if repository.key:
            suffix = "asc" if repository.key.endswith(".asc") else "gpg"
            key = f"/etc/apt/keyrings/torana-{number}.{suffix}"
            downloads[key] = (repository.key, repository.checksum)
            line = _signed(line, key)
        files[f"/etc/apt/sources.list.d/torana-{number}.list"] = f"{line}\n"
    options = "-o APT::Keep-Downloaded-Packages=true"
    caches = ("/var/cache/apt", "/var/lib/apt/lists") if step.removes_index else ("/var/cache/apt",)
    return Installation(
        script=f"apt-get update -q\napt-get {options} install -q -y "
        f"--no-install-recommends {_quoted(step.names)}",
        caches=caches,
        env={"DEBIAN_FRONTEND": "noninteractive"},
        files=files,
        downloads=downloads,
    )


def _signed(line: str, key: str) -> str:
    """Name the key of a repository in its line."""
    kind, _, rest = line.strip().partition(" ")
    if rest.startswith("["):
        return f"{kind} [signed-by={key} {rest[1:]}"
    return f"{kind} [signed-by={key}] {rest}"


def _apk(step: Packages) -> Installation:
    downloads = {
        f"/etc/apk/keys/{repository.key.rpartition('/')[2]}": (repository.key, repository.checksum)
        for repository in step.repositories
        if repository.key
    }
    extra = "".join(f" -X {shlex.quote(each.line)}" for each in step.repositories)
    # With a cache folder of its own, apk keeps index and archives there.
    return Installation(
        script=f"apk add --cache-dir /var/cache/apk --update-cache{extra} {_quoted(step.names)}",
        caches=("/var/cache/apk",),
        downloads=downloads,
    )


def _repo_files(step: Packages, folder: str) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    files, downloads = {}, {}
    for number, repository in enumerate(step.repositories, 1):
        text = f"[torana-{number}]\nname=torana-{number}\nbaseurl={repository.line}\nenabled=1\n"
        if repository.key:
            key = f"/etc/pki/rpm-gpg/torana-{number}"
            downloads[key] = (repository.key, repository.checksum)
            text += f"gpgcheck=1\ngpgkey=file://{key}\n"
        files[f"{folder}/torana-{number}.repo"] = text
    return files, downloads


def _dnf(step: Packages) -> Installation:
    names = tuple(name.replace("=", "-", 1) for name in step.names)
    files, downloads = _repo_files(step, "/etc/yum.repos.d")
    return Installation(
        script=f"dnf install -y --setopt=keepcache=1 --setopt=install_weak_deps=0 {_quoted(names)}",
        caches=("/var/cache/dnf",),
        files=files,
        downloads=downloads,
    )


def _zypper(step: Packages) -> Installation:
    files, downloads = _repo_files(step, "/etc/zypp/repos.d")
    return Installation(
        script="zypper --non-interactive --gpg-auto-import-keys refresh\n"
        f"zypper --non-interactive install --no-recommends {_quoted(step.names)}",
        caches=("/var/cache/zypp",),
        files=files,
        downloads=downloads,
    )


def _pacman(step: Packages) -> Installation:
    caches = ("/var/cache/pacman/pkg", "/var/lib/pacman/sync")
    return Installation(
        script=f"pacman -Sy --noconfirm --needed {_quoted(step.names)}",
        caches=caches if step.removes_index else caches[:1],
    )
