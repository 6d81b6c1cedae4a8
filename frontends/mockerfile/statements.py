"""Mockerfiles in our own form, as read by the grammar."""

from __future__ import annotations

import json
from typing import Final

from torana.frontends.kit.tree import Tree
from torana.frontends.mockerfile.model import (
    Command,
    CopyIn,
    Download,
    Env,
    Key,
    Mockerfile,
    MockImage,
    Packages,
    Repository,
    Run,
    Step,
    Text,
    Workdir,
)

_PREFIX: Final = len("sha256:")


def read_statements(tree: Tree) -> Mockerfile:
    """Give what the grammar's tree says."""
    return Mockerfile(images=[_image(image) for image in tree.all("image")], is_original=False)


def _image(tree: Tree) -> MockImage:
    head = ("NAME", "WORD")
    return MockImage(
        name=tree["NAME"].text,
        base=_text(tree["WORD"]),
        steps=tuple(_step(step) for step in tree.children if step.name not in head),
        place=tree["NAME"].place,
    )


def _step(tree: Tree) -> Step:
    match tree.name:
        case "repo":
            return Repository(line=_text(tree["REST"]))
        case "key":
            return Key(url=_text(tree["URL"]), sha256=_sha256(tree))
        case "packages":
            names = [_text(word) for word in tree.all("WORD")]
            return Packages(names=names, place=tree.place)
        case "file" | "archive":
            return Download(
                url=_text(tree["URL"]),
                dest=_text(tree["PATH"]),
                place=tree.place,
                is_archive=tree.name == "archive",
                sha256=_sha256(tree),
            )
        case "run":
            return Run(command=_text(tree["REST"]))
        case "copy":
            src, dest = tree.all("WORD")
            origin = tree.find("NAME")
            return CopyIn(
                src=_text(src),
                dest=_text(dest),
                origin=None if origin is None else _text(origin),
                place=tree.place,
            )
        case "env":
            return Env(name=tree["NAME"].text, value=tree["VALUE"].string, place=tree.place)
        case "workdir":
            return Workdir(path=_text(tree["WORD"]))
    return Command(words=_words(tree["REST"]), place=tree.place)


def _text(tree: Tree) -> Text:
    return Text(tree.string, tree.place)


def _sha256(tree: Tree) -> Text | None:
    found = tree.find("SHA256")
    return None if found is None else Text(found.text[_PREFIX:], found.place)


def _words(tree: Tree) -> list[str] | str:
    """Read a list of words as JSON; anything else is for the shell."""
    if not tree.text.startswith("["):
        return tree.text
    try:
        words = json.loads(tree.text)
    except ValueError as err:
        raise tree.error(f"not a list of texts: {tree.text}") from err
    if not words or not all(isinstance(word, str) for word in words):
        raise tree.error(f"not a list of texts: {tree.text}")
    return list(words)
