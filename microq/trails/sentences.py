"""What the services' log lines say of messages: each sentence once, as a pattern, with the words for a journey."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from microq.fleet import Role
from microq.log import Line, escaped, parse, quoted

# Every quote inside of a quoted text has a backslash before it, and the opening one a blank: so it is known where an
# id ends, whatever is in it.
_QUOTED = r'(?P<text>"(?:[^"]|(?<=\\)")*"(?:… \(\d+ characters\))?)'


@dataclass(frozen=True, slots=True)
class Sentence:
    """One thing that a service says of a message: who, the pattern with `ID` where the id is, the words for people."""

    role: Role
    pattern: str
    words: str


ACKNOWLEDGED = Sentence(
    Role.FACADE,
    rf"acknowledged ID {_QUOTED}, logged by (?P<by>\S+), in (?P<ms>[\d.]+) ms",
    "acknowledged ({ms} ms)",
)
STORED = Sentence(Role.LOGGING, rf"stored ID {_QUOTED}", "stored")
TOOK = Sentence(Role.MESSAGES, r"took (?P<ids>\[.*\])", "took it from the queue")
RECEIVED = Sentence(Role.MESSAGES, rf"received ID {_QUOTED}", "received, and stored")
REFUSED = Sentence(Role.FACADE, r"(?P<status>(?!504)\d{3}) for ID: (?P<why>.*)", "refused ({status}): {why}")
UNCERTAIN = Sentence(Role.FACADE, r"504 for ID: (?P<why>.*)", "nobody knows whether it is accepted (504): {why}")
FOREIGN = Sentence(
    Role.MESSAGES,
    r"an item of the queue is a dead letter now, ID: (?P<why>.*)",
    "took an item that is no message from the queue, a dead letter now: {why}",
)

SENTENCES = (
    STORED,
    Sentence(Role.LOGGING, r'removed "QUOTED", which the queue refused', "removed it: the queue refused it"),
    ACKNOWLEDGED,
    REFUSED,
    UNCERTAIN,
    TOOK,
    RECEIVED,
    Sentence(
        Role.MESSAGES,
        r"ignored ID, which (?P<by>\S+) has already",
        "ignored a second copy: {by} has it already",
    ),
    Sentence(
        Role.MESSAGES,
        r"gave up ID, which is (?P<by>\S+)'s since the merge",
        "gave it up: it is {by}'s since the halves of the cluster met",
    ),
    Sentence(Role.FACADE, r"redelivered ID: (?P<why>it left .*)", "put it into the queue again: {why}"),
    Sentence(Role.FACADE, r"ID is not redelivered yet: (?P<why>.*)", "could not put it into the queue again: {why}"),
    Sentence(Role.FACADE, r"ID is a dead letter now: (?P<why>not .*)", "gave it up, a dead letter now: {why}"),
    Sentence(Role.FACADE, r"replayed the dead letter ID", "replayed the dead letter"),
    FOREIGN,
)
"""In the order in which they can follow each other within a millisecond."""

NAMING = (ACKNOWLEDGED, STORED, RECEIVED, REFUSED, UNCERTAIN, FOREIGN)
"""The sentences of which one at least is said of every message that there is a line of."""


@cache
def _anybody(sentence: Sentence) -> re.Pattern[str]:
    return re.compile(sentence.pattern.replace("ID", "(?P<id>.*?)"))


def said(sentence: Sentence, text: str) -> re.Match[str] | None:
    """Return what a line says if it is this sentence, of whatever message: the group `id` tells of which."""
    return _anybody(sentence).fullmatch(text)


class About:
    """Tells what lines say of one message."""

    def __init__(self, message_id: str) -> None:
        self._id = message_id
        one, inside = re.escape(escaped(message_id)), re.escape(quoted(message_id)[1:-1])
        self._patterns = {
            sentence: re.compile(
                re.sub("ID|QUOTED", lambda found: inside if found[0] == "QUOTED" else one, sentence.pattern)
            )
            for sentence in SENTENCES
        }

    def match(self, sentence: Sentence, text: str) -> re.Match[str] | None:
        """Return what a line says if it is this sentence, of this message."""
        match = self._patterns[sentence].fullmatch(text)
        return match if match and (sentence is not TOOK or self._id in _ids(match["ids"])) else None


def _ids(text: str) -> list[str]:
    try:
        return list(json.loads(text))
    except ValueError:
        return []


# -- the files --------------------------------------------------------------------------------------------------------

BLOCK = 1 << 18


def files(folder: Path, *roles: Role) -> list[Path]:
    """Return the log files of a run that processes of these roles wrote."""
    return sorted(file for role in roles for file in (folder / "logs").glob(f"{role}-*.log"))


def role_of(file: Path) -> Role:
    """Return what the process is that wrote a log file."""
    return Role(file.stem.partition("-")[0])


def plain(text: str) -> bytes:
    """Return the longest piece of a text that every form of a log line has as it is: to find lines by it quickly."""
    return max(re.findall(r"[0-9A-Za-z_.:/ -]+", text), key=len, default="").encode()


def read(raw: bytes) -> Line | None:
    """Return a line of a file; None for what is none."""
    return parse(raw.decode(errors="replace"))


def backwards(file: Path) -> Iterator[bytes]:
    """Yield the lines of a file from the last one to the first."""
    with file.open("rb") as source:
        end, rest = source.seek(0, 2), b""
        while end > 0:
            begin = max(0, end - BLOCK)
            source.seek(begin)
            rest, *lines = (source.read(end - begin) + rest).split(b"\n")
            yield from reversed(lines)
            end = begin
        yield rest
