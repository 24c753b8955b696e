"""Journals: sequences of slots in a map. A slot has the key `<journal>/<number>` and is written once, by put-if-absent.

That one compare-and-set a batch is the whole coordination of the messages-services. Each has a store journal. It shows
a batch only after its slot was absent. What it finds there instead tells it what happened meanwhile: a fence, a batch
of another process of its name, or that its messages were taken over.

The truth is what a journal says, and not what a process remembers: a messages-service has a message if its journal has
a batch with it, and no fence that revokes it. A fence revokes the lower ranks of an id *wherever they stand in the
journal*. In one cluster none can stand before it, because its writer would have found it. After a split some do: the
halves wrote the same slots, a merge keeps one of each two, and a batch of one half can stand before a fence of the
other half.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, Self

from microq.backends.hazelcast.maps import RecordMap
from microq.errors import MessageError
from microq.message import Message

Rank = tuple[int, str]
"""The number of a delivery, and the messages-service that has the copy in hand.

The name decides between copies of one number: both halves of a split cluster have the items that waited before it.
"""

NEVER: Rank = (0, "")
"""Lower than every rank."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot: a batch of `messages`; or a fence, which revokes the lower ranks of ids; or `moved`.

    `moved` is (from, to): what `from` had of the slots before, `to` has from now on. `mark` is unique: by it a writer
    recognises its own slot when it writes it again after a lost reply. `by` wrote it; `at` is when, in seconds since
    the epoch, for people.
    """

    journal: str
    number: int
    mark: str
    by: str = ""
    at: float = 0.0
    messages: tuple[Message, ...] = ()
    revoked: Mapping[str, Rank] = field(default_factory=dict)
    moved: tuple[str, str] = ("", "")

    @property
    def id(self) -> str:
        """The key."""
        return f"{self.journal}/{self.number}"

    def without(self, message_id: str, mark: str) -> Slot:
        """Return the slot of a log journal without a message."""
        left = tuple(message for message in self.messages if message.id != message_id)
        return replace(self, messages=left, mark=mark)

    def to_json(self) -> str:
        """Return the slot as one line of JSON."""
        fields: dict[str, Any] = {"id": self.id, "mark": self.mark, "by": self.by, "at": self.at}
        if self.messages:
            fields["messages"] = [[each.id, each.text, each.at, each.delivery] for each in self.messages]
        if self.revoked:
            fields["revoked"] = {message_id: list(rank) for message_id, rank in self.revoked.items()}
        if any(self.moved):
            fields["moved"] = self.moved
        return json.dumps(fields, ensure_ascii=False)

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read the output of `to_json`; raises `MessageError` for anything else."""
        if not isinstance(raw, str):
            raise MessageError(f"not text but {type(raw).__name__}")
        try:
            found = json.loads(raw)
            journal, _, number = str(found["id"]).rpartition("/")
            by = str(found["by"])
            rows = found.get("messages", ())
            ranks = found.get("revoked", {}).items()
            source, target = found.get("moved", ("", ""))
            return cls(
                journal,
                int(number),
                str(found["mark"]),
                by,
                float(found["at"]),
                tuple(Message(str(i), str(text), float(at), by, delivery=int(d)) for i, text, at, d in rows),
                {str(message_id): (int(number), str(name)) for message_id, (number, name) in ranks},
                (str(source), str(target)),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise MessageError(f"not a slot of a journal ({type(error).__name__})") from error


class SlotMap(RecordMap[Slot]):
    """The slots of several journals, in one map."""

    async def append(self, slot: Slot) -> Slot:
        """Write a slot if it is absent; return the slot that is there then: this one, or another.

        It can be repeated until it is answered: its mark tells whether an earlier attempt was carried out. Raises as
        the methods of `RecordMap` do.
        """
        before = await self._call(self._map.put_if_absent(slot.id, slot.to_json()))
        if before is None:
            return slot
        # What another program wrote there says nothing, but it is not overwritten.
        return self._or_none(before) or Slot(slot.journal, slot.number, "")

    async def read(self, journal: str, number: int) -> AsyncIterator[Slot]:
        """Yield the slots of a journal from a number on, up to the first absent one."""
        while (slot := await self.get(f"{journal}/{number}")) is not None:
            yield slot
            number += 1

    async def replay(self) -> dict[str, Replay]:
        """Read all journals, also what is after a gap, as there may be while a cluster merges."""
        slots: dict[str, list[Slot]] = {}
        async for page in self.scan():
            for slot in page:
                slots.setdefault(slot.journal, []).append(slot)
        return {journal: Replay(journal, found) for journal, found in sorted(slots.items())}


class Replay:
    """What some slots of a store journal say, read in order."""

    def __init__(self, journal: str, slots: Iterable[Slot] = ()) -> None:
        self.journal = journal
        self.next = 0
        """The number of the first slot that was absent."""
        self.revoked: dict[str, Rank] = {}
        self._stored: dict[str, tuple[Message, int]] = {}
        self._moved: list[Slot] = []
        for slot in sorted(slots, key=attrgetter("number")):
            self.add(slot)

    def add(self, slot: Slot) -> None:
        """Take the next slot."""
        if slot.number == self.next:
            self.next += 1
        for message in slot.messages:
            before = self._stored.get(message.id)
            if before is None or before[0].delivery <= message.delivery:
                self._stored[message.id] = message, slot.number
        for message_id, rank in slot.revoked.items():
            self.revoked[message_id] = max(rank, self.revoked.get(message_id, NEVER))
        if any(slot.moved):
            self._moved.append(slot)

    def rank(self, message_id: str) -> Rank:
        """Return the rank of a message that the journal has and that is not revoked; else `NEVER`."""
        if (found := self._stored.get(message_id)) is None:
            return NEVER
        rank = found[0].delivery, self.journal
        return NEVER if rank < self.revoked.get(message_id, NEVER) else rank

    def live(self) -> Iterator[tuple[Message, str]]:
        """Yield each message that is not revoked, and the messages-service that has it now."""
        for message, number in self._stored.values():
            if self.rank(message.id) != NEVER:
                yield message, self._owner(number)

    def _owner(self, number: int) -> str:
        owner = self.journal
        for slot in self._moved:
            source, target = slot.moved
            if slot.number > number and source == owner:
                owner = target
        return owner
