"""What looks like a secret in options."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torana.gateway.recording.redaction import Redaction


def test_tellingly_named_options() -> None:
    options = {
        "build-arg:GITHUB_TOKEN": "ghp_abcdef",
        "build-arg:API_KEY": "abcdefgh",
        "label:password": "pässwört",
        "build-arg:VERSION": "1.2.3-ghp_abcdef",
        "label:authors": "Ann Author",
        "build-arg:PIN_SECRET": "1234",
    }
    redaction = Redaction.of(options)
    assert redaction.options(options) == {
        "build-arg:GITHUB_TOKEN": "**********",
        "build-arg:API_KEY": "********",
        "label:password": "**********",
        "build-arg:VERSION": "1.2.3-**********",
        "label:authors": "Ann Author",
        "build-arg:PIN_SECRET": "****",
    }
    assert redaction.data(b"1234 abcdefgh x") == b"1234 ******** x"


def test_addresses_with_passwords() -> None:
    options = {
        "context": "https://ann:hunter22@example.org/a.git#main",
        "context:other": "https://ghp_token1@example.org/b.git",
        "context:plain": "ssh://git@example.org/c.git",
    }
    assert Redaction.of(options).options(options) == {
        "context": "https://ann:********@example.org/a.git#main",
        "context:other": "https://**********@example.org/b.git",
        "context:plain": "ssh://git@example.org/c.git",
    }


@given(st.dictionaries(st.sampled_from(["token", "x"]), st.text(max_size=12)), st.binary())
def test_lengths_stay(options: dict[str, str], data: bytes) -> None:
    redaction = Redaction.of(options)
    blotted = redaction.data(data)
    assert len(blotted) == len(data)
    assert redaction.data(blotted) == blotted
