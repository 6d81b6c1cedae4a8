"""`Document`: one checked file with what it declares: arguments, templates, contexts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field

from torana.core.records import dataclass
from torana.frontends.kit.diagnostics import SourceFile
from torana.frontends.kit.yamltree import Entry, Items, Mark, Node, Scalar, Table
from torana.frontends.yaml import fields
from torana.frontends.yaml.arguments import Declaration, read_declarations
from torana.frontends.yaml.loader import load


@dataclass(frozen=True, slots=True)
class Template:
    """Named steps with inputs."""

    name: str
    mark: Mark
    inputs: Mapping[str, Declaration]
    steps: Items
    description: str = ""


@dataclass(frozen=True, slots=True)
class ContextDeclaration:
    """A named context; without `image` and `git` whoever builds must give it."""

    name: str
    mark: Mark
    description: str = ""
    image: str = ""
    git: str = ""
    ref: str = ""
    commit: str = ""


@dataclass(frozen=True, slots=True)
class SecretDeclaration:
    name: str
    mark: Mark
    description: str = ""
    is_required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class IncludeDeclaration:
    """A file to be included; exactly one of `path`, `git` (with `path`), `url` and `package`."""

    alias: str
    mark: Mark
    path: str = ""
    git: str = ""
    commit: str = ""
    url: str = ""
    sha256: str = ""
    package: str = ""

    @property
    def key(self) -> str:
        """What it is called in a lock file."""
        if self.git:
            return f"git {self.git} {self.path}"
        return (
            f"url {self.url}"
            if self.url
            else f"package {self.package}"
            if self.package
            else self.path
        )


@dataclass(slots=True, eq=False)
class Document:
    """A file; `prefix` stands before the names of its stages, and is empty for the main file."""

    file: SourceFile
    root: Table
    prefix: str = ""
    arguments: Mapping[str, Declaration] = field(default_factory=dict)
    templates: Mapping[str, Template] = field(default_factory=dict)
    secrets: Mapping[str, SecretDeclaration] | None = None
    contexts: Mapping[str, ContextDeclaration] = field(default_factory=dict)
    includes: dict[str, Document] = field(default_factory=dict)  # by alias; filled by `includes`
    packs: dict[str, Document] = field(default_factory=dict)  # step packs that steps name

    def all(self) -> Iterator[Document]:
        """Give this file and all that it includes."""
        yield self
        for included in self.includes.values():
            yield from included.all()

    @property
    def stages(self) -> Mapping[str, Entry]:
        node = self.root.get("stages")
        return node.entries if isinstance(node, Table) else {}


def read_document(file: SourceFile, prefix: str = "") -> Document:
    """Load and check a file.

    Raises:
        BuildFileError: it is wrong; located.
    """
    root = load(file)
    from torana.frontends.yaml.validation import validate  # imports jsonschema

    validate(root)
    return Document(
        file,
        root,
        prefix,
        arguments=read_declarations(root.get("args")),
        templates=_templates(root.get("templates")),
        secrets=_secrets(root),
        contexts=_contexts(root.get("contexts")),
    )


def _entries(node: Node | None) -> Mapping[str, Entry]:
    return node.entries if isinstance(node, Table) else {}


def _templates(node: Node | None) -> dict[str, Template]:
    found = {}
    for name, entry in _entries(node).items():
        assert isinstance(entry.node, Table)
        steps = entry.node.get("steps")
        assert isinstance(steps, Items)
        inputs = read_declarations(entry.node.get("inputs"))
        about = fields.text(entry.node.get("description"))
        found[name] = Template(name, entry.key.mark, inputs, steps, about)
    return found


def _secrets(root: Table) -> dict[str, SecretDeclaration] | None:
    if "secrets" not in root:
        return None
    found = {}
    for name, entry in _entries(root.get("secrets")).items():
        node = fields.table(entry.node) or Table({}, entry.node.mark)
        found[name] = SecretDeclaration(
            name,
            entry.key.mark,
            fields.text(node.get("description")),
            fields.flag(node.get("required"), True),
        )
    return found


def _contexts(node: Node | None) -> dict[str, ContextDeclaration]:
    found = {}
    for name, entry in _entries(node).items():
        each = fields.table(entry.node) or Table({}, entry.node.mark)
        values = {
            key: fields.text(each.get(key))
            for key in ("description", "image", "git", "ref", "commit")
        }
        if values["image"] and values["git"]:
            raise each.key("git").error("`image` and `git` exclude each other")
        found[name] = ContextDeclaration(name, entry.key.mark, **values)
    return found


def read_includes(document: Document) -> list[IncludeDeclaration]:
    """Give what a file includes.

    Raises:
        BuildFileError: two have one name, or one has no name that stages could have; located.
    """
    node = document.root.get("include")
    found: dict[str, IncludeDeclaration] = {}
    for item in node if isinstance(node, Items) else ():
        each = _include(item)
        if each.alias in found:
            raise each.mark.error(
                f"two includes are called `{each.alias}`", hint="give one another name with `as`"
            )
        found[each.alias] = each
    return list(found.values())


def _include(node: Node) -> IncludeDeclaration:
    if isinstance(node, Scalar):
        return IncludeDeclaration(alias=_alias(node.text, node), mark=node.mark, path=node.text)
    assert isinstance(node, Table)
    values = {
        name: fields.text(node.get(name))
        for name in ("path", "git", "commit", "url", "sha256", "package")
    }
    named = fields.text(node.get("as"))
    source = values["path"] or values["url"] or values["package"]
    return IncludeDeclaration(alias=named or _alias(source, node), mark=node.mark, **values)


def _alias(source: str, node: Node) -> str:
    """Derive a name from an address: `ci/common.build.yaml` is `common`."""
    import re

    name = source.split("?", 1)[0].rstrip("/").rpartition("/")[2]
    for suffix in (".yaml", ".yml", ".build"):
        name = name.removesuffix(suffix)
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise node.mark.error(
            f"the include needs a name: `{name}` cannot be one", hint="`as: NAME`"
        )
    return name
