"""What every queue promises, in words; `tests/contract` proves it for each backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from microq.message import Message


@dataclass(frozen=True, slots=True)
class Refused:
    """An item that came out of the queue and is no message of ours; `reason` says why, `raw` is it if it is text."""

    reason: str
    raw: str = ""


class MessageQueue(Protocol):
    """A replicated queue of messages, first in, first out; where it has partitions, each of them is."""

    @property
    def gathers(self) -> bool:
        """Whether single puts are gathered into batches by the queue's client itself.

        A queue with partitions does that for each of them: gathered before, all would wait for the slowest.
        """
        ...

    async def put(self, messages: Sequence[Message]) -> None:
        """Append messages; return only when each is on the primary and on its backups.

        Raises `QueueFullError` or `QueueAwayError`: none of them is in, or `QueueUncertainError`: each may be in or
        not. A put that is retried within the client while a member leaves may append a message twice; who receives
        must know an id again.
        """
        ...

    async def receive(self, most: int, seconds: float) -> list[Message | Refused]:
        """Take up to `most` items, waiting up to `seconds` on the server for the first; empty if none came.

        If the caller dies before it stored what is returned, it depends on the backend whether it comes again: a queue
        of Hazelcast forgets what it gave, a topic of Kafka gives it to another consumer. Never cancel it: the reply of
        a cancelled call is dropped, and the items with it. Raises `QueueAwayError` if nothing was asked, and
        `QueueUncertainError` if the answer was lost.
        """
        ...

    async def ack(self) -> None:
        """Say that everything that `receive` returned so far is stored: it need not come again.

        Raises `QueueUncertainError` if that was not confirmed: it may come again.
        """
        ...

    async def leave(self) -> None:
        """Let other consumers have what waits for this one, until it receives again. Raises as `ack` does."""
        ...

    async def waiting_since(self) -> float | None:
        """Return the `at` of the message that is next: what was in the queue before that time has left it.

        `inf` if the queue is empty, None if nobody can say, as when the next item is no message. Raises as `size` does.
        """
        ...

    async def size(self) -> int:
        """Return how many messages wait; where they can come again, also those that are received and not acked.

        Raises `QueueAwayError` or `QueueUncertainError`.
        """
        ...

    async def owner(self) -> str | None:
        """Return the address of the server that holds the primary now, or None while nobody does.

        Of several primaries the one with the most messages counts.
        """
        ...
