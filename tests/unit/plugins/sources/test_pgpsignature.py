"""What gpgv says about signatures, and what is made of it."""

from __future__ import annotations

import time

import pytest

from torana.plugins.sources.pgpsignature import SignatureError, dearmored, judge


def said(*words: str, made: float = 0, algorithm: int = 22, hashed: int = 8) -> str:
    """Give status lines; one VALIDSIG, and others of which only the word counts."""
    print_ = "A" * 40
    valid = f"VALIDSIG {print_} 2026-01-01 {int(made)} 0 4 0 {algorithm} {hashed} 00 {print_}"
    lines = ["NEWSIG", *words, *([valid] if "BADSIG" not in words else [])]
    return "".join(f"[GNUPG:] {line} x y\n" for line in lines)


def test_good_signatures() -> None:
    judge(said("GOODSIG"), rejects_expired=True)
    judge(said("GOODSIG", made=time.time() + 60), rejects_expired=True)


@pytest.mark.parametrize("word", ["EXPKEYSIG", "EXPSIG"])
def test_expired_ones_are_up_to_the_caller(word: str) -> None:
    judge(said(word), rejects_expired=False)
    with pytest.raises(SignatureError, match="expired"):
        judge(said(word), rejects_expired=True)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("", "does not match"),
        ("gpgv: nonsense\n", "does not match"),
        ("[GNUPG:] \n", "does not match"),
        ("[GNUPG:] NO_PUBKEY 12\n", "unknown key"),
        (said("BADSIG"), "does not match"),
        (said("BADSIG", "GOODSIG"), "does not match"),
        (said("REVKEYSIG"), "revoked"),
        (said("GOODSIG", hashed=2), "weak hash"),
        (said("GOODSIG", algorithm=17), "outdated algorithm"),
        (said("GOODSIG", made=time.time() + 4000), "from the future"),
    ],
)
def test_bad_signatures(output: str, message: str) -> None:
    with pytest.raises(SignatureError, match=message):
        judge(output, rejects_expired=False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no key",
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n-----END PGP PUBLIC KEY BLOCK-----\n",
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!!!\n-----END PGP PUBLIC KEY BLOCK-----\n",
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n",
    ],
)
def test_malformed_keys(text: str) -> None:
    with pytest.raises(SignatureError, match="malformed"):
        dearmored(text)


def test_armor() -> None:
    block = (
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\r\nComment: x\r\n\r\nAQID\r\nBA==\r\n=njUN\r\n"
        "-----END PGP PUBLIC KEY BLOCK-----\r\n"
    )
    assert dearmored(block) == b"\1\2\3\4"
    assert dearmored(block + "between\n" + block) == b"\1\2\3\4" * 2
