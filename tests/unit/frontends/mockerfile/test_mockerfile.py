"""Mockerfiles in both forms: LLB, strictness, warnings."""

from __future__ import annotations

from typing import Any

import pytest

from torana.core.errors import BuildFileError, ToranaError
from torana.frontends.kit.testing.gateway import FakeGateway
from torana.frontends.mockerfile import MockerfileFrontend

MOCKERFILE = MockerfileFrontend()
SHA = "0123456789abcdef" * 4
IMAGES: dict[str, dict[str, Any]] = {
    "ubuntu:16.04": {"Env": ["PATH=/x", "A=1"], "User": "me"},
    "debian:12": {"Env": ["PATH=/x", "A=1"]},
    "alpine:3.6": {},
}
YAML = f"""\
#syntax=r2d4/mocker
apiVersion: v1alpha1
images:
- name: demo
  from: ubuntu:16.04
  package:
    repo:
    - deb http://example.org/apt stable main
    gpg:
    - https://example.org/key.gpg
    install:
    - git
    - golang=2:1.10
  external:
  - src: https://example.org/tool
    dst: /usr/local/bin/tool
    sha256: {SHA}
  - src: https://example.org/other.tar.gz
    dst: /srv/other
    install:
    - chmod +x a
    - echo 100%
"""


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway(images=IMAGES, contexts={"context": {"a": "1"}})


def test_original_document(gateway: FakeGateway) -> None:
    built = gateway.build(MOCKERFILE, YAML)
    built.assert_reads(
        "docker-image://docker.io/library/ubuntu:16.04*",
        "https://example.org/key.gpg",
        "https://example.org/tool",
        "https://example.org/other.tar.gz",
    )
    built.assert_runs(
        "apt-get update && apt-get install apt-transport-https -y",
        "/bin/sh -c printf*sh deb http://example.org/apt stable main",
        "apt-key add /key.gpg && rm /key.gpg",
        "apt-get update && apt-get install --no-install-recommends --no-install-suggests -y "
        "git golang=2:1.10",
        "chmod +x a && echo 100%",
    )
    built.assert_copies("/tool", "/usr/local/bin/tool")
    built.assert_copies("/other.tar.gz", "/srv/other/")
    built.assert_copies("/srv/other", "/srv/other")
    built.assert_places()
    text = built.text()
    assert f"http.checksum=sha256:{SHA}" in text
    assert "http.perm=0755" in text
    # Nothing is inherited, whatever the base image says.
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert built.config == {"Env": [path], "Cmd": ["ls"], "WorkingDir": "/"}
    assert "user me" not in text and "A=1" not in text
    assert [w.short for w in built.warnings] == [
        "MissingChecksum: `https://example.org/other.tar.gz` is taken as it comes, "
        "whatever that is (line 18)",
        "LostInstall: what these commands leave outside of `/srv/other` is lost (line 21)",
    ]


def test_downloads_depend_on_nothing(gateway: FakeGateway) -> None:
    built = gateway.build(MOCKERFILE, YAML)
    inputs = [len(op.inputs) for _, op in built.ops() if "https://" in str(op.kind)]
    assert inputs.count(0) >= 3


def test_lines_are_not_expanded(gateway: FakeGateway) -> None:
    text = "images: [{from: 'debian:12', package: {repo: ['deb \"$HOME\" x']}}]"
    assert any('deb "$HOME" x' in run for run in gateway.build(MOCKERFILE, text).runs())


OWN = f"""\
# syntax=mockerfile

# What is compiled.
image build
from debian:12
packages gcc \\
    make
copy a /src/a   # from the build context
workdir /src
run make all

image app
from debian:12
repo deb http://example.org/apt stable main
key https://example.org/key sha256:{SHA}
file https://example.org/tool /usr/local/bin/tool sha256:{SHA}
archive https://example.org/x.tar.gz /opt/x sha256:{SHA}
copy from build /src/out /usr/bin/
env MODE = "fast and loose"
cmd ["tool", "serve"]

image debug
from app
packages gdb
"""


def test_own_form(gateway: FakeGateway) -> None:
    built = gateway.build(MOCKERFILE, OWN, target="app")
    built.assert_runs("apt-get * gcc make", "make all")
    built.assert_copies("/src/out", "/usr/bin/")
    built.assert_copies("/key.asc", "/etc/apt/trusted.gpg.d/key.asc")
    built.assert_places()
    assert built.config["Env"] == ["PATH=/x", "A=1", "MODE=fast and loose"]
    assert built.config["Cmd"] == ["tool", "serve"]
    assert built.lines_of("make all") == [10]
    assert not built.warnings
    gateway.build(MOCKERFILE, OWN).assert_runs("apt-get * gdb")  # the last one


def test_targets(gateway: FakeGateway) -> None:
    answer = gateway.build(MOCKERFILE, OWN, requestid="frontend.targets").answer
    assert [(t["name"], t.get("default", False)) for t in answer["targets"]] == [
        ("build", False), ("app", False), ("debug", True),
    ]  # fmt: skip
    answer = gateway.build(
        MOCKERFILE,
        "images: [{name: a, from: 'debian:12'}, {from: 'debian:12'}]",
        requestid="frontend.targets",
    ).answer
    assert [(t["name"], t.get("default", False)) for t in answer["targets"]] == [
        ("a", True), ("image-2", False),
    ]  # fmt: skip
    with pytest.raises(ToranaError, match="no such target: `ap`") as caught:
        gateway.build(MOCKERFILE, OWN, target="ap")
    assert caught.value.hint == "did you mean `app`?"


def test_newer_version_makes_keys_work(gateway: FakeGateway) -> None:
    text = (
        "apiVersion: v1alpha2\nimages:\n- {name: a, from: 'debian:12'}\n"
        "- {name: b, parent: a, workdir: /w, steps: [make, 'echo 3.10']}\n"
    )
    built = gateway.build(MOCKERFILE, text)
    built.assert_runs("make", "echo 3.10")
    assert built.config["WorkingDir"] == "/w"
    old = gateway.build(MOCKERFILE, text.replace("parent: a,", "from: 'debian:12',").replace(
        "v1alpha2", "v1alpha1"), target="b")  # fmt: skip
    assert not old.runs()
    assert [w.short for w in old.warnings][-2:] == [
        "UnusedKey: `workdir` does nothing in v1alpha1, but does in v1alpha2 (line 4)",
        "UnusedKey: `steps` does nothing in v1alpha1, but does in v1alpha2 (line 4)",
    ]


FIRST = "first in line 2"


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("images: []\n", 1, "there is no image: `images` is empty", None),
        ("apiVersion: v1alpha1\n", 1, "there is no image: `images` is empty", None),
        ("# nothing: here\n", 1, None, None),
        ("images:\n- form: a\n", 2, "unknown key in an image: `form`", "did you mean `from`?"),
        ("images:\n- from: a\n  from: b\n", 3, "key twice in one mapping: `from`", FIRST),
        ("images:\n- name: a\n", 2, "an image has no `from`", None),
        ("images: {a: b}\n", 1, "images is not a list", None),
        ("images:\n- from: [a]\n", 2, "from is not a text", None),
        ("images:\n- {from: a, external: [{src: 'http://x'}]}\n", 2,
         "an external file has no `dst`", None),
        ("images:\n- {from: 'debian:12', external: [{src: 'http://x/y', dst: y}]}\n", 2,
         "`dst` is not absolute: `y`", None),
        ("images:\n- {from: 'debian:12', external: [{src: 'ftp://x/y', dst: /y}]}\n", 2,
         "not an address of http or https: `ftp://x/y`", None),
        ("images:\n- {from: 'debian:12', external: [{src: 'http://x', dst: /y, sha256: a}]}\n", 2,
         "not a sha256, which has 64 hex digits: `a`", None),
        ("images:\n- {from: 'debian:12', package: {install: ['a; rm -rf /']}}\n", 2,
         "not a package: `a; rm -rf /`", "`name` or `name=version`"),
        ("apiVersion: v2\nimages: []\n", 1, "unknown apiVersion: `v2`", None),
        ("images:\n  - a: [\n", 3, None, None),
        ("image a\nform b\n", 2, "expected `from`, found `form`", "did you mean `from`?"),
        ("image a\nfrom debian:12\nfile tool /x\n", 3, None, None),
        ("image a\nfrom debian:12\nimage a\nfrom debian:12\n", 3, "there are two images `a`", None),
        ("image a\nfrom b\nimage b\nfrom a\n", 4,
         "images are made of each other: b -> a -> b", None),
        ("image a\nfrom debian:12\ncopy from b /x /y\n", 3,
         "no such image in this file: `b`", None),
        ('image a\nfrom debian:12\ncmd [1]\n', 3, "not a list of texts: [1]", None),
    ],
)  # fmt: skip
def test_wrong_files(
    gateway: FakeGateway, text: str, line: int, message: str | None, hint: str | None
) -> None:
    with pytest.raises(BuildFileError) as caught:
        gateway.build(MOCKERFILE, text)
    assert caught.value.at is not None, caught.value
    if message is not None:
        assert (caught.value.message, caught.value.hint) == (message, hint)
    assert caught.value.at.start.line == line


def test_archive_into_a_folder_of_the_image(gateway: FakeGateway) -> None:
    text = (
        "images:\n- from: debian:12\n  external:\n"
        f"  - {{src: 'https://x/y.tar.gz', dst: /tmp, sha256: {SHA}}}\n"
    )
    (warning,) = gateway.build(MOCKERFILE, text).warnings
    assert warning.short.startswith("ArchiveIntoFolder: `/tmp` is a folder of the image")


def test_commands_of_a_download_find_curl(gateway: FakeGateway) -> None:
    text = YAML.replace("chmod +x a", "curl -o b https://example.org/b")
    gateway.build(MOCKERFILE, text).assert_runs("apk add --no-cache curl", "*curl -o b *")
    assert "apk add --no-cache curl" not in gateway.build(MOCKERFILE, YAML).runs()
