"""`KeyedSecrets`: secrets whose change runs the steps again that use them.

Otherwise a secret is no part of a step's key. Here the key gets a digest of the value under a key
that never leaves the root, so that nobody finds the value by trying likely ones.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from torana.core.llb.ops import ExecOp
from torana.core.oci.digest import Digest
from torana.core.ops.exec.services import SecretProvider
from torana.core.pool import run_blocking
from torana.core.records import dataclass

_FILE: Final = "secret.key"
_SIZE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class KeyedSecrets:
    """The secrets `ids` of a build; `root` is the store's."""

    ids: frozenset[str]
    provider: SecretProvider
    root: Path

    def used_by(self, op: ExecOp) -> list[str]:
        """Give those of the ids that a step mounts or has as variables, in order."""
        mounted = {mount.secret_opt.id for mount in op.mounts if mount.secret_opt is not None}
        return sorted(self.ids & (mounted | {secret.id for secret in op.secret_env}))

    async def digest(self, plain: Digest, ids: Iterable[str]) -> Digest:
        """Give the key of a step that is `plain` without its secrets; a missing one counts, too."""
        key = await run_blocking(_key, self.root / _FILE)
        values = []
        for id in ids:
            value = await self.provider.get(id)
            known = "" if value is None else hmac.digest(key, value, hashlib.sha256).hex()
            values.append([id, known])
        return Digest.of_text(json.dumps([plain, values]))


def _key(path: Path) -> bytes:
    """Read the key of a root; the first to need it makes it, whole or not at all."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        pass
    draft = path.with_name(f"{_FILE}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_SIZE_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)  # unlike renaming, it never replaces one that another made
    finally:
        draft.unlink()
    return path.read_bytes()
