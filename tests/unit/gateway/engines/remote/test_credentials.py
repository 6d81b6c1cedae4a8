"""What a daemon learns of a client's credentials."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from torana.gateway.engines.remote.credentials import DockerStore, Seeds
from torana.gateway.session.auth import Credentials


async def test_the_hub_has_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setattr("torana.plugins.registry.access._default", None)
    auths = {
        "https://index.docker.io/v1/": {"username": "ann", "password": "word"},
        "r.example": {"identitytoken": "long"},
    }
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    store = DockerStore()
    assert await store.credentials("registry-1.docker.io") == Credentials("ann", "word")
    assert await store.credentials("r.example") == Credentials("", "long")
    assert await store.credentials("other.example") == Credentials()


def test_seeds_last_and_differ_by_host(tmp_path: Path) -> None:
    file = tmp_path / "made" / "seed"
    seeds = Seeds(file)
    one, two = seeds.get("one"), seeds.get("two")
    assert len(one) == 16 and one != two
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Seeds(file).get("one") == one
    assert [path.name for path in file.parent.iterdir()] == ["seed"]


def test_seeds_that_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    seeds = Seeds(tmp_path / "file" / "seed")
    assert seeds.get("one") == seeds.get("one")
    assert seeds.get("one") != Seeds(tmp_path / "file" / "seed").get("one")
