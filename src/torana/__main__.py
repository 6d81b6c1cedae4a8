"""`torana` and `python -m torana`: the front door, which imports as little as it can."""

from __future__ import annotations

import sys


def main() -> None:
    """Answer from the memo where nothing changed, else run the command line for real."""
    from torana.cli import front

    sys.exit(front.run(sys.argv[1:]))


if __name__ == "__main__":
    main()
