"""Signatures of commits and tags, made by git itself."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.integration.sources.conftest import Store
from tests.integration.sources.test_git import Remote, files, instance, look, remote

from torana.core.errors import CorruptError
from torana.plugins.sources.gitsignature import (
    GitSignatureError,
    SignaturePolicy,
    SignedObject,
    check_id,
    signed_commit,
    verify,
)

__all__ = ["remote"]  # a fixture

pytestmark = pytest.mark.needs("git", "ssh-keygen", "gpg", "gpgv")


@dataclass
class Signer:
    """Signs for `git -c ...`; `public` is its key."""

    settings: list[str]
    public: str
    environment: dict[str, str] = field(default_factory=dict)

    def git(self, remote: Remote, *arguments: str) -> None:
        options = [part for setting in self.settings for part in ("-c", setting)]
        known = dict(remote.environment)
        remote.environment.update(self.environment)
        try:
            remote.git(*options, *arguments)
        finally:
            remote.environment.clear()
            remote.environment.update(known)


def ssh_signer(folder: Path, name: str = "key") -> Signer:
    key = folder / name
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ann", "-f", key], check=True
    )
    settings = ["gpg.format=ssh", f"user.signingkey={key}"]
    return Signer(settings, key.with_suffix(".pub").read_text())


@pytest.fixture(scope="module")
def pgp() -> Iterator[Signer]:
    # Not pytest's folder: addresses of the agent's sockets are short.
    home = Path(tempfile.mkdtemp(prefix="gpg-"))
    base = ["gpg", "--homedir", str(home), "--batch", "--quiet"]
    try:
        subprocess.run(
            [*base, "--passphrase", "", "--quick-gen-key", "ann@example.org", "ed25519", "sign"],
            check=True,
            capture_output=True,
            timeout=60,
        )
        exported = subprocess.run([*base, "--armor", "--export"], check=True, capture_output=True)
        settings = ["user.signingkey=ann@example.org"]
        yield Signer(settings, exported.stdout.decode(), {"GNUPGHOME": str(home)})
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(params=["ssh", "pgp"])
def signer(request: pytest.FixtureRequest, pgp: Signer, tmp_path: Path) -> Signer:
    return pgp if request.param == "pgp" else ssh_signer(tmp_path)


def commit(remote: Remote, signer: Signer | None, text: str) -> None:
    remote.write("readme", text)
    remote.git("add", "-A")
    if signer is None:
        remote.git("commit", "-q", "-m", text)
    else:
        signer.git(remote, "commit", "-q", "-S", "-m", text)


async def test_commits(store: Store, remote: Remote, signer: Signer, tmp_path: Path) -> None:
    commit(remote, signer, "signed")
    remote.push()
    wanted = {"sig.pubkey": signer.public}
    found = await look(instance(remote, store.build(), **wanted), files)
    assert found["readme"] == "signed"
    stranger = ssh_signer(tmp_path, "stranger").public
    key = await instance(remote, store.build(), **wanted).cache_key(0)
    assert key == await instance(remote, store.build()).cache_key(0)  # the commit is the key
    with pytest.raises(GitSignatureError):
        await instance(remote, store.build(), **{"sig.pubkey": stranger}).cache_key(0)
    commit(remote, None, "unsigned")
    remote.push()
    with pytest.raises(GitSignatureError, match="not signed"):
        await instance(remote, store.build(), **wanted).cache_key(0)
    with pytest.raises(GitSignatureError, match="signed tag required but no signed tag found"):
        await instance(
            remote, store.build(), **wanted, **{"sig.requiresignedtag": "true"}
        ).cache_key(0)


async def test_tags(store: Store, remote: Remote, signer: Signer) -> None:
    commit(remote, None, "unsigned")
    signer.git(remote, "tag", "-s", "-m", "signed", "s1")
    remote.git("tag", "-a", "-m", "not signed", "s2")
    commit(remote, signer, "signed")
    remote.git("tag", "-a", "-m", "not signed", "s3")
    remote.push()

    async def check(tag: str, **more: str) -> None:
        attrs = {"sig.pubkey": signer.public, **{f"sig.{k}": v for k, v in more.items()}}
        await instance(remote, store.build(), tag, **attrs).cache_key(0)

    await check("s1", requiresignedtag="true")
    await check("s3")  # by its commit
    with pytest.raises(GitSignatureError, match="not signed"):
        await check("s1", ignoresignedtag="true")
    with pytest.raises(GitSignatureError, match="not signed"):
        await check("s2")
    with pytest.raises(GitSignatureError, match="not signed"):
        await check("s3", requiresignedtag="true")


async def test_what_was_changed_after_signing(remote: Remote, signer: Signer) -> None:
    commit(remote, signer, "signed")
    done = subprocess.run(
        ["git", "cat-file", "commit", "HEAD"], cwd=remote.work, check=True, capture_output=True
    )
    check_id("commit", done.stdout, remote.git("rev-parse", "HEAD"))
    with pytest.raises(CorruptError, match="damaged"):
        check_id("commit", done.stdout + b"x", remote.git("rev-parse", "HEAD"))
    policy = SignaturePolicy(key=signer.public)
    signed = signed_commit(done.stdout)
    await verify(signed, policy)
    with pytest.raises(GitSignatureError):
        await verify(SignedObject(signed.payload + b"x", signed.signature), policy)
    with pytest.raises(GitSignatureError):
        await verify(signed, SignaturePolicy(key="no key"))
