"""Whatever is done to a Dockerfile, converting it ends in LLB or in an error with a place inside.

Files are those of the acceptance list, cut up and mixed. `TORANA_FUZZ` sets how many are tried; the
same number tries the same files.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from torana.core.errors import ToranaError
from torana.frontends.dockerfile import DockerfileFrontend
from torana.frontends.kit.offline import OfflineClient

FILES = int(os.environ.get("TORANA_FUZZ", "70000"))
PARTS = 10  # for as many processes
CASES = Path(__file__).resolve().parents[3] / "golden" / "dockerfile" / "recorded" / "cases.txt"
PIECES = (
    "\\|\\\n|\n|\r\n|\t|  |'|\"|`|$|${|}|${A:-|:?x}|#|//|%|<<EOF\n|<<-'E'|EOF|[|]|,|=|--|--from=|"
    "--mount=type=|--chmod=|\x00|\ufeff|é|\U0001f433|²|\x85|ONBUILD |FROM |ARG |RUN |COPY |"
    "# check=|# escape=`\n"
).split("|")


def _lines() -> list[str]:
    text = CASES.read_text(encoding="utf-8")
    return [line for line in text.split("\n") if not line.startswith(("=== ", "@ "))]


def _file(random_: random.Random, lines: list[str]) -> str:
    start = random_.randrange(len(lines))
    taken = lines[start : start + random_.randint(1, 12)]
    if random_.random() < 0.7:
        taken.insert(0, "FROM busybox AS a")
    text = "\n".join(taken)
    for _ in range(random_.randint(0, 6)):
        at = random_.randrange(len(text) + 1)
        end = at + random_.choice((0, 0, 0, 1, 3, 20))
        text = text[:at] + random_.choice(PIECES) + text[end:]
    return text


@pytest.mark.parametrize("part", range(PARTS))
async def test_a_file_is_converted_or_refused(tmp_path: Path, part: int) -> None:
    random_ = random.Random(f"{FILES} {part}")
    count = FILES // PARTS
    lines = _lines()
    file = tmp_path / "Dockerfile"
    folders = {"context": tmp_path, "dockerfile": tmp_path}
    refused = 0
    for _ in range(count):
        text = _file(random_, lines)
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            await DockerfileFrontend().build(OfflineClient(folders, {"cmdline": ""}))
        except ToranaError as err:
            refused += 1
            assert err.message
            last = text.count("\n") + 1
            for source in err.sources:
                for span in source.ranges:  # directives are counted from 0, as BuildKit does
                    assert 0 <= span.start.line <= span.end.line <= last, (text, err.message)
    assert 0 < refused < count
