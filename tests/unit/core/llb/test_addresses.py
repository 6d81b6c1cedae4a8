from __future__ import annotations

import pytest

from torana.core.llb.addresses import host_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("::FFFF:1.2.3.4", "1.2.3.4"),
        ("::ffff:102:304", "1.2.3.4"),
    ],
)
def test_forms(text: str, expected: str) -> None:
    assert host_address(text) == expected


@pytest.mark.parametrize("text", ["", "host", "1.2.3", "01.2.3.4", "1.2.3.4/24", "fe80::1%eth0"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        host_address(text)
