"""Signatures: the vectors of RFC 8032, section 7.1."""

from __future__ import annotations

import pytest

from torana.gateway.session import ed25519

VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9"
        "b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f1"
        "1d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]


@pytest.mark.parametrize(("seed", "key", "message", "signature"), VECTORS)
def test_vectors(seed: str, key: str, message: str, signature: str) -> None:
    raw = [bytes.fromhex(text) for text in (seed, key, message, signature)]
    assert ed25519.public_key(raw[0]) == raw[1]
    assert ed25519.sign(raw[0], raw[2]) == raw[3]
    assert ed25519.verify(raw[1], raw[2], raw[3])
    assert not ed25519.verify(raw[1], raw[2] + b"x", raw[3])


def test_malformed_keys_and_signatures_prove_nothing() -> None:
    seed = bytes(range(32))
    key, signature = ed25519.public_key(seed), ed25519.sign(seed, b"m")
    order = 2**252 + 27742317777372353535851937790883648493
    answer = int.from_bytes(signature[32:], "little")
    stretched = signature[:32] + (answer + order).to_bytes(32, "little")
    for bad in (b"", signature[:-1], signature[:32] + b"\xff" * 32, stretched):
        assert not ed25519.verify(key, b"m", bad)
    for bad_key in (b"", key[:-1], b"\xff" * 32, bytes([2]) + bytes(31)):
        assert not ed25519.verify(bad_key, b"m", signature)
