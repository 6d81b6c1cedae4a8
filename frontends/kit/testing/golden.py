"""`Golden`: readable LLB in files that are reviewed like code."""

from __future__ import annotations

from pathlib import Path

from torana.core.records import dataclass
from torana.frontends.kit.testing.built import Built


@dataclass(frozen=True, slots=True)
class Golden:
    """Golden files of one folder; `--update-golden` writes them."""

    folder: Path
    is_updating: bool = False

    def check(self, name: str, built: Built) -> None:
        """Compare with `NAME.llb.txt`.

        Raises:
            AssertionError: they differ, or there is no such file yet.
        """
        path = self.folder / f"{name}.llb.txt"
        if self.is_updating:
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(built.text(), "utf-8")
            return
        if not path.exists():
            raise AssertionError(f"no golden file: {path.name}; run with --update-golden")
        assert built.text() == path.read_text("utf-8"), f"{path.name}: see --update-golden"
