"""Try the wire: send one message through the services, read everything, and say what was not as expected."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from microq.config import Config
from microq.exchange import Exchange, Exchanges, letters_of_a_run, open_exchanges
from microq.fleet import Role, group_of
from microq.message import Outcome
from microq.supervisor import runs
from microq.wire import Wire, count
from microq.workflows import Terminal
from microq.workflows.host import operating

ARRIVAL_SECONDS = 5.0
"""Seconds for a message to arrive at a messages-service."""

PAUSE = 0.2
"""Seconds between two readings."""

MOST_READS = 20
"""GETs of the facade, which asks a random messages-service, until one shows the message."""


@dataclass(frozen=True, slots=True)
class Tried:
    """The exchanges of one message, in their order, and a line for each thing that was not as expected."""

    text: str
    exchanges: tuple[Exchange, ...]
    problems: tuple[str, ...]


async def try_here(config: Config, terminal: Terminal, text: str) -> Tried:
    """Try the wire on the running system, else on one started for this."""
    async with operating(config, runs.new_run(config, "wire"), terminal):
        return await try_wire(config, text)


async def try_wire(config: Config, text: str = "", seconds: float = ARRIVAL_SECONDS) -> Tried:
    """Send one message, read all instances until one of them shows it, and read the facade; without a text a new one.

    `seconds` bound the wait.
    """
    text = text or f"wire1-{letters_of_a_run()}"
    async with open_exchanges(config) as exchanges:
        sent = await exchanges.send(text)
        acknowledged = sent.receipt is not None and sent.receipt.outcome is Outcome.ACKNOWLEDGED
        loop = asyncio.get_running_loop()
        end = loop.time() + (seconds if acknowledged else 0.0)
        read = await _read(exchanges)
        while not any(_times(each.texts, text) for each in _of(Role.MESSAGES, read)) and loop.time() < end:
            await asyncio.sleep(PAUSE)
            read = await _read(exchanges)
        facade = await exchanges.read_facade()
        for _ in range(MOST_READS if acknowledged else 0):
            if facade.problem or _times(facade.messages, text):
                break
            facade = await exchanges.read_facade()
    listed = (sent, *read, facade)
    problems = [f"{each.what}: {each.problem}" for each in listed if each.problem]
    problems += _of_instances(text, read, config.wire) if acknowledged else []
    problems += _of_facade(text, facade) if acknowledged else []
    return Tried(text, listed, tuple(problems))


async def _read(exchanges: Exchanges) -> list[Exchange]:
    return [await exchanges.read(name) for name in exchanges.names]


def _of(role: Role, read: Sequence[Exchange]) -> list[Exchange]:
    return [each for each in read if group_of(each.what.removeprefix("read ")) == role]


def _times(texts: Sequence[str] | None, text: str) -> int:
    return count(texts or (), {text})[text]


def _of_instances(text: str, read: Sequence[Exchange], wire: Wire) -> Iterator[str]:
    """Yield what is wrong with where the message is, as far as it can be seen."""
    consumers = _of(Role.MESSAGES, read)
    showing = {each.what.removeprefix("read "): _times(each.texts, text) for each in consumers}
    times = sum(showing.values())
    if times != 1 and not any(each.texts is None for each in consumers):
        where = ", ".join(f"{name} {number}" for name, number in showing.items())
        yield f"expected {text!r} once in all messages-services together, came {times} times ({where})"
    loggers = [each for each in _of(Role.LOGGING, read) if each.texts is not None]
    having = [each for each in loggers if _times(each.texts, text)]
    if loggers and not having:
        yield f"expected {text!r} in a logging-service, came in none"
    elif wire.shared_log and len(having) < len(loggers):
        lacking = ", ".join(each.what.removeprefix("read ") for each in loggers if each not in having)
        yield (
            f"expected {text!r} in every logging-service, and {lacking} lacks it; if each shows only what it was sent, "
            "write shared-log = false"
        )


def _of_facade(text: str, facade: Exchange) -> Iterator[str]:
    for name, texts in (("logs", facade.logs), ("messages", facade.messages)):
        if texts is not None and not _times(texts, text):
            where = f"among the {name} of the facade ([wire] read-{name})"
            yield f"expected {text!r} {where}, came {len(texts)} texts without it"
