from __future__ import annotations

import os
from pathlib import Path

from torana.core.cache.localscan import LocalScan
from torana.core.cache.metadatafile import metadata_list


def test_stats_as_a_client_sends_them(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir(mode=0o755)
    (tmp_path / "dir/a").write_bytes(b"x" * 300)
    (tmp_path / "dir/a").chmod(0o4640)
    (tmp_path / "dir/b").hardlink_to(tmp_path / "dir/a")
    (tmp_path / "link").symlink_to("dir/a")
    (tmp_path / ".fsutil-metadata").write_text("never sent")
    for name in ("dir/a", "dir"):
        os.utime(tmp_path / name, ns=(0, 1))
    os.utime(tmp_path / "link", ns=(0, 2), follow_symlinks=False)
    entries = [
        # path, mode as Go writes it, size, time, link
        b"\x0a\x03dir" + b"\x10\xed\x83\x80\x80\x08" + b"\x30\x01",
        b"\x0a\x05dir/a" + b"\x10\xa0\x83\x80\x04" + b"\x28\xac\x02" + b"\x30\x01",
        b"\x0a\x05dir/b" + b"\x10\xa0\x83\x80\x04" + b"\x30\x01" + b"\x3a\x05dir/a",
        b"\x0a\x04link" + b"\x10\xff\x83\x80\x40" + b"\x28\x05" + b"\x30\x02" + b"\x3a\x05dir/a",
    ]
    expected = b"".join(len(entry).to_bytes(4, "little") + entry for entry in entries)
    assert metadata_list(LocalScan(os.fsencode(tmp_path))) == expected
