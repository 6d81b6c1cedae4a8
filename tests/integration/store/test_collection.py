"""Records as a user sees and removes them, and garbage collection after builds."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from tests.integration.store.conftest import Project

pytestmark = pytest.mark.needs("root", "busybox")

OUTPUT = ("-o", "type=oci,dest=/dev/null")


def records(project: Project, *filters: str) -> list[dict[str, object]]:
    arguments = [part for text in filters for part in ("--filter", text)]
    shown = project.run("du", "--format=json", *arguments)
    assert shown.returncode == 0, shown.stderr
    found: list[dict[str, object]] = json.loads(shown.stdout)
    return found


def wait_until_collected(project: Project, *, after: float) -> None:
    """Wait for the process that collects: it holds a lock while it works."""
    import fcntl

    deadline = time.monotonic() + 60
    stamp = project.store / "collected"
    while not (stamp.exists() and stamp.stat().st_mtime >= after):
        assert time.monotonic() < deadline, "nothing was collected"
        time.sleep(0.05)
    with open(project.store / "locks" / "prune", "ab") as lock:
        time.sleep(0.1)
        fcntl.flock(lock, fcntl.LOCK_EX)


def test_du_shows_what_prune_removes(project: Project) -> None:
    built = project.run("build", *OUTPUT, ".")
    assert built.returncode == 0, built.stderr
    found = records(project)
    by_type = {str(record["recordType"]) for record in found}
    assert by_type == {"regular", "exec.cachemount"}
    [cache] = records(project, "type==exec.cachemount")
    assert cache["mutable"] is True
    assert cache["parents"] == []
    assert not any(record["inUse"] for record in found)
    children = records(project, f"parents=={found[-1]['id']}")
    assert all(found[-1]["id"] in child["parents"] for child in children)  # type: ignore[operator]  # a list

    verbose = project.run("du", "-v", "--filter", f"id=={cache['id']}").stdout
    for line in ("Mutable:        true", "Reclaimable:    true", "Type:           exec.cachemount"):
        assert line in verbose
    table = project.run("du").stdout.splitlines()
    assert table[0].split() == ["ID", "RECLAIMABLE", "SIZE", "LAST", "USED", "DESCRIPTION"]
    assert [line.split()[0] for line in table[-2:]] == ["Reclaimable:", "Total:"]
    assert any(line.startswith(f"{cache['id']}*") for line in table)

    assert project.run("prune", "--keep-duration=1h").stdout.split() == ["Total:", "0B"]
    pruned = project.run("prune", "-f", "type==exec.cachemount", "--format=json").stdout
    assert [json.loads(line)["id"] for line in pruned.splitlines()] == [cache["id"]]
    assert len(project.run("prune").stdout.splitlines()) == len(found) - 1 + 2
    assert project.run("du").stdout.split()[-1] == "0B"
    assert project.check() == "the store is consistent\n"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("prune", "--filter", "id=x"), "invalid filter: unsupported operator `=`"),
        (("du", "--filter", "id~=("), "invalid filter: invalid pattern"),
        (("prune", "--max-used-space=lots"), "invalid --max-used-space: `lots`"),
        (("prune", "--keep-duration=soon"), "invalid --keep-duration: `soon`"),
    ],
)
def test_mistakes(project: Project, arguments: tuple[str, ...], problem: str) -> None:
    project.store.mkdir()
    result = project.run(*arguments)
    assert result.returncode in (1, 2)
    assert problem in result.stderr
    assert "Traceback" not in result.stderr


def test_pruning_beside_a_build_takes_nothing_that_it_uses(project: Project) -> None:
    assert project.run("build", *OUTPUT, ".").returncode == 0
    [cache] = records(project, "type==exec.cachemount")
    project.add(
        "RUN --mount=type=cache,target=/ran echo begun; until [ -e /ran/go ]; do sleep 0.1; done;"
        " cat /one /two /both > /all"
    )
    build = project.start("build", "--progress=plain", *OUTPUT, ".")
    assert build.stderr is not None
    for line in build.stderr:
        if line.rstrip().endswith(" begun"):
            break
    drain = threading.Thread(target=build.communicate)
    drain.start()
    pruned = project.run("prune", "--all")
    assert pruned.returncode == 0, pruned.stderr
    in_use = [record for record in records(project) if record["inUse"]]
    assert len(in_use) >= 4
    (project.store / "cachemounts" / str(cache["id"]) / "fs" / "go").touch()
    drain.join(timeout=60)
    assert build.returncode == 0
    assert project.check() == "the store is consistent\n"


def test_garbage_is_collected_after_a_build(project: Project) -> None:
    began = time.time()
    built = project.run("build", *OUTPUT, ".", TORANA_GC="max-used-space=1")
    assert built.returncode == 0, built.stderr
    wait_until_collected(project, after=began - 1)
    assert records(project) == []
    # At most once a minute.
    assert project.run("build", *OUTPUT, ".", TORANA_GC="max-used-space=1").returncode == 0
    assert len(records(project)) > 3
    assert project.check() == "the store is consistent\n"


def test_collecting_can_be_turned_off(project: Project) -> None:
    assert project.run("build", *OUTPUT, ".", TORANA_GC="off").returncode == 0
    assert not Path(project.store / "collected").exists()
    wrong = project.run("build", *OUTPUT, ".", TORANA_GC="sometimes")
    assert wrong.returncode == 2
    assert "invalid TORANA_GC" in wrong.stderr
