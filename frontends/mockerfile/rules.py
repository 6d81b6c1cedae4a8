"""Lint rules of Mockerfiles."""

from __future__ import annotations

from typing import Final

from torana.frontends.kit import Rule

UNUSED_KEY: Final = Rule("UnusedKey", "Keys that mean nothing in this version should be left out")
MISSING_CHECKSUM: Final = Rule("MissingChecksum", "Downloads should have a sha256")
LOST_INSTALL: Final = Rule(
    "LostInstall",
    "Commands of a download run where it was fetched: only its destination is kept",
)
ARCHIVE_INTO_FOLDER: Final = Rule(
    "ArchiveIntoFolder",
    "An archive is unpacked into a folder that the image has: the original makes a folder in it",
)
RULES: Final = (UNUSED_KEY, MISSING_CHECKSUM, LOST_INSTALL, ARCHIVE_INTO_FOLDER)
BY_NAME: Final = {rule.name: rule for rule in RULES}
