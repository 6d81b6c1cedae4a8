"""The build memo: the answer to a build whose inputs and outputs are as the last time.

A build that only read client folders, and whose outputs still lie where it put them, would do
nothing but look. The memo looks itself: it stats what the build read and wrote, and compares. A
changed stat proves nothing, so it only ever means "run the build for real"; an unchanged one means
that no byte changed, because files whose times are too young to tell are not remembered.

This module is on the path of every build: it imports only `os`, `sys`, `time`,
`_blake2`, and what imports no more.
"""

from __future__ import annotations

import os
import sys
from _blake2 import blake2b
from time import time_ns

from torana import __version__
from torana.core.rights import is_system_root

_FORMAT = b"torana-memo-1\n"
_SKIP = "TORANA_NO_MEMO"
_PACKAGES = ("site-packages", "dist-packages")
# Files changed this shortly before the look may change again within one tick of their clock.
RACY_NS = 20_000_000


class Answer:
    """What a build printed."""

    __slots__ = ("stderr", "stdout")

    def __init__(self, stdout: bytes, stderr: bytes) -> None:
        self.stdout = stdout
        self.stderr = stderr


class Watch:
    """A tree to look at: `root`, only `paths` below it (all if empty), without `pruned`.

    An output was written by the build itself, so that its youth is no reason for doubt.
    """

    __slots__ = ("is_output", "paths", "pruned", "root")

    def __init__(
        self,
        root: str,
        paths: tuple[str, ...] = (),
        pruned: frozenset[str] = frozenset(),
        *,
        is_output: bool = False,
    ) -> None:
        self.root = root
        self.paths = paths
        self.pruned = pruned
        self.is_output = is_output


def store_root() -> str:
    """Give the root of the store (design section 7)."""
    explicit = os.environ.get("TORANA_ROOT")
    if explicit:
        return os.path.abspath(explicit)
    data_home = os.environ.get("XDG_DATA_HOME")
    if data_home:
        return os.path.join(data_home, "torana")
    if is_system_root():
        return "/var/lib/torana"
    return os.path.join(os.path.expanduser("~"), ".local", "share", "torana")


def recall(argv: list[str]) -> Answer | None:
    """Give what the same command printed when it last ran, if it would do the same again."""
    if _SKIP in os.environ:
        return None
    try:
        with open(_path(argv), "rb") as file:
            parts = file.read().split(b"\0\0", 3)
        head, watched, stdout_size, rest = parts
        if head != _head():
            return None
        *lines, expected = watched.split(b"\n")
        fingerprint, newest = expected.decode().split()
        seen = look([_watch_from(line) for line in lines], newest_known=int(newest))
        if seen is None or seen[0] != fingerprint:
            return None
        middle = int(stdout_size)
        return Answer(rest[:middle], rest[middle:])
    except (OSError, ValueError, UnicodeError):
        return None


class Beginning:
    """What was so before a build read anything; taken first, used by `remember`."""

    __slots__ = ("head", "started_ns")

    def __init__(self) -> None:
        self.started_ns = time_ns()
        self.head = _head()


def remember(argv: list[str], watches: list[Watch], begun: Beginning, answer: Answer) -> None:
    """Store `answer` for `argv`; `begun` was taken before the build read anything.

    Nothing is stored when a watched input changed too recently to be told from a later change.
    """
    if _SKIP in os.environ:
        return
    seen = look(watches)
    lines = [_watch_line(watch) for watch in watches]
    if seen is None or seen[1] >= begun.started_ns - RACY_NS or None in lines:
        return
    body = [
        begun.head,
        b"\n".join([*filter(None, lines), b"%s %d" % (seen[0].encode(), seen[1])]),
        str(len(answer.stdout)).encode(),
        answer.stdout + answer.stderr,
    ]
    path = _path(argv)
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(b"\0\0".join(body))
        os.replace(temporary, path)
    except OSError:  # a memo is a convenience
        try:
            os.unlink(temporary)
        except OSError:
            return


class _ChangedError(OSError):
    """Something is younger than all that was known."""


def look(watches: list[Watch], *, newest_known: int | None = None) -> tuple[str, int] | None:
    """Give a fingerprint of all that is watched, and the newest change time of inputs in it (ns).

    None if something vanished while looking, or was changed later than `newest_known`: there is no
    need to look at the rest then.
    """
    digest = blake2b(digest_size=32)
    newest = 0
    try:
        for watch in watches:
            limit = None if watch.is_output else newest_known
            for path in watch.paths or ("",):
                changed = _look_at(watch, path, digest, limit)
                newest = newest if watch.is_output else max(newest, changed)
    except OSError:
        return None
    return digest.hexdigest(), newest


def _look_at(watch: Watch, relative: str, digest: blake2b, limit: int | None) -> int:
    """Feed the stats of a path, its parents, and all below it."""
    newest = 0
    root = watch.root
    names = [name for name in relative.split("/") if name]
    prefix = ""
    for name in ["", *names]:
        prefix = f"{prefix}/{name}" if prefix and name else prefix or name
        full = f"{root}/{prefix}" if prefix else root
        try:
            stat = os.lstat(full)
        except FileNotFoundError:
            digest.update(b"-" + os.fsencode(full) + b"\0")
            return newest
        if prefix and stat.st_mode & 0o170000 == 0o120000:
            # A link leads anywhere: watch the whole folder instead.
            return max(newest, _tree(root, "", watch.pruned, digest, limit))
        newest = max(newest, _feed(prefix, stat, digest, is_parent=prefix != relative))
    if stat.st_mode & 0o170000 == 0o040000:
        newest = max(newest, _tree(full, relative, watch.pruned, digest, limit))
    return newest


def _tree(
    folder: str, relative: str, pruned: frozenset[str], digest: blake2b, limit: int | None
) -> int:
    newest = 0
    pending = [(folder, relative)]
    while pending:
        folder, relative = pending.pop()
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=_name)
        for entry in listed:
            path = f"{relative}/{entry.name}" if relative else entry.name
            if path in pruned:
                continue
            stat = entry.stat(follow_symlinks=False)
            changed = _feed(path, stat, digest, is_parent=False)
            if changed > newest:
                newest = changed
                if limit is not None and newest > limit:
                    raise _ChangedError
            if stat.st_mode & 0o170000 == 0o040000:
                pending.append((entry.path, path))
    return newest


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _feed(path: str, stat: os.stat_result, digest: blake2b, *, is_parent: bool) -> int:
    # A parent's own times change with any entry, also with one that nobody watches.
    is_parent = is_parent or (not path and stat.st_mode & 0o170000 == 0o040000)
    times = "" if is_parent else f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
    line = f"{path}\0{stat.st_mode} {stat.st_ino} {stat.st_dev} {times}\0"
    digest.update(line.encode("utf-8", "surrogateescape"))
    return 0 if is_parent else stat.st_ctime_ns


def _path(argv: list[str]) -> str:
    digest = blake2b(digest_size=20)
    environment = [
        f"{key}={value}"
        for key, value in sorted(os.environ.items())
        if key.startswith(("TORANA_", "BUILDKIT_", "BUILDX_", "DOCKER_", "EXPERIMENTAL_", "XDG_"))
        or key in ("SOURCE_DATE_EPOCH", "NO_COLOR", "TERM", "COLUMNS", "CI")
        or key.lower() in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    ]
    build_args = [_build_arg(argument) for argument in argv]
    terminal = "tty" if os.isatty(2) else "pipe"
    width = str(os.get_terminal_size(2).columns) if os.isatty(2) else ""
    for text in (*argv, os.getcwd(), str(os.getuid()), terminal, width, *environment, *build_args):
        digest.update(text.encode("utf-8", "surrogateescape") + b"\0")
    return os.path.join(store_root(), "memo", digest.hexdigest())


def _build_arg(argument: str) -> str:
    """Give the value that `--build-arg NAME` takes from the environment."""
    name = argument.rpartition("build-arg=")[2]
    return os.environ.get(name, "")


def _head() -> bytes:
    try:
        with open(os.path.join(store_root(), "generation"), "rb") as file:
            generation = file.read()
    except OSError:  # opening the store will say what is wrong with it
        generation = b""
    # The code's own folder stands for its version while it is being worked on.
    code = os.path.dirname(os.path.abspath(__file__))
    place = f"{__version__} {sys.version_info[:3]} {code} {' '.join(_installed())}\n"
    return _FORMAT + place.encode("utf-8", "surrogateescape") + generation


def _installed() -> list[str]:
    """Give what changes when a distribution comes or goes: it may claim a name of build files."""
    changed = []
    for folder in sys.path:
        if folder.endswith(_PACKAGES):
            try:
                changed.append(str(os.stat(folder).st_mtime_ns))
            except OSError:
                changed.append("-")
    return changed


def _watch_line(watch: Watch) -> bytes | None:
    """Give a watch as a line, None where a name has a character that the format needs."""
    names = [watch.root, *watch.paths, *watch.pruned]
    if any(c in name for name in names for c in "\n\0\x01"):
        return None
    kind = "output" if watch.is_output else "input"
    fields = [kind, watch.root, str(len(watch.paths)), *watch.paths, *sorted(watch.pruned)]
    return "\x01".join(fields).encode("utf-8", "surrogateescape")


def _watch_from(line: bytes) -> Watch:
    kind, root, count, *rest = line.decode("utf-8", "surrogateescape").split("\x01")
    paths = int(count)
    is_output = kind == "output"
    return Watch(root, tuple(rest[:paths]), frozenset(rest[paths:]), is_output=is_output)
