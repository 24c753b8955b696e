"""`microq dead`: a real facade, told by the command; and what it says when there is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from support import letters
from support.commands import complaint, observed, until
from support.letters import letter
from support.project import Project


@pytest.fixture
def plant(system: Project) -> Iterator[Any]:
    """What puts dead letters into the shared system; they are gone afterwards."""
    yield partial(letters.plant, system)
    letters.plant(system)


def ids(system: Project) -> list[str]:
    done = system.microq("dead", "list", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return [each["uuid"] for each in json.loads(done.stdout)]


def test_none_is_said_plainly(system: Project) -> None:
    done = system.microq("dead", "list")
    assert (done.returncode, done.stdout, done.stderr) == (0, "There are no dead letters.\n", "")
    assert json.loads(system.microq("dead", "list", "--json").stdout) == []


def test_each_is_shown_and_how_to_replay_it(system: Project, plant: Any) -> None:
    plant(letter("id-1"), letter("id-2", "\x1b[31mred\nline", replayable=False))
    done = system.microq("dead", "list")
    assert done.returncode == 0
    assert "2 dead letters" in done.stdout
    for part in ("id-1", "not stored after 5 deliveries", "1m3", "by facade", '"hello"', "cannot be replayed"):
        assert part in done.stdout
    assert r"\x1b[31mred\nline" in done.stdout
    assert "microq dead replay ID" in done.stderr
    until(lambda: "2 dead letters wait: `microq dead list` shows why" in system.microq("queue").stdout)
    assert observed(system)["queue"]["dead"] == 2


def test_several_are_dropped_and_the_others_stay(system: Project, plant: Any) -> None:
    plant(letter("id-1"), letter("id-2"), letter("id/3 ü"))
    done = system.microq("dead", "drop", "id-1", "id/3 ü", "id-1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Dropped 2 dead letters.\n", "")
    assert ids(system) == ["id-2"]
    assert json.loads(system.microq("dead", "drop", "all", "--json").stdout) == {"verb": "drop", "uuids": ["id-2"]}
    assert ids(system) == []
    assert system.microq("dead", "drop", "all").stdout == "Dropped 0 dead letters.\n"


def test_what_is_replayed_is_shown_and_what_cannot_be_stays(system: Project, plant: Any) -> None:
    plant(letter("replayed-1", "said again"), letter("foreign", "[]", replayable=False))
    done = system.microq("dead", "replay", "all")
    assert (done.returncode, done.stdout) == (0, "Replayed 1 dead letter.\n")
    assert done.stderr.startswith("1 cannot be replayed: they are not messages of microq")
    assert ids(system) == ["foreign"]
    until(lambda: "said again" in json.loads(system.microq("read", "-n", "12", "--json").stdout)["messages"])


@pytest.mark.parametrize("verb", ["replay", "drop"])
def test_an_unknown_id_is_one_line_and_changes_nothing(verb: str, system: Project, plant: Any) -> None:
    plant(letter("id-1"))
    assert "nosuch is not a dead letter" in complaint(system.microq("dead", verb, "id-1", "nosuch"), 2)
    assert ids(system) == ["id-1"]


def test_one_that_cannot_be_replayed_says_so_and_changes_nothing(system: Project, plant: Any) -> None:
    plant(letter("id-1"), letter("foreign", replayable=False))
    line = complaint(system.microq("dead", "replay", "id-1", "foreign"), 2)
    assert "foreign is not a message and cannot be replayed" in line
    assert set(ids(system)) == {"id-1", "foreign"}


@pytest.mark.parametrize("words", ["list", "replay id-1", "drop all"])
def test_without_a_system_there_is_one_line(words: str, project: Project) -> None:
    assert "`microq up` starts the system" in complaint(project.microq("dead", *words.split()), 3)


def test_a_verb_needs_an_id(project: Project) -> None:
    assert project.microq("dead", "drop").returncode == 2
