"""Indexes that pip is configured for, told to uv, and the other way round."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from torana.gateway.publishing import indexes
from torana.gateway.publishing.indexes import for_pip, for_uv

OWN = "https://packages.example.org/simple"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of somebody without any settings."""
    monkeypatch.setattr(indexes, "_SYSTEM_FILE", tmp_path / "etc/pip.conf")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    return {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path / "etc")}


def settings(home: dict[str, str], text: str, *, name: str = ".config/pip/pip.conf") -> None:
    path = Path(home["HOME"], name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_settings_nothing_is_said(home: dict[str, str]) -> None:
    assert for_uv(home) == home
    assert for_pip(home) == home


def test_variables_of_pip(home: dict[str, str]) -> None:
    home |= {"PIP_INDEX_URL": OWN, "PIP_EXTRA_INDEX_URL": "https://a https://b"}
    home |= {"PIP_FIND_LINKS": "/a /b", "PIP_CERT": "/ca.pem", "PIP_TRUSTED_HOST": "a"}
    found = for_uv(home)
    assert found["UV_DEFAULT_INDEX"] == OWN
    assert found["UV_EXTRA_INDEX_URL"] == "https://a https://b"
    assert found["UV_FIND_LINKS"] == "/a,/b"
    assert found["SSL_CERT_FILE"] == "/ca.pem"
    assert found["UV_INSECURE_HOST"] == "a"


def test_files_of_pip_in_their_order(home: dict[str, str]) -> None:
    settings(home, "[global]\nindex-url = https://low\ncert = /ca.pem\n", name="etc/pip/pip.conf")
    settings(home, f"[global]\nindex_url = https://x\n[install]\nindex-url = {OWN}\n")
    found = for_uv(home)
    assert (found["UV_DEFAULT_INDEX"], found["SSL_CERT_FILE"]) == (OWN, "/ca.pem")
    assert for_uv({**home, "PIP_INDEX_URL": "https://v"})["UV_DEFAULT_INDEX"] == "https://v"
    named = Path(home["HOME"], "named.conf")
    named.write_text("[global]\nextra-index-url =\n    https://a\n    https://b\n")
    found = for_uv({**home, "PIP_CONFIG_FILE": str(named)})
    assert found["UV_EXTRA_INDEX_URL"] == "https://a https://b"
    assert "UV_DEFAULT_INDEX" not in for_uv({**home, "PIP_CONFIG_FILE": "/dev/null"})


@pytest.mark.parametrize("variable", ["UV_DEFAULT_INDEX", "UV_INDEX_URL"])
def test_settings_of_uv_count_more_for_uv(home: dict[str, str], variable: str) -> None:
    home |= {"PIP_INDEX_URL": "https://pip", variable: OWN}
    assert for_uv(home) == home
    assert for_pip(home) == home


def test_variables_of_uv(home: dict[str, str]) -> None:
    home |= {"UV_DEFAULT_INDEX": f"own={OWN}", "UV_FIND_LINKS": "/a,/b"}
    found = for_pip(home)
    assert (found["PIP_INDEX_URL"], found["PIP_FIND_LINKS"]) == (OWN, "/a /b")


def test_a_file_that_cannot_be_read_is_left_to_pip(home: dict[str, str]) -> None:
    settings(home, "no section\n")
    assert for_uv(home) == home
