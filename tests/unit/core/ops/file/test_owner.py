from __future__ import annotations

from pathlib import Path

import pytest

from torana.core.llb.ops import ChownOpt, NamedUser, UserOpt
from torana.core.ops.file.errors import FileActionError
from torana.core.ops.file.owner import MAX_SIZE, read_small, resolve_owner
from torana.core.ops.file.root import Root

FILES = {
    (
        1,
        b"/etc/passwd",
    ): b"# x\nroot:x:0:0::/:/bin/sh\nweb:x:33:34:W:/w:/bin/sh\nbad:x:a:b\nodd\n",
    (1, b"/etc/group"): b"root:x:0:\nstaff:x:50:web\n",
}


def read(slot: int, path: bytes) -> bytes | None:
    return FILES.get((slot, path))


def name(text: str, slot: int = 1) -> UserOpt:
    return UserOpt(by_name=NamedUser(text, slot))


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (None, None),
        (ChownOpt(), (0, 0)),
        (ChownOpt(UserOpt(by_id=5)), (5, 5)),
        (ChownOpt(UserOpt(by_id=5), UserOpt(by_id=6)), (5, 6)),
        (ChownOpt(UserOpt(by_id=5), UserOpt(by_id=0)), (5, 0)),
        (ChownOpt(None, UserOpt(by_id=6)), (0, 6)),
        (ChownOpt(name("web")), (33, 34)),
        (ChownOpt(name("web"), name("staff")), (33, 50)),
        (ChownOpt(name("web"), name("none")), (33, 34)),
        (ChownOpt(name("none"), name("staff")), (0, 50)),
        (ChownOpt(name("web", 2)), (0, 0)),
        (ChownOpt(None, name("staff")), (0, 50)),
        (ChownOpt(name("bad")), (0, 0)),
        (ChownOpt(UserOpt()), (0, 0)),
    ],
)
def test_owners(option: ChownOpt | None, expected: tuple[int, int] | None) -> None:
    assert resolve_owner(option, read) == expected


def test_reading_is_confined_to_small_regular_files(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "real").write_bytes(b"data")
    (tmp_path / "etc/passwd").symlink_to("../../../real")
    (tmp_path / "etc/group").symlink_to("/etc/hostname")
    (tmp_path / "dir").mkdir()
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(MAX_SIZE + 1)
    with Root(tmp_path) as root:
        assert read_small(root, b"/etc/passwd") == b"data"
        assert read_small(root, b"/etc/group") is None
        assert read_small(root, b"/dir") is None
        assert read_small(root, b"/no/such") is None
        with pytest.raises(FileActionError, match="too large"):
            read_small(root, b"/huge")
