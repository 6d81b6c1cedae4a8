"""COPY, ADD and WORKDIR: what they put into a stage's tree."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from torana.core.errors import BuildFileError
from torana.frontends.dockerfile import lint, paths
from torana.frontends.dockerfile.actions import (
    Copy,
    CopySource,
    GitSource,
    HttpSource,
    InlineSource,
    LocalSource,
    MakeDirectory,
)
from torana.frontends.dockerfile.checks import parse_mode, parse_owner
from torana.frontends.dockerfile.evaluation import Evaluation
from torana.frontends.dockerfile.heredoc import Heredoc
from torana.frontends.dockerfile.instructions import Add, Workdir
from torana.frontends.dockerfile.instructions import Copy as CopyInstruction
from torana.frontends.dockerfile.quoting import go_quote
from torana.frontends.dockerfile.stage import Stage
from torana.frontends.kit.gitref import GitRef, parse_git_ref

_WILDCARD: Final = re.compile(r"(?:[^\\]|\\.)*?[*?\[]", re.S)
_CHECKSUM: Final = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[A-Za-z0-9=_-]+")
_DIGEST_LENGTHS: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX: Final = re.compile(r"[0-9a-f]*")
_UNNAMED: Final = "__unnamed__"
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9a-fA-F]{2})")
_EVERYTHING: Final = frozenset(("*", "**", "**/*"))


def copy(ev: Evaluation, instruction: CopyInstruction) -> None:
    origin = ev.step.sources[0] if ev.step.sources else None
    _transfer(ev, instruction, origin, checksum="")


def add(ev: Evaluation, instruction: Add) -> None:
    _transfer(ev, instruction, None, checksum=instruction.checksum)


def workdir(ev: Evaluation, instruction: Workdir) -> None:
    stage, system = ev.stage, ev.stage.system
    path = ev.expand(instruction.path)
    if not stage.is_work_dir_set and not paths.is_absolute(path, system):
        ev.report(
            lint.WORKDIR_RELATIVE_PATH,
            f"Relative workdir {go_quote(path)} can have unexpected results if the base image "
            "changes",
        )
    stage.is_work_dir_set = True
    stage.work_dir = paths.work_dir(stage.work_dir, path, system)
    ev.image.config["WorkingDir"] = paths.stored_work_dir(stage.work_dir, system)
    makes = stage.work_dir != "/"
    if makes:
        epoch = ev.settings.epoch
        ev.act(
            MakeDirectory(
                ev.describe(ev.expanded_name(), stage.platform, ignores_cache=False),
                paths.clean(stage.work_dir),
                parse_owner(ev.image.config.get("User") or ""),
                None if epoch is None else epoch * 1_000_000_000,
            )
        )
        stage.tree_platform = stage.platform.normalized() if stage.platform else None
    ev.history(f"WORKDIR {stage.work_dir}", layer=makes)


def _transfer(
    ev: Evaluation, instruction: CopyInstruction | Add, origin: Stage | None, checksum: str
) -> None:
    owner_text, mode_text = ev.expand(instruction.chown), ev.expand(instruction.chmod)
    checksum = ev.expand(checksum)
    texts = [ev.expand(text) for text in instruction.sources]
    given = ev.expand(instruction.destination)
    documents = [_document(ev, heredoc) for heredoc in instruction.heredocs]
    if origin is not None and not origin.is_evaluated:
        assert isinstance(instruction, CopyInstruction)
        raise BuildFileError(
            f'cannot copy from stage "{instruction.origin}", it needs to be defined before '
            f'current stage "{ev.stage.label}"'
        )
    destination = paths.destination(ev.stage.work_dir, given, ev.stage.system)
    mode = parse_mode(mode_text) if mode_text else None
    is_add = isinstance(instruction, Add)
    if checksum:
        _check_checksum_use(texts)
    read = [_source(ev, instruction, text, origin, checksum) for text in texts]
    merges = instruction.link and mode is None and "mergeop" in ev.settings.caps
    ev.act(
        Copy(
            step=ev.describe(ev.expanded_name(), ev.stage.platform),
            sources=(*read, *documents),
            destination=destination,
            owner=parse_owner(owner_text),
            mode=mode,
            exclude=tuple(instruction.exclude),
            is_link=merges,
        )
    )
    _mark_used(ev, texts, origin, is_add=is_add)
    shown = ["ADD" if is_add else "COPY"]
    if isinstance(instruction, CopyInstruction) and instruction.parents:
        shown.append("--parents")
    shown += [f"--chown={owner_text}"] if owner_text else []
    shown += [f"--chmod={mode_text}"] if mode_text else []
    names = (f"<<{document.name}" for document in documents)
    ev.history(" ".join((*shown, *texts, *names, given, "# buildkit")), layer=True)


def _document(ev: Evaluation, heredoc: Heredoc) -> InlineSource:
    text = heredoc.chomped
    if heredoc.expand:
        text = ev.expand_body(text)
    return InlineSource(heredoc.name, text.encode("utf-8", "surrogateescape"))


def _source(
    ev: Evaluation,
    instruction: CopyInstruction | Add,
    text: str,
    origin: Stage | None,
    checksum: str,
) -> CopySource:
    ref, system = _git_ref(text), ev.stage.system
    if isinstance(instruction, CopyInstruction):
        if ref is not None:
            raise BuildFileError("source can't be a git ref for COPY")
        if _is_url(text):
            raise BuildFileError("source can't be a URL for COPY")
        if origin is None:
            _report_ignored(ev, "Copy", text)
        if instruction.parents:
            return _with_parents(text, origin, system)
        return LocalSource(stage=origin, path=paths.source(text, system))
    if ref is not None:
        return _git(instruction, ref, text, checksum)
    if _is_url(text):
        check_digest(checksum)
        return HttpSource(text, download_name(text), checksum, bool(instruction.unpack))
    _report_ignored(ev, "Add", text)
    unpacks = instruction.unpack is not False
    return LocalSource(stage=None, path=paths.source(text, system), unpacks=unpacks)


def _git_ref(text: str) -> GitRef | None:
    """Read a git address; the bare `github.com/...` is a path here."""
    ref = parse_git_ref(text)
    return None if ref is None or ref.is_like_local else ref


def _git(instruction: Add, ref: GitRef, text: str, checksum: str) -> GitSource:
    keeps = instruction.keep_git_dir
    if keeps is not None and ref.keep_git_dir is not None and ref.keep_git_dir != keeps:
        raise BuildFileError("inconsistent keep-git-dir configuration")
    if checksum and ref.checksum and ref.checksum != checksum:
        raise BuildFileError(f'checksum mismatch "{checksum}" != "{ref.checksum}"')
    return GitSource(ref, text, keeps, checksum)


def _with_parents(text: str, origin: Stage | None, system: str) -> LocalSource:
    root, pivot, rest = text.partition("/./")
    if not pivot:
        root, rest = "", text
    path = paths.source(root, system)
    pattern = rest if paths.is_absolute(rest, system) else paths.source(rest, system)
    has_wildcards = _WILDCARD.match(root) or _WILDCARD.match(pattern)
    required = () if has_wildcards else (paths.join("/", root, pattern),)
    pattern = pattern.removeprefix("/")
    return LocalSource(stage=origin, path=path, include=(pattern,), required=required)


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def download_name(url: str) -> str:
    """Give the name of the file that an address is saved as."""
    path = re.split(r"[?#]", url.partition("://")[2], maxsplit=1)[0].partition("/")[2]
    if _BAD_ESCAPE.search(path):
        return _UNNAMED
    if "%" in path:
        from urllib.parse import unquote

        path = unquote(path)
    name = paths.base(f"/{path}")
    return _UNNAMED if name in (".", "/") else name


def _check_checksum_use(texts: Sequence[str]) -> None:
    if len(texts) != 1:
        raise BuildFileError("checksum can't be specified for multiple sources")
    if not _is_url(texts[0]) and parse_git_ref(texts[0]) is None:
        raise BuildFileError("checksum requires HTTP(S) or Git sources")


def check_digest(text: str) -> None:
    """Refuse a checksum that is none; the empty one is.

    Raises:
        BuildFileError: unknown algorithm, or wrong form.
    """
    if not text:
        return
    if not _CHECKSUM.fullmatch(text):
        raise BuildFileError("invalid checksum digest format")
    algorithm, _, encoded = text.partition(":")
    if algorithm not in _DIGEST_LENGTHS:
        raise BuildFileError("unsupported digest algorithm")
    if len(encoded) != _DIGEST_LENGTHS[algorithm]:
        raise BuildFileError("invalid checksum digest length")
    if not _HEX.fullmatch(encoded):
        raise BuildFileError("invalid checksum digest format")


def _mark_used(ev: Evaluation, texts: Iterable[str], origin: Stage | None, *, is_add: bool) -> None:
    used = ev.settings.used if origin is None else origin.used
    for text in texts:
        if not (is_add and _is_url(text)):
            used.add(paths.rooted(text))


def _report_ignored(ev: Evaluation, word: str, text: str) -> None:
    ignored = ev.settings.ignored
    if ignored is None:
        return
    path = paths.clean(text)
    if path in (".", "/") and not _EVERYTHING & set(ev.settings.ignore_patterns):
        return
    if ignored.matches(path):
        ev.report(
            lint.COPY_IGNORED_FILE,
            f"Attempting to {word} file {go_quote(path)} that is excluded by .dockerignore",
        )
