from __future__ import annotations

import pytest

from torana.core.ops.runtime import RuntimeFailedError
from torana.plugins.runtimes.sharedobjects import ProgramFiles, parse

GLIBC = """\
\tlinux-vdso.so.1 (0x00007ffd4a5f2000)
\tlibcap-ng.so.0 => /lib/x86_64-linux-gnu/libcap-ng.so.0 (0x00007f14)
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f15)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f16)
"""
MUSL = """\
\t/lib/ld-musl-x86_64.so.1 (0x7f5d3c0a4000)
\tlibcap-ng.so.0 => /usr/lib/libcap-ng.so.0 (0x7f5d3c091000)
\tlibc.musl-x86_64.so.1 => /lib/ld-musl-x86_64.so.1 (0x7f5d3c0a4000)
"""


def test_glibc() -> None:
    assert parse("/usr/bin/setpriv", GLIBC) == ProgramFiles(
        "/usr/bin/setpriv",
        "/lib64/ld-linux-x86-64.so.2",
        (
            ("libcap-ng.so.0", "/lib/x86_64-linux-gnu/libcap-ng.so.0"),
            ("libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6"),
        ),
    )


def test_musl() -> None:
    found = parse("/usr/bin/setpriv", MUSL)
    assert found.loader == "/lib/ld-musl-x86_64.so.1"
    assert [name for name, _ in found.libraries] == ["libcap-ng.so.0", "libc.musl-x86_64.so.1"]


def test_static_program_has_no_loader() -> None:
    with pytest.raises(RuntimeFailedError, match="no loader"):
        parse("/bin/setpriv", "\tnot a dynamic executable\n")
