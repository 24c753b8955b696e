"""Requests as no client of ours would send them, and a way to send them and hear the status."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Sequence
from random import Random
from typing import Any, TypeVar
from urllib.parse import quote

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from microq.config import Address

T = TypeVar("T")

Places = dict[str, Address]
"""Role -> where one of it answers."""

PATHS = {
    "facade": ["/facade", "/facade/batch", "/queue"],
    "logging": ["/log"],
    "messages": ["/messages"],
    "config": ["/config/messages-service", "/config/"],
}
EVERYWHERE = ["/healthz", "/readyz", "/metrics", "/", "*", "//", "/..", "/facade/../log"]

PATIENCE = 0.2
"""Seconds without an answer after which a request counts as one that the service still waits for."""

POOL = 250
"""Bodies, and paths, that are made up for one number; what else a request has is chosen for each by chance."""

ODD_TEXT = st.sampled_from(
    ["", "\0", "\x1b[31mred", "a\nINFO forged", "\u202e", "\ud800", "x" * 300, "🐝", "\x9b2J", '"']
)
TEXT = ODD_TEXT | st.text(max_size=12)
ODD_NUMBERS = st.sampled_from(["NaN", "-Infinity", "1e999", "9" * 5000, "-0", "1e-999", "0x1", "1_0"])


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(["msg", "uuid", "at", "by", "id", "text"]) | TEXT, inner, max_size=4)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | _objects(inner),
    max_leaves=6,
)
ALMOST = st.fixed_dictionaries({"msg": TEXT | JSON}, optional={"uuid": TEXT | JSON})
"""Nearly a message: what is wrong, if anything, is inside."""

JSON_BODY = st.one_of(
    (JSON | ALMOST | st.lists(ALMOST, max_size=3)).map(lambda value: json.dumps(value).encode()),
    ODD_NUMBERS.map(lambda number: f'{{"msg": "a", "uuid": {number}, "at": {number}}}'.encode()),
    st.integers(1, 60_000).map(lambda depth: b'{"msg":' * depth),
    st.integers(1, 900).map(lambda depth: b'{"msg":' + b"[" * depth + b"]" * depth + b"}"),
    st.just(b'{"msg": "a", "msg": "b", "uuid": "same", "uuid": "again"}'),
)
LINES = st.lists(JSON_BODY | st.binary(max_size=20), max_size=5).map(b"\n".join)
BODY = JSON_BODY | LINES | st.binary(max_size=60)

METHODS = [*["GET", "POST"] * 4, "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "get", "CONNECT", "TRACE", "Ä"]
QUERIES = ["", "", "?full=true", "?full=%ff", "?uuid=", "?uuid=%00%0a", "?&&==&", "?full=true&full=x", "?%"]
HEADERS = [
    "Idempotency-Key: same",
    "Idempotency-Key: " + "k" * 300,
    "Idempotency-Key: \x01\x1b[31m",
    "Idempotency-Key: ümlaut",
    "Idempotency-Key:",
    "Content-Type: application/json; charset=klingon",
    "Content-Type: multipart/form-data; boundary=",
    "Content-Encoding: gzip",
    "Content-Encoding: deflate",
    "Content-Encoding: br",
    "Content-Encoding: zstd",
    "Expect: 100-continue",
    "Expect: the unexpected",
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA",
    "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    "Range: bytes=9-1",
    "Host: \x00",
    "If-Modified-Since: the day before",
    "Cookie: " + "a=b;" * 500,
    " folded: x",
    "no colon",
    "Transfer-Encoding: gzip, chunked",
]
HOSTS = [*["Host: localhost"] * 8, "Host: a", "Host: localhost\r\nOrigin: http://a"]
LENGTHS = ["right", "right", "right", "none", "more", "less", "-1", "1e3", "9" * 30, "twice", "chunked", "bad chunks"]
VERSIONS = ["HTTP/1.1"] * 6 + ["HTTP/1.0", "HTTP/9.9", ""]


def _framed(kind: str, body: bytes) -> tuple[list[str], bytes]:
    """Return the headers that say how long a body is, wrongly perhaps, and the body as it is sent."""
    size = len(body)
    match kind:
        case "none":
            return [], body
        case "twice":
            return [f"Content-Length: {size}", f"Content-Length: {size + 1}"], body
        case "chunked":
            return ["Transfer-Encoding: chunked"], b"%x\r\n%s\r\n0\r\n\r\n" % (size, body) if size else b"0\r\n\r\n"
        case "bad chunks":
            return ["Transfer-Encoding: chunked"], b"%x;x=\r\n%s\n-1\r\nzz\r\n" % (size + 3, body)
        case _:
            return [f"Content-Length: { ({'right': size, 'more': size + 5, 'less': size // 2}.get(kind, kind)) }"], body


def _examples(strategy: st.SearchStrategy[T], number: int) -> list[T]:
    found: list[T] = []

    @seed(number)
    @settings(max_examples=POOL, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(strategy)
    def collect(example: T) -> None:
        found.append(example)

    collect()
    return found


class Maker:
    """Makes requests, the same ones for the same number."""

    def __init__(self, number: int) -> None:
        self._random = Random(number)
        self._bodies = _examples(BODY, number)
        self._paths = _examples(TEXT.map(lambda text: "/" + quote(text, errors="replace")), number)

    def request(self, role: str) -> bytes:
        """Return what may be sent to a service of this role."""
        kind = self._random.randrange(4)
        if kind == 0:
            return self._noise(40)
        whole = self._whole(role)
        return self._damaged(whole) if kind == 1 else whole

    def _whole(self, role: str) -> bytes:
        choose = self._random.choice
        known = PATHS[role] * 3 + EVERYWHERE
        target = choose(known if choose([True, False]) else self._paths) + choose(QUERIES)
        lengths, body = _framed(choose(LENGTHS), choose(self._bodies))
        headers = self._random.choices(HEADERS, k=self._random.randrange(3))
        rows = [f"{choose(METHODS)} {target} {choose(VERSIONS)}", choose(HOSTS), "Connection: close", *headers]
        return "\r\n".join([*rows, *lengths]).encode("utf-8", "replace") + b"\r\n\r\n" + body

    def _damaged(self, whole: bytes) -> bytes:
        at = self._random.randint(0, len(whole))
        return whole[:at] + self._noise(6) + whole[at + self._random.randint(0, 5) :]

    def _noise(self, most: int) -> bytes:
        return self._random.randbytes(self._random.randint(0, most))


AT_ONCE = 40


def drawn(count: int, number: int) -> list[tuple[str, bytes]]:
    """Return so many requests, each with the role that gets it; the same ones for the same number."""
    maker, random = Maker(number), Random(number)
    roles = random.choices([*PATHS], k=count)
    return [(role, maker.request(role)) for role in roles]


_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


async def say(address: Address, data: bytes, patience: float = PATIENCE) -> list[int]:
    """Send these bytes on a connection of their own and return the statuses of what was answered."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    said = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        writer.write(data)
        while True:
            async with asyncio.timeout(patience):
                piece = await reader.read(1 << 16)
            if not piece:
                break
            said += piece
    writer.close()
    return [int(status) for status in _STATUS.findall(said)]


async def say_all(
    places: Places, batch: Sequence[tuple[str, bytes]], patience: float = PATIENCE
) -> list[tuple[int, str, bytes]]:
    """Send all of these, some at a time; return each status with what it answered.

    One that no answer comes to holds up nothing but its own place.
    """
    room = asyncio.Semaphore(AT_ONCE)

    async def one(role: str, data: bytes) -> list[int]:
        async with room:
            return await say(places[role], data, patience)

    answers = await asyncio.gather(*(one(role, data) for role, data in batch))
    return [(status, role, data) for (role, data), found in zip(batch, answers, strict=True) for status in found]


def undocumented(answers: Sequence[tuple[int, str, bytes]]) -> list[tuple[int, str, bytes]]:
    """Those that no service may give: errors of its own beyond "not accepted" and "nobody knows"."""
    return [answer for answer in answers if answer[0] >= 500 and answer[0] not in (503, 504)]
