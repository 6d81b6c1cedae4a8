from __future__ import annotations

import base64
import json

import pytest

from torana.core.cache.ref import Selector
from torana.core.llb.ops import ChownOpt, Copy, FileAction, MkDir, MkFile, NamedUser, Rm, UserOpt
from torana.core.oci.digest import Digest
from torana.core.ops.file import key as key_module
from torana.core.ops.file.key import content_selectors, file_key
from torana.core.ops.file.plan import InvalidFileOpError
from torana.core.ops.keyjson import key_json


def mkfile(input: int, output: int = 0) -> FileAction:
    kind = MkFile(path="/a.txt", mode=0o644, data=b"hello", timestamp=-1)
    return FileAction(input=input, secondary_input=-1, output=output, action=kind)


def copy(src: str, owner: ChownOpt | None = None) -> Copy:
    return Copy(src=src, dest="/app/", mode=-1, timestamp=-1, owner=owner)


def test_worked_mkfile() -> None:
    assert file_key([mkfile(0)], 1).digest.encoded == (
        "f2bad713b634d6b0dbfeb256ceb8e8974ad1fda1fa8910a960dbd2878c7c7eec"
    )
    assert file_key([mkfile(-1)], 0).digest.encoded == (
        "a6806748c082d19fe61e1db7dc0c0d7adad5124f01ae412dd0b8fe8460a7eac1"
    )


def test_worked_copy() -> None:
    kind = Copy(
        src="/src/*.go",
        dest="/app/",
        mode=-1,
        create_dest_path=True,
        allow_wildcard=True,
        timestamp=-1,
    )
    key = file_key([FileAction(input=0, secondary_input=1, output=0, action=kind)], 2)
    assert key.digest.encoded == "32086e059a016fe6c7c6b0370416c9756f861afab55855894fdc7e1c9de3c963"
    assert key.inputs[0].selector is None
    assert key.inputs[1].selector is not None
    assert key.inputs[1].selector.encoded == (
        "44f7ee765e47576a866d3c3b730203b56a804822284cf7c24f6b06c5785bd515"
    )
    assert key.inputs[1].selectors == (Selector(path="/src/*.go", wildcard=True),)


def test_worked_copies_with_an_owner() -> None:
    owner = ChownOpt(user=UserOpt(by_id=0), group=UserOpt(by_name=NamedUser("grp", 1)))
    actions = [
        FileAction(input=0, secondary_input=1, output=-1, action=copy("/b")),
        FileAction(input=2, secondary_input=1, output=0, action=copy("/a", owner)),
    ]
    key = file_key(actions, 2)
    assert key.digest.encoded == "97567a378c5678a8dc58795e5521aa0eab2b30b1f2fa4a76a5aa7048d5a6083b"
    assert key.inputs[1].selector == Digest.of(b"/etc/group\0/b\0/a")
    assert key.inputs[1].selectors == (
        Selector(path="/a"),
        Selector(path="/b"),
        Selector(path="/etc/group", follow_links=True),
    )


def test_worked_end_to_end_record() -> None:
    kind = Copy(
        src="/src/a.txt",
        dest="/a.txt",
        mode=-1,
        follow_symlink=True,
        dir_copy_contents=True,
        create_dest_path=True,
        allow_wildcard=True,
        allow_empty_wildcard=True,
        timestamp=-1,
    )
    key = file_key([FileAction(input=-1, secondary_input=0, output=0, action=kind)], 1)
    assert Digest.of_text(f"{key.digest}@0").encoded == (
        "c211630309aef05eae25922dbfe7e03fb4e5dcff366ee1fee2af17648bac05f8"
    )


def written(actions: list[FileAction], count: int, monkeypatch: pytest.MonkeyPatch) -> object:
    seen: list[object] = []

    def spy(value: object) -> bytes:
        seen.append(value)
        return key_json(value)

    monkeypatch.setattr(key_module, "key_json", spy)
    file_key(actions, count)
    return seen[-1]


@pytest.mark.parametrize(
    ("numbers", "count", "is_default"),
    [
        ([(0, -1, 0)], 1, True),
        ([(0, 1, 0)], 2, True),
        ([(-1, -1, 0)], 0, False),
        ([(0, 0, 0)], 1, False),
        ([(0, 1, -1), (2, 1, 0)], 2, True),
        # What is compared counts from the number of actions; inputs only count when equal to it.
        ([(0, 1, -1), (2, 1, -1), (3, 1, 0)], 2, False),
        ([(0, -1, -1), (1, -1, 0)], 1, False),
    ],
)
def test_indexes_are_left_out_for_the_default_shape(
    numbers: list[tuple[int, int, int]],
    count: int,
    is_default: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    actions = [
        FileAction(input=i, secondary_input=s, output=o, action=MkDir(path="/d"))
        for i, s, o in numbers
    ]
    message = written(actions, count, monkeypatch)
    assert isinstance(message, dict)
    assert ("indexes" not in message) is is_default


def test_a_copy_from_an_own_result_keeps_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    actions = [
        mkfile(0, -1),
        FileAction(input=1, secondary_input=1, output=0, action=copy("/x/a.txt")),
    ]
    message = written(actions, 1, monkeypatch)
    assert isinstance(message, dict)
    assert json.loads(base64.b64decode(message["Actions"][1]))["src"] == "/x/a.txt"


def test_an_input_that_is_written_to_has_no_content_key() -> None:
    action = FileAction(input=0, secondary_input=0, output=0, action=copy("/a"))
    entry = file_key([action], 1).inputs[0]
    assert entry.selector is None
    assert entry.selectors == ()


def test_a_name_needs_a_tree() -> None:
    owner = ChownOpt(user=UserOpt(by_name=NamedUser("u", -1)))
    action = FileAction(input=0, output=0, action=MkDir(path="/d", owner=owner))
    with pytest.raises(InvalidFileOpError, match="invalid user index -1"):
        file_key([action], 1)


def test_rm_has_three_members_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    action = FileAction(
        input=0, secondary_input=-1, output=0, action=Rm(path="/x", allow_wildcard=True)
    )
    message = written([action], 1, monkeypatch)
    assert isinstance(message, dict)
    assert base64.b64decode(message["Actions"][0]) == b'{"path":"/x","allowWildcard":true}'


def test_nested_plain_paths_are_hashed_once() -> None:
    found = content_selectors(
        {
            Selector(path="/a/b"),
            Selector(path="a"),
            Selector(path="/ab"),
            Selector(path="/a/b", follow_links=True),
            Selector(path="/a/*", wildcard=True),
        }
    )
    assert found == (
        Selector(path="/a"),
        Selector(path="/a/*", wildcard=True),
        Selector(path="/a/b", follow_links=True),
        Selector(path="/ab"),
    )
