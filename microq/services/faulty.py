"""`python -m microq.services.faulty DEFECT ROLE`: a service that breaks one promise, for the negative controls.

The check is a proof only if it can fail: a control runs such a service, and the verdict must be *fail*. Only
`fleet.Operator.sabotage` starts one; a configuration cannot.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from aiohttp import web

from microq.backends import backend
from microq.backends.base import Refused
from microq.clock import Clock
from microq.config import Config
from microq.fleet import Role
from microq.message import Message
from microq.services import facade, logging, messages
from microq.services.__main__ import main
from microq.services.app import HEALTH, read_json, reply
from microq.services.inbox import Inbox, Key
from microq.services.redelivery import Watch
from microq.web import Handler

CLOCK_SECONDS = 600.0
"""Seconds by which a clock is set back or ahead: far more than any time limit."""

HESITATION = 1.0
"""Seconds that a hesitant consumer waits before it stores messages that it took."""


class Blind(Watch):
    """A watch that watches nothing: a message that leaves the queue and is not stored is not redelivered."""

    async def run(self) -> None:
        """Do nothing, for ever."""


class Hesitant(messages.Consumer):
    """A consumer that waits between the queue and the store, so that a kill hits it while it holds messages."""

    async def store(self, messages: Sequence[Message]) -> None:
        """Wait, then store."""
        await asyncio.sleep(HESITATION)
        await super().store(messages)


class Hasty(Hesitant):
    """A consumer that acknowledges messages to the queue, waits, and only then stores them: auto-commit in Kafka."""

    async def handle(self, items: Sequence[Message | Refused]) -> None:
        """Acknowledge before anything is stored."""
        if items:
            noted = self.note(items)
            self._unacked = True
            await self.ack()
            await self.keep(noted)


class Repeating(Inbox):
    """An inbox that holds an id as often as it comes: each time under another key, of which it shows the beginning."""

    def add(self, messages: Sequence[Message]) -> list[bool]:
        """Hold every message, also one with an id that is held."""
        return super().add([replace(m, id=f"{m.id} {len(self) + n}") for n, m in enumerate(messages)])

    def _id(self, key: Key) -> str:
        return super()._id(key).rpartition(" ")[0]


class Undiscerning(messages.Consumer):
    """A consumer that shows every delivery, and does not claim the ids in the `stored` map."""

    inbox_type = Repeating

    async def store(self, messages: Sequence[Message]) -> None:
        """Hold the messages without a claim."""
        self.held.add(messages)


def careless(app: web.Application, name: str) -> web.Application:
    """Make a logging-service that answers success and writes nothing."""

    @web.middleware
    async def lie(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method != "POST":
            return await handler(request)
        fields = await read_json(request)
        count = len(fields) if isinstance(fields, list) else 1
        return reply({"status": "success", "service": name, "new": [True] * count, "at": [0.0] * count})

    app.middlewares.append(lie)
    return app


def _one_ack(config: Config, name: str) -> web.Application:
    """Make a facade that acknowledges when the leader alone has a message, and redelivers nothing."""
    open_queue = partial(backend(config.queue.backend).open_defective_queue, "one-ack")
    return facade.make_app(config, name, open_queue, watch_type=Blind)


def _set_clock(seconds: float) -> Callable[[Config, str], web.Application]:
    """Make a facade whose whole process has a changed wall clock; its monotonic clock is not changed."""

    def make_app(config: Config, name: str) -> web.Application:
        real = time.time
        time.time = lambda: real() + seconds  # the effect of a clock change on a process
        app = facade.make_app(config, name)
        app[HEALTH].clock = Clock(wall=time.time)  # the clock of this machine was looked up before
        return app

    return make_app


DEFECTS: dict[str, tuple[Role, Callable[[Config, str], web.Application]]] = {
    "no-redelivery": (Role.FACADE, lambda config, name: facade.make_app(config, name, watch_type=Blind)),
    "one-ack": (Role.FACADE, _one_ack),
    "clock-back": (Role.FACADE, _set_clock(-CLOCK_SECONDS)),
    "clock-ahead": (Role.FACADE, _set_clock(CLOCK_SECONDS)),
    "hasty": (Role.MESSAGES, lambda config, name: messages.make_app(config, name, consumer_type=Hasty)),
    "hesitant": (Role.MESSAGES, lambda config, name: messages.make_app(config, name, consumer_type=Hesitant)),
    "no-dedupe": (Role.MESSAGES, lambda config, name: messages.make_app(config, name, consumer_type=Undiscerning)),
    "forgetful": (Role.LOGGING, lambda config, name: careless(logging.make_app(config, name), name)),
}
"""Name of a defect -> the role that can have it, and the maker of the service."""


if __name__ == "__main__":
    role, make_app = DEFECTS[sys.argv.pop(1)]
    sys.exit(main({role: make_app}))
