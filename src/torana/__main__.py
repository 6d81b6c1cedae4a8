"""`torana` and `python -m torana`: the front door, which imports as little as it can."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Answer from the memo where nothing changed, else run the command line for real."""
    from torana.cli import front

    code = front.run(sys.argv[1:])
    gc.freeze()  # the interpreter looks for cycles at its end, which nobody needs: 30 ms of 36
    sys.exit(code)


if __name__ == "__main__":
    main()
