"""The warning: one line that names what others can reach, and none for what they cannot."""

from __future__ import annotations

import pytest

from microq.caveats import exposed
from microq.settings import Address


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "localhost"])
def test_loopback_is_worth_no_word(host: str) -> None:
    assert exposed([("facade-5000", Address(host, 5000))]) == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "example.org", "127.0.0.1.example.org", "0"])  # noqa: S104
def test_any_other_address_is_named_in_one_line(host: str) -> None:
    line = exposed([("facade-5000", Address(host, 5000)), ("logging-5003", Address("127.0.0.1", 5003))])
    assert f"facade-5000 ({host}:5000)" in line
    assert "logging-5003" not in line
    assert "no authentication" in line
    assert line.isprintable()
