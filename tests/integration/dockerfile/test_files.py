"""COPY and ADD: what they put where, with which owner and mode."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import tarfile

import pytest
from tests.integration.dockerfile.builder import Builder

pytestmark = pytest.mark.needs("root", "busybox")


def test_places(builder: Builder) -> None:
    """DF-214, DF-215, DF-216, DF-220, DF-221, DF-228, DF-229: where files go, and what wins."""
    builder.write("a.go", "a")
    builder.write("b.go", "b")
    builder.write("dir/one", "1")
    builder.write("dir/sub/two", "2")
    builder.write("other/one", "other")
    builder.build(
        """\
FROM base
COPY a.go made/
COPY a.go name
COPY dir /contents
COPY *.go dir/s* none* /several/
RUN cd / && test "$(find made name contents several | sort | xargs)" = "\
contents contents/one contents/sub contents/sub/two made made/a.go name \
several several/a.go several/b.go several/two"
RUN mkdir -m 700 /merged && touch /merged/kept && chown 5 /merged
COPY dir other dir other /merged/
RUN test "$(cat /merged/one)" = other && test -e /merged/kept && test -e /merged/sub/two \\
    && test "$(stat -c %a:%u /merged)" = 700:5
"""
    )


def test_missing_sources_fail(builder: Builder) -> None:
    """DF-222: a plain name must be there."""
    result = builder.run("FROM base\nCOPY nothing /x\n")
    assert result.returncode == 1
    assert ">>> COPY nothing /x" in result.stderr


def test_links_and_odd_files(builder: Builder) -> None:
    """DF-223, DF-224, DF-225, DF-226, DF-227: links are followed as sources, kept in folders."""
    builder.write("real/file", "content")
    builder.write("a%20b+ü", "odd")
    os.symlink("real", builder.context / "way")
    (builder.context / "sub").mkdir()
    os.symlink("../real/file", builder.context / "sub/link")
    with socket.socket(socket.AF_UNIX) as server:
        place = os.open(builder.context / "sub", os.O_DIRECTORY)
        server.bind(f"/proc/self/fd/{place}/socket")  # the whole path may be too long
        os.close(place)
        builder.build(
            """\
FROM base
COPY way/file /through
COPY sub/link /followed
COPY sub /kept
COPY sub/l* /matched/
COPY a%20b+ü /odd/
RUN test -f /through && test ! -L /followed && test "$(cat /followed)" = content \\
    && test "$(readlink /kept/link)" = ../real/file \\
    && test ! -L /matched/link && test "$(cat /matched/link)" = content \\
    && test "$(cat '/odd/a%20b+ü')" = odd && test ! -S /kept/socket
"""
        )


def test_owners_and_modes(builder: Builder) -> None:
    """DF-230, DF-231, DF-232, DF-233, DF-266: of files, of folders on the way, of existing ones."""
    builder.write("file", "x", 0o640)
    builder.write("tree/run", "x", 0o755)
    builder.build(
        """\
FROM base
RUN mkdir /there && echo me:x:11:12::/:/bin/sh > /etc/passwd && echo us:x:13: > /etc/group
COPY --chown=7 file /n/uid
COPY --chown=7:8 file /n/both
COPY --chown=me file /n/name
COPY --chown=me:us file /n/names
COPY --chown=9:9 tree /made/deep
COPY --chown=9:9 tree /there
RUN test "$(stat -c %u:%g /n/uid /n/both /n/name /n/names /made /made/deep/run /there | xargs)" = \\
    "7:7 7:8 11:12 11:13 9:9 9:9 0:0"
COPY --chmod=0644 file /m/a
COPY --chmod=777 tree /m/b
COPY --chmod=0 file /m/c
COPY --chmod=u+x,o=w file /m/d
COPY --chmod=a-x,a+X tree /m/e
RUN cd /m && test "$(stat -c %a a b b/run c d e e/run | xargs)" = "644 777 777 0 742 755 755"
USER me:us
WORKDIR /area/deep
USER root
RUN test "$(stat -c %u:%g /area/deep)" = 11:13
"""
    )


def test_exclusion(builder: Builder) -> None:
    """DF-235, DF-236: patterns are relative to each source."""
    for name in ("dir1/a.md", "dir1/b", "dir1/sub/c.md", "dir2/a.md", "dir2/d"):
        builder.write(name, name)
    builder.build(
        """\
FROM base
COPY --exclude=*.md --exclude=sub dir1 /one
COPY --exclude=a.md dir* /two
COPY --exclude=* dir1 /three
RUN cd / && test "$(find one two three | sort | xargs)" = \\
    "one one/b three two two/b two/d two/sub two/sub/c.md"
"""
    )


def test_parents(builder: Builder) -> None:
    """DF-237, DF-238, DF-239, DF-240: how much of the path is kept."""
    for name in ("a/b/c", "x/y/z", "p/one/f", "p/two/f"):
        builder.write(name, name)
    builder.build(
        """\
FROM base
COPY --parents a/b/c /r1/
COPY --parents x/./y/z /r2/
COPY --parents p/*/f /r3/
COPY --parents p/./*/f /r4/
COPY --parents no*thing /r5/
RUN cd / && test "$(find r1 r2 r3 r4 -type f | sort | xargs)" = \\
    "r1/a/b/c r2/y/z r3/p/one/f r3/p/two/f r4/one/f r4/two/f" && test -z "$(ls -A r5)"
"""
    )
    result = builder.run("FROM base\nCOPY --parents a/none /r/\n")
    assert result.returncode == 1
    assert ">>> COPY --parents a/none /r/" in result.stderr


def test_linked_copies(builder: Builder) -> None:
    """DF-241, DF-242: a layer of its own with the same files."""
    builder.write("dir/file", "x")
    out = builder.files(
        """\
FROM base AS made
COPY --link dir /new/place
COPY --link --chown=3:4 dir/file /bin/extra
RUN test "$(cat /new/place/file /bin/extra)" = xx && test -e /bin/busybox \\
    && test "$(stat -c %u:%g /bin/extra)" = 3:4
FROM scratch
COPY --link dir/file /only
"""
    )
    assert [path.name for path in out.iterdir()] == ["only"]


def _archive(kind: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        entry = tarfile.TarInfo("inner/file")
        entry.size, entry.uid, entry.gid = 4, 21, 22
        archive.addfile(entry, io.BytesIO(b"text"))
    if not kind:
        return data.getvalue()
    command = [shutil.which(kind) or kind, "-c"]
    return subprocess.run(command, input=data.getvalue(), capture_output=True, check=True).stdout


@pytest.mark.needs("gzip", "bzip2", "xz", "zstd")
def test_archives(builder: Builder) -> None:
    """DF-245, DF-246, DF-247, DF-248: what ADD unpacks, and with which owner."""
    for kind in ("", "gzip", "bzip2", "xz", "zstd"):
        builder.write(f"arc-{kind or 'plain'}", _archive(kind))
    builder.write("text.tar", "no archive")
    builder.build(
        """\
FROM base
ADD arc-plain /plain/
ADD arc-gzip /gzip/
ADD arc-bzip2 /bzip2/
ADD arc-xz /xz/
ADD arc-zstd /zstd/
RUN for kind in plain gzip bzip2 xz zstd; do \\
        test "$(cat /$kind/inner/file)" = text || exit 1; done \\
    && test "$(stat -c %u:%g /gzip/inner/file)" = 21:22
ADD arc-g*p /wild/
ADD --chown=5:6 arc-gzip /made/deep/
ADD --unpack=false arc-gzip /whole/
ADD text.tar /text/
RUN test -f /wild/inner/file \\
    && test "$(stat -c %u:%g /made/deep /made/deep/inner/file | xargs)" = \\
    "5:6 5:6" && test -f /whole/arc-gzip && test "$(cat /text/text.tar)" = "no archive"
"""
    )
