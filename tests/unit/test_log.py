"""The log: one line per record, whatever is in it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microq.log import Line, parse, quoted


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
def test_quoted_text_cannot_forge_or_colour_a_line(text: str, shown: str) -> None:
    assert quoted(text) == shown


@given(st.text())
def test_any_quoted_text_is_printable(text: str) -> None:
    assert quoted(text).isprintable()


def test_a_long_text_is_cut_and_its_length_told() -> None:
    assert quoted("x" * 200) == '"' + "x" * 200 + '"'
    assert quoted("x" * 201) == '"' + "x" * 200 + '"… (201 characters)'


def logged(program: str, more: str = "") -> list[str]:
    """The lines that a process writes; `more` goes to `setup`."""
    setup = f"import logging\nfrom microq import log\nlog.setup('messages-5001'{more})\n"
    setup += "say = logging.getLogger('microq.x')\n"
    done = subprocess.run([sys.executable, "-c", setup + program], capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.removesuffix("\n").split("\n")


FORGED = "a\\n2026-11-24T10:00:00.000 INFO    messages-5001    received forged\\x1b[31m\\x9b2J\\u202e"


def test_logged_text_cannot_forge_or_colour_a_line() -> None:
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


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("text", ["received a", 'took ["a", "b c"]', "two\nlines and {braces}", "", "Grüße 🐝"])
def test_a_line_of_either_format_is_read_back(form: str, text: str) -> None:
    began = time.time()
    (raw,) = logged(f"say.warning('%s', {text!r})", f", form={form!r}")
    line = parse(raw)
    assert line is not None
    assert (line.level, line.name, line.text) == ("WARNING", "messages-5001", text.replace("\n", r"\n"))
    assert abs(line.at - began) < 60
    assert parse(str(line)) == line


def test_a_json_line_is_one_object_with_the_trace_it_belongs_to() -> None:
    (raw,) = logged("say.info('hello')", ", form='json', trace_id=lambda: 'ab' * 16")
    fields = json.loads(raw)
    assert sorted(fields) == ["at", "level", "message", "process", "trace"]
    line = parse(raw)
    assert line
    assert line.trace == "ab" * 16


def test_a_traceback_is_in_its_json_line_and_in_the_text_of_it() -> None:
    program = f"try:\n    raise ValueError('{FORGED}')\nexcept ValueError:\n    say.exception('odd')"
    (raw,) = logged(program, ", form='json'")
    assert raw.isprintable()
    line = parse(raw)
    assert line
    first, *rest = str(line).split("\n")
    assert first.endswith("odd")
    assert rest
    assert all(each.startswith("  ") and each.isprintable() for each in rest)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "Traceback (most recent call last):",
        "  2026-11-24T10:00:00.000 INFO    x                indented",
        "2026-11-24T10:00:00.000 INFO",
        "2026-13-24T10:00:00.000 INFO    x                no such month",
        "{",
        "{}",
        '{"at": 3, "level": "INFO", "process": "x", "message": "m"}',
        '{"at": "yesterday", "level": "INFO", "process": "x", "message": "m"}',
        '{"at": "2026-11-24T10:00:00.000", "level": "INFO", "process": "x", "message": ["m"]}',
        '{"at": "2026-11-24T10:00:00.000", "level": "INFO", "process": "x", "message": "m", "trace": 1}',
        '{"a":' * 100_000,
    ],
)
def test_what_is_no_line_is_none(raw: str) -> None:
    assert parse(raw) is None


def test_the_time_of_a_line_is_kept_to_the_millisecond() -> None:
    line = Line(1_790_000_000.123, "INFO", "x", "text")
    assert str(line)[19:23] == ".123"
    assert parse(str(line) + "\n") == line


@given(st.text())
def test_any_text_is_parsed_or_refused(raw: str) -> None:
    assert parse(raw) is None or isinstance(parse(raw), Line)


def said_by(script: str) -> list[str]:
    """What a process writes to its log, one element for each write that its reader can tell apart."""
    body = f"import asyncio, logging, os, signal\nfrom microq import log\nlog.setup('facade-1')\n{script}"
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, timeout=30, check=False)
    assert not done.stderr
    return [line.rpartition("facade-1         ")[2] for line in done.stdout.splitlines()]


def test_without_a_loop_and_at_the_end_every_line_is_written() -> None:
    assert said_by("logging.info('one')\nos.kill(os.getpid(), signal.SIGKILL)") == ["one"]
    assert said_by("async def main():\n    logging.info('two')\nasyncio.run(main())") == ["two"]


TURN = """
async def main():
    logging.info('one')
    logging.{level}('two')
    {more}
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("level", "more", "found"),
    [
        ("info", "pass", []),
        ("info", "await asyncio.sleep(0)", ["one", "two"]),
        ("info", "log.flush()", ["one", "two"]),
        ("warning", "pass", ["one", "two"]),
    ],
    ids=["within a turn", "after it", "flushed", "a warning"],
)
def test_lines_are_written_per_turn_and_warnings_at_once(level: str, more: str, found: list[str]) -> None:
    assert said_by(TURN.format(level=level, more=more)) == found


FULL = """
import resource
lost = []
log.setup('facade-1', lost=lost.append)
logging.info('one')
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, hard))
logging.info('two')
logging.warning('three')
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
logging.info('four')
logging.info('five, %s', sum(lost))
"""


@pytest.mark.parametrize("room", [60, 80])
def test_lines_that_cannot_be_written_are_counted_not_torn(room: int, tmp_path: Path) -> None:
    body = f"import logging\nfrom microq import log\n{FULL.format(room=room)}"
    with (tmp_path / "log").open("wb") as out:
        done = subprocess.run([sys.executable, "-c", body], stdout=out, stderr=subprocess.PIPE, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = list(map(parse, (tmp_path / "log").read_text(encoding="utf-8").splitlines()))
    texts = [line.text for line in lines if line]
    assert texts[-3:] == ["2 lines are missing here: they could not be written", "four", "five, 2"]
    assert texts[0] == "one"


@pytest.mark.parametrize("where", [">/dev/full", "| true"])
def test_log_without_reader_ends_nothing(where: str) -> None:
    body = "import logging,sys,time\nfrom microq import log\nlost = []\nlog.setup('facade-1', lost=lost.append)\n"
    body += "time.sleep(0.3)\nfor _ in range(3): logging.info('line')\nsys.stderr.write(str(sum(lost)))"
    line = f'set -o pipefail; "$0" -c "$1" {where}'
    words = ["/bin/bash", "-c", line, sys.executable, body]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "3")
