"""Signatures of commits and tags: taken out of the raw objects, checked by `gpgv` or `ssh-keygen`.

An object is first compared with its id, so that what is checked is what is checked out.

Spec: reference of sources, section 5, "Signature check"; git's signature-format.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from torana.core.errors import CorruptError
from torana.core.ops.source import InvalidSourceError
from torana.core.records import dataclass
from torana.plugins.sources.pgpsignature import SignatureError, run_checker, verify_pgp

_HEADERS: Final = (b"gpgsig ", b"gpgsig-sha256 ")
_PGP: Final = b"-----BEGIN PGP SIGNATURE-----"
_SSH: Final = b"-----BEGIN SSH SIGNATURE-----"
_SIGNER: Final = "signer"
_FLAGS: Final = ("git.sig.rejectexpired", "git.sig.requiresignedtag", "git.sig.ignoresignedtag")


class GitSignatureError(SignatureError):
    """A commit or tag is not signed, or not by the key that was asked for."""

    code = "GIT_SIGNATURE_INVALID"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignaturePolicy:
    """What has to be signed; `key` is an armored OpenPGP key or a public ssh key."""

    key: str
    rejects_expired: bool = False
    requires_tag: bool = False
    ignores_tag: bool = False


@dataclass(frozen=True, slots=True)
class SignedObject:
    """What was signed, and the signature; empty if there is none."""

    payload: bytes
    signature: bytes


def parse_policy(attrs: Mapping[str, str]) -> SignaturePolicy | None:
    """Read `git.sig.*`; None where no signature is asked for.

    Raises:
        InvalidSourceError: something is asked of a signature, but not whose it has to be.
    """
    if not attrs.get("git.sig.pubkey"):
        for name in _FLAGS:
            if attrs.get(name) == "true":
                raise InvalidSourceError(f"{name} requires git.sig.pubkey to be set")
        return None
    return SignaturePolicy(
        key=attrs["git.sig.pubkey"],
        rejects_expired=attrs.get("git.sig.rejectexpired") == "true",
        requires_tag=attrs.get("git.sig.requiresignedtag") == "true",
        ignores_tag=attrs.get("git.sig.ignoresignedtag") == "true",
    )


def check_id(kind: str, data: bytes, id: str) -> None:
    """See that an object is the one that its id names.

    Raises:
        CorruptError: it is another one.
    """
    algorithm = "sha256" if len(id) == 64 else "sha1"
    found = hashlib.new(algorithm, b"%b %d\0" % (kind.encode(), len(data)), usedforsecurity=False)
    found.update(data)
    if found.hexdigest() != id:
        raise CorruptError(f"git {kind} {id} is damaged: it has the id {found.hexdigest()}")


def signed_commit(data: bytes) -> SignedObject:
    """Take the signature out of a commit, where it is a header."""
    head, blank, message = data.partition(b"\n\n")
    kept: list[bytes] = []
    signature: list[bytes] = []
    is_signature = False
    for line in head.split(b"\n"):
        if line.startswith(_HEADERS):
            is_signature = True
            signature.append(line.partition(b" ")[2])
        elif is_signature and line.startswith(b" "):
            signature.append(line[1:])
        else:
            is_signature = False
            kept.append(line)
    return SignedObject(b"\n".join(kept) + blank + message, b"\n".join([*signature, b""]))


def signed_tag(data: bytes) -> SignedObject:
    """Take the signature out of an annotated tag, where it is the end of the message."""
    match = re.search(rb"^(?:%b|%b)" % (re.escape(_PGP), re.escape(_SSH)), data, re.MULTILINE)
    if match is None:
        return SignedObject(data, b"")
    return SignedObject(data[: match.start()], data[match.start() :])


async def verify(signed: SignedObject, policy: SignaturePolicy) -> None:
    """Check a signature against the key of the policy.

    Raises:
        GitSignatureError: there is none, or it is not of that key.
        UnsupportedError: the program that checks it is missing.
    """
    if _PGP not in signed.signature and _SSH not in signed.signature:
        raise GitSignatureError("git object is not signed")
    with tempfile.TemporaryDirectory(prefix="torana-sig-") as text:
        folder = Path(text)
        if _PGP not in signed.signature:
            await _verify_ssh(folder, signed, policy)
            return
        payload = folder / "payload"
        payload.write_bytes(signed.payload)
        try:
            await verify_pgp(
                payload,
                signed.signature,
                policy.key,
                rejects_expired=policy.rejects_expired,
            )
        except SignatureError as err:
            raise GitSignatureError(err.message, hint=err.hint) from err


async def _verify_ssh(folder: Path, signed: SignedObject, policy: SignaturePolicy) -> None:
    keys = [line for line in policy.key.splitlines() if line.strip() and line[0] != "#"]
    (folder / "signature").write_bytes(signed.signature)
    signers = folder / "signers"
    signers.write_text("".join(f'{_SIGNER} namespaces="git" {key}\n' for key in keys))
    code, _ = await run_checker(
        "ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", _SIGNER, "-n", "git",
        "-s", str(folder / "signature"), data=signed.payload,
    )  # fmt: skip
    if code:
        raise GitSignatureError("signature does not match the ssh key")
