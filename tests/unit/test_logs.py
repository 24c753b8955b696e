"""The log files: the last lines in the order of their times, and new ones as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest

from microq.terminal import logs
from microq.terminal.style import COLOURS

DEADLINE = 5.0


def line(second: int, text: str) -> str:
    return f"2026-11-24T10:00:{second:02d}.000 INFO    x                {text}\n"


def write(folder: Path, name: str, *lines: str, mode: str = "w") -> Path:
    file = folder / f"{name}.log"
    with file.open(mode, encoding="utf-8") as out:
        out.writelines(lines)
    return file


async def take(lines: AsyncIterator[logs.Line], count: int) -> list[logs.Line]:
    async with asyncio.timeout(DEADLINE):
        return [await anext(lines) for _ in range(count)]


def test_last_lines_of_files_are_in_order_of_time(tmp_path: Path) -> None:
    files = [
        write(tmp_path, "a", line(1, "one"), line(3, "three")),
        write(tmp_path, "b", line(2, "two"), line(4, "four")),
    ]
    shown = logs.last(files, 10)
    assert [name for name, _ in shown] == ["a", "b", "a", "b"]
    assert [text.split()[-1] for _, text in shown] == ["one", "two", "three", "four"]


def json_line(second: int, text: str) -> str:
    at = datetime(2026, 11, 24, 10, 0, second).astimezone().isoformat(timespec="milliseconds")
    return json.dumps({"at": at, "level": "INFO", "process": "x", "message": text}) + "\n"


def test_lines_of_both_formats_are_in_the_order_of_their_times(tmp_path: Path) -> None:
    files = [
        write(tmp_path, "a", json_line(1, "one"), line(3, "three")),
        write(tmp_path, "b", line(2, "two"), json_line(4, "four")),
    ]
    shown = [logs.readable(text) for _, text in logs.last(files, 10)]
    assert [f"{text}\n" for text in shown] == [
        line(n, word) for n, word in enumerate(("one", "two", "three", "four"), 1)
    ]


def test_a_json_line_cannot_colour_or_move_the_terminal_either() -> None:
    shown = logs.readable(json_line(1, "two\nlines \x1b[31m").rstrip())
    assert shown.isprintable()
    assert r"two\nlines \x1b[31m" in shown


def test_of_each_file_as_many_as_asked_for(tmp_path: Path) -> None:
    files = [write(tmp_path, name, *(line(n, str(n)) for n in range(9))) for name in ("a", "b")]
    assert len(logs.last(files, 3)) == 6
    assert logs.last(files, 0) == []
    assert logs.last([], 3) == []


def test_one_file_is_shown_as_it_is_written(tmp_path: Path) -> None:
    file = write(tmp_path, "a", line(2, "an error"), "Traceback\n", "  File\n", line(1, "earlier"))
    assert [text for _, text in logs.last([file], 9)][1:3] == ["Traceback", "  File"]


def test_a_traceback_stays_behind_its_line(tmp_path: Path) -> None:
    files = [
        write(tmp_path, "a", line(1, "an error"), "Traceback\n", "  File\n"),
        write(tmp_path, "b", line(2, "later")),
    ]
    assert [text.split()[-1] for _, text in logs.last(files, 9)] == ["error", "Traceback", "File", "later"]


def test_what_is_no_utf8_is_shown_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.write_bytes(b"\xff\xfe\n")
    assert logs.last([file], 1) == [("a", "\ufffd\ufffd")]


async def test_only_what_is_new_is_followed(tmp_path: Path) -> None:
    write(tmp_path, "a", line(1, "old"))
    following = logs.follow(tmp_path, ["a"])
    first = asyncio.ensure_future(take(following, 1))
    await asyncio.sleep(logs.LOOK)
    write(tmp_path, "a", line(2, "new"), mode="a")
    assert [text.split()[-1] for _, text in await first] == ["new"]


async def test_a_file_that_comes_later_is_followed_from_its_start(tmp_path: Path) -> None:
    first = asyncio.ensure_future(take(logs.follow(tmp_path, ["a", "b"]), 2))
    await asyncio.sleep(logs.LOOK)
    write(tmp_path, "b", line(1, "one"), line(2, "two"))
    assert [(name, text.split()[-1]) for name, text in await first] == [("b", "one"), ("b", "two")]


async def test_from_the_start_shows_what_was_there(tmp_path: Path) -> None:
    write(tmp_path, "a", line(1, "old"))
    shown = await take(logs.follow(tmp_path, ["a"], from_start=True), 1)
    assert shown[0][1].endswith("old")


async def test_half_a_line_waits_for_its_other_half(tmp_path: Path) -> None:
    write(tmp_path, "a", "whole\nha")
    following = logs.follow(tmp_path, ["a"], from_start=True)
    assert await take(following, 1) == [("a", "whole")]
    second = asyncio.ensure_future(take(following, 1))
    await asyncio.sleep(logs.LOOK * 2)
    assert not second.done()
    write(tmp_path, "a", "lf\n", mode="a")
    assert await second == [("a", "half")]


async def test_a_flood_comes_whole_and_in_order(tmp_path: Path) -> None:
    count = 60_000
    write(tmp_path, "a", *(f"line {n} {'x' * 40}\n" for n in range(count)))
    shown = await take(logs.follow(tmp_path, ["a"], from_start=True), count)
    assert [text.split()[1] for _, text in shown] == [str(n) for n in range(count)]


async def test_a_line_longer_than_a_look_does_not_stop_the_rest(tmp_path: Path) -> None:
    write(tmp_path, "a", "x" * (3 << 20) + "\n", "end\n")
    async with asyncio.timeout(DEADLINE):
        async for _, text in logs.follow(tmp_path, ["a"], from_start=True):
            if "end" in text:
                break
    assert text == "end"


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
async def test_only_a_line_feed_ends_a_line(tmp_path: Path, separator: str) -> None:
    write(tmp_path, "a", f"one{separator}still one\n")
    shown = await take(logs.follow(tmp_path, ["a"], from_start=True), 1)
    assert shown == [("a", f"one{separator}still one")]


def test_a_line_cannot_colour_or_move_the_terminal() -> None:
    assert logs.safe("\x1b[31mred\ta\u202e\r") == "\ufffd[31mred\ta\ufffd\ufffd"


def test_each_process_has_its_colour() -> None:
    names = [f"p{n}" for n in range(len(COLOURS) + 1)]
    styles = [logs.coloured(name, "x", names).style for name in names]
    assert styles == [*COLOURS, COLOURS[0]]


def test_only_files_that_are_there_are_listed(tmp_path: Path) -> None:
    file = write(tmp_path, "b", "x\n")
    assert logs.files_of(tmp_path, ["a", "b"]) == [file]
