"""Keys with secrets in them: what counts, and that values cannot be told from them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from torana.core.llb.ops import ExecOp, Meta, Mount, MountType, SecretEnv, SecretOpt
from torana.core.oci.digest import Digest
from torana.core.ops.exec.keyedsecrets import KeyedSecrets

PLAIN = Digest.of(b"plain")


class Provider:
    def __init__(self, **values: bytes) -> None:
        self.values = values

    async def get(self, id: str) -> bytes | None:
        return self.values.get(id)


async def digest(root: Path, **values: bytes) -> Digest:
    return await KeyedSecrets(frozenset("ab"), Provider(**values), root).digest(PLAIN, "ab")


async def test_values_count(tmp_path: Path) -> None:
    first = await digest(tmp_path, a=b"1", b=b"2")
    assert await digest(tmp_path, a=b"1", b=b"2") == first
    others = [{"a": b"2", "b": b"1"}, {"a": b"1"}, {"a": b"1", "b": b""}, {}]
    found = [await digest(tmp_path, **values) for values in others]
    assert len({first, *found}) == 5


async def test_key_is_the_roots_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    assert await digest(tmp_path / "one", a=b"1") != await digest(tmp_path / "two", a=b"1")
    key = (tmp_path / "one/secret.key").read_bytes()
    assert len(key) == 32
    assert (tmp_path / "one/secret.key").stat().st_mode & 0o777 == 0o600
    assert hashlib.sha256(b"1").hexdigest() not in str(await digest(tmp_path / "one", a=b"1"))
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["secret.key"]


def test_only_secrets_of_the_step(tmp_path: Path) -> None:
    secrets = KeyedSecrets(frozenset({"a", "b", "c"}), Provider(), tmp_path)
    mount = Mount(
        input=-1, dest="/a", mount_type=MountType.SECRET, secret_opt=SecretOpt(id="a", mode=0o400)
    )
    op = ExecOp(
        meta=Meta(args=("x",), cwd="/"),
        mounts=(mount,),
        secret_env=(SecretEnv("b", "B"), SecretEnv("d", "D")),
    )
    assert secrets.used_by(op) == ["a", "b"]
    assert secrets.used_by(ExecOp()) == []
