"""`OfflineClient`: a client without an engine, for questions that only need the build file.

It reads folders of this machine and knows no image: whatever is asked for has an empty config for
the platform at hand. Nothing can be built with it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import ClassVar, Final, NoReturn

from torana.core.errors import NotFoundError, UnsupportedError
from torana.core.llb.caps import LLB_CAPS
from torana.core.llb.definition import Definition
from torana.core.llb.ops import FileOp, MkFile, OpKind, SourceOp
from torana.core.oci.digest import Digest
from torana.core.oci.image import compact_json
from torana.core.oci.platform import Platform, host_platform
from torana.core.records import dataclass
from torana.frontends.kit.dataclient import DataClient, part
from torana.gateway.client.client import (
    ResolvedImage,
    Result,
    SolveRequest,
    Stat,
    Warning,
    Worker,
)

_LOCAL: Final = "local://"
_NO_ENGINE: Final = "there is no engine here: only the build file is looked at"


@dataclass(slots=True)
class OfflineClient(DataClient):
    """Answers from `folders` (by the name of the local source); `asked_images` were looked up."""

    folders: Mapping[str, Path]
    options: Mapping[str, str] = field(default_factory=dict)
    asked_images: list[str] = field(default_factory=list)
    given: Mapping[str, Definition] = field(default_factory=dict)  # inputs
    session_id: str = "offline"
    llb_caps: frozenset[str] = LLB_CAPS
    refusal: ClassVar[str] = _NO_ENGINE
    gateway_caps: frozenset[str] = frozenset(("frontend.inputs",))

    @property
    def worker(self) -> Worker:
        return Worker(id="offline", platforms=(host_platform(),))

    async def inputs(self) -> Mapping[str, Definition]:
        return self.given

    async def solve(self, request: SolveRequest) -> Result:
        """Give what can be read without building: folders, and files that were just made.

        Raises:
            UnsupportedError: another frontend was asked for.
        """
        if request.frontend:
            raise UnsupportedError(_NO_ENGINE)
        return Result(ref=OfflineReference(self.folders, request.definition or Definition()))

    async def resolve_image(
        self,
        ref: str,
        *,
        platform: Platform | None = None,
        resolve_mode: str = "default",
        log_name: str = "",
    ) -> ResolvedImage:
        """Give an image without settings; it is not looked up anywhere."""
        self.asked_images.append(ref)
        config = compact_json((platform or host_platform()).to_dict())
        return ResolvedImage(ref=ref, digest=Digest.of(config), config=config)

    async def warn(self, warning: Warning) -> None:
        """Ignore the warning: answers have findings of their own."""


@dataclass(frozen=True, slots=True)
class OfflineReference:
    """The tree of a definition that ends in a folder of this machine, or in files that are made;
    others cannot be read.
    """

    folders: Mapping[str, Path]
    _definition: Definition

    async def read_file(self, path: str, *, offset: int = 0, length: int | None = None) -> bytes:
        name = posixpath.normpath(f"/{path}").lstrip("/")
        last = self._last()
        if isinstance(last, FileOp) and (made := _made(last, f"/{name}")) is not None:
            return part(made.data, offset, length)
        folder = self._folder(last)
        if folder is None:
            raise NotFoundError(f"open {name}: no such file or directory", hint=_NO_ENGINE)
        try:
            data = (folder / name).read_bytes()
        except OSError as err:
            text = (err.strerror or str(err)).lower()
            raise NotFoundError(f"open {name}: {text}") from err
        return part(data, offset, length)

    def _last(self) -> OpKind | None:
        ops = list(self._definition.decoded().values())
        return ops[-2].kind if len(ops) > 1 else None

    def _folder(self, last: OpKind | None) -> Path | None:
        if not isinstance(last, SourceOp) or not last.identifier.startswith(_LOCAL):
            return None
        return self.folders.get(last.identifier.removeprefix(_LOCAL))

    async def read_dir(self, path: str, *, include: str | None = None) -> Sequence[Stat]:
        self._refuse()

    async def stat(self, path: str) -> Stat:
        self._refuse()

    async def evaluate(self) -> None:
        """Do nothing: nothing can be built."""

    async def definition(self) -> Definition | None:
        return self._definition

    def _refuse(self) -> NoReturn:
        raise UnsupportedError(_NO_ENGINE)


def _made(op: FileOp, path: str) -> MkFile | None:
    """Give the action that made a file, if no other one can have changed it."""
    actions = [each.action for each in op.actions]
    if not all(isinstance(each, MkFile) for each in actions):
        return None
    made = [each for each in actions if isinstance(each, MkFile) and each.path == path]
    return made[-1] if made else None
