"""The wire: however a stream is cut into chunks, the same messages are found, and the right replies."""

from __future__ import annotations

import itertools
import struct
from types import ModuleType

import pytest
from hazelcast.protocol.codec import (
    map_put_all_codec,
    map_put_codec,
    map_put_if_absent_codec,
    map_set_codec,
    queue_add_all_codec,
    queue_drain_to_max_size_codec,
    queue_offer_codec,
    queue_poll_codec,
    queue_put_codec,
    queue_take_codec,
)
from hypothesis import given
from hypothesis import strategies as st
from support.hazelcast_frames import REPLY_BYTES, chain, error, frame, reply, request

from microq.backends.base import Kind, Reply
from microq.backends.hazelcast.protocol import EMPTY, REQUESTS, Calls, Head, Scanner
from microq.backends.kafka.protocol import Exchanges
from microq.chaos.proxy import Turns, dialogue_of, kind_of, wire_of

OFFER, POLL, DRAIN, PUT_IF_ABSENT, SIZE = 196864, 197888, 199168, 69120, 197376


@pytest.mark.parametrize(
    ("codec", "meaning"),
    [
        (queue_offer_codec, Reply.ENQUEUE),
        (queue_put_codec, Reply.ENQUEUE),
        (queue_add_all_codec, Reply.ENQUEUE),
        (queue_poll_codec, Reply.DEQUEUE),
        (queue_take_codec, Reply.DEQUEUE),
        (queue_drain_to_max_size_codec, Reply.DEQUEUE),
        (map_put_codec, Reply.STORE),
        (map_put_if_absent_codec, Reply.STORE),
        (map_set_codec, Reply.STORE),
        (map_put_all_codec, Reply.STORE),
    ],
)
def test_the_types_are_those_of_the_client(codec: ModuleType, meaning: Reply) -> None:
    assert REQUESTS[codec._REQUEST_MESSAGE_TYPE] is meaning
    assert codec._RESPONSE_MESSAGE_TYPE == codec._REQUEST_MESSAGE_TYPE + 1


def test_a_request_of_the_client_is_read_as_it_wrote_it() -> None:
    written = queue_poll_codec.encode_request("messages-queue", 500)
    written.set_correlation_id(77)
    ready, heads = Scanner().feed(bytes(written.buf))
    assert (ready, heads) == (bytes(written.buf), [(0, Head(POLL, 77, empty=False))])


@pytest.mark.parametrize(
    ("greeting", "kind"),
    [(b"CP2", Kind.CLIENT), (b"HZC\x00", Kind.PEER), (b"GET / HTTP/1.1", Kind.HTTP), (b"CP1", Kind.HTTP)],
)
def test_the_first_bytes_say_what_is_spoken(greeting: bytes, kind: Kind) -> None:
    assert kind_of(greeting, wire_of("hazelcast-5701")) is kind


@pytest.mark.parametrize("first", [b"\x00\x00\x00\x19", b"CP2", b"GET"])
def test_connection_to_a_broker_counts_as_a_client(first: bytes) -> None:
    assert kind_of(first, wire_of("kafka-9092")) is Kind.CLIENT


@pytest.mark.parametrize("first", [b"\x00\x00\x00\x19", b"CP2", b"GET"])
def test_connection_to_a_service_counts_as_http(first: bytes) -> None:
    assert kind_of(first, wire_of("messages-5001")) is Kind.HTTP


@pytest.mark.parametrize(
    ("name", "kind", "found"),
    [
        ("hazelcast-5701", Kind.CLIENT, Calls),
        ("hazelcast-5701", Kind.PEER, type(None)),
        ("hazelcast-5701", Kind.HTTP, Turns),
        ("kafka-9092", Kind.CLIENT, Exchanges),
        ("facade-5000", Kind.HTTP, Turns),
    ],
)
def test_what_follows_depends_on_what_is_spoken(name: str, kind: Kind, found: type) -> None:
    assert type(dialogue_of(kind, wire_of(name))) is found


MESSAGES = st.tuples(
    st.integers(0, 2**31 - 1), st.integers(-(2**63), 2**63 - 1), st.lists(st.binary(max_size=70), max_size=4)
)


@given(messages=st.lists(MESSAGES, max_size=8), cuts=st.lists(st.integers(0, 2000), max_size=30))
def test_any_cutting_gives_the_same_messages(messages: list[tuple[int, int, list[bytes]]], cuts: list[int]) -> None:
    whole = [reply(kind, number, *rest) for kind, number, rest in messages]
    stream = b"CP2" + b"".join(whole)
    at = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    scanner, passed, found = Scanner(skip=3), b"", list[tuple[int, Head]]()
    for start, end in itertools.pairwise(at):
        ready, heads = scanner.feed(stream[start:end])
        found += [(len(passed) + offset, head) for offset, head in heads]
        passed += ready
        assert end - len(passed) < EMPTY + 6
    offsets = [3 + sum(map(len, whole[:index])) for index in range(len(whole))]
    assert passed == stream
    assert found == [
        (offset, Head(kind, number, len(text) <= EMPTY))
        for offset, text, (kind, number, _) in zip(offsets, whole, messages, strict=True)
    ]


def test_a_fragment_is_passed_over() -> None:
    fragment = frame(struct.pack("<q", 5), begins=True) + frame(b"x" * 50, final=True)
    fragment = fragment[:4] + struct.pack("<H", 1 << 15) + fragment[6:]
    stream = fragment + reply(OFFER + 1, 6)
    assert Scanner().feed(stream) == (stream, [(len(fragment), Head(OFFER + 1, 6, empty=True))])


@pytest.mark.parametrize("size", [0, 5, -1])
def test_what_is_no_frame_is_an_error(size: int) -> None:
    with pytest.raises(ValueError, match=f"a frame of {size} bytes"):
        Scanner().feed(struct.pack("<iH", size, 0))


def answers(*replies: bytes, asked: list[tuple[int, int]]) -> list[tuple[int, Reply]]:
    """Which of the replies to some requests (type, id) can be lost."""
    calls = Calls()
    calls.asked(b"CP2" + b"".join(request(kind, number) for kind, number in asked))
    ready, found = calls.answered(b"".join(replies))
    assert ready == b"".join(replies)
    return found


def test_a_reply_is_found_by_the_id_of_its_request_in_any_order() -> None:
    asked = [(OFFER, 1), (SIZE, 2), (PUT_IF_ABSENT, 3)]
    replies = [reply(PUT_IF_ABSENT + 1, 3), reply(SIZE + 1, 2), reply(OFFER + 1, 1)]
    assert answers(*replies, asked=asked) == [(0, Reply.STORE), (2 * REPLY_BYTES, Reply.ENQUEUE)]


def test_a_reply_is_found_once_and_only_if_asked_for() -> None:
    assert answers(reply(OFFER + 1, 1), reply(OFFER + 1, 1), reply(OFFER + 1, 2), asked=[(OFFER, 1)]) == [
        (0, Reply.ENQUEUE)
    ]


def test_an_error_is_no_reply_that_can_be_lost() -> None:
    assert answers(error(1), asked=[(OFFER, 1)]) == []


def test_reply_without_items_is_no_dequeue() -> None:
    null, begin, end = (frame(b"", flags=flag) for flag in (1 << 10, 1 << 12, 1 << 11))
    item = frame(struct.pack(">ii", 0, -11) + b"\x00\x00\x00\x02{}")
    asked = [(POLL, 1), (DRAIN, 2), (POLL, 3), (DRAIN, 4)]
    replies = [
        chain(reply(POLL + 1, 1), null),
        chain(reply(DRAIN + 1, 2), begin, end),
        chain(reply(POLL + 1, 3), item),
        chain(reply(DRAIN + 1, 4), begin, item, end),
    ]
    third = len(replies[0] + replies[1])
    assert answers(*replies, asked=asked) == [(third, Reply.DEQUEUE), (third + len(replies[2]), Reply.DEQUEUE)]


@pytest.mark.parametrize(("line", "found"), [(b"POST /x", True), (b"DELETE /x", True), (b"GET /x", False)])
def test_a_reply_over_http_is_found_at_its_first_bytes(line: bytes, found: bool) -> None:  # noqa: FBT001 - a parameter
    turns = Turns()
    for _ in range(2):
        turns.asked(line + b" HTTP/1.1\r\n\r\n")
        turns.asked(b"the body")
        assert turns.answered(b"HTTP/1.1 200 OK\r\n") == (b"HTTP/1.1 200 OK\r\n", [(0, Reply.HTTP)] if found else [])
        assert turns.answered(b"POST is only text here") == (b"POST is only text here", [])
