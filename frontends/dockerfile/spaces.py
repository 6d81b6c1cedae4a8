"""White space as Go's `unicode.IsSpace` has it; Python's own methods take more for blanks."""

from __future__ import annotations

import re
from typing import Final

SPACES: Final = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
ANY_SPACES: Final = re.compile(f"[{SPACES}]+")
BLANKS: Final = re.compile(r"[\t\v\f\r ]+")  # what separates words within an instruction


def split_blanks(text: str) -> list[str]:
    """Split at runs of blanks; nothing in an empty text."""
    return BLANKS.split(text) if text else []
