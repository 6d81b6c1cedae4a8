"""`ClientCaches`: the client's share of importing and exporting build caches.

Folders of `type=local` are the client's: it looks up what a tag stands for, keeps the blobs, and
writes the new entry of `index.json` when the build is over.

Spec: the cache reference, sections 3 and 4.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Final

from torana.core.content.store import ContentStore
from torana.core.errors import NotFoundError, ToranaError, UserError
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest
from torana.core.pool import run_blocking
from torana.core.records import dataclass
from torana.core.remotecache.backend import manifest_answer
from torana.gateway.client.client import CacheImport
from torana.gateway.session.layout import LayoutStore
from torana.plugins.booleans import parse_boolean
from torana.plugins.cachebackend import CacheOptionError
from torana.plugins.registry.layout import LayoutOrigin
from torana.plugins.registry.origin import OpenOrigin

_LOCAL: Final = "local"
_LATEST: Final = "latest"
_PIECE: Final = 1 << 20

Warn = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCaches:
    """The caches of one build, checked; `imports` are what can be read."""

    imports: Sequence[CacheImport] = ()
    exports: Sequence[CacheImport] = ()
    stores: Mapping[str, LayoutStore] = field(default_factory=dict)  # by `local:FOLDER`

    @classmethod
    def read(
        cls, imports: Sequence[CacheImport], exports: Sequence[CacheImport], warn: Warn
    ) -> ClientCaches:
        """Look at the folders of a build's caches; what is not there is not imported.

        Raises:
            CacheOptionError: an attribute is missing.
        """
        stores: dict[str, LayoutStore] = {}
        for each in exports:
            if each.type == _LOCAL:
                folder = _required(each, "dest", "local cache exporter")
                stores[f"{_LOCAL}:{folder}"] = LayoutStore(Path(folder), is_writable=True)
                _resets(each)
            elif each.type == "registry":
                _required(each, "ref", "registry cache exporter")
        found = []
        for each in imports:
            if each.type == "registry":
                _required(each, "ref", "registry cache importer")
            if each.type != _LOCAL:
                found.append(each)
                continue
            folder = _required(each, "src", "local cache importer")
            store = LayoutStore(Path(folder))
            try:
                digest = _digest(store, each)
            except (ToranaError, OSError) as err:
                reason = err.message if isinstance(err, ToranaError) else str(err)
                warn(f"local cache import at {folder} skipped: {reason}")
                continue
            stores.setdefault(f"{_LOCAL}:{folder}", store)
            found.append(CacheImport(type=_LOCAL, attrs={**each.attrs, "digest": digest}))
        return cls(imports=found, exports=tuple(exports), stores=stores)

    def options(self) -> dict[str, str]:
        """Give the frontend option that tells of the imports."""
        if not self.imports:
            return {}
        entries = [{"Type": each.type, "Attrs": dict(each.attrs)} for each in self.imports]
        return {"cache-imports": json.dumps(entries, separators=(",", ":"))}

    def finish(self, response: Mapping[str, str]) -> None:
        """Let the caches that were written have their tags; blocks."""
        for number, each in enumerate(self._places()):
            text = manifest_answer(response, number)
            if each.type != _LOCAL or not text:
                continue
            store = self.stores[f"{_LOCAL}:{each.attrs['dest']}"]
            manifest = json.loads(text)
            try:
                store.size(Digest.parse(manifest["digest"]))
            except NotFoundError:
                continue  # another place's: this one was not written
            store.set_tag(manifest, each.attrs.get("tag") or _LATEST)
            if _resets(each):
                store.keep_named()

    def _places(self) -> list[CacheImport]:
        return [each for each in self.exports if each.type != "inline"]


NO_CACHES: Final = ClientCaches()


def _required(wanted: CacheImport, key: str, who: str) -> str:
    value = wanted.attrs.get(key, "")
    if not value:
        raise CacheOptionError(
            f"{who} requires {key}", hint=f"for example `type={wanted.type},{key}=...`"
        )
    return value


def _resets(wanted: CacheImport) -> bool:
    text = wanted.attrs.get("reset", "false")
    found = parse_boolean(text)
    if found is None:
        raise CacheOptionError(f"failed to parse reset attribute: not a boolean: `{text}`")
    return found


def _digest(store: LayoutStore, wanted: CacheImport) -> str:
    """Give the digest of the manifest that is wanted, which is there."""
    text = wanted.attrs.get("digest", "")
    if not text:
        tag = wanted.attrs.get("tag") or _LATEST
        entry = store.tagged(tag)
        if entry is None:
            raise NotFoundError(f"no digest found for tag {tag}")
        text = str(entry.get("digest", ""))
    store.size(Digest.parse(text))
    return text


@dataclass(frozen=True, slots=True)
class FolderLayouts:
    """`ClientLayouts` of a client in this process."""

    stores: Mapping[str, LayoutStore]
    is_lasting: bool = True

    def origin(self, folder: str) -> OpenOrigin:
        return partial(LayoutOrigin, Path(folder))

    async def put(self, folder: str, blob: Descriptor, content: ContentStore) -> None:
        store = self.stores.get(f"{_LOCAL}:{folder}")
        if store is None:
            raise UserError(f"unknown store {_LOCAL}:{folder}")
        await run_blocking(_copy, store, blob, content)


def _copy(store: LayoutStore, blob: Descriptor, content: ContentStore) -> None:
    try:
        if store.size(blob.digest) == blob.size:
            return
    except NotFoundError:
        pass
    writing = store.write(blob.digest)
    try:
        with content.open(blob.digest) as file:
            while piece := file.read(_PIECE):
                writing.add(piece)
        writing.commit()
    finally:
        writing.close()
