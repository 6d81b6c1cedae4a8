from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana.core.cache.checksum import content_digest, selected_digest
from torana.core.cache.entrydigest import entry_digest, entry_head
from torana.core.cache.ref import Selector
from torana.core.cache.transferredtree import TransferredTree
from torana.core.errors import NotFoundError
from torana.core.oci.digest import Digest
from torana.core.patterns import InvalidPatternError
from torana.core.solver.stores import CONTENT_OUTPUT, root_key
from torana.core.testing.checksums import A_TXT, DIGESTS, MISSING, PLAIN, announced_tree, select

FOLDER, FILE, LINK = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777


def file(content: bytes, mode: int = FILE) -> Digest:
    return entry_digest(entry_head(mode, size=len(content)), [content])


@pytest.mark.parametrize(("selector", "expected"), DIGESTS, ids=str)
def test_worked_examples(selector: Selector, expected: str) -> None:
    assert selected_digest(announced_tree(), selector).encoded == expected


@pytest.mark.parametrize("selector", MISSING, ids=str)
def test_what_is_missing_is_an_error(selector: Selector) -> None:
    with pytest.raises(NotFoundError, match="not found"):
        selected_digest(announced_tree(), selector)


def test_head_of_the_reference() -> None:
    expected = b"namemode420uid0gid0size5typeflag0linknameunamegnamedevmajor0devminor0"
    assert entry_head(FILE, size=5) == expected
    assert (
        file(b"data0").encoded == "cd8e75bca50f2d695f220d0cb0997d8ead387e4f926e8669a92d7f104cc9885b"
    )


def test_device_numbers_of_a_client_count() -> None:
    head = entry_head(stat.S_IFCHR | 0o666, device=(1, 3))
    assert head.endswith(b"typeflag3linknameunamegnamedevmajor1devminor3")


def transferred() -> TransferredTree:
    tree = TransferredTree()
    tree.put(b"sub", FOLDER, entry_digest(entry_head(FOLDER)))
    tree.put(b"sub/a.txt", FILE, file(b"A"))
    tree.put_hard_link(b"sub/h.txt", b"sub/a.txt")
    return tree


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("sub/a.txt", A_TXT),
        ("sub/h.txt", A_TXT),
        ("sub", "b0ff10ea3232c05a428a8e6ea3476ca893afb376f0d569fb43d062a79b36208a"),
        ("/", "568d676a2b864dcdff774e88332bc2c195ac53811f102cc33ed75bc69f35fe95"),
    ],
)
def test_transferred_tree(path: str, expected: str) -> None:
    assert selected_digest(transferred(), select(path)).encoded == expected


def test_content_digest_hashes_once_more_and_joins_selectors() -> None:
    one = content_digest(announced_tree(), [select("/plain.txt")])
    assert one == "sha256:eecb0bdfc1637f46a9dfdee585bc94bc20c9f12412307214c0b6d3873f8bd695"
    assert (
        root_key(one, CONTENT_OUTPUT)
        == "sha256:693fd8fbbc7209e12b78a791b6bc69c70553da70a6b47af0621e31290e7a1912"
    )
    both = content_digest(announced_tree(), [select("/plain.txt"), select("/sub/a.txt")])
    assert both == Digest.of(f"sha256:{PLAIN}\0sha256:{A_TXT}".encode())


def test_no_selector_is_everything() -> None:
    assert content_digest(announced_tree(), []) == content_digest(announced_tree(), [select("/")])


def test_scratch_has_a_root_and_nothing_else() -> None:
    assert selected_digest(None, select("/")) == Digest.of(b"")
    with pytest.raises(NotFoundError, match="no such file or directory"):
        selected_digest(None, select("/x"))


def test_link_loops_end() -> None:
    tree = announced_tree()
    tree.put(b"loop", LINK, file(b"", LINK), target=b"loop")
    with pytest.raises(NotFoundError, match="too many links"):
        selected_digest(tree, select("loop/x"))


def test_malformed_wildcards_are_refused() -> None:
    with pytest.raises(InvalidPatternError):
        selected_digest(announced_tree(), select("sub/[", wildcard=True))


def test_order_is_by_name_and_not_by_path() -> None:
    one, other = TransferredTree(), TransferredTree()
    entries = [(b"a", FOLDER), (b"a/x", FILE), (b"a-b", FILE), (b"a.txt", FILE)]
    for path, mode in entries:
        one.put(path, mode, file(b"", mode))
    for path, mode in sorted(entries, key=lambda e: (e[0].count(b"/"), e[0][::-1])):
        other.put(path, mode, file(b"", mode))
    everything = select("*", wildcard=True)
    assert selected_digest(one, everything) == selected_digest(other, everything)
    assert one.names(b"") == [b"a", b"a-b", b"a.txt"]


names = st.sampled_from([b"a", b"b", b"a-b", b"c.txt"])
changes = st.lists(
    st.tuples(
        st.lists(names, min_size=1, max_size=3).map(b"/".join),
        st.sampled_from(["file", "folder", "remove"]),
        st.binary(max_size=2),
    ),
    max_size=12,
)


@given(changes, st.booleans())
def test_digests_after_changes_are_those_of_a_new_tree(
    steps: list[tuple[bytes, str, bytes]], asks_between: bool
) -> None:
    tree = TransferredTree()
    for path, kind, content in steps:
        above = path.rpartition(b"/")[0]
        if not tree.is_folder(above):
            continue
        if kind == "remove":
            tree.remove(path)
        elif kind == "folder":
            if tree.mode(path) is not None and not tree.is_folder(path):
                tree.remove(path)
            tree.put(path, FOLDER, file(b"", FOLDER))
        else:
            tree.put(path, FILE, file(content))
        if asks_between:
            tree.recursive(b"")
    new = TransferredTree()
    pending = [b""]
    while pending:
        folder = pending.pop(0)
        for name in tree.names(folder):
            path = folder + b"/" + name if folder else name
            mode = tree.mode(path)
            assert mode is not None
            new.put(path, mode, tree.entry(path))
            if tree.is_folder(path):
                pending.append(path)
    assert tree.recursive(b"") == new.recursive(b"")


def test_very_deep_trees() -> None:
    tree = TransferredTree()
    path = b""
    for _ in range(3000):
        path = path + b"/d" if path else b"d"
        tree.put(path, FOLDER, file(b"", FOLDER))
    assert tree.recursive(b"") == tree.recursive(b"")
