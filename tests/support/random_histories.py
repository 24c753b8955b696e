"""Valid histories of any shape, and all the ways in which one thing in them can be broken."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hypothesis import strategies as st

from microq.chaos.history import Entry, Kind
from microq.chaos.verdict import Ruling
from microq.message import Outcome, text_hash

ACK, REJ, IND = Outcome.ACKNOWLEDGED, Outcome.REJECTED, Outcome.INDETERMINATE

CONSUMERS, LOGGERS = ("messages-1", "messages-2"), ("logging-1", "logging-2", "logging-3")

WALL = 1_700_000_000.0
"""The wall time at which the monotonic clock of these histories was 0."""

Held = dict[str, list[str]]
"""Instance -> the ids that it shows, in its order."""


@dataclass
class Sent:
    """A message of the run: who sent it, with which outcomes; None is a send that was cut short."""

    id: str
    sender: str
    outcomes: list[Outcome | None]
    sent: list[float] = field(default_factory=list)
    """When each attempt began; `Run.send` sets it."""
    ended: float = 0.0

    @property
    def outcome(self) -> Outcome:
        return ACK if ACK in self.outcomes else IND if {IND, None} & set(self.outcomes) else REJ


@dataclass
class Run:
    """Everything that a history tells, as facts that can be changed one by one before `entries` writes it down."""

    messages: list[Sent]
    begin: dict[str, Any] = field(default_factory=dict)
    logged_before: list[str] = field(default_factory=list)
    shown_before: Held = field(default_factory=lambda: {name: [] for name in CONSUMERS})
    foreign: list[str] = field(default_factory=list)
    shows: list[Held] = field(default_factory=list)
    """For each reading."""
    logs: list[Held] = field(default_factory=list)
    stored_at: dict[str, float] = field(default_factory=dict)
    partitions: dict[str, int] = field(default_factory=dict)
    """Where the queue had each message, if it has partitions."""
    restarted_after: int | None = None
    """The number of the last reading before a restart on purpose."""
    redelivered: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    """In the last reading."""
    unknown: set[str] = field(default_factory=set)
    """Kinds of events that say that nobody could answer."""
    left_out: set[str] = field(default_factory=set)
    """Kinds of events, and facts, that are not written."""
    hashes: dict[tuple[str, str], str] = field(default_factory=dict)
    """Instance and id -> the hash of what it shows in the place of the right text."""
    claims: dict[str, str] = field(default_factory=dict)
    """What the cluster says otherwise than the last reading; empty: nothing."""
    facade_hides: set[str] = field(default_factory=set)
    facade_invents: set[str] = field(default_factory=set)
    slow: float = 0.0
    """How long the last acknowledgement took in addition."""
    differences: bool = False
    """Whether a reading is written as what differs from the one before."""
    drained: bool = True
    struck: bool = True
    clock_set: float = 0.0
    """By how much the wall clock was set in the middle."""

    def having(self, *outcomes: Outcome) -> list[Sent]:
        return [message for message in self.messages if message.outcome in outcomes]

    def shown(self) -> list[str]:
        return [i for ids in self.shows[-1].values() for i in ids]

    def drop(self, message: str) -> None:
        """Let no consumer show a message, in any reading."""
        for ids in (ids for held in self.shows for ids in held.values()):
            ids[:] = [i for i in ids if i != message]

    def unlog(self, message: str, *loggers: str) -> None:
        """Let some logging-services lack a message, or all."""
        for ids in (held[name] for held in self.logs for name in loggers or LOGGERS):
            ids[:] = [i for i in ids if i != message]

    def show(self, message: str, consumer: str) -> None:
        """Let a consumer show a message after all others, in every reading."""
        self.stored_at.setdefault(message, self.end)
        for held in self.shows:
            held[consumer].append(message)

    def log(self, message: str) -> None:
        """Let every logging-service have a message."""
        for ids in (ids for held in self.logs for ids in held.values()):
            ids.append(message)

    def send(self) -> None:
        """Give each attempt its times: in each round each sender sends once, then all hear what became of it."""
        waiting: dict[str, list[tuple[Sent, int]]] = {}
        for message in self.messages:
            waiting.setdefault(message.sender, []).extend((message, n) for n in range(len(message.outcomes)))
        rounds = max(map(len, waiting.values()), default=0)
        for number in range(rounds):
            for place, mine in enumerate(waiting.values()):
                if number < len(mine):
                    mine[number][0].sent.append(1 + number + place / 100)
                    mine[number][0].ended = 1.5 + number + place / 100
        self.end = 2.0 + rounds

    end: float = 0.0

    def consumer_of(self, message: str) -> str:
        return next(name for name, ids in self.shows[-1].items() if message in ids)

    # -- as a history ------------------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        timed = [*self._traffic(), *self._faults()]
        timed.sort(key=lambda one: one[0])
        last = max((at for at, *_ in timed), default=1.0)
        after = [(last + 1 + n / 1000, kind, facts) for n, (kind, facts) in enumerate(self._account())]
        before = [(0.0, "begin", self._begin()), (0.5, "earlier", self._earlier())]
        return [
            Entry(kind, WALL + at + (self.clock_set if at > last else 0), at, self._told(facts))  # type: ignore[arg-type]  # kinds
            for at, kind, facts in [*before, *timed, *after]
            if kind not in self.left_out
        ]

    def _told(self, facts: dict[str, Any]) -> dict[str, Any]:
        return {name: fact for name, fact in facts.items() if name not in self.left_out}

    def _begin(self) -> dict[str, Any]:
        return {
            "scenario": "kill-member",
            "queue": "hazelcast",
            "backup_count": 2,
            "format": 2,
            "form": "live",
            "consumers": list(CONSUMERS),
            "loggers": list(LOGGERS),
            "ordered": True,
            "seed": 7,
            **self.begin,
        }

    def _earlier(self) -> dict[str, Any]:
        return {
            "ids": self.logged_before,
            "texts": {i: text_hash(i) for i in self.logged_before},
            "shown": self.shown_before,
        }

    def _traffic(self) -> Iterator[tuple[float, str, dict[str, Any]]]:
        for message in self.messages:
            for number, (sent, outcome) in enumerate(zip(message.sent, message.outcomes, strict=True), 1):
                facts = {"id": message.id, "attempt": number}
                yield sent, "send", {**facts, "hash": text_hash(message.id), "sender": message.sender}
                if outcome:
                    yield sent + 0.5, "outcome", {**facts, "outcome": outcome.value}
        if self.slow:
            slow = {"id": "slow", "attempt": 1}
            yield self.end, "send", {**slow, "hash": text_hash("slow"), "sender": "slow"}
            yield self.end + self.slow, "outcome", {**slow, "outcome": ACK.value}

    def _faults(self) -> Iterator[tuple[float, str, dict[str, Any]]]:
        yield 1.2, "fault", {"fault": "kill-member", "target": "hazelcast-1", "owner": True, "pid": 1}
        if self.struck:
            yield 1.3, "struck", {"target": "hazelcast-1"}

    def _account(self) -> Iterator[tuple[str, dict[str, Any]]]:
        yield "drained", {"complete": self.drained, "reason": "" if self.drained else "it took too long"}
        for number in range(1, len(self.shows) + 1):
            if number == len(self.shows):
                yield "claims", {"stored": self._claims()}
            yield from self._reading(number)
            if number == self.restarted_after:
                yield "restarted", {"instances": list(CONSUMERS)}
        yield "agreed", {"readings": [len(self.shows) - 1 or 1, len(self.shows)], "agreed": True}
        shown, logged = set(self.shown()), set.union(*map(set, self.logs[-1].values()))
        facade = {
            "messages": sorted(shown - self.facade_hides | self.facade_invents),
            "logs": sorted(logged - self.facade_hides),
        }
        yield "combined", {**facade, "met": True, "reading": len(self.shows)}
        for kind, ids in (("foreign", self.foreign), ("redelivered", self.redelivered), ("dead", self.dead)):
            yield kind, {"ids": ids, "known": kind not in self.unknown}
        for message, state in self.states.items():
            yield "state", {"id": message, "state": state}
        yield "end", {}

    def _claims(self) -> dict[str, str]:
        claims = {i: name for name, ids in self.shows[-1].items() for i in ids} | self.claims
        return {i: name for i, name in claims.items() if name}

    def _reading(self, number: int) -> Iterator[tuple[str, dict[str, Any]]]:
        last = number == len(self.shows)
        sides = ((self.logs, "logging", "logged"), (self.shows, "messages", "shown"))
        for held, role, kind in sides:
            for name, ids in held[number - 1].items():
                if last and name in self.absent:
                    yield "absent", {"instance": name, "reading": number}
                    continue
                like, beside = self._like(number, name, held, kind) if self.differences else ({}, ids)
                yield "read", {"instance": name, "role": role, "reading": number, **like}
                for i in beside:
                    facts = {"instance": name, "id": i, "reading": number}
                    facts["hash"] = self.hashes.get((name, i), text_hash(i))
                    if kind == "shown" and i in self.partitions:
                        facts["partition"] = self.partitions[i]
                    yield kind, {**facts, **({"by": name} if kind == "logged" else {"at": self._stored(i)})}

    def _like(self, number: int, name: str, held: list[Held], kind: str) -> tuple[dict[str, Any], list[str]]:
        """Return how a reading refers to the one before it, and what is noted beside that."""
        now = held[number - 1][name]
        if number > 1:
            before = held[number - 2].get(name, [])
        else:
            before = self.logged_before if kind == "logged" else self.shown_before.get(name, [])
            before = [i for i in before if (name, i) not in self.hashes]
            if len(before) < len(self.logged_before if kind == "logged" else self.shown_before.get(name, [])):
                return {}, now  # another text: all are noted
        kept = [i for i in dict.fromkeys(before) if i in now]
        if now[: len(kept)] != kept:
            return {}, now
        gone = list(before)
        for i in kept:
            gone.remove(i)
        return {"like": number - 1, "gone": gone}, now[len(kept) :]

    def _stored(self, message: str) -> float:
        return WALL + self.stored_at[message]


# -- valid ones --------------------------------------------------------------------------------------------------------

GOOD: list[list[Outcome | None]] = [[ACK], [ACK], [ACK], [REJ, ACK], [IND, ACK], [REJ, REJ, ACK], [ACK, None]]
OTHER: list[list[Outcome | None]] = [[REJ], [IND], [None], [IND, REJ], [REJ, IND]]


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """Return any run that must pass."""
    good = draw(st.lists(st.sampled_from(GOOD), min_size=2, max_size=8))
    other = draw(st.lists(st.sampled_from(OTHER), max_size=len(good)))
    random = draw(st.randoms(use_true_random=False))
    outcomes = [list(one) for one in (*good, *other)]
    random.shuffle(outcomes)
    messages = [Sent(f"m{n}", f"sender-{random.randrange(2)}", each) for n, each in enumerate(outcomes)]
    run = Run(messages)
    run.differences = draw(st.booleans())
    run.begin = {"form": draw(st.sampled_from(["live", "quiet"]))}
    run.send()
    held: Held = {name: [] for name in CONSUMERS}
    logged: list[str] = []
    _before(run, held, logged, draw(st.integers(0, 4)), random)
    _deliver(run, held, logged, random)
    if draw(st.booleans()):
        run.begin["partitioned"] = True
        run.partitions = {message.id: random.randrange(2) for message in run.messages}
        for ids in held.values():
            # Each partition keeps its order; all of one may come before all of the other, however they were sent.
            ids.sort(key=lambda i: run.partitions.get(i, 0))
    for number in range(draw(st.integers(0, 2))):
        run.foreign.append(f"foreign-{number}")
        held[random.choice(CONSUMERS)].append(f"foreign-{number}")
        logged.append(f"foreign-{number}")
    for i in (*run.logged_before, *run.foreign):
        run.stored_at.setdefault(i, run.end)
    restart = draw(st.booleans())
    count = 4 if restart else draw(st.integers(2, 3))
    run.restarted_after = 2 if restart else None
    run.shows = [deepcopy(held) for _ in range(count)]
    run.logs = [{name: [*logged] for name in LOGGERS} for _ in range(count)]
    for reading in run.shows[:1]:
        # Foreign messages come and go on their way whenever they like.
        for ids in reading.values():
            ids[:] = [i for i in ids if i not in run.foreign]
    return run


def _before(run: Run, held: Held, logged: list[str], count: int, random: Random) -> None:
    for number in range(count):
        old, consumer = f"old-{number}", random.choice(CONSUMERS)
        run.logged_before.append(old)
        logged.append(old)
        held[consumer].append(old)
        run.stored_at[old] = 0.0
        if random.random() < 0.7:  # the others were in the queue
            run.shown_before[consumer].append(old)


def _deliver(run: Run, held: Held, logged: list[str], random: Random) -> None:
    for message in sorted(run.messages, key=lambda one: one.ended):
        fate = {ACK: "shown", REJ: "nowhere", IND: random.choice(["shown", "nowhere", "dead"])}[message.outcome]
        if fate == "nowhere":
            continue
        logged.append(message.id)
        if fate == "dead":
            run.dead.append(message.id)
            continue
        run.stored_at[message.id] = message.ended + 0.1
        if message.outcome is ACK and run.begin["form"] == "live" and random.random() < 0.2:
            run.redelivered.append(message.id)
            held[random.choice(CONSUMERS)].insert(0, message.id)
        else:
            held[random.choice(CONSUMERS)].append(message.id)


# -- and what can be broken in them ------------------------------------------------------------------------------------


class NotHereError(Exception):
    """This run has nothing that could be broken in this way."""


def _one(random: Random, candidates: list[Any]) -> Any:
    if not candidates:
        raise NotHereError
    return random.choice(candidates)


@dataclass(frozen=True)
class Breaker:
    """One thing to break, and how the verdict must name it: its ruling, the lists that are not empty, its reason."""

    name: str
    broken: Callable[[Run, Random], None]
    ruling: Ruling
    lists: frozenset[str]
    reason: str


BREAKERS: dict[str, Breaker] = {}

Break = Callable[[Run, Random], None]


def breaks(ruling: Ruling, *lists: str, reason: str = "") -> Callable[[Break], Break]:
    """Note a way of breaking a run."""

    def note(broken: Break) -> Break:
        BREAKERS[broken.__name__] = Breaker(broken.__name__, broken, ruling, frozenset(lists), reason)
        return broken

    return note


FAIL, UNKNOWN = Ruling.FAIL, Ruling.UNKNOWN


def _delivered(run: Run) -> list[str]:
    """Return the acknowledged messages."""
    return [message.id for message in run.having(ACK)]


@breaks(FAIL, "lost", reason="1 lost")
def an_acknowledged_message_is_shown_by_nobody(run: Run, random: Random) -> None:
    run.drop(_one(random, _delivered(run)))


@breaks(FAIL, "unlogged", reason="1 unlogged")
def a_logging_service_lacks_an_acknowledged_message(run: Run, random: Random) -> None:
    run.unlog(_one(random, _delivered(run)), random.choice(LOGGERS))


@breaks(FAIL, "unlogged", reason="1 unlogged")
def what_was_answered_504_is_shown_and_in_no_log(run: Run, random: Random) -> None:
    run.unlog(_one(random, [m.id for m in run.having(IND) if m.id in run.shown()]))


@breaks(UNKNOWN, "unsettled", reason="indeterminate messages are in the log and were not delivered")
def what_was_answered_504_is_in_the_log_and_pending_for_ever(run: Run, random: Random) -> None:
    message = _one(random, [m.id for m in run.having(IND) if m.id not in run.shown() and m.id not in run.dead])
    run.log(message)
    run.states[message] = "pending"


@breaks(FAIL, "unexpected", reason="1 unexpected")
def a_stranger_is_shown(run: Run, random: Random) -> None:
    run.show("stranger", random.choice(CONSUMERS))


@breaks(FAIL, "unexpected", reason="1 in the log only")
def a_stranger_stands_in_the_logs(run: Run, random: Random) -> None:
    run.log("stranger")


@breaks(UNKNOWN, "unexpected", reason="messages of other clients during the run are unknown")
def a_stranger_may_be_somebody_elses(run: Run, random: Random) -> None:
    run.show("stranger", random.choice(CONSUMERS))
    run.unknown.add("foreign")


@breaks(FAIL, "unexpected", reason="1 refused, but shown")
def what_was_refused_is_shown(run: Run, random: Random) -> None:
    run.show(_one(random, [m.id for m in run.having(REJ)]), random.choice(CONSUMERS))


@breaks(FAIL, "unexpected", reason="1 refused, but in the log")
def what_was_refused_stands_in_the_logs(run: Run, random: Random) -> None:
    run.log(_one(random, [m.id for m in run.having(REJ)]))


@breaks(FAIL, "unexpected", reason="before they were sent again")
def a_retry_hides_that_what_was_refused_was_shown(run: Run, random: Random) -> None:
    message = _one(random, [m for m in run.having(ACK) if m.outcomes[0] is REJ])
    run.stored_at[message.id] = message.sent[0] + 0.7  # the next send begins a second after the first


@breaks(FAIL, "duplicated", reason="1 duplicated")
def one_consumer_shows_a_message_twice(run: Run, random: Random) -> None:
    message = _one(random, _delivered(run))
    run.show(message, run.consumer_of(message))


@breaks(FAIL, "duplicated", "misplaced", reason="1 duplicated")
def two_consumers_show_a_message(run: Run, random: Random) -> None:
    message = _one(random, _delivered(run))
    run.show(message, *(name for name in CONSUMERS if name != run.consumer_of(message)))


@breaks(UNKNOWN, "duplicated", "misplaced", reason="do not agree")
def a_message_moves_between_the_readings(run: Run, random: Random) -> None:
    message = _one(random, _delivered(run))
    other = next(name for name in CONSUMERS if name != run.consumer_of(message))
    run.shows[-1][other].append(message)


@breaks(FAIL, "vanished", reason="vanished")
def the_whole_log_of_before_is_gone(run: Run, random: Random) -> None:
    _one(random, run.logged_before)
    for old in run.logged_before:
        run.unlog(old)


@breaks(FAIL, "vanished", reason="1 of those before the run vanished")
def a_consumer_shows_no_more_what_it_had_before(run: Run, random: Random) -> None:
    run.drop(_one(random, [i for ids in run.shown_before.values() for i in ids]))


@breaks(FAIL, "duplicated", reason="1 duplicated")
def what_was_there_before_is_doubled(run: Run, random: Random) -> None:
    old = _one(random, run.logged_before)
    run.show(old, run.consumer_of(old))


@breaks(UNKNOWN, reason="messages were acknowledged")
def most_are_refused(run: Run, random: Random) -> None:
    run.messages += [Sent(f"r{n}", "refused", [REJ], [run.end + n], run.end + n + 0.5) for n in range(100)]


@breaks(FAIL, reason="acknowledged share of the messages")
def fewer_are_accepted_than_the_run_bounds(run: Run, random: Random) -> None:
    _one(random, run.having(REJ, IND))
    run.begin["bounds"] = {"accepted": 0.999}


@breaks(FAIL, reason="99th percentile")
def acknowledgements_are_slower_than_the_run_bounds(run: Run, random: Random) -> None:
    run.begin["bounds"] = {"p99": 0.4}


@breaks(FAIL, reason="longest time without an acknowledgement")
def the_gap_is_longer_than_the_run_bounds(run: Run, random: Random) -> None:
    _slow(run, 5)
    run.begin["bounds"] = {"gap": 4.5}


@breaks(FAIL, reason="share of the seconds")
def it_is_available_for_less_than_the_run_bounds(run: Run, random: Random) -> None:
    _slow(run, 40)
    run.begin["bounds"] = {"availability": 0.99}


def _slow(run: Run, seconds: float) -> None:
    run.slow = seconds
    run.stored_at["slow"] = run.end + seconds
    run.log("slow")
    run.show("slow", CONSUMERS[0])


@breaks(FAIL, "premature", reason="shown before they were sent")
def a_message_is_shown_before_it_was_sent(run: Run, random: Random) -> None:
    message = _one(random, run.having(ACK))
    run.stored_at[message.id] = message.sent[0] - 0.001


@breaks(UNKNOWN, reason="messages-2: neither read nor noted as absent")
def a_consumer_is_neither_read_nor_said_to_be_away(run: Run, random: Random) -> None:
    for held in run.shows:
        held["messages-1"] += held.pop("messages-2")
    run.shown_before = {"messages-1": [i for ids in run.shown_before.values() for i in ids]}
    run.begin["ordered"] = False


@breaks(UNKNOWN, reason="logging-3: neither read nor noted as absent")
def a_logging_service_is_neither_read_nor_said_to_be_away(run: Run, random: Random) -> None:
    for held in run.logs:
        held.pop("logging-3")


@breaks(UNKNOWN, reason="could not be read")
def a_logging_service_is_away(run: Run, random: Random) -> None:
    run.absent.append(random.choice(LOGGERS))


@breaks(FAIL, "dead_yet_shown", reason="dead, yet shown")
def what_was_given_up_is_shown(run: Run, random: Random) -> None:
    run.dead.append(_one(random, _delivered(run)))


@breaks(FAIL, "invented", reason="shown by the facade and by no service")
def the_facade_shows_what_nobody_has(run: Run, random: Random) -> None:
    run.facade_invents.add("stranger")


@breaks(FAIL, "hidden", reason="hidden by the facade")
def the_facade_hides_a_message(run: Run, random: Random) -> None:
    run.facade_hides.add(_one(random, _delivered(run) + run.logged_before))


@breaks(FAIL, "hidden", reason="hidden by the facade")
def the_facade_hides_a_log_entry(run: Run, random: Random) -> None:
    run.facade_hides.add(_one(random, run.dead))


@breaks(FAIL, "differing", reason="with another text")
def a_consumer_shows_another_text(run: Run, random: Random) -> None:
    message = _one(random, _delivered(run) + run.logged_before)
    run.hashes[run.consumer_of(message), message] = text_hash("another")


@breaks(FAIL, "differing", reason="with another text")
def the_log_has_another_text(run: Run, random: Random) -> None:
    run.hashes[random.choice(LOGGERS), _one(random, _delivered(run) + run.logged_before)] = text_hash("another")


@breaks(UNKNOWN, reason="unknown: what was redelivered")
def nobody_can_say_what_was_redelivered(run: Run, random: Random) -> None:
    run.redelivered = []
    run.unknown.add("redelivered")


@breaks(UNKNOWN, reason="unknown: what was given up")
def nobody_can_say_what_was_given_up(run: Run, random: Random) -> None:
    run.unknown.add("dead")


@breaks(FAIL, reason="lost by the queue")
def the_queue_lost_what_redelivery_brought_back(run: Run, random: Random) -> None:
    run.begin["form"] = "quiet"
    run.redelivered.append(_one(random, _delivered(run)))


@breaks(FAIL, "disordered", reason="out of the order of their sender")
def two_messages_of_one_sender_change_places(run: Run, random: Random) -> None:
    smooth = [m for m in run.having(ACK) if len(m.outcomes) == 1 and m.id not in run.redelivered]
    pairs = [
        (a, b)
        for a in smooth
        for b in smooth
        if a.sender == b.sender and a.ended < b.sent[0] and run.consumer_of(a.id) == run.consumer_of(b.id)
        if run.partitions.get(a.id) == run.partitions.get(b.id)
    ]
    a, b = _one(random, pairs)
    for held in run.shows:
        ids = held[run.consumer_of(a.id)]
        first, second = ids.index(a.id), ids.index(b.id)
        ids[first], ids[second] = ids[second], ids[first]


@breaks(FAIL, "unstable", reason="shown once and then no more")
def what_was_never_certain_is_gone_after_the_restart(run: Run, random: Random) -> None:
    if not run.restarted_after:
        raise NotHereError
    message = _one(random, [m.id for m in run.having(IND) if m.id in run.shown()])
    run.dead.append(message)  # else it is unsettled, too
    for held in run.shows[2:]:
        for ids in held.values():
            ids[:] = [i for i in ids if i != message]


@breaks(FAIL, "lost", "unstable", reason="shown once and then no more")
def an_acknowledged_message_is_gone_after_the_restart(run: Run, random: Random) -> None:
    if not run.restarted_after:
        raise NotHereError
    message = _one(random, _delivered(run))
    for held in run.shows[2:]:
        for ids in held.values():
            ids[:] = [i for i in ids if i != message]


@breaks(FAIL, "misplaced", reason="and claimed by")
def the_cluster_says_that_another_consumer_has_it(run: Run, random: Random) -> None:
    message = _one(random, _delivered(run))
    run.claims[message] = next(name for name in CONSUMERS if name != run.consumer_of(message))


@breaks(FAIL, "misplaced", reason="claimed by no instance")
def the_cluster_knows_nothing_of_what_is_shown(run: Run, random: Random) -> None:
    run.claims[_one(random, _delivered(run))] = ""


@breaks(FAIL, "misplaced", reason="is shown by no instance and claimed by")
def the_cluster_says_that_a_consumer_has_what_it_does_not_show(run: Run, random: Random) -> None:
    run.claims["unheard of"] = random.choice(CONSUMERS)


@breaks(UNKNOWN, reason="the history ends before its end")
def the_end_is_missing(run: Run, random: Random) -> None:
    run.left_out.add("end")


@breaks(UNKNOWN, reason="read only once")
def there_is_one_reading(run: Run, random: Random) -> None:
    run.shows, run.logs, run.restarted_after = run.shows[-1:], run.logs[-1:], None


@breaks(UNKNOWN, reason="the drain was cut short")
def the_queue_was_not_drained(run: Run, random: Random) -> None:
    run.drained = False


@breaks(UNKNOWN, reason="the effect of the fault was not observed")
def the_fault_missed(run: Run, random: Random) -> None:
    run.struck = False


def _leaves_out(kind: Kind | str, told: str) -> None:
    def left_out(run: Run, random: Random) -> None:
        run.left_out.add(kind)

    BREAKERS[f"{kind} is left out"] = Breaker(f"{kind} is left out", left_out, UNKNOWN, frozenset(), told)


_leaves_out("hash", "unknown: whether each text is the one that was sent")
_leaves_out("consumers", "unknown: which services there were to read")
_leaves_out("claims", "unknown: where the cluster says that each message is")
_leaves_out("combined", "unknown: whether the facade shows what all messages-services have")
_leaves_out("redelivered", "unknown: what was redelivered")
_leaves_out("drained", "the drain was cut short")


def broken(run: Run, breaker: Breaker, random: Random) -> Run:
    """Return the run with one thing broken. Raises `NotHereError` if it has nothing of that kind."""
    worse = deepcopy(run)
    breaker.broken(worse, random)
    return worse


def steady(entries: list[Entry]) -> bool:
    """Return whether the times of a history are in order."""
    times = [entry.mono for entry in entries]
    return times == sorted(times) and all(map(math.isfinite, times))
