"""Reading everything that a service shows, and how long that takes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import aiohttp

from microq.bench.lines import MARK
from microq.config import Address
from microq.errors import DeadlineError, NotRunningError

READ_SECONDS = 120.0
"""How long one read may take."""


@dataclass(frozen=True, slots=True)
class Read:
    """One GET: the status, its length, how many texts of the benchmark it had, and how long it took to its end."""

    status: int
    bytes: int
    texts: int
    seconds: float
    first_s: float
    """How long it took until the first of it came."""


async def read(session: aiohttp.ClientSession, address: Address, path: str) -> Read:
    """Read a path to its end without keeping it. Raises `NotRunningError` or `DeadlineError`."""
    mark, rest = MARK.encode(), b""
    length = texts = 0
    first = None
    began = time.perf_counter()
    try:
        async with asyncio.timeout(READ_SECONDS), session.get(address.url + path) as response:
            async for piece in response.content.iter_any():
                first = first or time.perf_counter()
                length += len(piece)
                seen = rest + piece
                texts += seen.count(mark)
                rest = seen[-len(mark) + 1 :]
    except TimeoutError as error:
        raise DeadlineError(f"{address}{path} was not read in {READ_SECONDS:g} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise NotRunningError(f"reading {address}{path} broke off ({type(error).__name__})") from error
    ended = time.perf_counter()
    return Read(response.status, length, texts, ended - began, (first or ended) - began)


async def read_for(session: aiohttp.ClientSession, address: Address, path: str, seconds: float) -> int:
    """Read it again and again, until so many seconds are over and the last one has ended; return how often."""
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        await read(session, address, path)
        count += 1
    return count
