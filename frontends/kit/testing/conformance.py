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
from importlib.resources import files
from typing import Any, ClassVar

import pytest

from torana.core.errors import ToranaError
from torana.frontends.kit.testing.built import Built
from torana.frontends.kit.testing.failures import assert_fails
from torana.frontends.kit.testing.gateway import FakeGateway, Files
from torana.frontends.kit.typedoptions import schema_of, specs_of

_HEAVY = ("click", "grpc", "rich", "urllib3", "jsonschema")


class FrontendSuite:
    """Determinism, places, options, errors, questions, imports.

    `valid` files build, with `images`, `contexts` and `urls`; `invalid` ones fail, and say where
    and how (see `assert_fails`). `options` are given with each build.
    """

    frontend: ClassVar[Any]
    valid: ClassVar[Sequence[str]]
    invalid: ClassVar[Sequence[str]]
    images: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    contexts: ClassVar[Mapping[str, Files]] = {}
    urls: ClassVar[Mapping[str, str | bytes]] = {}
    options: ClassVar[Mapping[str, str]] = {}

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

    def test_wrong_options_are_refused(self) -> None:
        for spec in specs_of(getattr(self.frontend, "options", None)):
            if spec.kind == "string" and not (spec.choices or spec.pattern):
                continue
            if spec.kind == "array":
                continue
            with pytest.raises(ToranaError, match=spec.name):
                self.build(self.valid[0], **{spec.name: "\x00 no value"})

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
        specs = specs_of(getattr(self.frontend, "options", None))
        assert {spec.build_arg for spec in specs} <= found

    def test_manifest_has_the_options(self) -> None:
        module = type(self.frontend).__module__
        package = module if hasattr(sys.modules[module], "__path__") else module.rpartition(".")[0]
        if not package:
            return
        manifest = files(package).joinpath("torana-frontend.json")
        if not manifest.is_file():
            return
        told = json.loads(manifest.read_text("utf-8")).get("options", {}).get("properties", {})
        for name, schema in schema_of(getattr(self.frontend, "options", None))[
            "properties"
        ].items():
            assert told.get(name) == schema, (
                f"torana-frontend.json: option `{name}` is not as declared"
            )

    def test_import_is_light(self) -> None:
        module = type(self.frontend).__module__
        script = f"import sys, {module}; print(*{{n.partition('.')[0] for n in sys.modules}})"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        if done.returncode == 0:  # a module of tests cannot be imported by name
            heavy = set(done.stdout.split()) & set(_HEAVY)
            assert not heavy, f"importing {module} loads {sorted(heavy)}"
