"""The promise, as invariants: what was sent and answered, what was shown to whom, and what must be true of it.

While a run goes on: nothing is shown that was not sent, or with another text, or by two messages-services at one time
(some seconds after a merge excepted, which the services announce). When everything has healed and drained: an
acknowledged message is shown by one messages-service, once, and stands in the log; a refused one is nowhere; of an
indeterminate one both or neither is true; what was shown once is still shown; nothing is dead and shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from microq.message import Outcome


@dataclass
class Sent:
    """A message and the outcomes of its attempts; `under_way` have none yet."""

    id: str
    text: str
    outcomes: list[Outcome] = field(default_factory=list)
    under_way: int = 0

    @property
    def outcome(self) -> Outcome:
        if Outcome.ACKNOWLEDGED in self.outcomes:
            return Outcome.ACKNOWLEDGED
        return Outcome.REJECTED if set(self.outcomes) == {Outcome.REJECTED} else Outcome.INDETERMINATE


@dataclass
class Final:
    """What stands where when a run has drained: for each messages-service that is up the (id, text) it shows."""

    shown: Mapping[str, Sequence[tuple[str, str]]]
    logged: Mapping[str, str]
    stored: Mapping[str, str]
    dead: Sequence[str]
    queued: Sequence[str]


class BrokenError(Exception):
    """An invariant is broken."""


class Witness:
    """Sees what clients and readers see."""

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell
        self.sent: dict[str, Sent] = {}
        self.seen: dict[str, str] = {}
        """What was shown at any time: id -> the messages-service that showed it first."""

    def send(self, message_id: str, text: str) -> Sent:
        """Note an attempt to send a message."""
        sent = self.sent.setdefault(message_id, Sent(message_id, text))
        sent.under_way += 1
        return sent

    def answer(self, sent: Sent, outcome: Outcome) -> None:
        """Note the outcome of an attempt."""
        sent.under_way -= 1
        sent.outcomes.append(outcome)
        self._tell(str(outcome), sent.id)

    @property
    def idle(self) -> bool:
        """Whether every attempt has an outcome."""
        return not any(sent.under_way for sent in self.sent.values())

    def see(self, shown: Mapping[str, Sequence[tuple[str, str]]], *, merging: bool) -> None:
        """Check what the messages-services show now."""
        showing: dict[str, str] = {}
        for name, messages in shown.items():
            for message_id, text in messages:
                if message_id not in self.sent:
                    raise BrokenError(f"{name} shows {message_id}, which nobody sent")
                if text != self.sent[message_id].text:
                    raise BrokenError(f"{name} shows {message_id} with another text")
                if message_id not in self.seen:
                    self.seen[message_id] = name
                    self._tell("shown", message_id, name)
                if not merging and message_id in showing:
                    raise BrokenError(f"{message_id} is shown twice: by {showing[message_id]} and by {name}")
                showing[message_id] = name

    def problem(self, final: Final, *, split: bool) -> str:
        """Return the first broken promise about the final state; empty if all hold.

        After a split a refused message may be there: what was taken back on one half comes back from the other.
        """
        known = (problem for sent in self.sent.values() for problem in self._problems(sent, final, split=split))
        shown = [message_id for messages in final.shown.values() for message_id, _ in messages]
        unknown = (f"{i} is there, and nobody sent it" for i in [*shown, *final.logged] if i not in self.sent)
        return next(known, "") or next(unknown, "")

    def _problems(self, sent: Sent, final: Final, *, split: bool) -> Iterator[str]:
        by = [name for name, messages in final.shown.items() for message_id, _ in messages if message_id == sent.id]
        logged, dead, shown = sent.id in final.logged, sent.id in final.dead, bool(by)
        there = ", ".join(word for word, true in (("shown", shown), ("in the log", logged)) if true) or "nowhere"
        if len(by) > 1:
            yield f"{sent.id} is shown {len(by)} times, by {' and '.join(by)}"
        if final.logged.get(sent.id, sent.text) != sent.text:
            yield f"{sent.id} stands in the log with another text"
        if dead and shown:
            yield f"{sent.id} is a dead letter, and is shown"
        if sent.id in self.seen and not shown:
            yield f"{sent.id} was shown, and is not shown any more"
        if sent.outcome is Outcome.REJECTED and not split and (shown or logged or sent.id in final.queued):
            yield f"{sent.id} was refused, and is {there if shown or logged else 'in the queue'}"
        if sent.outcome is Outcome.ACKNOWLEDGED and not (logged and (shown or dead)):
            yield f"{sent.id} was acknowledged, and is only {there}"
        if shown is not logged and not dead:
            yield f"{sent.id} is only {there}"
