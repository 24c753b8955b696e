"""The wire to a broker: however a stream is cut into chunks, the right replies are found, and little is held back."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable

import pytest
from aiokafka.protocol.api import Request, Response
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.produce import ProduceRequest
from hypothesis import given
from hypothesis import strategies as st
from support.kafka_frames import COMMIT, FETCH, METADATA, PRODUCE, committed, fetched, produced, reply, request, sized

from microq.backends.base import Reply
from microq.backends.kafka.protocol import CALLS, LARGEST, Exchanges

OFFERED = {PRODUCE: (0, 13), FETCH: (4, 18), COMMIT: (2, 10)}
"""Key of a call -> the versions that Kafka 4.3.1 offers."""

READ = [(key, version) for key, call in CALLS.items() for version in range(call.oldest, call.newest + 1)]

BATCH = bytes.fromhex(
    "000000000000000000000038000000000246"
    "3cc7eb000000000000000001a20ebf6ca400"
    "0001a20ebf6ca40000000000000000000000"
    "000000000000010c000000010000"
)
"""The smallest there is, as a broker of 4.3.1 returned it: one record without value."""


def answers(*replies: bytes, asked: list[bytes]) -> list[tuple[int, Reply]]:
    """Which of the replies to some requests can be lost."""
    exchanges = Exchanges()
    exchanges.asked(b"".join(asked))
    ready, found = exchanges.answered(b"".join(replies))
    assert ready == b"".join(replies)
    return found


# -- as the client writes and reads it ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asks", "meaning"),
    [
        (ProduceRequest(None, -1, 1000, []), Reply.ENQUEUE),
        (FetchRequest(500, 1, 1000, 0, []), Reply.DEQUEUE),
        (OffsetCommitRequest("group", 1, "member", -1, []), Reply.DEQUEUE),
    ],
)
def test_the_versions_are_those_of_the_client(asks: Request, meaning: Reply) -> None:
    chosen = asks.prepare(OFFERED)
    call = CALLS[chosen.API_KEY]
    assert call.reply is meaning
    assert call.oldest <= chosen.API_VERSION <= call.newest


def fields(key: int, version: int, error: int, records: bytes) -> tuple[object, ...]:
    """What a reply of a version says of two partitions, of which the first one failed and brings nothing."""

    def partition(number: int, error: int, records: bytes) -> tuple[object, ...]:
        start = (0,) if version >= 5 else ()
        if key == PRODUCE:
            return (number, error, 5, -1, *start)
        if key == COMMIT:
            return (number, error)
        replica = (-1,) if version >= 11 else ()
        return (number, error, 5, 5, *start, [(1, 2), (3, 4)], *replica, records)

    topics = [("empty", []), ("messages", [partition(0, 6, b""), partition(1, error, records)])]
    if key == PRODUCE:
        return (topics, 0)
    if key == COMMIT:
        return (0, topics) if version >= 3 else (topics,)
    return (0, 0, 0, topics) if version >= 7 else (0, topics)


def replies_of(key: int) -> dict[int, type[Response]]:
    """The replies to a call that the client can read, by their versions."""
    of = {PRODUCE: ProduceRequest, FETCH: FetchRequest, COMMIT: OffsetCommitRequest}[key]
    return {each.API_VERSION: each.RESPONSE_TYPE for each in of._CLASSES}


@pytest.mark.parametrize(("key", "version"), [each for each in READ if each[1] in replies_of(each[0])])
def test_every_version_is_read_as_the_client_reads_it(key: int, version: int) -> None:
    def found(error: int, records: bytes) -> list[tuple[int, Reply]]:
        body = replies_of(key)[version](*fields(key, version, error, records)).encode()
        return answers(reply(9, body), asked=[request(key, 9, version=version)])

    assert found(0, BATCH) == [(0, CALLS[key].reply)]
    assert found(6, b"") == []


@pytest.mark.parametrize("version", [12, 18])
def test_a_version_that_cannot_be_read_is_carried(version: int) -> None:
    assert answers(fetched(1, BATCH), asked=[request(FETCH, 1, version=version)]) == []


def test_the_sizes_are_those_that_were_recorded() -> None:
    assert [len(produced(1, 0)), len(committed(1, 0)), len(fetched(1, b""))] == [60, 36, 78]


# -- which replies can be lost -----------------------------------------------------------------------------------------


def test_a_reply_is_found_by_the_id_of_its_request() -> None:
    asked = [request(PRODUCE, 1), request(METADATA, 2), request(FETCH, 3), request(COMMIT, 4)]
    replies = [produced(1, 0), reply(2, b"x" * 300), fetched(3, BATCH), committed(4, 0)]
    offsets = [0, *itertools.accumulate(map(len, replies))]
    assert answers(*replies, asked=asked) == [
        (offsets[0], Reply.ENQUEUE),
        (offsets[2], Reply.DEQUEUE),
        (offsets[3], Reply.DEQUEUE),
    ]


def test_a_reply_is_found_once_and_only_if_asked_for() -> None:
    assert answers(produced(1, 0), produced(1, 0), produced(2, 0), asked=[request(PRODUCE, 1)]) == [(0, Reply.ENQUEUE)]


def test_who_wants_no_reply_does_no_harm() -> None:
    asked = [request(PRODUCE, 1), request(PRODUCE, 2)]
    assert answers(produced(2, 0), asked=asked) == [(0, Reply.ENQUEUE)]


@pytest.mark.parametrize(("key", "write"), [(PRODUCE, produced), (COMMIT, committed)])
def test_an_error_is_no_reply_that_can_be_lost(key: int, write: Callable[..., bytes]) -> None:
    assert answers(write(1, 25), write(2, 6, 6), write(3), asked=[request(key, each) for each in (1, 2, 3)]) == []
    # Something was carried out.
    assert answers(write(1, 6, 0), asked=[request(key, 1)]) == [(0, CALLS[key].reply)]


def test_fetch_without_records_is_no_dequeue() -> None:
    replies = [
        fetched(1, b""),
        fetched(2, b"", b"", b""),
        fetched(3),
        fetched(4, b"", BATCH),
        fetched(5, b"", aborted=3),
        fetched(6, BATCH, aborted=3),
    ]
    offsets = [0, *itertools.accumulate(map(len, replies))]
    assert answers(*replies, asked=[request(FETCH, number) for number in range(1, 7)]) == [
        (offsets[3], Reply.DEQUEUE),
        (offsets[5], Reply.DEQUEUE),
    ]


def test_a_size_does_not_say_whether_a_fetch_brings_something() -> None:
    assert (len(fetched(1, b"", b"", b"")), len(fetched(1, BATCH))) == (162, 146)


# -- cut into chunks ---------------------------------------------------------------------------------------------------

REPLIES = st.one_of(
    st.tuples(st.just(PRODUCE), st.lists(st.sampled_from([0, 6]), max_size=3)),
    st.tuples(st.just(COMMIT), st.lists(st.sampled_from([0, 25]), max_size=3)),
    st.tuples(st.just(FETCH), st.lists(st.sampled_from([b"", BATCH, b"x" * 500]), max_size=3)),
    st.tuples(st.just(METADATA), st.lists(st.binary(max_size=300), min_size=1, max_size=1)),
)
"""Key of a call, and what its reply says of each partition."""

CUTS = st.lists(st.integers(0, 5000), max_size=40)


def written(number: int, key: int, says: list[object]) -> bytes:
    makers: dict[int, Callable[..., bytes]] = {PRODUCE: produced, COMMIT: committed, FETCH: fetched, METADATA: reply}
    return makers[key](number, *says)


def can_be_lost(key: int, says: list[object]) -> bool:
    return any(says) if key == FETCH else key in CALLS and 0 in says


def chunks(stream: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(at)]


@given(said=st.lists(REPLIES, max_size=8), asking=CUTS, answering=CUTS)
def test_any_cutting_gives_the_same_replies(
    said: list[tuple[int, list[object]]], asking: list[int], answering: list[int]
) -> None:
    whole = [written(number, key, says) for number, (key, says) in enumerate(said)]
    exchanges = Exchanges()
    for chunk in chunks(b"".join(request(key, number, b"x" * 90) for number, (key, _) in enumerate(said)), asking):
        exchanges.asked(chunk)
    passed, found, given_so_far = b"", list[tuple[int, Reply]](), 0
    for chunk in chunks(b"".join(whole), answering):
        ready, replies = exchanges.answered(chunk)
        found += [(len(passed) + offset, reply) for offset, reply in replies]
        passed, given_so_far = passed + ready, given_so_far + len(chunk)
        # What precedes the records of the last of three partitions, or a whole reply that brings nothing.
        assert given_so_far - len(passed) < 4 + 4 + 10 + 4 + 10 + 4 + 3 * 42
    offsets = [0, *itertools.accumulate(map(len, whole))]
    assert passed == b"".join(whole)
    assert found == [
        (offset, CALLS[key].reply) for offset, (key, says) in zip(offsets, said, strict=False) if can_be_lost(key, says)
    ]


def test_no_more_is_held_than_it_takes() -> None:
    exchanges = Exchanges()
    exchanges.asked(request(FETCH, 1))
    whole = fetched(1, BATCH)
    known = len(whole) - len(BATCH)
    assert exchanges.answered(whole[: known - 1]) == (b"", [])
    assert exchanges.answered(whole[known - 1 : known]) == (whole[:known], [(0, Reply.DEQUEUE)])
    for byte in whole[known:]:
        assert exchanges.answered(bytes([byte])) == (bytes([byte]), [])
    # Of a reply to anything else only its id.
    assert exchanges.answered(reply(2, b"x" * 9)[:8]) == (reply(2, b"x" * 9)[:8], [])


@pytest.mark.parametrize("size", [0, -1, LARGEST + 1, int.from_bytes(b"GET ", "big")])
def test_what_is_no_message_is_an_error(size: int) -> None:
    with pytest.raises(ValueError, match=f"a message of {size} bytes"):
        Exchanges().asked(struct.pack(">i", size))
    with pytest.raises(ValueError, match=f"a message of {size} bytes"):
        Exchanges().answered(struct.pack(">i", size))


def test_a_message_that_ends_too_soon_is_an_error() -> None:
    with pytest.raises(ValueError, match="a field of 8 bytes where 7 are left"):
        Exchanges().asked(sized(bytes(7)))
    for short in (sized(bytes(3)), reply(1), reply(1, fetched(1, BATCH)[8:60])):
        exchanges = Exchanges()
        exchanges.asked(request(FETCH, 1))
        with pytest.raises(ValueError, match=r"a field of \d+ bytes where \d+ are left"):
            exchanges.answered(short)


def test_a_topic_without_name_is_an_error() -> None:
    exchanges = Exchanges()
    exchanges.asked(request(PRODUCE, 1))
    with pytest.raises(ValueError, match="a field of -1 bytes"):
        exchanges.answered(reply(1, struct.pack(">ihi", 1, -1, 0)))
