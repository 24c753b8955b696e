"""The log: one line per record, whatever is in it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microq.log import quoted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("hello", '"hello"'),
        ("", '""'),
        ("Grüße 🐝", '"Grüße 🐝"'),
        ('say "no"', r'"say \"no\""'),
        ("two\nlines", r'"two\nlines"'),
        ("\r\n", r'"\r\n"'),
        ("a\tb", r'"a\tb"'),
        ("\x00\x07\x7f", r'"\x00\x07\x7f"'),
        ("\x1b[31mred\x1b[0m", r'"\x1b[31mred\x1b[0m"'),
        ("\x9b31m", r'"\x9b31m"'),
        ("\u202egnp.exe", r'"\u202egnp.exe"'),
        ("\u2028", r'"\u2028"'),
        ("\u200b", r'"\u200b"'),
        ("\ud800", r'"\ud800"'),
    ],
)
def test_a_text_is_quoted_so_that_it_cannot_forge_or_colour_a_line(text: str, shown: str) -> None:
    assert quoted(text) == shown


@given(st.text())
def test_any_quoted_text_is_printable(text: str) -> None:
    assert quoted(text).isprintable()


def test_a_long_text_is_cut_and_its_length_told() -> None:
    assert quoted("x" * 200) == '"' + "x" * 200 + '"'
    assert quoted("x" * 201) == '"' + "x" * 200 + '"… (201 characters)'


def logged(program: str) -> list[str]:
    """The lines that a process writes."""
    setup = "import logging; from microq import log; log.setup('messages-5001'); say = logging.getLogger('microq.x')\n"
    done = subprocess.run([sys.executable, "-c", setup + program], capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.removesuffix("\n").split("\n")


FORGED = "a\\n2026-11-24T10:00:00.000 INFO    messages-5001    received forged\\x1b[31m\\x9b2J\\u202e"


def test_nothing_that_is_logged_can_forge_a_line_or_colour_a_terminal() -> None:
    (line,) = logged(f"say.info('received %s', '{FORGED}')")
    assert line.isprintable()
    assert r"received a\n2026" in line


def test_a_traceback_cannot_forge_a_line_either() -> None:
    first, *rest = logged(f"try:\n    raise ValueError('{FORGED}')\nexcept ValueError:\n    say.exception('odd')")
    assert first.endswith("odd")
    assert any("received forged" in line for line in rest)
    assert all(line.startswith("  ") and line.isprintable() for line in rest)


def test_every_process_writes_time_level_name_and_text() -> None:
    program = (
        "import logging; from microq import log; log.setup('messages-5001');"
        "logging.getLogger('microq.x').info('received %s', 'a'); logging.getLogger('microq.x').debug('hidden')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    line = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3} INFO    messages-5001    received a\n"
    assert re.fullmatch(line, done.stdout)
    assert not done.stderr
