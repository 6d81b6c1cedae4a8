"""The attempts of `ops/test_escapes.py`, by steps of ordinary users, with each runtime."""

from __future__ import annotations

import tarfile

import pytest
from tests.integration.ops.test_escapes import ATTEMPTS
from tests.integration.rootless.conftest import Builder
from tests.integration.rootless.test_builds import BASE, CONTAINER, RUNTIMES

pytestmark = pytest.mark.needs(
    "root", "runc", "crun", "bwrap", "busybox", "newuidmap", "setpriv", "useradd"
)

USERS = [*((who, runtime) for who in ("ranges", "single") for runtime in RUNTIMES), CONTAINER]
DOCKERFILE = """\
FROM base AS tried
RUN mkdir -p /tmp
COPY attempts /attempts
RUN sh /attempts > /found 2>/dev/null; echo end >> /found
FROM scratch
COPY --from=tried /found /found
"""


@pytest.mark.parametrize(("builder", "runtime"), USERS, indirect=["builder"])
def test_attempts(builder: Builder, runtime: str) -> None:
    rows = [row for name in ATTEMPTS for row in ATTEMPTS[name].splitlines()]
    script = "\n".join(row.replace("echo out", f"echo {n}") for n, row in enumerate(rows))
    (builder.context / "attempts").write_text(f"set +e\n{script}\n")
    done = builder.build(
        BASE + DOCKERFILE, "--output=type=tar,dest=out.tar", TORANA_RUNTIME=runtime
    )
    assert done.returncode == 0, done.stderr
    with tarfile.open(builder.folder / "out.tar") as tar:
        file = tar.extractfile("found")
        assert file is not None
        *found, end = file.read().decode().split()
    assert end == "end"
    assert [rows[int(line)].strip() for line in found] == []
