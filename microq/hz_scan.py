"""Reading a map of the cluster page by page: two requests of the client protocol that the Python client lacks.

A page begins at a place, which the member tells with the page before. A place is a list of (index, size): where in
the hash table of a partition to go on, and how large the table was then. The place of an entry follows from its key, so
a place holds on every member, and when the table grows the member leaves out what it has told before. An entry that
is there all the time comes once; one that is written or removed meanwhile may come or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hazelcast.internal.asyncio_proxy.map import Map
from hazelcast.protocol.builtin import DataCodec, EntryListCodec, FixSizedTypesCodec, ListMultiFrameCodec, StringCodec
from hazelcast.protocol.client_message import (
    REQUEST_HEADER_SIZE,
    SIZE_OF_FRAME_LENGTH_AND_FLAGS,
    OutboundMessage,
    create_initial_buffer,
)
from hazelcast.serialization.bits import BE_INT, INT_SIZE_IN_BYTES, LE_INT, LE_UINT16
from hazelcast.serialization.data import DATA_OFFSET
from hazelcast.serialization.serialization_const import CONSTANT_TYPE_STRING

_FETCH_KEYS = 0x013700
_FETCH_ENTRIES = 0x013800

_FINAL_FRAME = 1 << 13
_TEXT = DATA_OFFSET + INT_SIZE_IN_BYTES
_POINTER = 2 * INT_SIZE_IN_BYTES

Place = tuple[tuple[int, int], ...]

START: Place = ((2**31 - 1, -1),)
"""The place of a partition's first page."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some keys or values of a partition; `place` is where the next page begins, None if it was the last."""

    items: Sequence[Any]
    place: Place | None


class PagedMap(Map):  # type: ignore[misc]  # the client is untyped for mypy
    """The client's proxy of a map, with the two requests."""

    def partitions(self) -> int:
        """Return how many partitions there are, empty ones too."""
        return int(self._partition_service.partition_count)

    async def page_of_keys(self, partition: int, place: Place, most: int) -> Page:
        """Return the keys of a partition from a place on, about so many at most."""
        return await self._page(_FETCH_KEYS, partition, place, most)

    async def page_of_values(self, partition: int, place: Place, most: int) -> Page:
        """Return the values of a partition from a place on, about so many at most."""
        return await self._page(_FETCH_ENTRIES, partition, place, most)

    async def _page(self, kind: int, partition: int, place: Place, most: int) -> Page:
        def decode(answer: Any) -> Page:
            answer.next_frame()  # the header
            following = _read_place(answer.next_frame().buf)
            if kind == _FETCH_KEYS:
                found = ListMultiFrameCodec.decode(answer, DataCodec.decode)
            else:
                found = [value for _, value in EntryListCodec.decode(answer, DataCodec.decode, DataCodec.decode)]
            ended = not found or following[-1][0] < 0
            return Page([self._read(data) for data in found], None if ended else following)

        page: Page = await self._ainvoke_on_partition(_request(kind, self.name, place, most), partition, decode)
        return page

    def _read(self, data: Any) -> Any:
        """Return text; of anything else what the client makes of it."""
        if data.get_type() != CONSTANT_TYPE_STRING:
            return self._to_object(data)
        # As the client reads it, in a third of the time: a length, and so many bytes of UTF-8.
        raw = data.buffer
        length: int = BE_INT.unpack_from(raw, DATA_OFFSET)[0]
        return raw[_TEXT : _TEXT + length].decode(errors="replace")


def _request(kind: int, name: str, place: Place, most: int) -> Any:
    buffer = create_initial_buffer(REQUEST_HEADER_SIZE + INT_SIZE_IN_BYTES, kind)
    FixSizedTypesCodec.encode_int(buffer, REQUEST_HEADER_SIZE, most)
    StringCodec.encode(buffer, name)
    frame = bytearray(SIZE_OF_FRAME_LENGTH_AND_FLAGS + len(place) * _POINTER)
    LE_INT.pack_into(frame, 0, len(frame))
    LE_UINT16.pack_into(frame, INT_SIZE_IN_BYTES, _FINAL_FRAME)
    for number, (index, size) in enumerate(place):
        offset = SIZE_OF_FRAME_LENGTH_AND_FLAGS + number * _POINTER
        FixSizedTypesCodec.encode_int(frame, offset, index)
        FixSizedTypesCodec.encode_int(frame, offset + INT_SIZE_IN_BYTES, size)
    buffer.extend(frame)
    return OutboundMessage(buffer, True)  # noqa: FBT003 - the client's word for a request that may be repeated


def _read_place(frame: Any) -> Place:
    return tuple(
        (
            FixSizedTypesCodec.decode_int(frame, offset),
            FixSizedTypesCodec.decode_int(frame, offset + INT_SIZE_IN_BYTES),
        )
        for offset in range(0, len(frame), _POINTER)
    )
