"""Mockerfiles to LLB.

The original runs `curl` in a helper container for each download; here they are HTTP sources, which
are fetched at the same time, checked, cached by digest, and seen by policies and provenance. Copies
onto the image stay in the order of the file.

Spec: Mockerfile reference, "LLB that each key makes".
"""

from __future__ import annotations

import posixpath
import re
import shlex
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from torana.core.llb.actions import FileActions, copy
from torana.core.llb.state import State
from torana.frontends.kit import Image, LowerContext, Place
from torana.frontends.mockerfile import rules
from torana.frontends.mockerfile.model import (
    Command,
    CopyIn,
    Download,
    Env,
    Key,
    Mockerfile,
    MockImage,
    Packages,
    Repository,
    Run,
    Step,
    Text,
    Workdir,
)

_UPDATE: Final = "apt-get update"
_TRANSPORT: Final = f"{_UPDATE} && apt-get install apt-transport-https -y"
_INSTALL: Final = f"{_UPDATE} && apt-get install --no-install-recommends --no-install-suggests -y"
_ADD_LINE: Final = 'printf "%s\\n" "$1" >> /etc/apt/sources.list'
_FETCHER: Final = "docker.io/library/alpine:3.6"  # where the original fetches
_ADD_CURL: Final = "apk add --no-cache curl"
_CURL: Final = re.compile(r"\bcurl\b")
_KEYRINGS: Final = "/etc/apt/trusted.gpg.d"
_SHA256: Final = re.compile("[0-9a-f]{64}")
_PACKAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:~*/=_-]*")
# Folders that a Debian image has.
_FOLDERS: Final = frozenset(
    "/ /bin /boot /etc /home /lib /mnt /opt /root /sbin /srv /tmp /usr /usr/bin /usr/lib "
    "/usr/local /usr/local/bin /usr/local/lib /usr/sbin /usr/share /var /var/lib".split()
)


class Lowering:
    """Lowers the images of one file on one platform; each is made once."""

    def __init__(self, file: Mockerfile, context: LowerContext) -> None:
        self._file = file
        self._context = context
        self._being_made: list[str] = []

    async def image(self, image: MockImage) -> Image:
        """Give an image of the file."""
        if image.name in self._being_made:
            chain = " -> ".join((*self._being_made, image.name))
            raise image.base.place.error(f"images are made of each other: {chain}")
        self._being_made.append(image.name)
        with image.base.place.located():
            made = self._context.part_of(image.name, await self._base(image))
        if image.has_packages:
            with image.place.located():
                made = made.run(_TRANSPORT, name="prepare apt for repositories")
        for step in image.steps:
            with _place(step).located():
                made = await self._step(made, step)
        self._being_made.pop()
        return made

    async def _base(self, image: MockImage) -> Image:
        other = None if self._file.is_original else self._file.find(image.base.value)
        if other is not None:
            return await self.image(other)
        base = await self._context.image(image.base.value)
        if not self._file.is_original:
            return base
        empty = self._context.scratch()
        return replace(empty, state=empty.state.with_output(base.state.output)).cmd(["ls"])

    async def _step(self, image: Image, step: Step) -> Image:
        match step:
            case Repository():
                line = step.line.value
                args = ["/bin/sh", "-c", _ADD_LINE, "sh", line]
                return image.run(args, name=f"repository {line}")
            case Key():
                return self._key(image, step)
            case Packages():
                names = " ".join(shlex.quote(_package(name)) for name in step.names)
                return image.run(f"{_INSTALL} {names}", name=f"install {names}")
            case Download():
                return await self._download(image, step)
            case Run():
                return image.run(step.command.value)
            case CopyIn():
                return image.copy(await self._origin(step), step.src.value, step.dest.value)
            case Env():
                return image.env(step.name, step.value)
            case Workdir():
                return image.workdir(step.path.value)
            case Command():
                return image.cmd(step.words)

    async def _origin(self, step: CopyIn) -> Image | State:
        if step.origin is None:
            return await self._context.context(step.src.value)
        other = self._file.find(step.origin.value)
        if other is None:
            raise step.origin.place.error(f"no such image in this file: `{step.origin.value}`")
        return await self.image(other)

    def _key(self, image: Image, key: Key) -> Image:
        name = _basename(key.url)
        if self._file.is_original:
            tree = self._fetched(key.url, "key.gpg", key.sha256)
            image = image.copy(tree, "/key.gpg", "/key.gpg", name=f"key {name}")
            return image.run("apt-key add /key.gpg && rm /key.gpg", name=f"trust {name}")
        self._check_pinned(key.url, key.sha256)
        if not name.endswith((".asc", ".gpg")):
            name = f"{name}.asc"
        tree = self._fetched(key.url, name, key.sha256)
        return image.copy(tree, f"/{name}", f"{_KEYRINGS}/{name}", name=f"key {name}")

    async def _download(self, image: Image, download: Download) -> Image:
        self._check_pinned(download.url, download.sha256)
        dest = posixpath.normpath(download.dest.value)
        if download.is_archive and dest in _FOLDERS:
            message = f"`{dest}` is a folder of the image: the archive's files are put into it"
            self._context.warn(rules.ARCHIVE_INTO_FOLDER, message, download.dest.place)
        name = _basename(download.url)
        mode = 0o644 if download.is_archive else 0o755
        tree = self._fetched(download.url, name, download.sha256, mode)
        if download.install:
            made = await self._installed(download, tree, name, dest)
            return image.copy(made, dest, dest, name=f"copy {dest}")
        return image.with_files(_placed(download, tree, name, dest), name=f"put {name} at {dest}")

    async def _installed(self, download: Download, tree: State, name: str, dest: str) -> Image:
        """Give the tree in which a download's own commands have run."""
        message = f"what these commands leave outside of `{dest}` is lost"
        self._context.warn(rules.LOST_INSTALL, message, download.install[0].place)
        commands = " && ".join(command.value for command in download.install)
        fetcher = await self._context.image(_FETCHER)
        if _CURL.search(commands):  # which the original always has there
            fetcher = fetcher.run(_ADD_CURL, name="install curl where commands of downloads run")
        fetcher = fetcher.with_files(_placed(download, tree, name, dest), name=f"put {name}")
        return fetcher.run(commands)

    def _fetched(self, url: Text, name: str, sha256: Text | None, mode: int = 0o644) -> State:
        if not url.value.startswith(("http://", "https://")):
            raise url.place.error(f"not an address of http or https: `{url.value}`")
        if sha256 is not None and not _SHA256.fullmatch(sha256.value):
            raise sha256.place.error(f"not a sha256, which has 64 hex digits: `{sha256.value}`")
        digest = "" if sha256 is None else sha256.value
        return self._context.download(url.value, filename=name, sha256=digest, mode=mode)

    def _check_pinned(self, url: Text, sha256: Text | None) -> None:
        if sha256 is None:
            message = f"`{url.value}` is taken as it comes, whatever that is"
            self._context.warn(rules.MISSING_CHECKSUM, message, url.place)


def _placed(download: Download, tree: State, name: str, dest: str) -> FileActions:
    if download.is_archive:
        return copy(tree, f"/{name}", f"{dest}/", attempt_unpack=True, create_dest_path=True)
    return copy(tree, f"/{name}", dest, create_dest_path=True)


def _package(name: Text) -> str:
    if not _PACKAGE.fullmatch(name.value):
        raise name.place.error(f"not a package: `{name.value}`", hint="`name` or `name=version`")
    return name.value


def _basename(url: Text) -> str:
    return posixpath.basename(urlsplit(url.value).path) or "download"


def _place(step: Step) -> Place:
    match step:
        case Repository():
            return step.line.place
        case Key():
            return step.url.place
        case Run():
            return step.command.place
        case Workdir():
            return step.path.place
    return step.place
