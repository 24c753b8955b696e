"""The journey of one message: every line of a log that is about it, and what the timeline has around it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from microq.fleet import Role
from microq.log import Line, escaped
from microq.trails import around
from microq.trails.sentences import (
    ACKNOWLEDGED,
    NAMING,
    RECEIVED,
    SENTENCES,
    TOOK,
    About,
    Sentence,
    files,
    plain,
    read,
    role_of,
    said,
)

SERVICES = (Role.FACADE, Role.LOGGING, Role.MESSAGES)

QUEUE = "queue"
"""Where a message is that is in the queue."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened to a message: when (seconds since the epoch), where, and what, in words.

    `where` is the name of a process, `queue`, or empty for what happened around it. What was not seen of this message
    itself, but concluded from what the system looked like at about that time, is not `sure`.
    """

    at: float
    where: str
    what: str
    sure: bool = True


@dataclass(frozen=True, slots=True)
class Trail:
    """All that is known of one message, in the order of time; no steps if nothing is.

    `text` is in quotes, shortened and escaped as the log lines have it.
    """

    id: str
    text: str
    steps: tuple[Step, ...]

    @property
    def waits(self) -> bool:
        """Whether it is, or was, in the queue, and no messages-service has received it."""
        return any(step.where == QUEUE for step in self.steps) and all(
            step.what != RECEIVED.words for step in self.steps
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """A line of the process `name` that says something of the message."""

    at: float
    name: str
    sentence: Sentence
    match: re.Match[str]

    @property
    def step(self) -> Step:
        return Step(self.at, self.name, self.sentence.words.format(**self.match.groupdict()))


def find(folder: Path, message_id: str) -> Trail:
    """Return the journey of a message in the run that has this folder."""
    found = list(_lines(folder, message_id))
    text = next((shown for each in found if (shown := each.match.groupdict().get("text"))), "")
    # The second number is the order of what has the same time, which is known to the millisecond only.
    steps: list[tuple[float, float, Step]] = [(each.at, SENTENCES.index(each.sentence), each.step) for each in found]
    for each in found:
        if each.sentence is ACKNOWLEDGED:
            # Down to the millisecond, as the times of the lines are: what followed at once must not come before it.
            at = math.floor(round(each.at * 1000, 3) - float(each.match["ms"])) / 1000
            steps.append((at, -1, Step(at, each.name, f"accepted {text}")))
    put = min((each.at for each in found if each.sentence in {ACKNOWLEDGED, TOOK}), default=None)
    if put is not None:
        began = min(at for at, _, _ in steps)
        ended = max((each.at for each in found if each.sentence is RECEIVED), default=math.inf)
        looks = around.looks(folder, put, ended)
        copies = around.copies(looks, put, message_id)
        step = Step(put, QUEUE, copies or "in the queue", sure=not copies)
        steps.append((put, SENTENCES.index(ACKNOWLEDGED) - 0.5, step))
        steps += [(at, math.inf, Step(at, "", what, sure)) for at, what, sure in around.happened(looks, began, ended)]
    return Trail(message_id, text, tuple(step for _, _, step in sorted(steps, key=lambda timed: timed[:2])))


def _lines(folder: Path, message_id: str) -> Iterator[_Found]:
    about = About(message_id)
    for name, line, sentence in _candidates(folder, message_id, SENTENCES):
        if match := about.match(sentence, line.text):
            yield _Found(line.at, name, sentence, match)


def ids_like(folder: Path, beginning: str, limit: int) -> list[str]:
    """Return at most `limit` ids of messages that begin so, of those that a service of the run speaks of."""
    known: dict[str, None] = {}
    for _, line, sentence in _candidates(folder, beginning, NAMING):
        if (match := said(sentence, line.text)) and match["id"].startswith(beginning):
            known[match["id"]] = None
            if len(known) >= limit:
                break
    return list(known)


def _candidates(folder: Path, part: str, known: Sequence[Sentence]) -> Iterator[tuple[str, Line, Sentence]]:
    """Yield each line of a service that has this part of an id, with its process and what the line may say."""
    needle = plain(escaped(part))
    for file in files(folder, *SERVICES):
        sentences = [sentence for sentence in known if sentence.role is role_of(file)]
        with file.open("rb") as lines:
            for raw in lines:
                if needle in raw and (line := read(raw)):
                    yield from ((file.stem, line, sentence) for sentence in sentences)
