"""The front door: `--version` and unchanged builds are answered here, without heavy imports.

Anything else, and any doubt, goes to `torana.cli.app`. See `docs/design/memo.md`.
"""

from __future__ import annotations

import os
import sys

from torana import __version__


def run(argv: list[str]) -> int:
    """Run the command line `argv` (without the program's name) and give the exit code."""
    if argv == ["--version"]:
        print(f"torana {__version__}")
        return 0
    if argv[:1] == ["build"]:
        from torana.cli import memo

        answer = memo.recall(argv)
        if answer is not None:
            sys.stderr.flush()
            sys.stdout.flush()
            _write(2, answer.stderr)
            _write(1, answer.stdout)
            os._exit(0)  # nothing was started that would need an orderly end
    from torana.cli import app

    return app.run(argv)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
