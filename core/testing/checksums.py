"""A tree whose content digests are known from BuildKit, for tests of what computes them.

Spec: contenthash reference, section 8.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from torana.core.cache.entrydigest import entry_digest, entry_head
from torana.core.cache.ref import Selector
from torana.core.cache.transferredtree import TransferredTree
from torana.core.records import dataclass

FOLDER, FILE, LINK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK


@dataclass(frozen=True, slots=True)
class Entry:
    path: str
    mode: int
    content: bytes = b""
    target: str = ""
    owner: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


ENTRIES = (
    Entry("", FOLDER | 0o755),
    Entry("plain.txt", FILE | 0o644, b"hello"),
    Entry("exec.sh", FILE | 0o755, b"hello"),
    Entry("setuid", FILE | 0o4755, b"hello"),
    Entry("owned", FILE | 0o644, b"hello", owner=(1000, 1001)),
    Entry("empty", FILE | 0o644),
    Entry("xat", FILE | 0o644, b"hello", xattrs=((b"trusted.t", b"w"), (b"user.k", b"v"))),
    Entry("hard", FILE | 0o644, b"hello"),
    Entry("fifo", stat.S_IFIFO | 0o644),
    Entry("chr", stat.S_IFCHR | 0o666),
    Entry("emptydir", FOLDER | 0o755),
    Entry("sticky", FOLDER | 0o1777),
    Entry("lnsub", LINK | 0o777, target="/sub"),
    Entry("dangling", LINK | 0o777, target="nowhere"),
    Entry("sub", FOLDER | 0o755),
    Entry("sub/a.txt", FILE | 0o644, b"A"),
    Entry("sub/b.md", FILE | 0o644, b"B"),
    Entry("sub/ln", LINK | 0o777, target="a.txt"),
    Entry("sub/deep", FOLDER | 0o700),
    Entry("sub/deep/c.txt", FILE | 0o600, b"C"),
)


def announced_tree() -> TransferredTree:
    """The tree from its entries, with a header of the root as if it were on disk."""
    tree = TransferredTree()
    for entry in ENTRIES:
        head = entry_head(
            entry.mode,
            uid=entry.owner[0],
            gid=entry.owner[1],
            size=len(entry.content),
            link=entry.target.encode(),
            xattrs=entry.xattrs,
        )
        digest = entry_digest(head, [entry.content])
        tree.put(entry.path.encode(), entry.mode, digest, target=entry.target.encode())
    return tree


def make_tree(root: Path) -> None:
    """Make the tree in an empty folder; needs root's rights."""
    for entry in ENTRIES:
        path = root / entry.path
        match stat.S_IFMT(entry.mode):
            case stat.S_IFDIR:
                path.mkdir(exist_ok=True)
            case stat.S_IFLNK:
                path.symlink_to(entry.target)
                continue
            case stat.S_IFREG if entry.path == "hard":
                path.hardlink_to(root / "plain.txt")
                continue
            case stat.S_IFREG:
                path.write_bytes(entry.content)
            case kind:
                os.mknod(path, kind | 0o600, os.makedev(1, 3) if entry.path == "chr" else 0)
        os.chown(path, *entry.owner)
        os.chmod(path, stat.S_IMODE(entry.mode))
        for name, value in entry.xattrs:
            os.setxattr(path, name, value)
    os.setxattr(root / "exec.sh", "security.x", b"ignored")
    os.utime(root / "owned", (1, 1))


def select(
    path: str,
    follow: bool = False,
    wildcard: bool = False,
    include: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
) -> Selector:
    return Selector(
        path=path, follow_links=follow, wildcard=wildcard, include=include, exclude=exclude
    )


def _wild(path: str, follow: bool = False) -> Selector:
    return select(path, follow, wildcard=True)


SUB = "3b7168c87df84b41f0b991a4682631e05998b7e23ac2c98b14c9ec24d4c6f02f"
A_TXT = "8263cb4d2dcc466c0da3d6da3ea06d8edfbbaae4bfd33e8598eb341158f2d7b1"
PLAIN = "cb3569cdc1e1de3978ee5b8ea2a3bf0ceca715be019dc377ed496759d3cccfd6"
NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
ONLY_TXT = "d50a0ddc7184203805fabd76d8538daa09e49a4b80b8ec326943bd3edbc7cc20"
ALL_OF_SUB = "10f3d697e7369f72213cf748217b563de20424a642df0259b0cc4071270c70cc"

DIGESTS: tuple[tuple[Selector, str], ...] = (
    (select("plain.txt"), PLAIN),
    (select("hard"), PLAIN),
    (select("exec.sh"), "72af8c83e2484977d1283890cf73dd8c1a0a29e846ab07213887d965eaaa06db"),
    (select("setuid"), "06b1b3c583857bf0b4e84929e2c080667a82a2869add94a731132320ae28f53e"),
    (select("owned"), "ecf5a36a95ce8223a22d229a5ba9e04f14e337019448be83fefa267e935ff733"),
    (select("empty"), "700591407496206b27e3739e92128dd4d3a119e929d3b3677835a1ab6627aa3d"),
    (select("xat"), "f492296abb4f142379ad0dddef700061e588d1aef0129afb2658a019afd302f2"),
    (select("fifo"), "ed66acfbb9d93c08ed7faab2b6c0e2201a312df9abcbd94a761a1ea7f345dad5"),
    (select("chr"), "0194263160120bafc733c52ddbb2636e86b9d9a1cfb01e77e9a367548d2461d8"),
    (select("emptydir"), "0e5db88383bce812f795689f5318a2b2f4fde740ef31c2a2365a46368aafddd2"),
    (select("sticky"), "b1bbefda9a870b530d613617b852b14deb13b17e42322f94b5b49eaf98ad22f3"),
    (select("sub/deep"), "59ae62b65b3bacfa6140039a8eb1629b67dc275e83d0e2d05710f594fb9afe3b"),
    (select("sub"), SUB),
    (select("/sub/"), SUB),
    (select("lnsub", follow=True), SUB),
    (select("sub/ln"), "653b232d38441e60f35673ca781dca8fd169229d6500fa11cd461a7e10e02789"),
    (select("sub/ln", follow=True), A_TXT),
    (select("lnsub/a.txt"), A_TXT),
    (select("lnsub/a.txt", follow=True), A_TXT),
    (select("sub/a.txt"), A_TXT),
    (select("lnsub"), "c71eae93f780029881df856501c1c9b4fbff49003420c19d144bb191c5c90210"),
    (select("dangling"), "5c72eb96388220e413a7e6e4538de1172cad6e4eda9cc0a31631e1ce534c1bd5"),
    (select("/"), "d9c2c8334b346b615b487f6ddbff2985dbe3d487a6ba417fd9c04c95664a7f13"),
    (_wild("sub/*.txt"), "f4b5c572ce2527b7e6368b175c8f48fe7a541a0fb7aa149dfb408068af46ecec"),
    (_wild("s*/a.txt"), A_TXT),
    (_wild("sub/*"), ALL_OF_SUB),
    (_wild("lnsub/*"), ALL_OF_SUB),
    (_wild("sub/*", True), "330147c009746ce121923fee03ee4f539797e458166ca712132b09058b25f577"),
    (_wild("lnsub/*.md"), "63883f1165c120d9769606f558843d0e3d780bca9013af7c691bf0c552ed0121"),
    (_wild("sub/d*"), "920327eede32b2d9cbabfdc464ab5f98a38ea0c4056d0a613259d0a05de82e08"),
    (_wild("ln*"), "c073e20e3e8e13484ebb408b81bf40bd7e1e6d6775b08322690dfffe6a128db6"),
    (_wild("ln*", True), "a1d6c3346794b40f57cccf61096fedf4ca77ed23e0c9e610c67471c3e6b6a474"),
    (_wild("*"), "66794e0fb152f8d8fd1505bc6d23c341bce2ce38b714ea51cf9df722e110394d"),
    (_wild("sub"), "1479954a7eb6bdab5d3d922f527608e73b0c54d7f96366d143fcd9b86625fbc7"),
    (_wild("nomatch*"), NOTHING),
    (
        select("/", include=("sub/a.txt",)),
        "e570b6aa370d12bb3862c81286c4b6c494e22017bb4241fb70c8a70b4cd23a75",
    ),
    (
        select("/", include=("sub/**/*.txt",)),
        "23b702d5fc58d8384835f1fe691f474fec4c63028e08393dc329ee550bd8a855",
    ),
    (select("sub", include=("*.txt",)), ONLY_TXT),
    (
        select("sub", include=("**/*.txt",)),
        "bb2dd6678e5e33dda28ed2653d648b80d6357db0bae8db6df4d00a57bebb0e82",
    ),
    (
        select("sub", include=("deep",)),
        "755afe8b4025540d5082e9da1d9aa9a5ae2c2f6f0677acd42e74d2cbd8e82fc8",
    ),
    (select("sub", include=("none",)), NOTHING),
    (
        select("sub", exclude=("*.md",)),
        "ff21eb24b080113c25c8b37ab46ed9583aa3c7f85f34609159f861a9a2798126",
    ),
    (
        select("sub", exclude=("deep",)),
        "b47d0b20da8c71ed45247ed54b3d4bc33c8f6f7e898bb29c83dea2b3c388758f",
    ),
    (select("sub", exclude=("**", "!a.txt")), ONLY_TXT),
    (select("sub", include=("**/*.txt",), exclude=("deep",)), ONLY_TXT),
    (
        select("/", exclude=("*", "!sub")),
        "7e2da568811f9e30f279dddc6e673b7aec9e5ee67dd23fed081c45a2536f62e1",
    ),
)

MISSING: tuple[Selector, ...] = (
    select("dangling", follow=True),
    select("absent"),
    select("plain.txt/below"),
    select("absent", include=("x",)),
    Selector(path="/", include=("sub/a.txt",), required=("/zub",)),
)
