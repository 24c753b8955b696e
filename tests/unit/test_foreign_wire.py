"""The wire: requests in every form, what an answer means, and where texts are found in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microq.config import Config, load
from microq.errors import ConfigError, UnreadableError
from microq.message import Outcome
from microq.wire import NAMES, READY, Call, Wire, count, spotted, texts_at

TEXT = 'a "b" & ä'


def written(folder: Path, text: str) -> Config:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, environ={})


# -- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "body"),
    [
        ("microq", "application/json", '{"msg": "a \\"b\\" & ä"}'),
        ("message", "application/json", '{"message": "a \\"b\\" & ä"}'),
        ("uuid", "application/json", '{"uuid": "7", "msg": "a \\"b\\" & ä"}'),
        ("string", "application/json", '"a \\"b\\" & ä"'),
        ("text", "text/plain", 'a "b" & ä'),
        ("form", "application/x-www-form-urlencoded", "msg=a+%22b%22+%26+%C3%A4"),
    ],
)
def test_ready_wire_makes_its_form_of_a_request(name: str, kind: str, body: str) -> None:
    wire = READY[name]
    assert (wire.content_type, wire.request(TEXT, "7"), str(wire.send)) == (kind, body, "POST /facade")
    assert set(READY) == set(NAMES)


def test_text_in_a_path_is_escaped() -> None:
    wire = Wire(send=Call("GET", "/send?msg={text}&id={id}"))
    assert wire.path("a/b&c", "7") == "/send?msg=a%2Fb%26c&id=7"


@given(st.text())
def test_any_text_in_json_is_read_back_the_same(text: str) -> None:
    if text.isprintable():
        assert json.loads(Wire(body='{"a": {"msg": "{text}"}}').request(text, "7")) == {"a": {"msg": text}}


def test_text_that_looks_like_a_placeholder_stays_as_it_is() -> None:
    assert Wire(body="{text}", content_type="text/plain").request("{id}", "7") == "{id}"


# -- the configuration ------------------------------------------------------------------------------------------------


def test_ready_wire_can_be_named_alone_or_changed(tmp_path: Path) -> None:
    assert written(tmp_path, 'wire = "form"\n').wire == READY["form"]
    changed = written(tmp_path, '[wire]\nlike = "text"\nsend = "POST /send"\nread-logs = "-"\n').wire
    assert (changed.content_type, str(changed.send), changed.read_logs) == ("text/plain", "POST /send", "-")
    assert written(tmp_path, "").wire == Wire() == READY["microq"]


def test_messages_are_counted_by_text_with_another_wire(tmp_path: Path) -> None:
    assert not written(tmp_path, "").by_text
    assert not written(tmp_path, '[wire]\nsend = "POST /facade"\n').by_text
    assert not written(tmp_path, '[services.config-service]\ncommand = "run"\n').by_text
    assert written(tmp_path, '[services.logging-service]\ncommand = "run"\n').by_text
    assert written(tmp_path, 'wire = "form"\n').by_text


def test_wire_is_written_for_the_children_as_read(tmp_path: Path) -> None:
    rows = 'like = "form"\nlogging = ""\nread = "GET /a"\nread-logs = \'~a"(.*)\'\nshared-log = false\n'
    config = written(tmp_path, f"[wire]\n{rows}")
    child = tmp_path / "run.toml"
    child.write_text(config.to_toml(), encoding="utf-8")
    assert load(child, environ={}).wire == config.wire


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('send = "/facade"', 'send: must be a method and a path such as "POST /facade"'),
        ('send = "POST facade"', "send: must be a method and a path"),
        ('body = "{message}"', "body: {message} is not a placeholder; the placeholders are {text}, {id}"),
        ('acknowledged = "ok"', 'acknowledged: must be statuses such as "2xx"'),
        ('acknowledged-text = "("', "acknowledged-text: '(' is not a regular expression"),
        ('read-logs = "a..b"', "read-logs: must be names with single dots"),
        ('read-logs = "~["', "read-logs: '[' is not a regular expression"),
        ('like = "soap"', "like: must be one of microq, message, uuid, string, text, form"),
        ('path = "/"', "path: is not a key"),
    ],
)
def test_mistake_in_the_wire_names_its_key(tmp_path: Path, row: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        written(tmp_path, f"[wire]\n{row}\n")
    assert f"[wire] {problem}" in str(caught.value)
    assert str(caught.value).isprintable()


# -- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "answer", "outcome", "problem"),
    [
        (200, '{"status": "success"}', Outcome.ACKNOWLEDGED, ""),
        (202, "success", Outcome.ACKNOWLEDGED, ""),
        (200, '{"status": "failure"}', Outcome.INDETERMINATE, "expected an answer that contains 'success'"),
        (404, "no", Outcome.REJECTED, "expected the status 2xx ([wire] acknowledged), came 404 with 'no'"),
        (500, "", Outcome.INDETERMINATE, "came 500 with an empty answer"),
        (503, "", Outcome.INDETERMINATE, "came 503"),
    ],
)
def test_answer_is_what_the_wire_says(status: int, answer: str, outcome: Outcome, problem: str) -> None:
    found, said = Wire(acknowledged_text="success").outcome(status, answer)
    assert found is outcome
    assert problem in said
    assert bool(problem) is bool(said)


@pytest.mark.parametrize(
    ("place", "answer", "texts"),
    [
        ("", '["a", "b"]', ["a", "b"]),
        ("", '{"1": "a", "2": "b"}', ["a", "b"]),
        ("", '"a, b"', ["a, b"]),
        ("", "a, b", ["a, b"]),
        ("", "", [""]),
        ("", "[]", []),
        ("", "[1, null]", ["1"]),
        ("logs", '{"logs": ["a"], "message": ["b"]}', ["a"]),
        ("logs", '{"logs": "a, b"}', ["a, b"]),
        ("data.*.msg", '{"data": [{"uuid": "1", "msg": "a"}, {"uuid": "2", "msg": "b"}]}', ["a", "b"]),
        ("*.msg", '{"1": {"msg": "a"}}', ["a"]),
        ("~messages: (.*)", "logs: a; messages: b, c", ["b, c"]),
        ("~<li>(.*?)</li>", "<ul><li>a</li><li>b</li></ul>", ["a", "b"]),
    ],
)
def test_texts_are_found_at_their_place(place: str, answer: str, texts: list[str]) -> None:
    assert texts_at(place, answer) == texts


@pytest.mark.parametrize(
    ("place", "answer", "problem"),
    [
        ("logs", "a, b", "expected JSON with 'logs', came 'a, b'"),
        ("logs", "[]", "expected an object with 'logs' ('logs'), came a list: '[]'"),
        ("logs", '{"messages": [], "log": []}', "expected 'logs' ('logs'), came an object with 'messages', 'log'"),
        ("*.msg", '"a"', "expected a list or an object at the * of '*.msg', came 'a'"),
        ("~x(.*)", "abc" * 100, "expected text that matches 'x(.*)', came 'abcabc"),
    ],
)
def test_answer_without_the_place_says_what_came(place: str, answer: str, problem: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        texts_at(place, answer)
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 200


# -- known texts ------------------------------------------------------------------------------------------------------

KNOWN = [f"msg{number}-kqzxab" for number in range(1, 12)]


@pytest.mark.parametrize("between", ["", ", ", "\n", "</li><li>", " "])
def test_joined_texts_are_told_apart(between: str) -> None:
    assert count([between.join(KNOWN)], KNOWN) == dict.fromkeys(KNOWN, 1)
    assert spotted([between.join(reversed(KNOWN))], KNOWN) == KNOWN[::-1]


def test_plain_numbered_texts_are_told_apart_when_joined() -> None:
    texts = [f"msg{number}" for number in range(1, 12)]
    assert count(["".join(texts)], texts) == dict.fromkeys(texts, 1)


def test_text_that_occurs_twice_is_counted_twice() -> None:
    assert count([KNOWN[0], KNOWN[0] + KNOWN[1]], KNOWN) == {KNOWN[0]: 2, KNOWN[1]: 1}


def test_other_texts_are_not_counted() -> None:
    assert not count(["msg1-other msg99-kqzxab", "hello"], KNOWN)
    assert not count(["msg1-kqzxab"], [])
