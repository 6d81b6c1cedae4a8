"""Suggestions for mistyped names."""

from __future__ import annotations

from collections.abc import Iterable

MAX_DISTANCE = 2


def suggest(word: str, candidates: Iterable[str], *, ignore_case: bool = False) -> str | None:
    """Give the nearest candidate by Levenshtein distance, if that is 1 or 2.

    A word that equals a candidate gets none; of several equally near ones the first counts.
    """
    wanted = word.lower() if ignore_case else word
    best: tuple[int, str] | None = None
    for candidate in candidates:
        compared = candidate.lower() if ignore_case else candidate
        if compared == wanted:
            return None
        if abs(len(compared) - len(wanted)) > MAX_DISTANCE:
            continue
        found = distance(wanted, compared)
        if found <= MAX_DISTANCE and (best is None or found < best[0]):
            best = (found, candidate)
    return None if best is None else best[1]


def did_you_mean(word: str, candidates: Iterable[str], *, ignore_case: bool = False) -> str:
    """Give ` (did you mean X?)`, or nothing."""
    near = suggest(word, candidates, ignore_case=ignore_case)
    return "" if near is None else f" (did you mean {near}?)"


def distance(one: str, other: str) -> int:
    """Count the insertions, deletions and replacements between two words."""
    row = list(range(len(other) + 1))
    for index, char in enumerate(one, 1):
        diagonal, row[0] = row[0], index
        for column, against in enumerate(other, 1):
            replaced = diagonal + (char != against)
            diagonal = row[column]
            row[column] = min(replaced, row[column] + 1, row[column - 1] + 1)
    return row[-1]
