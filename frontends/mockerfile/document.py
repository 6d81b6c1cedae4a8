"""Mockerfiles as YAML: `apiVersion: v1alpha1` as the original reads it, and `v1alpha2`.

`v1alpha2` has the same keys, and those mean something that the original only declares: `parent`,
`workdir` and `steps`.

Spec: Mockerfile reference, "Schema: every key".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from torana.frontends.kit.tree import Place
from torana.frontends.kit.yamlnode import YamlNode
from torana.frontends.mockerfile.model import (
    Download,
    Key,
    Mockerfile,
    MockImage,
    Packages,
    Remark,
    Repository,
    Run,
    Step,
    Text,
    Workdir,
)

ORIGINAL: Final = "v1alpha1"
NEWER: Final = "v1alpha2"
_TOP: Final = ("syntax", "apiVersion", "images")
_IMAGE: Final = ("name", "from", "package", "external", "parent", "workdir", "steps", "output")
_PACKAGE: Final = ("repo", "gpg", "install")
_EXTERNAL: Final = ("src", "dst", "sha256", "install")
_UNUSED: Final[Mapping[str, tuple[str, ...]]] = {
    ORIGINAL: ("parent", "workdir", "steps", "output"),
    NEWER: ("output",),
}
_ARCHIVE: Final = ".tar.gz"


def read_document(whole: Place) -> Mockerfile:
    """Read a YAML document.

    Raises:
        BuildFileError: it is not YAML, or not of this schema.
    """
    document = YamlNode.parse(whole)
    top = document.fields(_TOP, "the file")
    version = ORIGINAL
    if "apiVersion" in top:
        version = top["apiVersion"].text("apiVersion")
        if version not in _UNUSED:
            top["apiVersion"].refuse(f"unknown apiVersion: `{version}`")
    listed = top.get("images", document)
    if "images" not in top or not listed.items("images"):
        listed.refuse("there is no image: `images` is empty")
    remarks: list[Remark] = []
    images = [
        _image(node, number, version, remarks)
        for number, node in enumerate(listed.items("images"), 1)
    ]
    return Mockerfile(images=images, is_original=version == ORIGINAL, remarks=tuple(remarks))


def _image(node: YamlNode, number: int, version: str, remarks: list[Remark]) -> MockImage:
    fields = node.fields(_IMAGE, "an image")
    for key in _UNUSED[version]:
        if key in fields:
            hint = f", but does in {NEWER}" if key not in _UNUSED[NEWER] else ""
            message = f"`{key}` does nothing in {version}{hint}"
            remarks.append(Remark(rule="UnusedKey", message=message, place=fields[key].place))
            del fields[key]
    base = fields.get("from", fields.get("parent"))
    if base is None:
        node.refuse("an image has no `from`")
    if "from" in fields and "parent" in fields:
        fields["parent"].refuse("an image has `from` and `parent`")
    name = fields["name"].text("name") if "name" in fields else f"image-{number}"
    return MockImage(
        name=name,
        base=_text(base, "from"),
        steps=tuple(_steps(fields, is_original=version == ORIGINAL)),
        place=node.place,
        has_packages="package" in fields,
    )


def _steps(fields: Mapping[str, YamlNode], *, is_original: bool) -> Iterator[Step]:
    if "package" in fields:
        package = fields["package"]
        lists = {} if package.is_empty else package.fields(_PACKAGE, "`package`")
        for line in _texts(lists["repo"], "repo") if "repo" in lists else ():
            yield Repository(line=line)
        for url in _texts(lists["gpg"], "gpg") if "gpg" in lists else ():
            yield Key(url=url)
        if "install" in lists and (names := _texts(lists["install"], "install")):
            yield Packages(names=names, place=lists["install"].place)
    for node in fields["external"].items("external") if "external" in fields else ():
        yield _download(node)
    if "workdir" in fields:
        yield Workdir(path=_text(fields["workdir"], "workdir"))
    for command in _texts(fields["steps"], "steps") if "steps" in fields else ():
        yield Run(command=command)


def _download(node: YamlNode) -> Download:
    fields = node.fields(_EXTERNAL, "an external file")
    for key in ("src", "dst"):
        if key not in fields:
            node.refuse(f"an external file has no `{key}`")
    url = _text(fields["src"], "src")
    sha256 = _text(fields["sha256"], "sha256") if "sha256" in fields else None
    return Download(
        url=url,
        dest=_absolute(_text(fields["dst"], "dst")),
        place=node.place,
        is_archive=url.value.endswith(_ARCHIVE),
        sha256=sha256,
        install=_texts(fields["install"], "install") if "install" in fields else (),
    )


def _absolute(path: Text) -> Text:
    if not path.value.startswith("/"):
        raise path.place.error(f"`dst` is not absolute: `{path.value}`")
    return path


def _text(node: YamlNode, what: str) -> Text:
    return Text(node.text(what), node.place)


def _texts(node: YamlNode, what: str) -> Sequence[Text]:
    return [_text(item, f"an item of {what}") for item in node.items(what)]
