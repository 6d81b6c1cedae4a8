"""`select`: what serves a `# syntax=` line, by the metadata of what is installed.

In this order:

1. `NAME`, `DISTRIBUTION:NAME`, either with `==VERSION`: an installed frontend;
2. `./path.py:object`: a frontend in a file of the project, with the user's consent;
3. `pypi:DISTRIBUTION==VERSION`: one from the lock file, with the user's consent;
4. an image that an installed frontend stands for, unless the syntax is strict or a digest is given;
5. any other image.

`--syntax` and `BUILDKIT_SYNTAX` come before the line; they are read by the same rules.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field
from pathlib import Path
from typing import Final

from torana.core.errors import ConflictError, NotFoundError, UserError
from torana.core.oci.reference import ImageReference, InvalidReferenceError, parse_reference
from torana.core.records import dataclass
from torana.plugins.installed import FoundFrontend
from torana.plugins.rules import CONSENT_VARIABLE, LOCAL, PYPI, normal

_NAME: Final = re.compile(
    r"(?:(?P<dist>[A-Za-z0-9][\w.-]*):)?(?P<name>[A-Za-z0-9][\w.-]*)(?:==(?P<version>[\w.!+-]+))?"
)
_LOCAL: Final = re.compile(r"(?P<path>\.{0,2}/.*\.py):(?P<object>[A-Za-z_][\w.]*)")
_PYPI: Final = re.compile(r"pypi:(?P<dist>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.!+-]+)")


class FrontendNotAllowedError(UserError):
    """A frontend may not be run here."""

    code = "FRONTEND_NOT_ALLOWED"


class FrontendConflictError(ConflictError):
    """Several distributions offer the same."""

    code = "FRONTEND_CONFLICT"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendRules:
    """What the user, and the project's `torana.toml`, allow a syntax line to name.

    `consents` are kinds of frontends that nobody installed, `local` and `pypi`: only a user gives
    them, never a file of the project. `allowed` are names, `pypi:DIST` and repositories of images,
    with wildcards; None allows all. Paths of local frontends are relative to `folder`.
    """

    is_strict: bool = False
    consents: frozenset[str] = frozenset()
    allowed: tuple[str, ...] | None = None
    folder: Path | None = None
    lock: Path | None = None  # torana.lock
    environments: Path | None = None  # folder of those that are made from it

    def check(self, *names: str) -> None:
        """Compare the names of a frontend with those that the project allows.

        Raises:
            FrontendNotAllowedError: it is none of them.
        """
        if self.allowed is None:
            return
        if not any(fnmatch.fnmatchcase(name, each) for name in names for each in self.allowed):
            known = ", ".join(f"`{each}`" for each in self.allowed) or "none"
            raise FrontendNotAllowedError(
                f"the project does not allow this frontend: `{names[0]}`",
                hint=f"torana.toml allows {known}",
            )


@dataclass(frozen=True, slots=True)
class InstalledChoice:
    """An installed frontend; `alias` is the image that it stands for, None if it was named."""

    frontend: FoundFrontend
    alias: ImageReference | None = None


@dataclass(frozen=True, slots=True)
class LocalChoice:
    """An object in a Python file."""

    path: Path
    attribute: str


@dataclass(frozen=True, slots=True)
class PackagedChoice:
    """A distribution of the lock file."""

    distribution: str
    version: str


@dataclass(frozen=True, slots=True)
class ImageChoice:
    """An image to be run; `hint` is for when there is none of that name."""

    reference: ImageReference
    hint: str | None = field(default=None, compare=False)


Choice = InstalledChoice | LocalChoice | PackagedChoice | ImageChoice


def select(
    syntax: str,
    rules: FrontendRules,
    find: Callable[[], Sequence[FoundFrontend]],
    reserved: Callable[[str], FoundFrontend | None] = lambda _: None,
) -> Choice:
    """Give what serves `syntax`, the first word of a syntax line.

    Args:
        syntax: the word.
        rules: what is allowed.
        find: gives installed frontends; asked only where that matters.
        reserved: gives the built-in frontend for a repository of images that no other can have.

    Raises:
        UserError: it is nothing of all that, or not allowed.
        NotFoundError: an installed frontend has another version.
        FrontendConflictError: two distributions offer it.
    """
    if match := _PYPI.fullmatch(syntax):
        return _packaged(match["dist"], match["version"], rules)
    if _LOCAL.fullmatch(syntax):
        return _local(syntax, rules)
    if syntax.startswith((f"{PYPI}:", "./", "../", "/")):
        raise UserError(
            f"invalid syntax: `{syntax}`",
            hint="it is `pypi:DISTRIBUTION==VERSION`, or `./path.py:object`",
        )
    match = _NAME.fullmatch(syntax)
    if match is not None:
        named = find_named(match["name"], match["dist"] or "", match["version"] or "", find())
        if named is not None:
            rules.check(named.name, named.qualified_name)
            return InstalledChoice(named)
    if "==" in syntax:
        raise _missing(syntax, find())
    try:
        reference = parse_reference(syntax).with_default_tag()
    except InvalidReferenceError as err:
        raise UserError(
            f"no frontend and no image: `{syntax}`", hint=_known(syntax, find()) or err.hint
        ) from err
    return _image(reference, syntax, rules, find, reserved)


def local_choice(text: str, folder: Path = Path("/")) -> LocalChoice | None:
    """Read `PATH.py:OBJECT`, relative to `folder`; None if it is something else."""
    match = _LOCAL.fullmatch(text)
    return match and LocalChoice((folder / match["path"]).resolve(), match["object"])


def find_named(
    name: str, distribution: str, version: str, frontends: Iterable[FoundFrontend]
) -> FoundFrontend | None:
    """Give the frontend of that name; empty `distribution` and `version` mean any.

    Raises:
        FrontendConflictError: two distributions offer it.
        NotFoundError: it is installed in another version.
    """
    offered = [
        each
        for each in frontends
        if each.name == name
        and (not distribution or normal(each.distribution) == normal(distribution))
    ]
    found = _only(f"frontend `{name}`", offered)
    if found is None:
        return None
    if version and version != found.version:
        raise NotFoundError(
            f"frontend `{name}` is installed in version {found.version}, not {version}",
            hint=f"pip install {found.distribution}=={version}, "
            f"or use `pypi:{found.distribution}=={version}`",
        )
    return found


def only_name(distribution: str, frontends: Iterable[FoundFrontend]) -> str:
    """Give the name of the one frontend that a distribution has.

    Raises:
        NotFoundError: it has none, or several.
    """
    names = [e.name for e in frontends if normal(e.distribution) == normal(distribution)]
    if len(names) != 1:
        listed = ", ".join(f"`{name}`" for name in names) or "none"
        raise NotFoundError(
            f"distribution `{distribution}` does not have one frontend", hint=f"it has {listed}"
        )
    return names[0]


def by_file(filename: str, frontends: Iterable[FoundFrontend]) -> FoundFrontend | None:
    """Give the frontend whose patterns match the name of a build file.

    Raises:
        FrontendConflictError: two do.
    """
    offered = [
        each
        for each in frontends
        if any(fnmatch.fnmatchcase(filename, pattern) for pattern in each.manifest.files)
        and not each.problem
    ]
    return _only(f"build file `{filename}`", offered)


def conflicts(frontends: Iterable[FoundFrontend]) -> Iterator[tuple[str, list[FoundFrontend]]]:
    """Give what more than one frontend offers, and those that do."""
    offered: dict[str, list[FoundFrontend]] = {}
    for each in frontends:
        if not each.problem:
            offers = [f"frontend `{each.name}`"]
            offers += [f"image `{alias}`" for alias in each.manifest.aliases]
            offers += [f"build files `{pattern}`" for pattern in each.manifest.files]
            for offer in dict.fromkeys(offers):
                offered.setdefault(offer, []).append(each)
    yield from ((offer, found) for offer, found in offered.items() if len(found) > 1)


def stands_for(alias: str, reference: ImageReference) -> bool:
    """Say whether an alias of a manifest means an image; without a tag it means all tags."""
    try:
        parsed = parse_reference(alias)
    except InvalidReferenceError:
        return False
    return parsed.name == reference.name and parsed.tag in ("", reference.tag)


def unknown_name(name: str, frontends: Sequence[FoundFrontend]) -> NotFoundError:
    """Make the error for a name that nobody offers."""
    names = [each.name for each in frontends]
    known = ", ".join(
        f"`{each.name if names.count(each.name) == 1 else each.qualified_name}`"
        for each in frontends
    )
    hint = _known(name, frontends)
    return NotFoundError(
        f"no such frontend: `{name}`",
        hint=f"{hint}; installed: {known}" if hint else f"installed: {known}",
    )


def _packaged(distribution: str, version: str, rules: FrontendRules) -> PackagedChoice:
    rules.check(f"{PYPI}:{distribution}", f"{PYPI}:{distribution}=={version}")
    _need(PYPI, f"`{PYPI}:{distribution}=={version}`", rules)
    return PackagedChoice(distribution, version)


def _local(syntax: str, rules: FrontendRules) -> LocalChoice:
    path = syntax.rpartition(":")[0]
    rules.check(LOCAL, path)
    _need(LOCAL, f"`{path}`", rules)
    if rules.folder is None:
        raise UserError(f"there is no folder that a frontend could be in: `{path}`")
    choice = local_choice(syntax, rules.folder)
    assert choice is not None  # it has been matched
    return choice


def _need(kind: str, what: str, rules: FrontendRules) -> None:
    if kind not in rules.consents:
        raise FrontendNotAllowedError(
            f"the build file wants to run a frontend that is not installed: {what}",
            hint=f"if you trust it: --allow-frontend {kind}, or {CONSENT_VARIABLE}={kind}",
        )


def _image(
    reference: ImageReference,
    syntax: str,
    rules: FrontendRules,
    find: Callable[[], Sequence[FoundFrontend]],
    reserved: Callable[[str], FoundFrontend | None],
) -> Choice:
    # Who names a digest wants these very bytes.
    if not rules.is_strict and reference.digest is None:
        found = reserved(reference.name)
        if found is None:
            offered = [
                each
                for each in find()
                if any(stands_for(alias, reference) for alias in each.manifest.aliases)
            ]
            found = _only(f"image `{reference.familiar()}`", offered)
        if found is not None:
            rules.check(found.name, found.qualified_name)
            return InstalledChoice(found, reference)
    rules.check(reference.name, _short(reference))
    hint = _known(syntax, find()) if _NAME.fullmatch(syntax) else None
    return ImageChoice(reference, hint or None)


def _short(reference: ImageReference) -> str:
    return reference.familiar().partition("@")[0].removesuffix(f":{reference.tag}")


def _only(what: str, offered: Sequence[FoundFrontend]) -> FoundFrontend | None:
    """Give the one of several that can be used; if none can, one that says why."""
    usable = [each for each in offered if not each.problem]
    if len(usable) < 2:
        return next(iter(usable or offered), None)
    offered = usable
    listed = ", ".join(f"{each.distribution} {each.version}".strip() for each in offered)
    names = " or ".join(f"`{each.qualified_name}`" for each in offered)
    raise FrontendConflictError(
        f"{what} is offered by several distributions: {listed}", hint=f"name one of them: {names}"
    )


def _missing(syntax: str, frontends: Sequence[FoundFrontend]) -> NotFoundError:
    return unknown_name(syntax.partition("==")[0], frontends)


def _known(syntax: str, frontends: Sequence[FoundFrontend]) -> str:
    import difflib

    name = syntax.rpartition(":")[2] if "==" not in syntax else syntax.partition("==")[0]
    close = difflib.get_close_matches(name, [each.name for each in frontends], n=1)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"no installed frontend is called `{syntax}`"
