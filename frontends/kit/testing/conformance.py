"""`FrontendSuite`: what every frontend should do. Needs pytest.

>>> class TestMini(FrontendSuite):
...     frontend = MiniFrontend()
...     images = {"alpine:3.20": {}}
...     valid = ("from alpine:3.20\\nrun ls\\n",)
...     invalid = ("rnu ls  ### found `rnu`\\n",)
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, cast

import pytest

from torana.core.errors import ToranaError
from torana.frontends.kit.optiontables import markdown_of, renewed
from torana.frontends.kit.resources import read_resource, resource_path
from torana.frontends.kit.testing.built import Built
from torana.frontends.kit.testing.failures import assert_fails
from torana.frontends.kit.testing.gateway import FakeGateway, Files
from torana.frontends.kit.testing.golden import Golden
from torana.frontends.kit.typedoptions import (
    declaration_of,
    read_options,
    schema_of,
    specs_of,
)

_MANIFEST: Final = "torana-frontend.json"
_UPDATE: Final = "run with --update-golden"
_WRONG: Final = "\x00 no value"
_HEAVY: Final = ("click", "grpc", "rich", "urllib3", "jsonschema")


class FrontendSuite:
    """Determinism, places, options, errors, questions, imports.

    `valid` files build, with `images`, `contexts` and `urls`; `invalid` ones fail, and say where
    and how (see `assert_fails`). `options` are given with each build. `documents` have a table of
    the options, between the marks that `markdown_of` gives; it and the `options` of the manifest
    are written by `--update-golden`.
    """

    frontend: ClassVar[Any]
    valid: ClassVar[Sequence[str]]
    invalid: ClassVar[Sequence[str]]
    images: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    contexts: ClassVar[Mapping[str, Files]] = {}
    urls: ClassVar[Mapping[str, str | bytes]] = {}
    options: ClassVar[Mapping[str, str]] = {}
    documents: ClassVar[Sequence[Path]] = ()

    def build(self, text: str, **opts: str) -> Built:
        return self.gateway().build(self.frontend, text, **{**self.options, **opts})

    def gateway(self) -> FakeGateway:
        return FakeGateway(images=self.images, contexts=self.contexts, urls=self.urls)

    def test_has_a_name(self) -> None:
        assert self.frontend.name
        assert self.frontend.name == self.frontend.name.lower()

    def test_same_text_same_bytes(self) -> None:
        for text in self.valid:
            one, other = self.build(text), self.build(text)
            assert one.definition.encode() == other.definition.encode()
            assert one.metadata == other.metadata

    def test_each_op_has_a_place(self) -> None:
        for text in self.valid:
            self.build(text).assert_places()

    def test_each_platform_has_its_own(self) -> None:
        for text in self.valid:
            built = self.build(text, platform="linux/amd64,linux/arm64")
            built.assert_platforms("linux/amd64", "linux/arm64")

    def test_line_ends_of_windows(self) -> None:
        for text in self.valid:
            assert self.build(text.replace("\n", "\r\n")).text() == self.build(text).text()

    def test_errors_say_where(self) -> None:
        for text in self.invalid:
            assert_fails(self.gateway(), self.frontend, text, **self.options)

    def test_no_text_crashes(self) -> None:
        for text in self.valid:
            for cut in range(0, len(text), max(1, len(text) // 15)):
                try:
                    self.build(text[:cut])
                except ToranaError:
                    continue
                except Exception as err:
                    raise AssertionError(f"crashes on {text[:cut]!r}: {err!r}") from err

    def test_wrong_options_are_refused(self) -> None:
        declared = declaration_of(self.frontend)
        for spec in specs_of(declared):
            wrong = {**self.options, spec.name: _WRONG}
            try:
                read_options(cast(Any, declared), wrong)
            except ToranaError as err:
                with pytest.raises(ToranaError) as caught:
                    self.build(self.valid[0], **{spec.name: _WRONG})
                assert caught.value.message == err.message

    def test_questions_are_answered(self) -> None:
        described = self.build(self.valid[0], requestid="frontend.subrequests.describe").answer
        names = {entry["name"] for entry in described}
        assert {"frontend.outline", "frontend.targets", "frontend.lint"} <= names
        for name in sorted(names - {"frontend.subrequests.describe"}):
            assert self.build(self.valid[0], requestid=name).answer is not None
        with pytest.raises(ToranaError):
            self.build(self.valid[0], requestid="frontend.nonsense")

    def test_outline_has_the_options(self) -> None:
        outline = self.build(self.valid[0], requestid="frontend.outline").answer
        found = {entry["name"] for entry in outline.get("args", ())}
        specs = specs_of(declaration_of(self.frontend))
        assert {spec.build_arg for spec in specs} <= found

    def test_manifest_has_the_options(self, golden: Golden) -> None:
        declared = declaration_of(self.frontend)
        if declared is None:  # what it has then are options of BuildKit, or read by other means
            return
        try:
            text = read_resource(type(self.frontend).__module__, _MANIFEST)
        except OSError:
            return
        manifest = json.loads(text)
        wanted = schema_of(declared)
        if manifest.get("options") == wanted:
            return
        assert golden.is_updating, f"{_MANIFEST}: not the options that are declared; {_UPDATE}"
        path = Path(str(resource_path(type(self.frontend).__module__, _MANIFEST)))
        new = json.dumps({**manifest, "options": wanted}, indent=2, ensure_ascii=False)
        path.write_text(f"{new}\n", "utf-8")

    def test_documents_have_the_options(self, golden: Golden) -> None:
        for path in self.documents:
            text = path.read_text("utf-8")
            new = renewed(text, schema_of(declaration_of(self.frontend)))
            assert markdown_of({}).partition("\n")[0] in text, f"{path.name}: no place for options"
            if new != text:
                assert golden.is_updating, f"{path.name}: its options are old; {_UPDATE}"
                path.write_text(new, "utf-8")

    def test_prints_nothing(self, capfd: pytest.CaptureFixture[str]) -> None:
        for text in self.valid:
            self.build(text)
            printed = capfd.readouterr().out
            assert not printed, f"printed to standard output, which is the engine's: {printed!r}"

    def test_import_is_light(self) -> None:
        module = type(self.frontend).__module__
        script = f"import sys, {module}; print(*{{n.partition('.')[0] for n in sys.modules}})"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        if done.returncode == 0:  # a module of tests cannot be imported by name
            heavy = set(done.stdout.split()) & set(_HEAVY)
            assert not heavy, f"importing {module} loads {sorted(heavy)}"
