"""Signatures of commits and tags: taken out of the raw objects, checked by `gpgv` or `ssh-keygen`.

An object is first compared with its id, so that what is checked is what is checked out.

Spec: reference of sources, section 5, "Signature check"; git's signature-format.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from torana.core.errors import CorruptError, ToranaError, UnsupportedError
from torana.core.records import dataclass

_HEADERS: Final = (b"gpgsig ", b"gpgsig-sha256 ")
_PGP: Final = b"-----BEGIN PGP SIGNATURE-----"
_SSH: Final = b"-----BEGIN SSH SIGNATURE-----"
_SIGNER: Final = "signer"


class GitSignatureError(ToranaError):
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
    """Read `git.sig.*`; None where no signature is asked for."""
    if not attrs.get("git.sig.pubkey"):
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
    if _PGP in signed.signature:
        check = _verify_pgp
    elif _SSH in signed.signature:
        check = _verify_ssh
    else:
        raise GitSignatureError("git object is not signed")
    with tempfile.TemporaryDirectory(prefix="torana-sig-") as text:
        folder = Path(text)
        (folder / "signature").write_bytes(signed.signature)
        (folder / "payload").write_bytes(signed.payload)
        await check(folder, signed.payload, policy)


async def _verify_pgp(folder: Path, payload: bytes, policy: SignaturePolicy) -> None:
    (folder / "keys").write_bytes(_dearmored(policy.key))
    _, output = await _run(
        "gpgv", "--homedir", str(folder), "--keyring", str(folder / "keys"), "--status-fd", "1",
        str(folder / "signature"), str(folder / "payload"),
    )  # fmt: skip
    said = {line.split()[1] for line in output.splitlines() if line.startswith("[GNUPG:] ")}
    good = {"GOODSIG"} if policy.rejects_expired else {"GOODSIG", "EXPKEYSIG"}
    if "EXPKEYSIG" in said and policy.rejects_expired:
        raise GitSignatureError("signature is by a key that has expired")
    if "VALIDSIG" not in said or not said & good or "BADSIG" in said:
        raise GitSignatureError(
            "signature is by an unknown key" if "NO_PUBKEY" in said else "signature does not match"
        )


async def _verify_ssh(folder: Path, payload: bytes, policy: SignaturePolicy) -> None:
    keys = [line for line in policy.key.splitlines() if line.strip() and line[0] != "#"]
    signers = folder / "signers"
    signers.write_text("".join(f'{_SIGNER} namespaces="git" {key}\n' for key in keys))
    code, _ = await _run(
        "ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", _SIGNER, "-n", "git",
        "-s", str(folder / "signature"), data=payload,
    )  # fmt: skip
    if code:
        raise GitSignatureError("signature does not match the ssh key")


def _dearmored(armored: str) -> bytes:
    """Give the bytes of an armored block.

    Spec: RFC 9580, section 6.2.
    """
    match = re.search(
        r"-----BEGIN PGP PUBLIC KEY BLOCK-----\s*\n(?:[\w-]+: .*\n)*\s*\n?(.*?)"
        r"(?:\n=[A-Za-z0-9+/]{4})?\s*-----END",
        armored.replace("\r\n", "\n"),
        re.DOTALL,
    )
    try:
        return base64.b64decode("".join(match[1].split()) if match else "", validate=True)
    except binascii.Error:
        raise GitSignatureError("the key to check signatures with is malformed") from None


async def _run(*command: str, data: bytes = b"") -> tuple[int, str]:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise UnsupportedError(
            f"checking signatures needs the program `{command[0]}`", hint=f"install {command[0]}"
        ) from None
    try:
        output, _ = await process.communicate(data)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return process.returncode, output.decode("utf-8", "replace")
