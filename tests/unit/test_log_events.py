"""Events in a log: each kind is written and read back by its own record, in both formats, whatever is in it."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from support.journeys import as_json

import microq.services
from microq import log
from microq.log import EVENTS, About, Line, LogEvent, quoted, read_event

VALUES = {
    "id": 'odd "id", which',
    "text": quoted('said "x", logged by logging-5004, in 3.1 ms'),
    "by": "messages-5001",
    "why": "the queue is full: 3 of 3; send it again",
    "ms": 3.1,
    "status": 503,
    "ids": '["odd \\"id\\", which", "b"]',
    "seconds": 5,
    "deliveries": 3,
}
"""Field of an event -> a value that is hard to read back."""


def example(kind: type[LogEvent]) -> LogEvent:
    return kind(**{field.name: VALUES[field.name] for field in dataclasses.fields(kind)})  # type: ignore[arg-type]


@pytest.mark.parametrize("form", [str, as_json], ids=["text", "json"])
@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_every_kind_is_read_back_as_it_was_logged(kind: type[LogEvent], form: Callable[[Line], str]) -> None:
    event = example(kind)
    line = log.parse(form(Line(1_790_000_000.0, "INFO", f"{kind.role}-5000", str(event))))
    assert line is not None
    assert read_event(kind, line.text) == event
    assert About(str(VALUES["id"])).read(kind, line.text) == event


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_an_event_of_another_message_is_not_read(kind: type[LogEvent]) -> None:
    line = str(example(kind))
    for other in ("b id", "", 'odd "id"', str(VALUES["id"]) + " "):
        assert About(other).read(kind, line) is None


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_an_event_is_read_as_its_own_kind_only(kind: type[LogEvent]) -> None:
    values = VALUES | {"id": "8f31c2", "why": "the queue is full"}
    line = str(kind(**{field.name: values[field.name] for field in dataclasses.fields(kind)}))  # type: ignore[arg-type]
    assert [other for other in EVENTS if other.role is kind.role and read_event(other, line)] == [kind]


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_a_reworded_sentence_is_still_read_back(kind: type[LogEvent], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "sentence", f"now, {kind.sentence} (said anew)")
    event = example(kind)
    assert str(event).startswith("now, ")
    assert read_event(kind, str(event)) == event


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_every_kind_has_words_for_a_journey(kind: type[LogEvent]) -> None:
    assert "{" not in example(kind).story()


def test_every_kind_is_logged_by_one_service() -> None:
    places: dict[str, list[str]] = {kind.__name__: [] for kind in EVENTS}
    for file in Path(str(microq.services.__file__)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            name = called.value if isinstance(called, ast.Attribute) and called.attr == "of" else called
            if isinstance(name, ast.Name) and name.id in places:
                places[name.id].append(file.stem)
    assert {name: len(found) for name, found in places.items()} == dict.fromkeys(places, 1)


def test_the_ids_of_a_line_cut_short_are_unknown() -> None:
    assert log.Took('["a", "b]').messages is None
    assert log.Took.of(["a", 'b"']).messages == ["a", 'b"']
