"""`SecretReaderSuite`: what every reader of secrets must do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from torana.core.errors import ToranaError
from torana.core.records import dataclass
from torana.plugins.secretreader import SecretReader


@dataclass(frozen=True)
class Offered:
    """A secret that is there, and fields that name one that is not."""

    id: str
    fields: Mapping[str, str]
    value: bytes
    missing: Mapping[str, str]


class SecretReaderSuite:
    """Subclasses have the fixtures `reader` and `offered`."""

    def test_accepts_what_is_there(self, reader: SecretReader, offered: Offered) -> None:
        reader.check(offered.id, offered.fields)

    def test_gives_the_bytes_each_time(self, reader: SecretReader, offered: Offered) -> None:
        async def twice() -> list[bytes]:
            return [await reader.read(offered.id, offered.fields) for _ in range(2)]

        assert asyncio.run(twice()) == [offered.value] * 2

    def test_refuses_unknown_fields(self, reader: SecretReader, offered: Offered) -> None:
        with pytest.raises(ToranaError, match=r"\S"):
            reader.check(offered.id, {**offered.fields, "no-such-field": "x"})

    def test_tells_what_is_missing_before_the_build(
        self, reader: SecretReader, offered: Offered
    ) -> None:
        with pytest.raises(ToranaError) as caught:
            reader.check(offered.id, offered.missing)
        assert offered.id in str(caught.value)

    def test_no_error_has_the_value(self, reader: SecretReader, offered: Offered) -> None:
        value = offered.value.decode("utf-8", "replace")
        for fields in (offered.missing, {**offered.fields, "no-such-field": "x"}):
            with pytest.raises(ToranaError) as caught:
                reader.check(offered.id, fields)
            assert value not in f"{caught.value} {caught.value.hint}"
