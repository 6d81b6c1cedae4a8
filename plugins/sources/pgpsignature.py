"""Detached OpenPGP signatures, checked by `gpgv`, and `run_checker`, which runs such programs.

What counts is what is asked of signatures of today: a strong hash, a current algorithm, a key that
was not revoked. Whether keys may have expired since is up to the caller.

Spec: RFC 9580; GnuPG's `doc/DETAILS`, "General status codes".
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import tempfile
import time
from pathlib import Path
from typing import Final

from torana.core.errors import ToranaError, UnsupportedError

_KEYS: Final = re.compile(
    r"-----BEGIN PGP PUBLIC KEY BLOCK-----[ \t]*\n(?:[\w-]+: [^\n]*\n)*\s*?(.*?)"
    r"(?:\n=[A-Za-z0-9+/]{4})?\s*-----END PGP PUBLIC KEY BLOCK-----",
    re.DOTALL,
)
_BEGIN: Final = "-----BEGIN PGP SIGNATURE-----"
_HASHES: Final = {"8", "9", "10"}  # SHA-256, SHA-384, SHA-512
_ALGORITHMS: Final = {"1", "3", "19", "22", "27"}  # RSA, RSA to sign only, ECDSA, EdDSA, Ed25519
_CLOCK_SKEW_S: Final = 300


class SignatureError(ToranaError):
    """Something is not signed, or not by the key that was asked for."""

    code = "SIGNATURE_INVALID"


async def verify_pgp(
    payload: Path, signature: bytes, keys: str, *, rejects_expired: bool = False
) -> None:
    """Check that a file has an armored signature by one of some armored public keys.

    Raises:
        SignatureError: it has not, or what says so is malformed.
        UnsupportedError: the program that checks it is missing.
    """
    if _BEGIN.encode() not in signature:
        raise SignatureError("the signature is not an armored OpenPGP signature")
    with tempfile.TemporaryDirectory(prefix="torana-sig-") as text:
        folder = Path(text)
        (folder / "signature").write_bytes(signature)
        (folder / "keys").write_bytes(dearmored(keys))
        _, output = await run_checker(
            "gpgv", "--homedir", text, "--keyring", str(folder / "keys"), "--status-fd", "1",
            "--", str(folder / "signature"), str(payload),
        )  # fmt: skip
    judge(output, rejects_expired=rejects_expired)


def judge(output: str, *, rejects_expired: bool) -> None:
    """Read what gpgv says.

    Raises:
        SignatureError: it does not say that the signature is good.
    """
    said = [line.split()[1:] for line in output.splitlines() if re.match(r"\[GNUPG:\] \S", line)]
    words = {line[0] for line in said}
    if rejects_expired and words & {"EXPKEYSIG", "EXPSIG"}:
        raise SignatureError("signature has expired, or is by a key that has")
    if "REVKEYSIG" in words:
        raise SignatureError("signature is by a key that was revoked")
    valid = [line for line in said if line[0] == "VALIDSIG"]
    if not valid or not words & {"GOODSIG", "EXPKEYSIG", "EXPSIG"} or "BADSIG" in words:
        raise SignatureError(
            "signature is by an unknown key" if "NO_PUBKEY" in words else "signature does not match"
        )
    for line in valid:
        made, algorithm, hashed = line[3], line[7], line[8]
        if algorithm not in _ALGORITHMS or hashed not in _HASHES:
            raise SignatureError("signature is made with a weak hash or an outdated algorithm")
        if made.isdecimal() and int(made) > time.time() + _CLOCK_SKEW_S:
            raise SignatureError("signature is from the future")


def dearmored(armored: str) -> bytes:
    """Give the bytes of one or more armored blocks of public keys.

    Spec: RFC 9580, section 6.2.

    Raises:
        SignatureError: there is none, or one is malformed.
    """
    blocks = _KEYS.findall(armored.replace("\r\n", "\n"))
    try:
        keys = b"".join(base64.b64decode("".join(block.split()), validate=True) for block in blocks)
    except binascii.Error:
        keys = b""
    if not keys:
        raise SignatureError("the key to check signatures with is malformed")
    return keys


async def run_checker(*command: str, data: bytes = b"") -> tuple[int, str]:
    """Run a program on `data` and give its exit code and what it prints.

    Raises:
        UnsupportedError: it is missing.
    """
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
