"""`python -m microq.services.defects DEFECT ROLE`: a service that breaks one promise, for the negative controls.

A proof is worth something only if it can fail: a scenario runs such a service, and the verdict must be red. Nothing in
a configuration can ask for one; only `fleet.Operator.sabotage` does.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from aiohttp import web

from microq.config import Config
from microq.fleet import Role
from microq.message import Message
from microq.queues.base import Refused
from microq.services import facade, logging, messages
from microq.services.__main__ import main
from microq.services.app import Handler, read_json, reply
from microq.services.held import Held, Key
from microq.services.redelivery import Watch

HESITATION = 1.0
"""Seconds for which a hesitant consumer holds what it took before it stores it."""


class Blind(Watch):
    """It watches nothing: what leaves the queue and is not stored is not redelivered."""

    async def run(self) -> None:
        """See `Watch.run`."""


class Hesitant(messages.Consumer):
    """It takes its time between the queue and the store, so that a kill finds it with messages in its hands."""

    async def store(self, messages: Sequence[Message]) -> None:
        """See `Consumer.store`."""
        await asyncio.sleep(HESITATION)
        await super().store(messages)


class Hasty(Hesitant):
    """It tells the queue that messages are stored, takes its time, and only then stores them: auto-commit, in Kafka."""

    async def handle(self, items: Sequence[Message | Refused]) -> None:
        """See `Consumer.handle`."""
        if items:
            self._unacked = True
            await self.ack()
            await self.keep(items)


class Repeating(Held):
    """It holds each id as often as it comes: each time under another one, of which it shows only the beginning."""

    def add(self, messages: Sequence[Message]) -> list[bool]:
        """See `Held.add`."""
        return super().add([replace(m, id=f"{m.id} {len(self) + n}") for n, m in enumerate(messages)])

    def _id(self, key: Key) -> str:
        return super()._id(key).rpartition(" ")[0]


class Undiscerning(messages.Consumer):
    """It shows what the queue gives it, as often as it does, and asks nobody whether it was there before."""

    held_type = Repeating

    async def store(self, messages: Sequence[Message]) -> None:
        """See `Consumer.store`."""
        self.held.add(messages)


def careless(app: web.Application, name: str) -> web.Application:
    """Make a logging-service answer success and store nothing."""

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
    """Make a facade that is content with the leader's word, and delivers nothing again."""
    from microq.queues import kafka  # noqa: PLC0415 - an extra, which the other defects do not need

    return facade.make_app(config, name, lambda config, name: kafka.open_queue(config, name, acks=1), watch_type=Blind)


DEFECTS: dict[str, tuple[Role, Callable[[Config, str], web.Application]]] = {
    "no-redelivery": (Role.FACADE, lambda config, name: facade.make_app(config, name, watch_type=Blind)),
    "one-ack": (Role.FACADE, _one_ack),
    "hasty": (Role.MESSAGES, lambda config, name: messages.make_app(config, name, consumer_type=Hasty)),
    "hesitant": (Role.MESSAGES, lambda config, name: messages.make_app(config, name, consumer_type=Hesitant)),
    "no-dedupe": (Role.MESSAGES, lambda config, name: messages.make_app(config, name, consumer_type=Undiscerning)),
    "forgetful": (Role.LOGGING, lambda config, name: careless(logging.make_app(config, name), name)),
}
"""Name of a defect -> the role that can have it, and what makes the service."""


if __name__ == "__main__":
    role, make_app = DEFECTS[sys.argv.pop(1)]
    sys.exit(main({role: make_app}))
