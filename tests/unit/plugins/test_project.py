"""`torana.toml`: where it is found, what it may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from torana.plugins.project import InvalidProjectError, find_project

TEXT = """
[frontends]
allowed = ["dockerfile", "acme/*"]

[frontends.files]
"*.mock.yaml" = "mockerfile"
"deploy/*.yaml" = "yaml==1.0"
"build.yaml" = "yaml"

[policies.sources]
deny = ["http://*"]
"""


def test_found_above_up_to_the_repository(tmp_path: Path) -> None:
    inner = tmp_path / "repository" / "services" / "a"
    inner.mkdir(parents=True)
    (tmp_path / "torana.toml").write_text(TEXT)
    assert find_project(inner).file == tmp_path / "torana.toml"
    (tmp_path / "repository" / ".git").mkdir()
    assert find_project(inner).file is None
    (tmp_path / "repository" / "torana.toml").write_text("")
    assert find_project(inner).root == tmp_path / "repository"


@pytest.mark.parametrize(
    ("path", "syntax"),
    [
        ("x/a.mock.yaml", "mockerfile"),
        ("deploy/b.yaml", "yaml==1.0"),
        ("other/b.yaml", None),
        ("other/build.yaml", "yaml"),
        ("../build.yaml", None),
    ],
)
def test_patterns(tmp_path: Path, path: str, syntax: str | None) -> None:
    (tmp_path / "torana.toml").write_text(TEXT)
    project = find_project(tmp_path)
    assert project.syntax_of((tmp_path / path).resolve()) == syntax
    assert project.allowed == ("dockerfile", "acme/*")
    assert project.policies == {"sources": {"deny": ["http://*"]}}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("frontend = 1", r"torana\.toml: unknown key: `frontend`", "did you mean `frontends`?"),
        ("[frontends]\nalowed = []", "unknown key: `frontends.alowed`", "did you mean `allowed`?"),
        ("[frontends]\nallowed = 'x'", "frontends.allowed: must be of type array", None),
        ("[frontends", "no TOML", None),
        ("[policies]\nx = 1", "policies.x: must be of type object", None),
    ],
)
def test_mistakes(tmp_path: Path, text: str, message: str, hint: str | None) -> None:
    (tmp_path / "torana.toml").write_text(text)
    with pytest.raises(InvalidProjectError, match=message) as caught:
        find_project(tmp_path)
    assert caught.value.hint == hint
