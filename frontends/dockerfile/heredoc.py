"""Heredocs: finding `<<NAME` among the words of an instruction.

Spec: syntax reference, section 6.
"""

from __future__ import annotations

import re
from typing import Final

from torana.core.records import dataclass
from torana.frontends.dockerfile.expansion import Expander, ExpansionError

_WORD: Final = re.compile(r"(\d*)<<(-?)([^<]*)", re.ASCII | re.DOTALL)
_EXPANDER: Final = Expander()  # the escape character is the backslash here, whatever the file says


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A document inside an instruction; `content` keeps line ends and leading tabs as written."""

    name: str
    fd: int = 0
    expand: bool = True  # the name was not quoted
    chomp: bool = False  # `<<-`: leading tabs go away when it is used
    content: str = ""

    @property
    def chomped(self) -> str:
        """The content as it is used."""
        if not self.chomp:
            return self.content
        return "".join(f"{line.lstrip(chr(9))}\n" for line in self.content.split("\n")[:-1])


def parse_heredoc(word: str) -> Heredoc | None:
    """Read one word, quotes still in it; None if it is no heredoc.

    Raises:
        ExpansionError: quotes of the name do not match.
    """
    match = _WORD.fullmatch(word)
    if match is None or not match[3]:
        return None
    plain = _EXPANDER.expand(match[3], {}, skip_unset=True).words
    if len(plain) != 1:
        return None
    quoted = _EXPANDER.expand(match[3], {}, skip_unset=True, raw_quotes=True).words
    return Heredoc(
        name=plain[0],
        fd=int(match[1] or "0"),
        expand=quoted == plain,
        chomp=bool(match[2]),
    )


def find_heredocs(line: str) -> list[Heredoc]:
    """Give the heredocs of an instruction in order; none at all if its quoting is broken."""
    if "<<" not in line:
        return []
    try:
        words = _EXPANDER.expand(line, {}, raw_quotes=True, raw_escapes=True, skip_unset=True).words
        return [heredoc for word in words if (heredoc := parse_heredoc(word)) is not None]
    except ExpansionError:
        return []
