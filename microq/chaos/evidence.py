"""The evidence of a history: its events as attempts, readings and faults. Pure functions, as in the checker."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from microq.chaos.history import Entry, Kind
from microq.chaos.verdict import Copies, Fault, Layer
from microq.errors import UsageError
from microq.fleet import Role
from microq.message import Outcome

CLOCK_SET = 0.1
"""Difference of wall and monotonic clock in seconds that proves that the clock was set: adjusting it is slower."""


@dataclass(slots=True)
class Attempt:
    """One send of a message, and its end, if it is known."""

    send: Entry
    ended: Entry | None = None

    @property
    def outcome(self) -> Outcome:
        """The outcome for the sender; a send without an outcome was cut off, so it is indeterminate."""
        return Outcome(self.ended.facts["outcome"]) if self.ended else Outcome.INDETERMINATE


@dataclass(slots=True)
class Reading:
    """The messages that all instances showed in one reading, in their order."""

    number: int
    consumers: dict[str, list[Entry]] = field(default_factory=dict)
    loggers: dict[str, list[Entry]] = field(default_factory=dict)
    absent: dict[str, None] = field(default_factory=dict)

    def side(self, *, logging: bool) -> dict[str, list[Entry]]:
        """Return what each logging-service showed, or each messages-service."""
        return self.loggers if logging else self.consumers

    def showed(self, name: str, *, logging: bool) -> list[Entry]:
        """Return what one instance showed; before the run, all logging-services showed one map."""
        return self.side(logging=logging).get("" if logging and not self.number else name, [])

    def shown(self) -> Iterator[Entry]:
        """Yield what the messages-services showed."""
        for entries in self.consumers.values():
            yield from entries

    def logged(self) -> Iterator[Entry]:
        """Yield what the logging-services showed."""
        for entries in self.loggers.values():
            yield from entries

    @staticmethod
    def ids(side: Mapping[str, Sequence[Entry]]) -> list[set[str]]:
        """Return the ids of each instance of one side."""
        return [{entry.facts["id"] for entry in entries} for entries in side.values()]


class Evidence:
    """What a history says about each message and the faults. The verdict uses the last reading."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self._of: dict[Kind, list[Entry]] = defaultdict(list)
        for entry in entries:
            self._of[entry.kind].append(entry)
        self.begin = self._first("begin")
        facts = self.begin.facts
        self.ended = bool(self.of("end"))
        self.format: int = facts.get("format", 1)
        self.quiet = facts.get("form", "quiet") == "quiet"
        self.bounds: dict[str, float] = dict(facts.get("bounds") or {})
        self.consumers: list[str] = facts.get("consumers") or []
        self.loggers: list[str] = facts.get("loggers") or []
        self.by_text: bool = facts.get("by_text", False)
        # External services do not promise to deliver what they did not acknowledge.
        self.redelivery_is_off = self.by_text or "no-redelivery" in (facts.get("defects") or {}).values()
        self.attempts = _attempts(entries)
        self.sent = list(self.attempts)
        self.outcomes = {i: _outcome(attempts) for i, attempts in self.attempts.items()}
        self._read_earlier()
        self.foreign = {i for entry in self.of("foreign") for i in entry.facts["ids"]} - self.before - set(self.sent)
        self.others = self.before | self.foreign
        self.readings = _readings(entries, _before(self.of("earlier")))
        self.last = self.readings[-1]
        self._sort_the_last_reading()
        self.redelivered = self.noted("redelivered") & set(self.sent)
        self.dead = self.noted("dead")
        self.states: dict[str, str] = {entry.facts["id"]: entry.facts["state"] for entry in self.of("state")}
        self.combined = self.of("combined")[-1] if self.of("combined") else None
        self.claims: dict[str, str] | None = self.of("claims")[-1].facts["stored"] if self.of("claims") else None
        self.faults = list(_faults(entries))
        self.clock_is_steady = _is_steady(entries)

    def _read_earlier(self) -> None:
        earlier = self.of("earlier")
        self.logged_before = {i for entry in earlier for i in entry.facts["ids"]}
        readings = [entry.facts["shown"] for entry in earlier if "shown" in entry.facts]
        self.shown_before: Counter[str] | None = (
            Counter(i for shown in readings for ids in shown.values() for i in ids) if readings else None
        )
        self.before = self.logged_before | set(self.shown_before or ())
        self.texts: dict[str, set[str]] = defaultdict(set)
        for entry in earlier:
            for i, text in entry.facts.get("texts", {}).items():
                self.texts[i].add(text)
        for entry in self.of("send"):
            if "hash" in entry.facts:
                self.texts[entry.facts["id"]].add(entry.facts["hash"])

    def _sort_the_last_reading(self) -> None:
        self.shown = [entry for entry in self.last.shown() if entry.facts["id"] not in self.others]
        self.logged = [entry for entry in self.last.logged() if entry.facts["id"] not in self.others]
        self.stored = {entry.facts["id"] for entry in self.shown}
        logs = self.logs()
        # Logging-services that read one map must each show all of it.
        shared = self.begin.facts.get("shared_log", True)
        self.in_all_logs = (set.intersection(*logs) if shared else set[str]().union(*logs)) if logs else set[str]()
        self.in_some_log = set[str]().union(*logs)

    def of(self, kind: Kind) -> list[Entry]:
        """Return the events of one kind."""
        return self._of.get(kind, [])

    def _first(self, kind: Kind) -> Entry:
        found = self.of(kind)
        if not found:
            raise UsageError(f"this history has no event {kind!r}; it is not complete")
        return found[0]

    def copies(self, when: str) -> Copies:
        """Return where the queue's items were, from the last event before or after the fault."""
        found = [entry for entry in self.of("copies") if entry.facts["when"] == when]
        members = found[-1].facts["members"] if found else {}
        return {name: [owned, backups] for name, (owned, backups) in members.items()}

    def having(self, outcome: Outcome) -> set[str]:
        """Return the ids with an outcome, all their sends together."""
        return {i for i, found in self.outcomes.items() if found is outcome}

    @property
    def accepted(self) -> float | None:
        """The share of the messages that were acknowledged."""
        return len(self.having(Outcome.ACKNOWLEDGED)) / len(self.sent) if self.sent else None

    @property
    def asked(self) -> int:
        """The number of messages that the run was asked to send; the others only time the fault."""
        return int(min(self.begin.facts.get("messages", len(self.sent)), len(self.sent)))

    def noted(self, kind: Kind) -> set[str]:
        """Return the ids of all events of this kind, without those that existed before the run."""
        return {i for entry in self.of(kind) for i in entry.facts["ids"]} - self.before

    def knows(self, kind: Kind) -> bool:
        """Return whether the facts in events of this kind were known; older histories do not say so."""
        found = self.of(kind)
        return all(entry.facts.get("known", True) for entry in found) and bool(found or self.format == 1)

    def logs(self) -> list[set[str]]:
        """Return the ids of this run that each logging-service shows."""
        return [ids - self.others for ids in self.last.ids(self.last.loggers)]

    def went_once(self, message: str) -> Attempt | None:
        """Return the only attempt of a message that was acknowledged at the first send and delivered once."""
        attempts = self.attempts.get(message) or []
        smooth = len(attempts) == 1 and attempts[0].outcome is Outcome.ACKNOWLEDGED
        return attempts[0] if smooth and message not in self.redelivered and message not in self.dead else None

    def first_seen(self, *, logs: bool = True) -> dict[str, float]:
        """Return the wall time at which each message of this run was first stored, if the clocks can be compared."""
        if not self.clock_is_steady:
            return {}
        skewed = self.begin.facts.get("skewed") or []
        seen: dict[str, float] = {}
        for entry in (*self.shown, *(self.logged if logs else ())):
            if "at" in entry.facts and entry.facts["instance"] not in skewed:
                seen[entry.facts["id"]] = min(entry.facts["at"], seen.get(entry.facts["id"], math.inf))
        return seen

    @cached_property
    def moved(self) -> set[str]:
        """Messages that more than one messages-service showed, in one reading or in several."""
        showers: dict[str, set[str]] = defaultdict(set)
        for reading in self.readings:
            for entry in reading.shown():
                showers[entry.facts["id"]].add(entry.facts["instance"])
        return {i for i, names in showers.items() if len(names) > 1}

    # -- the readings, and whether they agree --------------------------------------------------------------------------

    def agree(self, one: Reading, other: Reading) -> bool:
        """Return whether the same instances showed the same messages in two readings, except foreign ones."""
        return self._picture(one) == self._picture(other)

    def _picture(self, reading: Reading) -> dict[str, Counter[str]]:
        sides: dict[str, list[Entry]] = {**reading.consumers, **reading.loggers}
        return {
            name: Counter(entry.facts["id"] for entry in entries if entry.facts["id"] not in self.foreign)
            for name, entries in sides.items()
        }

    @cached_property
    def settled(self) -> bool:
        """Whether the last two readings agree, so no message was still moving."""
        return len(self.readings) > 1 and self.agree(self.readings[-2], self.readings[-1])

    def disagreement(self) -> str:
        """Return in words how the last two readings differ."""
        one, other = self._picture(self.readings[-2]), self._picture(self.readings[-1])
        names = [name for name in dict.fromkeys([*one, *other]) if one.get(name) != other.get(name)]
        return f"{', '.join(names)} showed other messages in the reading before"

    @property
    def before_restart(self) -> Reading:
        """The last reading before the consumers were restarted on purpose."""
        if not self.of("restarted"):
            return self.last
        restart = self.entries.index(self.of("restarted")[0])
        before = {entry.facts.get("reading", 1) for entry in self.entries[:restart] if entry.kind == "read"}
        return next((reading for reading in reversed(self.readings) if reading.number in before), self.last)

    # -- facts that a history lacks ------------------------------------------------------------------------------------

    @property
    def judges_order(self) -> bool:
        """Whether the order of one sender's messages is promised in this run, and known."""
        promised = self.begin.facts.get("ordered") is True and self.knows("redelivered") and self.knows("dead")
        seen = not self.partitioned or any("partition" in entry.facts for entry in self.before_restart.shown())
        return promised and seen and any("sender" in entry.facts for entry in self.of("send"))

    @property
    def partitioned(self) -> bool:
        """Whether the queue keeps the order of messages within each of its partitions only."""
        return self.begin.facts.get("partitioned") is True

    @property
    def lacks(self) -> list[str]:
        """The checks that could not be made because this history lacks their facts."""
        shown, sends = [*self.last.shown(), *self.last.logged()], self.of("send")
        texts = all("hash" in entry.facts for entry in (*sends, *shown))
        known = {
            "whether each text is the one that was sent": texts,
            "what each messages-service showed before the run": self.shown_before is not None,
            "which services there were to read": bool(self.consumers),
            "what others sent meanwhile": bool(self.of("foreign")) and self.knows("foreign"),
            "where the cluster says that each message is": self.claims is not None,
            "whether the facade shows what all messages-services have": bool(
                self.combined and self.combined.facts["met"]
            ),
            "what was redelivered": bool(self.of("redelivered")) and self.knows("redelivered"),
            "what was given up": bool(self.of("dead")) and self.knows("dead"),
        }
        if self.by_text:  # external services tell no ids, and no more than what they show
            known = {"which services there were to read": bool(self.consumers)}
        return [f"unknown: {what}" if self.format > 1 else what for what, is_known in known.items() if not is_known]

    # -- where missing messages were -----------------------------------------------------------------------------------

    def layers(self, lost: set[str], unlogged: set[str], unsettled: set[str]) -> dict[str, Layer]:
        """Return the last layer in which each lost, unlogged or unsettled message was seen."""
        # Backwards from the end: the first layer that knows a message had it last.
        known = {
            Layer.DEAD: {i for i, state in self.states.items() if state == "dead"} | self.dead,
            Layer.LOG: ((unlogged | unsettled) & self.in_some_log) - lost,
            Layer.CONSUMER: self.stored
            | {i for i, state in self.states.items() if state == "stored"}
            | {i for entry in self.of("took") for i in entry.facts["ids"]},
        }
        logs = any(entry.facts["lines"] for entry in self.of("took"))
        if self.by_text:
            # An external facade may acknowledge what is not in the queue: only the servers' counts prove that it was.
            waited = self.waited
            known[Layer.QUEUE] = lost if logs and waited and waited[0] >= waited[1] else set()
            known[Layer.LOG] = known.pop(Layer.LOG) | (lost & self.in_some_log)
        elif logs:
            # An acknowledged message was in the queue; what no consumer took, as they log it, was lost there.
            known[Layer.QUEUE] = lost
        known[Layer.PENDING] = {i for i, state in self.states.items() if state == "pending"}
        missing = [i for i in self.sent if i in lost or i in unlogged or i in unsettled]
        return {i: next((layer for layer, ids in known.items() if i in ids), Layer.UNKNOWN) for i in missing}

    @property
    def waited(self) -> tuple[int, int] | None:
        """The items in the queue before the fault, and the messages acknowledged by then, with the consumers off."""
        counted = [entry for entry in self.of("copies") if entry.facts["when"] == "before"]
        if not self.quiet or not counted or not counted[-1].facts["members"]:
            return None
        items = sum(owned for owned, _ in counted[-1].facts["members"].values())
        then = [entry for entry in self.of("outcome") if entry.mono <= counted[-1].mono]
        return int(items), sum(entry.facts["outcome"] == Outcome.ACKNOWLEDGED for entry in then)


def _attempts(entries: Sequence[Entry]) -> dict[str, list[Attempt]]:
    """Return the attempts of each id in order; the ids in the order of their first attempts."""
    attempts: dict[str, list[Attempt]] = {}
    for entry in entries:
        if entry.kind == "send":
            attempts.setdefault(entry.facts["id"], []).append(Attempt(entry))
        elif entry.kind == "outcome":
            number = entry.facts.get("attempt")
            mine = [one for one in attempts.get(entry.facts["id"], ()) if one.ended is None]
            named_so = [one for one in mine if number is None or one.send.facts.get("attempt") == number]
            Outcome(entry.facts["outcome"])
            if named_so:
                named_so[0].ended = entry
    return attempts


def _outcome(attempts: Sequence[Attempt]) -> Outcome:
    """Return the outcome of an id: acknowledged if one of its sends was, else indeterminate if one was."""
    found = {attempt.outcome for attempt in attempts}
    ranked = (Outcome.ACKNOWLEDGED, Outcome.INDETERMINATE, Outcome.REJECTED)
    return next(outcome for outcome in ranked if outcome in found)


def _readings(entries: Sequence[Entry], earlier: Reading) -> list[Reading]:
    """Return the readings in order, at least one; an older history has one reading without a number."""
    readings = {earlier.number: earlier}
    for entry in entries:
        if entry.kind not in {"read", "logged", "shown", "absent"}:
            continue
        number, name = entry.facts.get("reading", 1), entry.facts["instance"]
        reading = readings.setdefault(number, Reading(number))
        logging = entry.kind == "logged" or entry.facts.get("role") == Role.LOGGING
        if entry.kind == "absent":
            reading.absent[name] = None
        elif entry.kind == "read" and "like" in entry.facts:
            like = readings.get(entry.facts["like"])
            if like is None:
                raise UsageError(f"a reading is like number {entry.facts['like']}, which this history does not have")
            reading.side(logging=logging)[name] = _without(like.showed(name, logging=logging), entry.facts["gone"])
        else:
            listed = reading.side(logging=logging).setdefault(name, [])
            listed += [entry] if entry.kind != "read" else []
    return [readings[number] for number in sorted(readings) if number != earlier.number] or [Reading(1)]


def _without(entries: Sequence[Entry], gone: Iterable[str]) -> list[Entry]:
    """Return entries without those that are gone; of several with one id the last ones are removed."""
    left = Counter(gone)
    kept = []
    for entry in reversed(entries):
        if left[entry.facts["id"]] > 0:
            left[entry.facts["id"]] -= 1
        else:
            kept.append(entry)
    if +left:
        raise UsageError(f"a reading lacks {next(iter(+left))!r}, which the one that it is like does not have")
    return kept[::-1]


def _before(earlier: Sequence[Entry]) -> Reading:
    """Return what the system held before the run as reading number 0."""
    found = Reading(0)
    for entry in earlier:
        texts = entry.facts.get("texts", {})

        def held(kind: Kind, name: str, ids: Iterable[str], entry: Entry = entry, texts: Any = texts) -> list[Entry]:
            facts = ({"instance": name, "id": i, **({"hash": texts[i]} if i in texts else {})} for i in ids)
            return [Entry(kind, entry.wall, entry.mono, each) for each in facts]

        # The logging-services show one map.
        found.loggers[""] = held("logged", "", entry.facts["ids"])
        for name, ids in entry.facts.get("shown", {}).items():
            found.consumers[name] = held("shown", name, ids)
    return found


def _is_steady(entries: Sequence[Entry]) -> bool:
    """Return whether wall clock and monotonic clock never differed.

    The wall time of an event is read before the monotonic time, and the process may be interrupted between them: so a
    single event may differ by any amount, and its closest neighbour decides.
    """
    offsets = [entry.wall - entry.mono for entry in entries]
    near = [max(offsets[max(0, n - 2) : n + 3]) for n in range(len(offsets))]
    return not near or max(near) - min(near) < CLOCK_SET


def _faults(entries: Sequence[Entry]) -> Iterator[Fault]:
    """Yield the faults in order; a confirmation belongs to the last fault of its target."""
    found: list[Fault] = []
    last: dict[str, int] = {}
    for entry in entries:
        if entry.kind == "fault":
            last[entry.facts["target"]] = len(found)
            found.append(Fault(entry.facts["fault"], entry.facts["target"], entry.facts["owner"], seen=False))
        elif entry.kind == "struck" and entry.facts["target"] in last:
            place = last[entry.facts["target"]]
            found[place] = replace(found[place], seen=True)
    yield from found
