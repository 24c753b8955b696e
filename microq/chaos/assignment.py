"""The steps of the assignment: what each asks for, and whether what was seen is that. Pure.

The assignment is a task of a course: a facade puts messages into a replicated queue and into a log; two
messages-services consume the queue; no message may be lost when a server of the queue ends.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Self

from microq.backends import described
from microq.backends.base import Trait
from microq.chaos.evidence import Evidence
from microq.chaos.history import Entry
from microq.chaos.recovery import Copies
from microq.chaos.verdict import FOUND, Ruling, Verdict, named
from microq.fleet import LOWEST, ProcessState, Role, Snapshot
from microq.message import Outcome, text_hash

FIRST_TEXTS = tuple(f"msg{number}" for number in range(1, 11))
"""The texts of the first ten messages."""

MESSAGES = 100
"""How many messages wait in the queue while one of its servers is killed."""

LEAST = {Role.LOGGING: 3, Role.MESSAGES: 2, Role.FACADE: 1}
"""Role of a service -> how many of it the assignment asks for."""

NAMES = {Role.LOGGING: "logging-service", Role.MESSAGES: "messages-service", Role.FACADE: "facade"}

SHOWN = 12
"""How many texts of a list are written out."""

LINES = 100
"""How many lines of a log are kept as evidence."""

QUOTED = 2
"""How many last lines of a program are part of what came."""

WIDEST = 300
"""How many characters of a line of a log are kept."""


class Number(IntEnum):
    """A step of the assignment, with its title and what it asks for."""

    title: str
    task: str

    def __new__(cls, number: int, title: str, task: str) -> Self:
        """Make a number with its title and its task."""
        made = int.__new__(cls, number)
        made._value_, made.title, made.task = number, title, task
        return made

    START = (
        1,
        "Start everything",
        "Three logging-services, two messages-services, a facade and the servers of the queue run.",
    )
    SEND = 2, "Send ten messages", "The facade accepts msg1 to msg10, each by an HTTP POST."
    LOGGED = 3, "What each logging-service got", "The logs show which messages each logging-service got."
    RECEIVED = 4, "What each messages-service got", "The logs show which messages each messages-service got."
    READ = (
        5,
        "Read both sets",
        "Each HTTP GET of the facade returns the log, and what one messages-service has.",
    )
    OFF = 6, "Switch the consumers off", "No messages-service runs, so messages stay in the queue."
    FILL = 7, "Fill the queue", f"The facade accepts {MESSAGES} messages; the queue keeps them, with copies."
    KILL = 8, "Kill a server of the queue", "The server with the lowest address ends; of Kafka's brokers a leader."
    DRAIN = 9, "Start the consumers again", "Both messages-services together get every message that waited."


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A part of the evidence: lines of text, or with a `head` the rows of a table; `left_out` counts further rows."""

    title: str
    rows: tuple[tuple[str, ...], ...]
    head: tuple[str, ...] = ()
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """A step with its result: what was expected, what came, the evidence, and its duration in seconds.

    `expected` is empty if the step was not tried.
    """

    number: Number
    ruling: Ruling
    expected: str
    came: str
    evidence: tuple[Excerpt, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {**dataclasses.asdict(self), "title": self.number.title, "task": self.number.task}


@dataclass(frozen=True, slots=True)
class Assignment:
    """All steps of one run, and whose work it is; `began` is in seconds since the epoch."""

    student: str
    queue: str
    began: float
    steps: tuple[Step, ...]
    history: str = ""
    """The history of the fault-tolerance check; empty if it was not reached."""

    @property
    def verdict(self) -> Ruling:
        """Fail if a step does not hold, unknown if one is unknown, else pass."""
        found = {step.ruling for step in self.steps}
        return next((each for each in (Ruling.FAIL, Ruling.UNKNOWN) if each in found), Ruling.PASS)

    @property
    def held(self) -> int:
        """The number of steps that hold."""
        return sum(step.ruling is Ruling.PASS for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "student": self.student,
            "queue": self.queue,
            "began": self.began,
            "verdict": self.verdict,
            "held": self.held,
            "steps": [step.to_json() for step in self.steps],
            "history": self.history,
        }


def failed(number: Number, why: str, *, unseen: bool = False) -> Step:
    """Return a step that ended with an error; the further lines of its text are evidence.

    `unseen`: what is to be judged could not be seen, so the result is unknown.
    """
    first, *more = why.splitlines() or [""]
    quoted = [line.strip() for line in more if line.startswith(" ")]
    came = " ".join([first, *quoted[-QUOTED:]])
    evidence = (Excerpt("What the error says", tuple((line.strip(),) for line in more)),) if more else ()
    return Step(number, Ruling.UNKNOWN if unseen else Ruling.FAIL, number.task, came[:WIDEST], evidence)


def untried(last: Step) -> list[Step]:
    """Return the steps after the last one that could be tried."""
    why = f"not tried, because step {last.number:d} does not hold"
    return [Step(number, Ruling.UNKNOWN, "", why) for number in Number if number > last.number]


def listed(texts: Iterable[str]) -> str:
    """Return texts in one line; of many only the first ones."""
    known = list(texts)
    more = f", … ({len(known)} in all)" if len(known) > SHOWN else ""
    return ", ".join(known[:SHOWN]) + more if known else "nothing"


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _ruling(problems: Collection[str], doubts: Collection[str]) -> Ruling:
    return Ruling.FAIL if problems else Ruling.UNKNOWN if doubts else Ruling.PASS


# -- everything runs ---------------------------------------------------------------------------------------------------


def start(view: Snapshot) -> Step:
    """Judge the start, from a snapshot."""
    of_queue = described(view.backend)
    least = 3 if Trait.QUORUM in of_queue.traits else 2  # so that the queue works without one of them
    wanted = [
        *((role, NAMES[role], count) for role, count in LEAST.items()),
        (Role.QUEUE, of_queue.words.server, least),
    ]
    ready = {role: len(view.ready(role)) for role, _, _ in wanted}
    problems = [what for role, what, count in wanted if ready[role] < count]
    rows = tuple((p.name, p.address, str(p.state), "" if p.pid is None else str(p.pid)) for p in view.processes)
    return Step(
        Number.START,
        _ruling(problems, ()),
        ", ".join(_counted(count, what) for _, what, count in wanted) + " or more, all ready",
        ", ".join(_counted(ready[role], what) for role, what, _ in wanted) + " ready",
        (Excerpt("The processes", rows, ("process", "address", "state", "pid")),),
    )


# -- ten messages ------------------------------------------------------------------------------------------------------

NOT_SENT = "not sent"


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of one message, and the reason if it was not acknowledged; `NOT_SENT` if it was not sent at all."""

    text: str
    outcome: str
    reason: str = ""


def send(answers: Sequence[Answer]) -> Step:
    """Judge the sending of the first messages."""
    problems = [answer for answer in answers if answer.outcome != Outcome.ACKNOWLEDGED]
    rows = tuple((answer.text, answer.outcome, answer.reason) for answer in answers)
    others = "".join(f"; {one.text} {one.outcome}: {one.reason}" for one in problems)
    return Step(
        Number.SEND,
        _ruling([one.text for one in problems], ()),
        f"{len(answers)} acknowledgements",
        f"{len(answers) - len(problems)} acknowledgements{others}",
        (Excerpt("The answers of the facade", rows, ("message", "outcome", "reason")),),
    )


@dataclass(frozen=True, slots=True)
class Logged:
    """What the log of one instance says of some texts: text -> its lines, in a log of `size` lines.

    `problem` says why the log was not read completely; empty if it was.
    """

    name: str
    lines: Mapping[str, Sequence[str]] = field(default_factory=dict)
    size: int = 0
    problem: str = ""

    def excerpt(self) -> Excerpt:
        """Return its lines as evidence."""
        lines = list(dict.fromkeys(line for found in self.lines.values() for line in found))
        kept = tuple((line[:WIDEST] + ("…" if len(line) > WIDEST else ""),) for line in lines[:LINES])
        what = f"{self.name}: {_counted(len(self.lines), 'message')}, in a log of {_counted(self.size, 'line')}"
        return Excerpt(what, kept, left_out=max(0, len(lines) - LINES))


def mentions(name: str, log: str, texts: Collection[str], problem: str = "") -> Logged:
    """Find the lines of a log that contain one of the texts as a whole word, in the order of the log."""
    lines = log.splitlines()
    found: dict[str, list[str]] = {}
    if texts:
        pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, sorted(texts, key=len, reverse=True)))})(?!\w)")
        for line in lines:
            for text in dict.fromkeys(pattern.findall(line)):
                found.setdefault(text, []).append(line)
    return Logged(name, found, len(lines), problem)


def complete(logs: Sequence[Logged], texts: Collection[str]) -> bool:
    """Return whether every text is in one of the logs."""
    return set(texts) <= {text for log in logs for text in log.lines}


def logged(logs: Sequence[Logged], texts: Sequence[str]) -> Step:
    """Judge the logs of the logging-services: each acknowledged text must be in one of them."""
    return _in_logs(Number.LOGGED, "logging-service", logs, texts, once=False)


def received(logs: Sequence[Logged], texts: Sequence[str]) -> Step:
    """Judge the logs of the messages-services: each acknowledged text must be in exactly one of them."""
    return _in_logs(Number.RECEIVED, "messages-service", logs, texts, once=True)


def _in_logs(number: Number, what: str, logs: Sequence[Logged], texts: Sequence[str], *, once: bool) -> Step:
    missing = [text for text in texts if not complete(logs, [text])]
    twice = [text for text in texts if sum(text in log.lines for log in logs) > 1]
    unread = [f"the log of {log.name} {log.problem}" for log in logs if log.problem]
    problems: list[str] = []
    doubts: list[str] = []
    if missing:
        where = f"no log of a {what} has {listed(missing)}"
        (doubts if unread else problems).append(where)
        doubts += unread
    notes = []
    if twice and once:
        problems.append(f"more than one has {listed(twice)}")
    elif twice:  # a facade may ask another logging-service after one that is silent
        notes.append(f"more than one has {listed(twice)}")
    if not texts:
        doubts.append("no message was acknowledged")
    notes += [f"{log.name} got none: the choice is the facade's or the queue's" for log in logs if not log.lines]
    shares = "; ".join(f"{log.name} got {listed(log.lines)}" for log in logs)
    return Step(
        number,
        _ruling(problems, doubts),
        f"each of the {len(texts)} acknowledged messages in the log of {'exactly ' if once else ''}one {what}",
        "; ".join([shares, *problems, *doubts]),
        tuple(log.excerpt() for log in logs),
        tuple(notes if texts else ()),
    )


@dataclass(frozen=True, slots=True)
class Sets:
    """One GET of the facade: both sets of texts, and the instances that they came from, if the answer names them."""

    logs: tuple[str, ...]
    messages: tuple[str, ...]
    logging_service: str = ""
    messages_service: str = ""


def read(gets: Sequence[Sets], texts: Sequence[str], logs: Sequence[Logged]) -> Step:
    """Judge the GETs of the facade; `logs` are those of the messages-services."""
    shares = {log.name: set(log.lines) for log in logs}
    problems: list[str] = []
    doubts = [] if texts else ["no message was acknowledged"]
    for number, got in enumerate(gets, 1):
        if shares and set(got.messages) & set(texts) not in shares.values():
            problems.append(f"GET {number} shows {listed(got.messages)}, which no messages-service has by its log")
        if twice := [text for text, count in Counter(got.messages).items() if count > 1]:
            problems.append(f"GET {number} shows {listed(twice)} more than once")
    for what, seen in (
        ("of the log", {text for got in gets for text in got.logs}),
        ("of a messages-service", shown := {text for got in gets for text in got.messages}),
    ):
        if lacking := [text for text in texts if text not in seen]:
            problems.append(f"no GET shows {listed(lacking)} {what}")
    partial = [number for number, got in enumerate(gets, 1) if not set(texts) <= set(got.logs)]
    notes = (f"GET {partial[0]} has only a part of the log: the logging-services do not share one",) if partial else ()
    rows = tuple(
        (str(number), got.logging_service, listed(got.logs), got.messages_service, listed(got.messages))
        for number, got in enumerate(gets, 1)
    )
    both = {tuple(sorted(got.messages)) for got in gets}
    came = f"{len(gets)} GETs with {len(both)} different sets of messages, which have {len(shown)} messages together"
    return Step(
        Number.READ,
        _ruling(problems, doubts),
        f"in each GET the log, and what one messages-service has; in all GETs together {len(texts)} messages of both",
        "; ".join([came, *problems, *doubts]),
        (Excerpt("The answers of the facade", rows, ("GET", "log of", "texts", "messages of", "texts")),),
        notes,
    )


# -- the fault-tolerance check -----------------------------------------------------------------------------------------


def off(view: Snapshot) -> Step:
    """Judge whether the consumers are off, from a snapshot."""
    consumers = view.having(Role.MESSAGES)
    up = [process.name for process in consumers if process.state not in {ProcessState.STOPPED, ProcessState.EXITED}]
    rows = tuple((process.name, str(process.state)) for process in consumers)
    return Step(
        Number.OFF,
        _ruling(up, ()),
        f"{_counted(len(consumers), 'messages-service')} stopped",
        f"{listed(up)} still up" if up else f"{listed(process.name for process in consumers)} stopped",
        (Excerpt("The consumers", rows, ("process", "state")),),
    )


def check(record: Evidence, found: Verdict, target: str, lowest: str, logs: Sequence[Logged]) -> list[Step]:
    """Judge the fault-tolerance check from its history; `logs` are those of the messages-services after it.

    `target` is the one of `SERVER_WORDS` that selected the killed server, `lowest` the server with the lowest address.
    """
    return [_fill(record, found), _kill(record, found, target, lowest), _drain(record, found, logs)]


def _fill(record: Evidence, found: Verdict) -> Step:
    words = described(found.queue).words
    members = {name: (owned, copies) for name, (owned, copies) in found.copies_before.items()}
    copies = Copies(members, frozenset())
    problems, doubts, notes = [], [], []
    if found.acknowledged < MESSAGES:
        problems.append(f"{MESSAGES - found.acknowledged} messages were not acknowledged")
    if not members:
        doubts.append("no server reports its items")
    elif copies.items and copies.backups < copies.items:
        problems.append("not every message has a second copy: a server that ends takes messages with it")
    elif not copies.items:
        doubts.append("the servers report no message, so their copies are unknown")
    if 0 < copies.items < found.acknowledged:
        notes.append(f"the servers report only {copies.items} of {found.acknowledged} messages")
    seen = f"{copies.items} in the queue with {copies.backups} copies on other {words.servers(2)}" if members else ""
    return Step(
        Number.FILL,
        _ruling(problems, doubts),
        f"{MESSAGES} acknowledgements, and a copy of each message on another {words.server}",
        "; ".join(filter(None, [f"{found.acknowledged} acknowledgements", seen, *problems, *doubts])),
        (_copies("Before the kill", found, found.copies_before),),
        tuple(notes),
        _seconds(record.of("send")[:1], record.of("copies")[:1]),
    )


def _copies(title: str, found: Verdict, copies: Mapping[str, Sequence[int]]) -> Excerpt:
    words = described(found.queue).words
    rows = tuple((name, *map(str, counts)) for name, counts in copies.items())
    return Excerpt(f"{title}: messages by server", rows, ("server", words.owns, words.copies))


def _seconds(begun: Sequence[Entry], ended: Sequence[Entry]) -> float:
    return ended[0].mono - begun[0].mono if begun and ended else 0.0


def _kill(record: Evidence, found: Verdict, target: str, lowest: str) -> Step:
    words = described(found.queue).words
    by_address = target == LOWEST
    which = f"the {words.server} with the lowest address" if by_address else words.owner_of_queue
    problems, doubts, came = [], [], "no server was hit"
    if not found.faults:
        problems.append("nothing was killed")
    for fault in found.faults[:1]:
        pids = [entry.facts.get("pid") for entry in record.of("fault")]
        owner = f"it was {words.owner_of_queue}" if fault.owner else f"it {words.other}"
        came = f"{fault.target} (pid {pids[0]}) was killed with SIGKILL; {owner}"
        if (fault.target != lowest) if by_address else not fault.owner:
            problems.append(f"it is not {which}")
        if not fault.seen:
            doubts.append("its end was not observed")
    steps = tuple((f"+{entry.facts['since']:.2f} s", str(entry.facts["what"])) for entry in record.of("step"))
    return Step(
        Number.KILL,
        _ruling(problems, doubts),
        f"{which} ends, and the others go on",
        "; ".join([came, *problems, *doubts]),
        (
            Excerpt("What was observed, since the kill", steps, ("time", "what")),
            _copies("After the kill", found, found.copies_after),
        ),
        tuple(found.cues),
        _seconds(record.of("fault")[:1], record.of("copies")[-1:]),
    )


def _drain(record: Evidence, found: Verdict, logs: Sequence[Logged]) -> Step:
    shares = [f"{name} received {count}" for name, count in found.by_consumer.items()]
    names = texts(record, MESSAGES)
    parts = [
        f"{named(kind)}: {listed(names.get(each, each) for each in ids)} ({FOUND[kind]})"
        for kind, ids in found.found().items()
        if ids and found.verdict is Ruling.FAIL and kind not in {"recovered", "redelivered", "foreign"}
    ]
    counts = f"{len(found.lost)} lost, {len(found.duplicated)} duplicated"
    return Step(
        Number.DRAIN,
        found.verdict,
        f"all {found.acknowledged} acknowledged messages, each with exactly one messages-service",
        "; ".join([*shares, counts, *found.reasons, *parts]),
        tuple(log.excerpt() for log in logs),
        seconds=_seconds(record.of("copies")[-1:], record.of("end")),
    )


def texts(record: Evidence, count: int) -> dict[str, str]:
    """Return the texts of a check's messages: id -> text.

    A history has only the hashes of microq's texts; the texts for external services are their own ids.
    """
    known = {text_hash(text): text for text in (f"msg{number}" for number in range(1, count + 1))}
    pairs = ((entry.facts["id"], entry.facts.get("hash", "")) for entry in record.of("send"))
    return {message: known.get(digest, message) for message, digest in pairs}
