"""Builds and prunings that are killed, or run out of space, at random points; run as a program.

    trials.py ROOT CONTEXT SEED COUNT

A process without threads forks one child after the other, for importing takes longer than a small
build. Each trial: a child works on the store until a fault happens to it; then another one opens
the store, checks it and builds everything again, which must give what it gave the first time. The
store lies on a small file system in memory: start this in a mount namespace of its own.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from torana.core.cache.policy import GCPolicy
from torana.core.errors import ToranaError
from torana.core.snapshots import mounts
from torana.core.testing.faults import Fault, counted, failing
from torana.core.worker import Worker
from torana.gateway.engines.embedded import EmbeddedEngine
from torana.gateway.engines.engine import BuildRequest, ExportRequest

FAILED, WRONG = 3, 4  # exit codes: as a full disk has it; as it must never be
SIZE_BYTES = 12 << 20
TARGETS = ("one", "two", "three")


class Nowhere:
    def emit(self, event: object) -> None:
        """Ignore the event."""


class Trials:
    def __init__(self, root: Path, context: Path, random_: random.Random) -> None:
        self.root = root
        self.store = root / "store"
        self.context = context
        self.random = random_
        self.expected: list[str] = []  # digests

    # What children do

    def build(self, *targets: str) -> list[str]:
        """Build some targets; gives their digests."""

        async def run() -> list[str]:
            async with EmbeddedEngine.open(self.store) as engine:
                results = [await engine.build(self.request(each), Nowhere()) for each in targets]
            return [result.response["containerimage.digest"] for result in results]

        return asyncio.run(run())

    def request(self, target: str) -> BuildRequest:
        dest = str(self.root / f"{target}.tar")
        attrs = {"rewrite-timestamp": "true", "compression": "uncompressed"}
        return BuildRequest(
            frontend="dockerfile.v0",
            options={"target": target, "build-arg:SOURCE_DATE_EPOCH": "1"},
            local_dirs={"context": self.context, "dockerfile": self.context},
            exports=[ExportRequest(type="oci", attrs=attrs, dest=dest)],
        )

    def work(self) -> None:
        """Build, prune, and build again."""
        self.build("one", "two")
        self.prune(GCPolicy(filters=("description~=two",)), GCPolicy(max_used_bytes=100_000))
        self.build("three")

    def prune(self, *policies: GCPolicy) -> None:
        worker = Worker.open(self.store)
        try:
            worker.prune(policies)
        finally:
            worker.close()

    def check(self) -> None:
        """Open the store, check it, and compare what it builds."""
        worker = Worker.open(self.store)
        try:
            for finding in worker.dropped:
                print(f"  {finding}")
            findings = worker.upkeep.check(is_verified=True)
            assert not findings, "; ".join(map(str, findings))
            for folder in ("content/ingest", "views", "mounts"):
                left = (
                    set(os.listdir(self.store / folder)) if (self.store / folder).exists() else {}
                )
                assert not left, f"left in {folder}: {left}"
        finally:
            worker.close()
        digests = self.build(*TARGETS)
        assert digests == self.expected, f"built {digests}, expected {self.expected}"

    def check_and_empty(self) -> None:
        self.check()
        self.prune(GCPolicy(is_all=True))
        left = list((self.store / "content" / "blobs" / "sha256").iterdir())
        assert not left, f"left in content: {left}"

    # What we do

    def child(self, call: Callable[[], object]) -> int:
        """Give the process id of a child that does `call`."""
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            return pid
        code = WRONG
        try:
            call()
            code = 0
        except (OSError, ToranaError) as err:
            print(f"  failed: {err}")
            code = FAILED
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def must(self, call: Callable[[], object], what: str) -> None:
        _, status = os.waitpid(self.child(call), 0)
        if status:
            sys.exit(f"{what}: ended with {os.waitstatus_to_exitcode(status)}")

    def prepare(self) -> int:
        """Give the number of points that the work passes."""
        report = self.root / "report"

        def run() -> None:
            with counted() as points:
                self.work()
            print("points:", *sorted(set(points.names)))
            report.write_text(" ".join([str(len(points.names)), *self.build(*TARGETS)]))
            self.prune(GCPolicy(is_all=True))

        self.must(run, "the work without a fault")
        count, *self.expected = report.read_text().split()
        return int(count)

    def trial(self, number: int, points: int) -> None:
        kind = self.random.choice(["kill", "kill", "no space", "full", "signal", "disk"])
        point = self.random.randint(1, points)
        delay_s = self.random.uniform(0.0, 0.25)
        print(f"trial {number}: {kind} at {point}, {delay_s:.3f} s")
        filler = self.root / "filler"
        if kind == "disk":
            self.fill(filler)
        if kind in ("signal", "disk"):
            pid = self.child(self.work)
        else:

            def run() -> None:
                with failing(point, Fault(kind)):
                    self.work()

            pid = self.child(run)
        if kind == "signal":
            time.sleep(delay_s)
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        filler.unlink(missing_ok=True)
        code = os.waitstatus_to_exitcode(status)
        if code not in (0, FAILED, -signal.SIGKILL):
            sys.exit(f"the child ended with {code}")
        # A store that has everything is worth a trial, too, but an empty one does more.
        self.must(self.check_and_empty if number % 3 else self.check, "afterwards")

    def fill(self, filler: Path) -> None:
        """Leave a random bit of space."""
        status = os.statvfs(self.root)
        left = self.random.randint(0, 200)
        with open(filler, "wb") as file:
            for _ in range(max(0, status.f_bfree - left)):
                file.write(bytes(status.f_frsize))


def main() -> None:
    root, context, seed, count = Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
    os.environ["TORANA_GC"] = "off"
    mounts.mount("tmpfs", str(root), "tmpfs", 0, f"size={SIZE_BYTES}")
    trials = Trials(root, context, random.Random(seed))
    points = trials.prepare()
    for number in range(count):
        trials.trial(number, points)


if __name__ == "__main__":
    main()
