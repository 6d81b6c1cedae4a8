"""The copy action: measured cases, where things go, and trees that want out."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torana.core.errors import UserError
from torana.core.llb.ops import Copy
from torana.core.ops.file.copy import copy
from torana.core.ops.file.errors import FileActionError
from torana.core.ops.file.root import Root

TIME = 1_500_000_000_123_456_789


@pytest.fixture
def src(tmp_path: Path) -> Path:
    made = tmp_path / "src"
    made.mkdir()
    return made


@pytest.fixture
def dst(tmp_path: Path) -> Path:
    """A root with a neighbour that must never be touched."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    made = tmp_path / "dst"
    made.mkdir()
    return made


@pytest.fixture(autouse=True)
def sound(dst: Path) -> Iterator[None]:
    """No test may depend on the umask, leak a descriptor or write outside."""
    mask = os.umask(0o077)
    before = len(os.listdir("/proc/self/fd"))
    yield
    os.umask(mask)
    assert len(os.listdir("/proc/self/fd")) == before
    assert os.listdir(dst.parent / "outside") == ["secret"]
    assert (dst.parent / "outside/secret").read_text() == "secret"


def run(src: Path, dst: Path, source: str, dest: str, **options: Any) -> None:
    merged = {"mode": -1, "timestamp": -1, "create_dest_path": True, **options}
    is_local = merged.pop("is_local", False)
    action = Copy(src=source, dest=dest, **merged)
    with Root(src) as source_root, Root(dst) as target_root:
        copy(action, source_root, target_root, None, is_local=is_local)


def fails(src: Path, dst: Path, source: str, dest: str, message: str, **options: Any) -> None:
    with pytest.raises(UserError) as caught:
        run(src, dst, source, dest, **options)
    assert caught.value.message == message


def fill(root: Path, *names: str) -> None:
    """Make files with their name as content, 0644; directories end with a slash, 0755."""
    for name in names:
        path = root / name
        for parent in [*reversed(path.relative_to(root).parents)][1:]:
            if not (root / parent).exists():
                (root / parent).mkdir()
                (root / parent).chmod(0o755)
        if name.endswith("/"):
            path.mkdir()
            path.chmod(0o755)
        else:
            path.write_text(name)
            path.chmod(0o644)


def listing(root: Path) -> list[str]:
    found = []
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            found.append(str((Path(folder) / name).relative_to(root)))
    return sorted(found)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# Where things go


def test_a_file_becomes_a_missing_dest(src: Path, dst: Path) -> None:
    fill(src, "f")
    run(src, dst, "/f", "/a/b/g")
    assert (dst / "a/b/g").read_text() == "f"
    assert mode(dst / "a/b") == 0o755
    assert mode(dst / "a/b/g") == 0o644


@pytest.mark.parametrize("dest", ["/a/", "/a/.", "a/b/../."])
def test_a_slash_makes_a_directory(src: Path, dst: Path, dest: str) -> None:
    fill(src, "f")
    run(src, dst, "f", dest)
    assert listing(dst) == ["a", "a/f"]


@pytest.mark.parametrize("dest", ["", ".", "/", "..", "/..", "./"])
def test_the_root_as_dest(src: Path, dst: Path, dest: str) -> None:
    fill(src, "d/f")
    run(src, dst, "/d/f", dest)
    assert listing(dst) == ["f"]


def test_a_file_into_a_directory_and_over_a_file(src: Path, dst: Path) -> None:
    fill(src, "f")
    fill(dst, "d/", "g")
    run(src, dst, "/f", "/d")
    os.link(dst / "g", dst / "h")
    run(src, dst, "/f", "/g")
    assert listing(dst) == ["d", "d/f", "g", "h"]
    assert (dst / "g").read_text() == "f"
    assert (dst / "h").read_text() == "g"  # replaced, not written through


@pytest.mark.parametrize("flags", [{}, {"dir_copy_contents": True}])
def test_a_directory_to_a_missing_dest(src: Path, dst: Path, flags: dict[str, bool]) -> None:
    fill(src, "d/f")
    (src / "d").chmod(0o700)
    run(src, dst, "/d", "/x/y", **flags)
    assert listing(dst) == ["x", "x/y", "x/y/f"]
    # With the flag the dest is made like a parent, without it becomes the copy.
    assert mode(dst / "x/y") == (0o755 if flags else 0o700)
    assert (dst / "x/y").stat().st_mtime_ns == (src / "d").stat().st_mtime_ns


def test_a_directory_to_a_directory(src: Path, dst: Path) -> None:
    fill(src, "d/f")
    fill(dst, "x/")
    run(src, dst, "/d", "/x")
    run(src, dst, "/d", "/x", dir_copy_contents=True)
    assert listing(dst) == ["x", "x/d", "x/d/f", "x/f"]


def test_a_source_with_a_dot_at_the_end_has_no_name(src: Path, dst: Path) -> None:
    fill(src, "d/f")
    fill(dst, "x/")
    run(src, dst, "/d/.", "/x")
    run(src, dst, "/", "/x")
    assert listing(dst) == ["x", "x/d", "x/d/f", "x/f"]


def test_the_top_keeps_what_it_has_and_nested_directories_do_not(src: Path, dst: Path) -> None:
    fill(src, "d/sub/f")
    (src / "d").chmod(0o700)
    (src / "d/sub").chmod(0o711)
    os.utime(src / "d", ns=(TIME, TIME))
    os.utime(src / "d/sub", ns=(TIME + 1, TIME + 1))
    fill(dst, "x/sub/")
    (dst / "x").chmod(0o777)
    run(src, dst, "/d", "/x", dir_copy_contents=True)
    assert (mode(dst / "x"), (dst / "x").stat().st_mtime_ns) == (0o777, TIME)
    assert (mode(dst / "x/sub"), (dst / "x/sub").stat().st_mtime_ns) == (0o711, TIME + 1)


def test_parents_must_exist_unless_they_may_be_made(src: Path, dst: Path) -> None:
    fill(src, "f")
    no = {"create_dest_path": False}
    message = "failed to stat {}: no such file or directory"
    fails(src, dst, "/f", "/x/f", message.format("/x/f"), **no)
    fails(src, dst, "/f", "/x/y/", message.format("/x/y/"), **no)
    run(src, dst, "/f", "/x/", **no)
    run(src, dst, "/f", "/x/y/", **no)
    assert listing(dst) == ["x", "x/f", "x/y", "x/y/f"]


def test_missing_sources(src: Path, dst: Path) -> None:
    fails(src, dst, "/no", "/x", "lstat /no: no such file or directory")
    fails(src, dst, "/n*", "/x", "/n* not found", allow_wildcard=True)
    run(src, dst, "/n*", "/x", allow_wildcard=True, allow_empty_wildcard=True)
    assert listing(dst) == []
    fails(src, dst, "/no", "/x", "lstat /no: no such file or directory", allow_wildcard=True)


def test_wildcards_match_files_and_directories(src: Path, dst: Path) -> None:
    fill(src, "a1/x", "a2", "b", "c/a3/y", "c/a4")
    run(src, dst, "/a*", "/o/", allow_wildcard=True)
    run(src, dst, "/*/a?", "/p/", allow_wildcard=True, dir_copy_contents=True)
    assert listing(dst) == ["o", "o/a1", "o/a1/x", "o/a2", "p", "p/a4", "p/y"]
    fails(src, dst, "/a[", "/x", "syntax error in pattern: `a[`", allow_wildcard=True)


def test_a_wildcard_is_text_where_it_is_not_allowed(src: Path, dst: Path) -> None:
    fill(src, "a*", "ab")
    run(src, dst, "/a*", "/o/")
    assert listing(dst) == ["o", "o/a*"]
    run(src, dst, r"/[a]\*", "/p/", allow_wildcard=True)
    assert listing(dst / "p") == ["a*"]


# Links


def test_links_are_copied_as_links_unless_followed(src: Path, dst: Path) -> None:
    fill(src, "d/f")
    (src / "l").symlink_to("/d/f")
    os.utime(src / "l", ns=(TIME, TIME), follow_symlinks=False)
    run(src, dst, "/l", "/o/")
    assert os.readlink(dst / "o/l") == "/d/f"
    assert (dst / "o/l").lstat().st_mtime_ns == TIME
    run(src, dst, "/l", "/p/", follow_symlink=True)
    assert (dst / "p/l").read_text() == "d/f"
    assert not (dst / "p/l").is_symlink()


def test_links_within_a_directory_stay_links(src: Path, dst: Path) -> None:
    fill(src, "d/")
    (src / "d/l").symlink_to("../../outside/secret")
    run(src, dst, "/d", "/o", follow_symlink=True)
    assert os.readlink(dst / "o/l") == "../../outside/secret"


@pytest.mark.parametrize("target", ["/etc", "../../etc", "../../../../../../../etc"])
def test_sources_cannot_leave(src: Path, dst: Path, target: str) -> None:
    (src / "l").symlink_to(target)
    fails(src, dst, "/l/passwd", "/x", "lstat /l/passwd: no such file or directory")
    fails(src, dst, "/l", "/x", "lstat /l: no such file or directory", follow_symlink=True)
    fails(
        src, dst, "/l/p*", "/x", "lstat /l: no such file or directory",
        allow_wildcard=True, follow_symlink=True,
    )  # fmt: skip
    fill(src, "etc/passwd")
    run(src, dst, "/l/passwd", "/x")
    assert (dst / "x").read_text() == "etc/passwd"


@pytest.mark.parametrize(
    ("dest", "made"),
    [
        ("/out", "outside"),
        ("/out/", "outside/secret"),
        ("/out/secret", "outside/secret"),
        ("/out/sub/x", "outside/sub/x"),
        ("/out/../x", "x"),
    ],
)
def test_dests_cannot_leave(src: Path, dst: Path, dest: str, made: str) -> None:
    fill(src, "secret")
    (dst / "out").symlink_to("../outside")
    run(src, dst, "/secret", dest)
    assert (dst / made).read_text() == "secret"


def test_nested_links_in_the_dest_are_not_followed(src: Path, dst: Path) -> None:
    fill(src, "d/out/secret", "e/out")
    fill(dst, "x/")
    (dst / "x/out").symlink_to(dst.parent / "outside")
    fails(src, dst, "/d", "/x", "cannot copy to non-directory: /x/out", dir_copy_contents=True)
    run(src, dst, "/e", "/x", dir_copy_contents=True)
    assert (dst / "x/out").read_text() == "e/out"
    assert not (dst / "x/out").is_symlink()


def test_a_file_replaces_a_link_at_its_name(src: Path, dst: Path) -> None:
    fill(src, "secret")
    fill(dst, "x/")
    (dst / "x/secret").symlink_to(dst.parent / "outside/secret")
    run(src, dst, "/secret", "/x/")
    assert (dst / "x/secret").read_text() == "secret"
    assert not (dst / "x/secret").is_symlink()


def test_a_dangling_dest_makes_what_it_names(src: Path, dst: Path) -> None:
    fill(src, "f")
    (dst / "l").symlink_to("/a/b/c")
    run(src, dst, "/f", "/l")
    assert (dst / "a/b/c").read_text() == "f"


# What is in the way


def test_files_and_directories_in_the_way(src: Path, dst: Path) -> None:
    fill(src, "d/x/f", "e/x")
    fill(dst, "o/x", "p/x/y/z", "q")
    both = {"dir_copy_contents": True}
    yes = {**both, "always_replace_existing": True}
    fails(src, dst, "/d", "/o", "cannot copy to non-directory: /o/x", **both)
    fails(src, dst, "/e", "/p", "cannot replace to directory /p/x with file", **both)
    fails(src, dst, "/d", "/q", "cannot copy to non-directory: /q", **both)
    fails(src, dst, "/d", "/q", "mkdir /q: not a directory")
    fails(src, dst, "/d", "/q/x", "mkdir /q: not a directory")
    fails(src, dst, "/d", "/q/x/y", "lstat /q/x: not a directory")
    run(src, dst, "/d", "/o", **yes)
    run(src, dst, "/e", "/p", **yes)
    run(src, dst, "/d", "/q", **yes)
    assert listing(dst) == ["o", "o/x", "o/x/f", "p", "p/x", "q", "q/x", "q/x/f"]


def test_the_replace_flag_unites_directories(src: Path, dst: Path) -> None:
    fill(src, "d/x/f")
    fill(dst, "o/x/g")
    (dst / "o/l").symlink_to("x")
    fill(src, "d/l/h")
    run(src, dst, "/d", "/o", dir_copy_contents=True, always_replace_existing=True)
    assert listing(dst / "o") == ["l", "l/h", "x", "x/f", "x/g"]
    assert not (dst / "o/l").is_symlink()


# Patterns


def patterns(src: Path, dst: Path, include: Any = (), exclude: Any = ()) -> list[str]:
    run(
        src, dst, "/", "/o", dir_copy_contents=True,
        include_patterns=tuple(include), exclude_patterns=tuple(exclude),
    )  # fmt: skip
    return listing(dst / "o")


def test_include(src: Path, dst: Path) -> None:
    fill(src, "a/b/c", "a/d/c", "a/d/e", "b/x/c", "empty/")
    (src / "a/d").chmod(0o711)
    assert patterns(src, dst, ["a/*/c"]) == ["a", "a/b", "a/b/c", "a/d", "a/d/c"]
    assert mode(dst / "o/a/d") == 0o711  # made late, with its own metadata
    assert (dst / "o/a").stat().st_mtime_ns == (src / "a").stat().st_mtime_ns


def test_include_of_a_plain_path_and_a_directory(src: Path, dst: Path) -> None:
    fill(src, "a/b/c", "a/bc", "ab/c", "empty/", "z")
    assert patterns(src, dst, ["a/b", "empty", "z/y"]) == ["a", "a/b", "a/b/c", "empty"]


def test_an_include_that_matches_nothing(src: Path, dst: Path) -> None:
    fill(src, "a/b")
    assert patterns(src, dst, ["none"]) == []
    assert mode(dst / "o") == 0o755
    assert (dst / "o").stat().st_mtime_ns == src.stat().st_mtime_ns


def test_exclude(src: Path, dst: Path) -> None:
    fill(src, "a/b", "a/c", "d/b", "empty/")
    assert patterns(src, dst, (), ["a", "**/b"]) == ["d", "empty"]


def test_exclude_with_a_way_back(src: Path, dst: Path) -> None:
    fill(src, "a/b/c", "a/b/d", "a/x", "e/f")
    assert patterns(src, dst, (), ["**", "!a/b/c"]) == ["a", "a/b", "a/b/c"]


def test_include_and_exclude(src: Path, dst: Path) -> None:
    fill(src, "a/b.md", "a/b.txt", "c/d.md", "c/skip/d.md")
    assert patterns(src, dst, ["**/*.md"], ["**/skip"]) == ["a", "a/b.md", "c", "c/d.md"]


def test_patterns_are_not_for_the_source_itself(src: Path, dst: Path) -> None:
    fill(src, "f")
    run(src, dst, "/f", "/g", include_patterns=("other",), exclude_patterns=("f",))
    assert listing(dst) == ["g"]


def test_a_malformed_pattern(src: Path, dst: Path) -> None:
    fill(src, "f")
    fails(src, dst, "/", "/o", "syntax error in pattern", include_patterns=("[",))


# Modes and times


def test_an_octal_mode_is_for_all_and_for_made_parents(src: Path, dst: Path) -> None:
    fill(src, "d/f", "d/e/")
    (src / "d/l").symlink_to("f")
    run(src, dst, "/d", "/x/y", mode=0o6751)
    for path in ("x", "x/y", "x/y/f", "x/y/e"):
        assert mode(dst / path) == 0o6751, path


@pytest.mark.needs("root")
def test_a_mode_without_search_permission(src: Path, dst: Path) -> None:
    fill(src, "d/sub/f")
    run(src, dst, "/d", "/x", mode=0o644)
    assert [mode(dst / p) for p in ("x", "x/sub")] == [0o644, 0o644]
    os.chmod(dst / "x", 0o755)
    os.chmod(dst / "x/sub", 0o755)
    assert mode(dst / "x/sub/f") == 0o644


def test_mode_zero_is_a_mode(src: Path, dst: Path) -> None:
    fill(src, "f")
    run(src, dst, "/f", "/f", mode=0)
    assert mode(dst / "f") == 0


def test_a_symbolic_mode_is_evaluated_for_each(src: Path, dst: Path) -> None:
    fill(src, "d/plain", "d/exec", "d/sub/")
    (src / "d/plain").chmod(0o600)
    (src / "d/exec").chmod(0o700)
    (src / "d/sub").chmod(0o700)
    run(src, dst, "/d", "/p/x", mode=0o600, mode_str="u=rwX,go=rX")
    assert [mode(dst / "p/x" / n) for n in ("plain", "exec", "sub")] == [0o644, 0o755, 0o755]
    assert mode(dst / "p") == 0o755
    fails(src, dst, "/d", "/x", "invalid mode: invalid syntax: `u~x`", mode_str="u~x")


def test_source_modes_and_times_are_kept(src: Path, dst: Path) -> None:
    fill(src, "d/f")
    (src / "d/f").chmod(0o6755)
    (src / "d").chmod(0o1777)
    for path in (src / "d/f", src / "d"):
        os.utime(path, ns=(TIME + 5, TIME))
    run(src, dst, "/d", "/o")
    for path, expected in ((dst / "o/f", 0o6755), (dst / "o", 0o1777)):
        assert mode(path) == expected
        assert path.stat().st_mtime_ns == TIME


@pytest.mark.parametrize("timestamp", [TIME, 0])
def test_a_timestamp_is_for_all_that_is_made(src: Path, dst: Path, timestamp: int) -> None:
    fill(src, "d/f")
    (src / "d/l").symlink_to("f")
    fill(dst, "x/")
    run(src, dst, "/d", "/x/y/z/", timestamp=timestamp)
    for path in ("x/y", "x/y/z", "x/y/z/d", "x/y/z/d/f", "x/y/z/d/l"):
        status = (dst / path).lstat()
        assert status.st_mtime_ns == status.st_atime_ns == timestamp, path
    assert (dst / "x").stat().st_mtime_ns != timestamp


# Entries


def test_hard_links_within_a_copy(src: Path, dst: Path) -> None:
    fill(src, "d/a", "d/e/", "c")
    os.link(src / "d/a", src / "d/e/b")
    os.link(src / "d/a", src / "outside-of-d")
    run(src, dst, "/d", "/o")
    assert (dst / "o/a").samefile(dst / "o/e/b")
    assert (dst / "o/a").stat().st_nlink == 2
    run(src, dst, "/d", "/o", dir_copy_contents=True)  # over what is there
    assert (dst / "o/a").samefile(dst / "o/e/b")


def test_pipes_and_sockets(src: Path, dst: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    fill(src, "d/")
    os.mkfifo(src / "d/pipe")
    (src / "d/pipe").chmod(0o640)
    monkeypatch.chdir(src / "d")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock")
    run(src, dst, "/d", "/o")
    assert stat.S_ISFIFO((dst / "o/pipe").lstat().st_mode)
    assert mode(dst / "o/pipe") == 0o640
    assert stat.S_ISSOCK((dst / "o/sock").lstat().st_mode)


@pytest.mark.needs("root")
def test_a_folder_of_the_client_belongs_to_root(
    src: Path, dst: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    fill(src, "d/f")
    os.chown(src / "d/f", 1234, 1234)
    monkeypatch.chdir(src / "d")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock")
    run(src, dst, "/d", "/o", is_local=True)
    assert ((dst / "o/f").stat().st_uid, (dst / "o/f").stat().st_gid) == (0, 0)
    assert (dst / "o/sock").is_file()
    assert (dst / "o/sock").stat().st_size == 0


def test_attributes(src: Path, dst: Path) -> None:
    fill(src, "d/f")
    try:
        os.setxattr(src / "d/f", "user.k", b"v\0w")
    except OSError:
        pytest.skip("no attributes here")
    os.setxattr(src / "d", "user.dir", b"1")
    os.setxattr(src / "d", "user.overlay.opaque", b"y")
    run(src, dst, "/d", "/o")
    assert os.getxattr(dst / "o/f", "user.k") == b"v\0w"
    assert os.listxattr(dst / "o") == ["user.dir"]


def test_large_and_sparse_files(src: Path, dst: Path) -> None:
    data = os.urandom(1 << 16) * 3 + b"end"
    (src / "large").write_bytes(data)
    (src / "exact").write_bytes(data[: 64 << 10])
    with open(src / "sparse", "wb") as file:
        file.seek(8 << 20)
        file.write(b"x")
        file.truncate(16 << 20)
    run(src, dst, "/", "/", dir_copy_contents=True)
    for name in ("large", "exact", "sparse"):
        assert (dst / name).read_bytes() == (src / name).read_bytes()
    assert (dst / "sparse").stat().st_blocks * 512 < 4 << 20


def test_names_that_are_not_text(src: Path, dst: Path) -> None:
    name = b"\xff\xfe\n"
    with open(os.fsencode(src) + b"/" + name, "wb") as file:
        file.write(b"1")
    run(src, dst, "/*", "/o/", allow_wildcard=True)
    assert os.listdir(os.fsencode(dst / "o")) == [name]


def test_a_source_that_becomes_a_link_is_not_followed(
    src: Path, dst: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(src, "d/f")
    original = os.open

    def swap(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == "f" and not (src / "d/f").is_symlink():
            (src / "d/f").unlink()
            (src / "d/f").symlink_to(dst.parent / "outside/secret")
        return original(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", swap)
    with pytest.raises(FileActionError):
        run(src, dst, "/d", "/o")
    monkeypatch.undo()
    assert not (dst / "o/f").exists()


NAMES = st.sampled_from(["a", "b", "c.txt", "d"])
TREES = st.recursive(
    st.binary(max_size=20) | st.just("link"),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
).filter(lambda tree: isinstance(tree, dict))


def write(root: Path, tree: dict[str, Any], salt: int = 0) -> None:
    for i, (name, value) in enumerate(tree.items()):
        path = root / name
        if isinstance(value, dict):
            path.mkdir()
            write(path, value, salt + i + 1)
            path.chmod(0o700 | (salt + i) % 64)
        elif value == "link":
            path.symlink_to("../x")
        else:
            path.write_bytes(value)
            path.chmod(0o600 | (salt * 7 + i) % 64)
        os.utime(path, ns=(TIME, TIME + salt * 10 + i), follow_symlinks=False)


def read(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(root.iterdir()):
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        content: Any = None
        if kind == stat.S_IFDIR:
            content = read(path)
        elif kind == stat.S_IFLNK:
            content = os.readlink(path)
        else:
            content = path.read_bytes()
        found[path.name] = (status.st_mode, status.st_mtime_ns, content)
    return found


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tree=TREES, before=TREES)
def test_a_copy_is_equal_and_replaces_what_was_there(
    tmp_path_factory: pytest.TempPathFactory, tree: Any, before: Any
) -> None:
    base = tmp_path_factory.mktemp("copy")
    source, fresh, used = base / "s", base / "f", base / "u"
    for folder in (source, fresh, used):
        folder.mkdir()
    write(source, tree)
    run(source, fresh, "/", "/o", dir_copy_contents=True)
    assert read(fresh / "o") == read(source)
    write(used, before)
    run(source, used, "/", "/", dir_copy_contents=True, always_replace_existing=True)
    after, wanted = read(used), read(source)
    assert set(after) == set(tree) | set(before)

    def contains(have: dict[str, Any], want: dict[str, Any]) -> bool:
        return all(
            have[n][:2] == w[:2]
            and (contains(have[n][2], w[2]) if isinstance(w[2], dict) else have[n] == w)
            for n, w in want.items()
        )

    assert contains(after, wanted)
