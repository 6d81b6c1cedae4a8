"""The overlay snapshotter where the kernel's overlays do not work, but fuse-overlayfs does.

Each mount is a process of its own, which serves the tree. It runs in the foreground and as a child
of this process, whose death ends it: in the background it would keep the mount namespace alive.

What it leaves in upper directories is its own: `.wh.` files beside or instead of whiteouts, and
marks of opaque directories under other names. So nobody else looks into them: changes come from
comparing the trees as they are shown, and stacks are made by links.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from torana.core.errors import UnsupportedError
from torana.core.snapshots import changes, mounts
from torana.core.snapshots.overlay import OverlaySnapshotter
from torana.core.snapshots.snapshotter import Change, LayerOf
from torana.core.snapshots.stacks import Locate, deletion_of_all, source_of, topmost

PROGRAM: Final = "fuse-overlayfs"
_DEVICE: Final = "/dev/fuse"
_WRITTEN: Final = ("upperdir", "workdir")
_POLL_S: Final = 0.002
_START_S: Final = 30.0
_END_S: Final = 30.0  # for what it still has to write


class FuseOverlaySnapshotter(OverlaySnapshotter):
    """Snapshots as overlays by fuse-overlayfs, whose path is `program`.

    The process must be in a private mount namespace. Mounting raises `UnsupportedError` with what
    the program says if it does not start.
    """

    name = "fuse-overlayfs"

    def __init__(self, root: Path, *, program: str = PROGRAM) -> None:
        super().__init__(root)
        self._program = program
        self._servers: dict[str, _Server] = {}

    def directories(self, name: str) -> list[str]:
        """Give the top directory alone: what is below it is for the program to put together."""
        return [str(self.tree(name))]

    def lowers(self, name: str) -> list[str]:
        return [str(self.tree(link)) for link in self._folders.chain(name)]

    def changes(self, name: str | None, parent: str | None) -> Iterator[Change]:
        with contextlib.ExitStack() as stack:
            below = None
            if parent is not None:
                below = os.fsencode(stack.enter_context(self.mount(parent, readonly=True)))
            if name is not None:
                above = stack.enter_context(self.mount(name, readonly=True))
                yield from changes.walk_both(below, os.fsencode(above))
            elif below is not None:
                yield from deletion_of_all(below)

    def locator(self, layer: LayerOf) -> Locate:
        """Look for the file itself: there are no links from a mount to elsewhere."""
        if layer.upper is None:
            return source_of
        return topmost(self.lowers(layer.upper))

    def _fill(self, name: str, tree: Path, layers: Sequence[LayerOf]) -> None:
        base, rest = self.base_of(layers)
        whole = [] if base is None else [LayerOf(base, None)]
        self.link_layers([*whole, *rest], tree)

    def _show(
        self, target: str, lowers: Sequence[str], upper: str | None = None, work: str | None = None
    ) -> None:
        self._servers[target] = _Server(self._program, target, lowers, upper, work)

    def _hide(self, target: str) -> None:
        server = self._servers.pop(target, None)
        if server is None:
            mounts.unmount(target)  # a single directory is bound
        else:
            server.close()


class _Server:
    """A process that serves a mount at `target` until it is closed."""

    def __init__(
        self,
        program: str,
        target: str,
        lowers: Sequence[str],
        upper: str | None,
        work: str | None,
    ) -> None:
        self._target = target
        self._started = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: OSError | None = None
        # Names relative to a folder of links: options have `:` and `,` between paths.
        self._links = tempfile.TemporaryDirectory(
            prefix=mounts.LINKS_PREFIX, dir=os.path.dirname(target)
        )
        try:
            for number, lower in enumerate(lowers):
                os.symlink(os.path.abspath(lower), f"{self._links.name}/{number}")
            options = ["lowerdir=" + ":".join(map(str, range(len(lowers))))]
            if upper is None:
                options.append("ro")
            else:
                # It resolves this name and then takes `:` for the end of it. One bind for both: the
                # program moves files from one to the other.
                os.mkdir(f"{self._links.name}/top")
                folder = os.path.commonpath([upper, work or upper])
                mounts.bind(folder, f"{self._links.name}/top")
                names = (os.path.relpath(path, folder) for path in (upper, work or upper))
                options += [f"{key}=top/{name}" for key, name in zip(_WRITTEN, names, strict=True)]
            line = [_guard(), "--pdeathsig", "KILL", "--", program, "-f"]
            self._line = [*line, "-o", ",".join(options), os.path.abspath(target)]
            self._device = os.stat(target).st_dev
            # The thread that starts it waits for it, too: its death would count as the parent's.
            self._thread = threading.Thread(target=self._run, name="fuse-overlayfs", daemon=True)
            self._thread.start()
            self._wait()
        except BaseException:
            self.close()
            raise

    def _run(self) -> None:
        with open(f"{self._links.name}/log", "wb") as log:
            try:
                self._process = subprocess.Popen(
                    self._line,
                    cwd=self._links.name,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={"PATH": os.environ.get("PATH", os.defpath)},
                    start_new_session=True,  # signals of the terminal are for us alone
                )
            except OSError as err:
                self._failure = err
            finally:
                self._started.set()
        if self._process is not None:
            self._process.wait()

    def _wait(self) -> None:
        """Wait until the tree is there.

        Raises:
            UnsupportedError: the program ended, or does not begin.
        """
        self._started.wait()
        deadline = time.monotonic() + _START_S
        while self._process is not None and self._thread.is_alive():
            if os.stat(self._target).st_dev != self._device:
                return
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
        said = Path(self._links.name, "log").read_text(errors="replace").strip().splitlines()
        why = self._failure or (said[-1] if said else "it does not begin")
        raise UnsupportedError(f"{PROGRAM} cannot mount: {why}", hint=why_no_fuse())

    def close(self) -> None:
        """Unmount, and wait until all is written."""
        mounts.unmount(self._target)
        if self._process is not None:
            self._thread.join(_END_S)
            if self._thread.is_alive():
                self._process.kill()
                self._thread.join()
        mounts.unmount(f"{self._links.name}/top")
        self._links.cleanup()


def why_no_fuse(program: str = PROGRAM) -> str | None:
    """Say what is missing that can be seen without trying: program, device, right to open it."""
    if shutil.which(program) is None:
        return f"`{program}` is not on PATH"
    if not os.path.exists(_DEVICE):
        return f"there is no {_DEVICE}"
    try:
        os.close(os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as err:
        return f"{_DEVICE} cannot be opened: {(err.strerror or str(err)).lower()}"
    return None


def _guard() -> str:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise UnsupportedError("`setpriv` is not on PATH", hint="install util-linux")
    return setpriv
