"""The message: what is written is read back, and nothing else is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microq.errors import MessageError
from microq.message import MAX_ID, Message, check_id, text_hash

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    keys = st.sampled_from(["id", "text", "at", "by", "msg", "uuid"]) | st.text(max_size=3)
    return st.dictionaries(keys, inner)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner) | objects(inner)
)


@given(TEXTS, TEXTS, st.floats(allow_nan=False, allow_infinity=False), TEXTS)
def test_any_message_reads_back_the_same(message_id: str, text: str, at: float, by: str) -> None:
    message = Message(message_id, text, at, by)
    assert Message.from_json(message.to_json()) == message


@given(TEXTS)
def test_the_json_text_can_be_sent_and_stays_in_one_line(text: str) -> None:
    raw = Message("a", text).to_json()
    assert "\n" not in raw
    assert raw.encode().decode() == raw


@given(JSON)
def test_any_other_json_is_a_message_or_a_message_error(value: Any) -> None:
    for read, given_value in ((Message.from_json, json.dumps(value)), (Message.from_wire, value)):
        try:
            message = read(given_value)
        except MessageError:
            continue
        assert isinstance(message.text, str)


@pytest.mark.parametrize(
    "raw",
    [
        None,
        7,
        b"{}",
        "",
        "msg1",
        "null",
        "[]",
        "{}",
        "[" * 100_000,
        '{"id": "a", "text": "b", "at": 1.0}',
        '{"id": 1, "text": "b", "at": 1.0, "by": ""}',
        '{"id": "a", "text": null, "at": 1.0, "by": ""}',
        '{"id": "a", "text": "b", "at": "soon", "by": ""}',
        '{"id": "a", "text": "b", "at": null, "by": ""}',
        '{"id": "a", "text": "b", "at": ' + "9" * 400 + ', "by": ""}',
        '{"id": "a", "text": "b", "at": NaN, "by": ""}',
        '{"id": "a", "text": "b", "at": -Infinity, "by": ""}',
        '{"id": "a", "text": "b", "at": 1.0, "by": []}',
        "\x80\x04\x95",
    ],
    ids=range(19),
)
def test_what_others_put_into_the_queue_is_no_message(raw: object) -> None:
    with pytest.raises(MessageError):
        Message.from_json(raw)


@pytest.mark.parametrize("half", ["\\ud800", "\\udfff"])
def test_half_a_surrogate_pair_in_the_cluster_is_no_message(half: str) -> None:
    for field in ("id", "text", "by"):
        fields = {"id": '"a"', "text": '"b"', "at": "1.0", "by": '""', field: f'"{half}"'}
        raw = "{" + ", ".join(f'"{key}": {value}' for key, value in fields.items()) + "}"
        with pytest.raises(MessageError):
            Message.from_json(raw)


def test_the_wire_shows_id_text_time_and_instance() -> None:
    assert Message("a", "b", 1.5, "c").to_wire() == {"uuid": "a", "msg": "b", "at": 1.5, "by": "c"}


def test_message_of_client_has_only_text_and_optional_id() -> None:
    assert Message.from_wire({"msg": "b"}) == Message("", "b")
    assert Message.from_wire({"msg": "b", "uuid": "a", "at": "x", "by": "me", "more": 1}) == Message("a", "b")


@pytest.mark.parametrize("value", ["a" * MAX_ID, "ä ö", "../..", "", "550e8400-e29b-41d4-a716-446655440000"])
def test_an_id_may_be_any_short_printable_text(value: str) -> None:
    assert check_id(value) == value


@pytest.mark.parametrize("value", ["a" * (MAX_ID + 1), "a\nb", "\x1b[31m", "\u202e", "\ud800", 7, None, ["a"]])
def test_anything_else_is_no_id(value: object) -> None:
    with pytest.raises(MessageError):
        check_id(value)


@pytest.mark.parametrize(
    ("text", "digits"),
    [("msg1", "289e5175e02c788c"), ("", "e3b0c44298fc1c14"), ("\u043f", ""), ("\ud800", "")],
)
def test_a_text_has_one_hash(text: str, digits: str) -> None:
    found = text_hash(text)
    assert len(found) == 16
    assert found == text_hash(text) != text_hash(text + " ")
    assert not digits or found == digits
