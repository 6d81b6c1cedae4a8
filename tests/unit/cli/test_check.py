"""`torana check`, and questions of `torana build --call`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from torana.cli import app
from torana.cli.calls import Call, parse_call, show
from torana.core.errors import UsageError

BAD = "FROM alpine AS One\nENV A=$X\nCMD foo\n"


def _check(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = app.run(["check", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_clean_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Dockerfile").write_text('FROM alpine\nCMD ["x"]\n')
    assert _check(capsys, str(tmp_path)) == (0, "1 file checked, no warnings\n", "")


def test_findings_show_their_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.Dockerfile"
    file.write_text(BAD)
    code, out, err = _check(capsys, str(file))
    assert code == 1
    assert f"{file}:1: StageNameCasing: Stage name 'One' should be lowercase" in out
    assert "   1 | >>> FROM alpine AS One" in out
    assert "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/" in out
    assert "UndefinedVar:" not in out
    assert "UndefinedVar was left out" in err


def test_undefined_variables_are_told_where_no_image_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nENV A=$X\n")
    code, out, err = _check(capsys, str(tmp_path))
    assert (code, err) == (1, "")
    assert "UndefinedVar: Usage of undefined variable '$X'" in out


def test_a_file_that_cannot_be_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("FROM alpine\nRUNN x\n")
    code, out, _ = _check(capsys, str(file))
    assert code == 1
    assert f"{file}:2: error: dockerfile parse error on line 2: unknown instruction: RUNN" in out


def test_the_ignore_file_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY secret /\n")
    (tmp_path / ".dockerignore").write_text("secret\n")
    assert "CopyIgnoredFile" in _check(capsys, str(tmp_path))[1]


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").write_text(BAD)
    (tmp_path / "b").write_text("FROM scratch\n")
    code, out, _ = _check(capsys, "--format=json", str(tmp_path / "a"), str(tmp_path / "b"))
    one, two = json.loads(out)
    assert code == 1
    assert [warning["rule"] for warning in one["warnings"]] == [
        "StageNameCasing",
        "JSONArgsRecommended",
    ]
    assert one["warnings"][1]["lines"] == [[3, 3]]
    assert two == {"file": str(tmp_path / "b"), "warnings": []}


def test_sarif(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Dockerfile").write_text(BAD + "FOO\n")
    log: dict[str, Any] = json.loads(_check(capsys, "--format=sarif", str(tmp_path))[1])
    [run] = log["runs"]
    assert log["version"] == "2.1.0"
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert {result["ruleId"] for result in run["results"]} == set(rules)
    error = run["results"][-1]
    assert error["level"] == "error"
    region = error["locations"][0]["physicalLocation"]["region"]
    assert region == {"startLine": 4, "endLine": 4}


def test_a_missing_file_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = _check(capsys, "/no/such/file")
    assert (code, out) == (2, "")
    assert "no such file" in err


def test_calls() -> None:
    assert parse_call(None) is None
    assert parse_call("build") is None
    assert parse_call(None, is_check=True) == Call(request="frontend.lint")
    assert parse_call("lint,format=json") == Call(request="frontend.lint", is_json=True)
    assert parse_call("outline,ignorestatus=true") == Call(
        request="frontend.outline", ignores_status=True
    )
    for wrong in ("foo", "check,x=y", "check,format=xml"):
        with pytest.raises(UsageError):
            parse_call(wrong)
    with pytest.raises(UsageError, match="contradict"):
        parse_call("outline", is_check=True)


def test_answers_are_shown_with_their_status() -> None:
    warning = {"ruleName": "X"}
    answer = {
        "result.json": json.dumps({"warnings": [warning, warning]}).encode(),
        "result.txt": b"\nWARNING: X\n",
        "result.statuscode": b"1",
    }
    lint = Call(request="frontend.lint")
    assert show(lint, answer) == ("Check complete, 2 warnings have been found!\n\nWARNING: X\n", 1)
    assert show(Call(request="frontend.lint", ignores_status=True), answer)[1] == 0
    clean = {"result.json": b'{"warnings": null}', "result.statuscode": b"0"}
    assert show(lint, clean) == ("Check complete, no warnings found.\n", 0)
    failed = {"result.json": b'{"buildError": {"message": "m"}}', "result.statuscode": b"1"}
    assert show(lint, failed) == ("\nERROR: m\n", 1)
    assert show(Call(request="frontend.outline"), {"result.txt": b"text"}) == ("text", 0)
