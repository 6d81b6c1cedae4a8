"""Times of archives: what is late becomes the limit, everything else stays."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torana.core.errors import CorruptError
from torana.core.snapshots.tartimes import TarTimes

NAMES = st.text("abü", min_size=1, max_size=160).map(lambda name: f"x{name}x")
FORMATS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])


@st.composite
def members(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(draw(NAMES))
    member.mtime = draw(st.integers(0, 4000) | st.floats(0, 4000).map(lambda t: round(t, 3)))
    member.type = draw(st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE]))
    data = draw(st.binary(max_size=1200)) if member.isreg() else b""
    member.size = len(data)
    member.linkname = draw(NAMES) if member.issym() else ""
    if draw(st.booleans()):
        member.pax_headers = {"atime": str(draw(st.integers(0, 4000))), "comment": "kept"}
    return member, data


def packed(contents: list[tuple[tarfile.TarInfo, bytes]], form: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for member, data in contents:
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def clamped(data: bytes, latest: int, step: int) -> bytes:
    out = io.BytesIO()
    times = TarTimes(out, latest)
    for start in range(0, len(data), step):
        times.write(data[start : start + step])
    times.finish()
    return out.getvalue()


@settings(max_examples=60)
@given(st.lists(members(), max_size=3), st.integers(1, 3000), FORMATS)
def test_only_times_change(
    contents: list[tuple[tarfile.TarInfo, bytes]], step: int, form: int
) -> None:
    if form == tarfile.USTAR_FORMAT:
        for number, (member, _) in enumerate(contents):
            member.name, member.linkname = f"n{number}", member.linkname and "target"
    before = packed(contents, form)
    after = clamped(before, 1000, step)
    with (
        tarfile.open(fileobj=io.BytesIO(before)) as old,
        tarfile.open(fileobj=io.BytesIO(after)) as new,
    ):
        for one, other in zip(old, new, strict=True):
            assert other.mtime == min(one.mtime, 1000)
            for name in ("name", "type", "size", "linkname", "mode", "uid", "gid"):
                assert getattr(one, name) == getattr(other, name)
            assert set(one.pax_headers) == set(other.pax_headers)
            for key, value in one.pax_headers.items():
                if key in ("atime", "mtime"):
                    assert float(other.pax_headers[key]) == min(float(value), 1000)
                else:
                    assert other.pax_headers[key] == value
            if one.isreg():
                assert old.extractfile(one).read() == new.extractfile(other).read()  # type: ignore[union-attr]  # both are files
    assert clamped(after, 1000, 512) == after


def test_what_is_no_tar() -> None:
    with pytest.raises(CorruptError):
        clamped(b"x" * 1024, 5, 1024)
    member = tarfile.TarInfo("a")
    member.pax_headers = {"mtime": "yesterday"}
    with pytest.raises(CorruptError, match="malformed time"):
        clamped(packed([(member, b"")], tarfile.PAX_FORMAT), 5, 512)
