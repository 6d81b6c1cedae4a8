"""Lint of YAML files: which rules speak, and that a build can be made to fail."""

from __future__ import annotations

import pytest

from torana.frontends.kit.lint import LintError
from torana.frontends.kit.testing.gateway import FakeGateway
from torana.frontends.yaml import YamlFrontend

TEXT = """\
version: 1
stages:
  main:
    from: alpine
    steps:
      - run: ls
"""


def _build(text: str, **opts: str) -> FakeGateway:
    gateway = FakeGateway(images={"alpine": {}})
    gateway.build(YamlFrontend(), text, filename="build.yaml", **opts)
    return gateway


def test_findings_are_warnings() -> None:
    assert ["ImageWithoutTag" in each.short for each in _build(TEXT).warnings] == [True]


def test_a_comment_skips_rules_or_makes_them_errors() -> None:
    assert not _build(f"# check=skip=ImageWithoutTag\n{TEXT}").warnings
    with pytest.raises(LintError, match="ImageWithoutTag"):
        _build(f"# check=error=true\n{TEXT}")
