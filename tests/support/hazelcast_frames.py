"""Messages of Hazelcast's client protocol, made by hand, and a member that answers them."""

from __future__ import annotations

import asyncio
import struct

FINAL, UNFRAGMENTED = 1 << 13, 1 << 15 | 1 << 14

REPLY_BYTES = 19
"""Length of a reply that is nothing but its head."""


def frame(body: bytes, *, flags: int = 0, begins: bool = False, final: bool = False) -> bytes:
    flags |= (UNFRAGMENTED if begins else 0) | (FINAL if final else 0)
    return struct.pack("<iH", len(body) + 6, flags) + body


def request(kind: int, number: int, *bodies: bytes) -> bytes:
    return chain(frame(struct.pack("<iqi", kind, number, -1), begins=True), *map(frame, bodies or (b"a queue",)))


def reply(kind: int, number: int, *bodies: bytes) -> bytes:
    return chain(frame(struct.pack("<iqB", kind, number, 0), begins=True), *map(frame, bodies))


def error(number: int) -> bytes:
    return reply(0, number, b"what went wrong")


def chain(*frames: bytes) -> bytes:
    """Frames as one message: the last one is marked."""
    return b"".join(_marked(each, last=index == len(frames)) for index, each in enumerate(frames, start=1))


def _marked(text: bytes, *, last: bool) -> bytes:
    flags = struct.unpack_from("<H", text, 4)[0]
    return text[:4] + struct.pack("<H", flags | FINAL if last else flags & ~FINAL) + text[6:]


class FakeMember:
    """It answers every request of a client, after noting it; to anybody else it is an echo."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            greeting = await reader.readexactly(3)
            await (self._answer(reader, writer) if greeting == b"CP2" else self._echo(greeting, reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, flags = b"", 0
            while not flags & FINAL:
                size, flags = struct.unpack("<iH", await reader.readexactly(6))
                body = await reader.readexactly(size - 6)
                head = head or body
            kind, number = struct.unpack_from("<iq", head)
            self.asked.append((kind, number))
            writer.write(reply(kind + 1, number))

    async def _echo(self, greeting: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
