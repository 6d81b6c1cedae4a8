"""Hypothesis strategies for build contexts. Needs hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

_NAMES = st.text("abcdefgh.-_ é", min_size=1, max_size=8).filter(lambda n: n.strip(". ") != "")


def paths(max_depth: int = 3) -> st.SearchStrategy[str]:
    """Relative paths without dots that lead upwards."""
    return st.lists(_NAMES, min_size=1, max_size=max_depth).map("/".join)


def contexts(max_files: int = 8) -> st.SearchStrategy[dict[str, bytes]]:
    """Files of a folder by path; no path is a folder of another one."""
    files = st.dictionaries(paths(), st.binary(max_size=64), max_size=max_files)
    return files.map(_without_files_as_folders)


def _without_files_as_folders(files: dict[str, bytes]) -> dict[str, bytes]:
    return {
        path: data
        for path, data in files.items()
        if not any(other.startswith(f"{path}/") for other in files)
    }
