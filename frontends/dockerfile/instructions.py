"""The instructions of a Dockerfile as checked values, and `check`, which makes them from nodes.

Checked here is what can be known without expanding anything: argument counts, flags, forms.

Spec: instructions reference; syntax reference, sections 8 to 10. One module, since the classes and
their readers are read side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any, Final

from torana.core.errors import BuildFileError, SourceRange
from torana.core.records import dataclass
from torana.frontends.dockerfile.devices import Device, parse_device
from torana.frontends.dockerfile.durations import parse_duration
from torana.frontends.dockerfile.expansion import ExpansionError
from torana.frontends.dockerfile.flags import FlagKind, Flags, parse_flags
from torana.frontends.dockerfile.heredoc import Heredoc, parse_heredoc
from torana.frontends.dockerfile.mounts import check_mount_from
from torana.frontends.dockerfile.parser import Node
from torana.frontends.dockerfile.quoting import go_quote
from torana.frontends.dockerfile.spaces import SPACES
from torana.frontends.kit.suggest import suggest
from torana.frontends.kit.values import parse_int

_MIN_DURATION_NS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """What all instructions have: the word and the text as written, and where."""

    word: str
    original: str
    ranges: tuple[SourceRange, ...] = ()
    comments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A pair of ENV or LABEL; `is_legacy`: written without `=`."""

    key: str
    value: str
    is_legacy: bool = False


@dataclass(frozen=True, slots=True)
class ArgName:
    """One argument of ARG; `value` None: no default."""

    name: str
    value: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    args: tuple[ArgName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    """`name` is in lower case, empty for an unnamed stage; `as_word` as written."""

    base: str
    name: str = ""
    written_name: str = ""
    as_word: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Instruction):
    """`args` of a shell form is the one text, or nothing."""

    args: tuple[str, ...]
    is_shell: bool
    heredocs: tuple[Heredoc, ...] = ()
    mounts: tuple[str, ...] = ()  # values of --mount, not expanded
    network: str = ""
    security: str = ""
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Instruction):
    """What COPY and ADD share; heredocs come after the other sources."""

    sources: tuple[str, ...]
    destination: str
    heredocs: tuple[Heredoc, ...] = ()
    chown: str = ""
    chmod: str = ""
    link: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Transfer):
    origin: str = ""  # --from
    parents: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Transfer):
    checksum: str = ""
    keep_git_dir: bool | None = None
    unpack: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Instruction):
    pairs: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Instruction):
    pairs: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Instruction):
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Instruction):
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(Instruction):
    args: tuple[str, ...]
    is_shell: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(Instruction):
    args: tuple[str, ...]
    is_shell: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Instruction):
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Instruction):
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Instruction):
    args: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSignal(Instruction):
    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck(Instruction):
    test: tuple[str, ...]
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer(Instruction):
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Onbuild(Instruction):
    """`expression` is the trigger's text with its heredocs."""

    expression: str


@dataclass(frozen=True, slots=True)
class StageText:
    """A FROM with the instructions behind it."""

    head: From
    body: list[Instruction] = field(default_factory=list)


def read_instruction(node: Node, filename: str) -> Instruction:
    """Check one instruction.

    Raises:
        BuildFileError: what is wrong with it; without prefix and place.
    """
    reader = _READERS.get(node.name)
    if reader is None:
        near = suggest(node.word, _READERS, ignore_case=True)
        hint = ""
        if near is not None:
            hint = f" (did you mean {near.upper() if node.word.isupper() else near}?)"
        raise BuildFileError(f"unknown instruction: {node.word}{hint}")
    return reader(
        node,
        {
            "word": node.word,
            "original": node.original.strip(SPACES),
            "ranges": node.ranges(filename),
            "comments": node.comments,
        },
    )


Common = dict[str, Any]
Reader = Callable[[Node, Common], Instruction]


def _flags(node: Node, **known: FlagKind) -> Flags:
    return parse_flags(node.flags, {name.replace("_", "-"): kind for name, kind in known.items()})


def _some(node: Node) -> None:
    if not node.args:
        raise BuildFileError(f"{node.word.upper()} requires at least one argument")


def _one(node: Node) -> str:
    if len(node.args) != 1:
        raise BuildFileError(f"{node.word.upper()} requires exactly one argument")
    return node.args[0]


def _read_arg(node: Node, common: Common) -> Instruction:
    _some(node)
    args = []
    for text in node.args:
        name, equals, value = text.partition("=")
        if not name:
            raise BuildFileError("ARG names can not be blank")
        args.append(ArgName(name, value if equals else None))
    return Arg(**common, args=tuple(args))


def _read_from(node: Node, common: Common) -> Instruction:
    name = as_word = ""
    if len(node.args) == 3 and node.args[1].lower() == "as":
        as_word, name = node.args[1:]
        if not _is_stage_name(name.lower()):
            raise BuildFileError(
                f"invalid name for build stage: {go_quote(name)}, name can't start with a number "
                "or contain symbols"
            )
    elif len(node.args) != 1:
        raise BuildFileError("FROM requires either one or three arguments")
    flags = _flags(node, platform=FlagKind.TEXT)
    return From(
        **common,
        base=node.args[0],
        name=name.lower(),
        written_name=name,
        as_word=as_word,
        platform=flags.text("platform"),
    )


def _is_stage_name(name: str) -> bool:
    return (
        name.isascii()
        and name[:1].isalpha()
        and all(char.isalnum() or char in "-_." for char in name)
    )


def _read_run(node: Node, common: Common) -> Instruction:
    flags = _flags(
        node,
        mount=FlagKind.TEXTS,
        network=FlagKind.TEXT,
        security=FlagKind.TEXT,
        device=FlagKind.TEXTS,
    )
    devices = tuple(parse_device(value) for value in flags.list("device"))
    for mount in flags.list("mount"):
        if not mount:
            raise BuildFileError("failed to parse csv mounts: EOF")
        check_mount_from(mount)
    network, security = flags.text("network"), flags.text("security")
    if "network" in flags.texts and network not in ("default", "none", "host"):
        raise BuildFileError(f'invalid network mode "{network}"')
    if "security" in flags.texts and security not in ("sandbox", "insecure"):
        raise BuildFileError(f'security "{security}" is not valid')
    return Run(
        **common,
        args=node.args,
        is_shell=not node.is_array,
        heredocs=node.heredocs,
        mounts=flags.list("mount"),
        network=network,
        security=security,
        devices=devices,
    )


_TRANSFER_FLAGS: Final = {
    "chown": FlagKind.TEXT,
    "chmod": FlagKind.TEXT,
    "link": FlagKind.BOOLEAN,
    "exclude": FlagKind.TEXTS,
}


def _read_copy(node: Node, common: Common) -> Instruction:
    _check_transfer(node)
    extra = {"from": FlagKind.TEXT, "parents": FlagKind.BOOLEAN}
    flags = parse_flags(node.flags, {**extra, **_TRANSFER_FLAGS})
    return Copy(
        **common,
        **_transfer(node, flags),
        origin=flags.text("from"),
        parents=flags.boolean("parents") or False,
    )


def _read_add(node: Node, common: Common) -> Instruction:
    _check_transfer(node)
    extra = {
        "keep-git-dir": FlagKind.BOOLEAN,
        "checksum": FlagKind.TEXT,
        "unpack": FlagKind.BOOLEAN,
    }
    flags = parse_flags(node.flags, {**extra, **_TRANSFER_FLAGS})
    return Add(
        **common,
        **_transfer(node, flags),
        checksum=flags.text("checksum"),
        keep_git_dir=flags.boolean("keep-git-dir"),
        unpack=flags.boolean("unpack"),
    )


def _check_transfer(node: Node) -> None:
    if len(node.args) < 2:
        raise BuildFileError(
            f"{node.word.upper()} requires at least two arguments, but only one was provided. "
            "Destination could not be determined"
        )


def _transfer(node: Node, flags: Flags) -> dict[str, Any]:
    by_name = {heredoc.name: heredoc for heredoc in node.heredocs}
    sources, heredocs = [], []
    for text in node.args[:-1]:
        found = _heredoc_word(text)
        if found is None:
            sources.append(text)
        else:  # an array has no bodies: its heredocs are empty
            heredocs.append(by_name.get(found.name, found))
    last = node.args[-1]
    if _heredoc_word(last) is not None:
        raise BuildFileError(f"{node.word.upper()} cannot accept a heredoc as a destination")
    return {
        "sources": tuple(sources),
        "destination": last,
        "heredocs": tuple(heredocs),
        "chown": flags.text("chown"),
        "chmod": flags.text("chmod"),
        "link": flags.boolean("link") or False,
        "exclude": flags.list("exclude"),
    }


def _heredoc_word(text: str) -> Heredoc | None:
    """Read a word of COPY or ADD; with broken quotes it is an ordinary source."""
    if "<<" not in text:
        return None
    try:
        return parse_heredoc(text)
    except ExpansionError:
        return None


def _pairs(node: Node) -> tuple[KeyValue, ...]:
    _flags(node)
    _some(node)
    pairs = []
    for index in range(0, len(node.args), 3):
        key, value, separator = node.args[index : index + 3]
        if not key:
            raise BuildFileError(f"{node.word.upper()} names can not be blank")
        pairs.append(KeyValue(key, value, is_legacy=not separator))
    return tuple(pairs)


def _read_env(node: Node, common: Common) -> Instruction:
    return Env(**common, pairs=_pairs(node))


def _read_label(node: Node, common: Common) -> Instruction:
    return Label(**common, pairs=_pairs(node))


def _read_workdir(node: Node, common: Common) -> Instruction:
    path = _one(node)
    _flags(node)
    return Workdir(**common, path=path)


def _read_user(node: Node, common: Common) -> Instruction:
    user = _one(node)
    _flags(node)
    return User(**common, user=user)


def _read_maintainer(node: Node, common: Common) -> Instruction:
    name = _one(node)
    _flags(node)
    return Maintainer(**common, name=name)


def _read_stop_signal(node: Node, common: Common) -> Instruction:
    return StopSignal(**common, signal=_one(node))


def _read_cmd(node: Node, common: Common) -> Instruction:
    _flags(node)
    return Cmd(**common, args=node.args, is_shell=not node.is_array)


def _read_entrypoint(node: Node, common: Common) -> Instruction:
    _flags(node)
    return Entrypoint(**common, args=node.args, is_shell=not node.is_array)


def _read_expose(node: Node, common: Common) -> Instruction:
    _some(node)
    _flags(node)
    return Expose(**common, ports=node.args)


def _read_volume(node: Node, common: Common) -> Instruction:
    _some(node)
    _flags(node)
    paths = tuple(path.strip(SPACES) for path in node.args)
    if not all(paths):
        raise BuildFileError("VOLUME specified can not be an empty string")
    return Volume(**common, paths=paths)


def _read_shell(node: Node, common: Common) -> Instruction:
    _flags(node)
    _some(node)
    if not node.is_array:
        raise BuildFileError("SHELL requires the arguments to be in JSON form")
    return Shell(**common, args=node.args)


def _read_healthcheck(node: Node, common: Common) -> Instruction:
    _some(node)
    kind, *args = node.args
    if kind.upper() == "NONE":
        if args:
            raise BuildFileError("HEALTHCHECK NONE takes no arguments")
        return Healthcheck(**common, test=("NONE",))
    flags = _flags(
        node,
        interval=FlagKind.TEXT,
        timeout=FlagKind.TEXT,
        start_period=FlagKind.TEXT,
        start_interval=FlagKind.TEXT,
        retries=FlagKind.TEXT,
    )
    if kind.upper() != "CMD":
        raise BuildFileError(f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)')
    if not args:
        raise BuildFileError("Missing command after HEALTHCHECK CMD")
    test = ("CMD", *args) if node.is_array else ("CMD-SHELL", *args)
    return Healthcheck(
        **common,
        test=test,
        interval_ns=_duration(flags, "interval"),
        timeout_ns=_duration(flags, "timeout"),
        start_period_ns=_duration(flags, "start-period"),
        start_interval_ns=_duration(flags, "start-interval"),
        retries=_retries(flags),
    )


def _duration(flags: Flags, name: str) -> int:
    text = flags.text(name)
    if not text:
        return 0
    try:
        duration = parse_duration(text)
    except ValueError as err:
        raise BuildFileError(str(err)) from err
    if duration != 0 and duration < _MIN_DURATION_NS:
        raise BuildFileError(f'Interval "{name}" cannot be less than 1ms')
    return duration


def _retries(flags: Flags) -> int:
    text = flags.text("retries")
    if not text:
        return 0
    try:
        retries = parse_int(text)
    except ValueError as err:
        raise BuildFileError(str(err)) from err
    if retries < 0:
        raise BuildFileError(f"--retries cannot be negative ({retries})")
    return retries


def _read_onbuild(node: Node, common: Common) -> Instruction:
    if node.child is None:
        raise BuildFileError("ONBUILD requires at least one argument")
    trigger = node.child.word.upper()
    if trigger == "ONBUILD":
        raise BuildFileError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise BuildFileError(f"{trigger} isn't allowed as an ONBUILD trigger")
    _flags(node)
    bodies = (f"\n{heredoc.content}{heredoc.name}" for heredoc in node.heredocs)
    return Onbuild(**common, expression="".join((node.child.original.strip(SPACES), *bodies)))


_READERS: Final[dict[str, Reader]] = {
    "add": _read_add,
    "arg": _read_arg,
    "cmd": _read_cmd,
    "copy": _read_copy,
    "entrypoint": _read_entrypoint,
    "env": _read_env,
    "expose": _read_expose,
    "from": _read_from,
    "healthcheck": _read_healthcheck,
    "label": _read_label,
    "maintainer": _read_maintainer,
    "onbuild": _read_onbuild,
    "run": _read_run,
    "shell": _read_shell,
    "stopsignal": _read_stop_signal,
    "user": _read_user,
    "volume": _read_volume,
    "workdir": _read_workdir,
}
