"""Messages of Kafka's protocol, made by hand as aiokafka 0.14.0 and Kafka 4.3.1 write them, and a broker that answers.

The topic is `messages`, as it is in the recorded sizes.
"""

from __future__ import annotations

import asyncio
import struct

PRODUCE, FETCH, COMMIT, METADATA = 0, 1, 8, 3

VERSIONS = {PRODUCE: 7, FETCH: 11, COMMIT: 3, METADATA: 5}
"""Key of a call -> the version that aiokafka chooses."""


def request(key: int, number: int, body: bytes = b"\x00\x08aiokafka", *, version: int | None = None) -> bytes:
    chosen = VERSIONS[key] if version is None else version
    return sized(struct.pack(">hhi", key, chosen, number) + body)


def sized(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def reply(number: int, body: bytes = b"") -> bytes:
    return sized(struct.pack(">i", number) + body)


def topics(*partitions: bytes) -> bytes:
    """One topic, and what is said of its partitions."""
    numbered = (struct.pack(">i", number) + text for number, text in enumerate(partitions))
    return struct.pack(">ih8si", 1, 8, b"messages", len(partitions)) + b"".join(numbered)


def produced(number: int, *errors: int) -> bytes:
    partitions = (struct.pack(">hqqq", error, 5, -1, 0) for error in errors)
    return reply(number, topics(*partitions) + bytes(4))


def fetched(number: int, *records: bytes, aborted: int = -1) -> bytes:
    transactions = struct.pack(">i", aborted) + bytes(16 * max(0, aborted))
    partitions = (
        struct.pack(">hqqq", 0, 5, 5, 0) + transactions + struct.pack(">ii", -1, len(each)) + each for each in records
    )
    return reply(number, bytes(10) + topics(*partitions))


def committed(number: int, *errors: int) -> bytes:
    return reply(number, bytes(4) + topics(*(struct.pack(">h", error) for error in errors)))


class FakeBroker:
    """It answers every request of a client, after noting it: what was produced is fetched, one batch a time."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.records: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                size = struct.unpack(">i", await reader.readexactly(4))[0]
                key, _, number = struct.unpack_from(">hhi", body := await reader.readexactly(size))
                self.asked.append((key, number))
                writer.write(self._answer(key, number, body[8:]))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, key: int, number: int, body: bytes) -> bytes:
        if key == PRODUCE:
            self.records.append(body)
            return produced(number, 0)
        if key == FETCH:
            return fetched(number, self.records.pop(0) if self.records else b"")
        return committed(number, 0) if key == COMMIT else reply(number)
