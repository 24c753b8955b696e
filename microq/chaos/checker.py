"""The checker: pure functions of a history that say what it proves, after Jepsen's total-queue checker, but stricter.

It imports nothing of Hazelcast, Kafka or the network; tests prove it with histories that must fail. A check returns the
ids for which a promise did not hold; `CHECKS` lists all checks. A fact that is unknown is a doubt: then a finding is a
failure only if more evidence could not undo it, and otherwise the verdict is *unknown*.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from microq.chaos.evidence import Attempt, Evidence, Reading
from microq.chaos.history import Entry, Kind
from microq.chaos.verdict import FOUND, Ruling, Verdict, named
from microq.errors import UsageError
from microq.message import Outcome

ACCEPTED = 0.5
"""The smallest share of acknowledged messages for a *pass*, if the run has no bound of its own: fewer prove little."""

NO_END = "the history ends before its end, so it proves nothing"


def judge(entries: Sequence[Entry]) -> Verdict:
    """Return what a history proves. Raises `UsageError` if it is not a complete history."""
    try:
        return _judge(Evidence(entries))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"an event of this history lacks a fact: {error}") from error


def _judge(record: Evidence) -> Verdict:
    found = {check.name: check.find(record) for check in CHECKS}
    doubts = list(_doubts(record, found))
    broken = [check for check in CHECKS if found[check.name]]
    certain = [check.name for check in broken if check.certain(record, found[check.name])]
    failures = [check.says(record, found[check.name]) for check in broken if check.fails]
    failures += [*_repaired(record), *_beyond(record)]
    # With a doubt a missing message may still come; a message that should not be there is there.
    failed = bool(certain) or (bool(failures) and not doubts)
    ruling = Ruling.FAIL if failed else Ruling.UNKNOWN if doubts else Ruling.PASS
    in_order = _orderer(record.sent)
    lists: dict[str, Any] = {name: in_order(found.get(name, set())) for name in FOUND}
    lists |= {name: in_order(ids) for name, ids in _counted_apart(record).items()}
    outcomes: dict[str, Any] = {outcome.value: len(record.having(outcome)) for outcome in Outcome}
    median, slow = latency(record.attempts)
    return Verdict(
        scenario=record.begin.facts["scenario"],
        queue=record.begin.facts["queue"],
        verdict=ruling if record.ended else Ruling.UNKNOWN,
        reasons=(*doubts, *failures) if record.ended else (NO_END,),
        cues=tuple(_cues(record)),
        attempted=len(record.sent),
        **outcomes,
        stored=len(record.stored),
        logged=len(record.in_all_logs),
        **lists,
        layers=record.layers(found["lost"], found["unlogged"], found["unsettled"]),
        by_consumer=_counted(entry.facts["instance"] for entry in record.shown),
        by_logger=_counted(filter(None, {entry.facts["id"]: entry.facts["by"] for entry in record.logged}.values())),
        copies_before=record.copies("before"),
        copies_after=record.copies("after"),
        faults=tuple(record.faults),
        first_acknowledgement_s=first_acknowledgement(record.entries),
        first_delivery_s=first_delivery(record.entries, record.others),
        longest_gap_s=longest_gap(record.entries),
        acknowledgement_p50_s=median,
        acknowledgement_p99_s=slow,
        availability=availability(record.entries),
        bounds=record.bounds,
        duration_s=round(record.entries[-1].mono - record.entries[0].mono, 3),
        quiet=record.quiet,
        seed=record.begin.facts.get("seed"),
    )


def _counted_apart(record: Evidence) -> dict[str, set[str]]:
    """Return the lists that are not failures but are reported."""
    return {
        "recovered": record.having(Outcome.INDETERMINATE) & record.stored,
        "redelivered": record.redelivered,
        "dead": record.dead,
        "foreign": record.foreign,
    }


# -- the checks: each returns the ids for which its promise did not hold -----------------------------------------------


def lost(record: Evidence) -> set[str]:
    """Return messages that were acknowledged and that no messages-service shows."""
    return record.having(Outcome.ACKNOWLEDGED) - record.stored if record.last.consumers else set()


def unlogged(record: Evidence) -> set[str]:
    """Return acknowledged or shown messages that a log lacks: a message is logged before it is put into the queue."""
    arrived = record.having(Outcome.ACKNOWLEDGED) | (record.having(Outcome.INDETERMINATE) & record.stored)
    return arrived - record.in_all_logs if record.last.loggers else set()


def unexpected(record: Evidence) -> set[str]:
    """Return messages that are shown or logged and should be nowhere: never sent, or refused."""
    there = record.stored | record.in_some_log
    return strangers(record) | (there & record.having(Outcome.REJECTED)) | refused_and_sent_again(record)


def strangers(record: Evidence) -> set[str]:
    """Return messages that are shown or logged and without a known sender."""
    return (record.stored | record.in_some_log) - set(record.sent)


def refused_and_sent_again(record: Evidence) -> set[str]:
    """Return messages stored before their acknowledged attempt began, although every earlier attempt was refused.

    The last outcome alone does not show this false refusal. The time of a store is the wall time of another process on
    the same machine, so it is compared with the wall time of the sends without tolerance; if the clock was set during
    the run, the times are not compared.
    """
    return {i for i, seen in record.first_seen().items() if _all_refused(record.attempts.get(i, ()), seen)}


def _all_refused(attempts: Sequence[Attempt], seen: float) -> bool:
    begun = [attempt for attempt in attempts if attempt.send.wall <= seen]
    return 0 < len(begun) < len(attempts) and all(attempt.outcome is Outcome.REJECTED for attempt in begun)


def duplicated(record: Evidence) -> set[str]:
    """Return messages that are shown more than once; earlier messages if they are shown more often than before."""
    times = Counter(entry.facts["id"] for entry in record.last.shown())
    known = record.before if record.shown_before is not None else set()
    before = record.shown_before or Counter()
    extra = {i for i in known if times[i] > max(1, before[i])}
    return extra | {i for i in record.stored if times[i] > 1}


def shown_twice_by_one(reading: Reading) -> set[str]:
    """Return messages that one messages-service showed twice in one reading: they did not move between two readings."""
    return {
        i
        for shown in reading.consumers.values()
        for i, times in Counter(entry.facts["id"] for entry in shown).items()
        if times > 1
    }


def vanished(record: Evidence) -> set[str]:
    """Return messages that were logged or shown before the run and are missing after it."""
    gone: set[str] = set()
    if record.last.loggers:
        gone |= record.logged_before - set[str].intersection(*record.last.ids(record.last.loggers))
    if record.last.consumers:
        gone |= set(record.shown_before or ()) - set().union(*record.last.ids(record.last.consumers))
    return gone


def unstable(record: Evidence) -> set[str]:
    """Return messages that were shown in a reading and that no messages-service shows in the last one."""
    last = {entry.facts["id"] for entry in record.last.shown()}
    return {entry.facts["id"] for reading in record.readings for entry in reading.shown()} - last - record.foreign


def unstable_for_certain(record: Evidence) -> set[str]:
    """Return messages in which two successive readings agreed and that the last one lacks: they did not move then."""
    last = {entry.facts["id"] for entry in record.last.shown()}
    agreed = [one for one, next_one in pairwise(record.readings) if record.agree(one, next_one)]
    return {entry.facts["id"] for reading in agreed for entry in reading.shown()} - last - record.foreign


def disordered(record: Evidence) -> set[str]:
    """Return messages shown after a message that the same sender sent only once this one was acknowledged.

    The queue keeps the order within one sender, one consumer and one partition. Left out are messages that were sent
    more than once, redelivered, given up, duplicated or moved between consumers, and, with a queue in partitions, those
    of an unknown partition. A restarted consumer shows messages by time, so the reading before the restart counts.
    """
    if not record.judges_order:
        return set()
    sent_last: dict[tuple[str, str, Any], float] = defaultdict(lambda: -math.inf)
    found, twice = set[str](), shown_twice_by_one(record.before_restart)
    for entry in record.before_restart.shown():
        message = entry.facts["id"]
        once = record.went_once(message)
        if not once or "sender" not in once.send.facts or message in twice or message in record.moved:
            continue
        if record.partitioned and "partition" not in entry.facts:
            continue
        place = (entry.facts["instance"], once.send.facts["sender"], entry.facts.get("partition"))
        if once.ended is not None and once.ended.mono <= sent_last[place]:
            found.add(message)
        sent_last[place] = max(sent_last[place], once.send.mono)
    return found


def differing(record: Evidence) -> set[str]:
    """Return messages that are shown or logged with another text than was sent."""
    return {
        entry.facts["id"]
        for reading in record.readings
        for entry in (*reading.shown(), *reading.logged())
        if "hash" in entry.facts and (texts := record.texts.get(entry.facts["id"])) and entry.facts["hash"] not in texts
    }


def premature(record: Evidence) -> set[str]:
    """Return messages that were shown before they were first sent."""
    return {
        i
        for i, seen in record.first_seen(logs=False).items()
        if i in record.attempts and seen < record.attempts[i][0].send.wall
    }


def misplaced(record: Evidence) -> set[str]:
    """Return messages that another messages-service shows than the one that has their claims in the cluster."""
    if record.claims is None:
        return set()
    showers: dict[str, set[str]] = defaultdict(set)
    for entry in record.last.shown():
        showers[entry.facts["id"]].add(entry.facts["instance"])
    return {
        i
        for i in {*showers, *record.claims} - record.foreign
        if showers[i] - {record.claims.get(i)} or record.claims.get(i) in record.last.consumers.keys() - showers[i]
    }


def hidden(record: Evidence) -> set[str]:
    """Return messages that services show or log and the facade did not, although it reached all messages-services."""
    if record.combined is None:
        return set()
    found = set[str]()
    unseen = record.combined.facts.get("unseen", ())
    if record.combined.facts["met"] and "messages" not in unseen:
        found |= {entry.facts["id"] for entry in record.last.shown()} - set(record.combined.facts["messages"])
    if record.last.loggers and "logs" not in unseen:
        found |= set.intersection(*record.last.ids(record.last.loggers)) - set(record.combined.facts["logs"])
    return found - record.foreign


def invented(record: Evidence) -> set[str]:
    """Return messages that the facade shows and no service."""
    if record.combined is None:
        return set()
    facts, last = record.combined.facts, record.last
    messages = set(facts["messages"]).difference(*last.ids(last.consumers)) if last.consumers else set[str]()
    logs = set(facts["logs"]).difference(*last.ids(last.loggers)) if last.loggers else set[str]()
    return (messages | logs) - record.foreign


def dead_yet_shown(record: Evidence) -> set[str]:
    """Return dead letters that are shown as messages."""
    return record.dead & record.stored


def unsettled(record: Evidence) -> set[str]:
    """Return messages that were answered with 504, are logged, and were neither delivered nor given up."""
    return (record.having(Outcome.INDETERMINATE) & record.in_some_log) - record.stored - record.dead


# -- the list of the checks --------------------------------------------------------------------------------------------

Ids = set[str]


def _never(_record: Evidence, _found: Ids) -> bool:
    return False


def _always(_record: Evidence, _found: Ids) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Check:
    """A check, with the name of its list in the verdict.

    `certain` says whether its finding is a failure despite any doubt; `also` adds to "3 lost" which kinds of messages
    they are. A check may also only cause a doubt.
    """

    find: Callable[[Evidence], Ids]
    certain: Callable[[Evidence, Ids], bool] = _never
    also: Callable[[Evidence, Ids], Iterable[str]] = lambda _record, _found: ()
    fails: bool = True

    @property
    def name(self) -> str:
        """The name of the list of ids in the verdict."""
        return self.find.__name__

    def says(self, record: Evidence, found: Ids) -> str:
        """Return the reason in words."""
        more = "; ".join(self.also(record, found))
        return f"{len(found)} {WORDS.get(self.name, named(self.name))}{f' ({more})' if more else ''}"


WORDS = {
    "hidden": "hidden by the facade",
    "invented": "shown by the facade and by no service",
    "dead_yet_shown": "dead, yet shown",
    "vanished": "of those before the run vanished",
    "unstable": "shown once and then no more",
    "disordered": "out of the order of their sender",
    "differing": "with another text than was sent",
    "premature": "shown before they were sent",
    "misplaced": "not where the cluster says that they are",
}
"""Check -> the words after the number, if its name alone says too little."""


def _kinds_of_unexpected(record: Evidence, found: Ids) -> Iterator[str]:
    refused, again = record.having(Outcome.REJECTED) & found, refused_and_sent_again(record)
    kinds = {
        "in the log only": strangers(record) - record.stored,
        "refused, but shown": refused & record.stored,
        "refused, but in the log": refused - record.stored,
        "refused, but stored before they were sent again": again,
    }
    yield from (f"{len(ids)} {what}" for what, ids in kinds.items() if ids)


def _first_misplaced(record: Evidence, found: Ids) -> Iterator[str]:
    first = min(found)
    showers = sorted({entry.facts["instance"] for entry in record.last.shown() if entry.facts["id"] == first})
    claimed = (record.claims or {}).get(first)
    yield f"{first} is shown by {', '.join(showers) or 'no instance'} and claimed by {claimed or 'no instance'}"


CHECKS = (
    Check(lost),
    Check(unlogged),
    Check(
        unexpected,
        # If the messages of other clients are unknown, a stranger may be one of them.
        lambda record, found: record.knows("foreign") or bool(found - strangers(record)),
        _kinds_of_unexpected,
    ),
    Check(duplicated, lambda record, found: record.settled or bool(shown_twice_by_one(record.last) & found)),
    Check(vanished),
    Check(unstable, lambda record, _found: bool(unstable_for_certain(record))),
    Check(disordered, _always),
    Check(differing, _always),
    Check(premature, _always),
    Check(misplaced, also=_first_misplaced),
    Check(hidden),
    Check(invented),
    Check(dead_yet_shown, _always),
    Check(unsettled, fails=False),
)
"""All checks, in the order in which they are reported."""


def _repaired(record: Evidence) -> Iterator[str]:
    """With the consumers off, only the queue can have lost the messages that were redelivered."""
    if record.quiet and record.redelivered:
        yield f"{len(record.redelivered)} lost by the queue; redelivery brought them back"


def _beyond(record: Evidence) -> Iterator[str]:
    """Yield the bounds that a run exceeded."""
    for name, bound in record.bounds.items():
        label, measure = MEASURES[name]
        value = measure(record)
        if value is not None and (value > bound if name in CEILINGS else value < bound):
            side = "at most" if name in CEILINGS else "at least"
            yield f"{label}: {_in_words(name, value)}, but {side} {_in_words(name, bound)} was required"


MEASURES: dict[str, tuple[str, Callable[[Evidence], float | None]]] = {
    "accepted": ("acknowledged share of the messages", lambda record: record.accepted),
    "p99": ("99th percentile of the time until an acknowledgement", lambda record: latency(record.attempts)[1]),
    "gap": ("longest time without an acknowledgement", lambda record: longest_gap(record.entries)),
    "availability": (
        "share of the seconds in which an acknowledgement came",
        lambda record: availability(record.entries),
    ),
}
"""Name of a bound -> its words, and how it is measured."""

CEILINGS = frozenset({"p99", "gap"})
"""The upper bounds; the others are lower bounds."""


def _in_words(name: str, value: float) -> str:
    return f"{value:.2f} s" if name in CEILINGS else f"{value:.1%}"


# -- doubts ------------------------------------------------------------------------------------------------------------


def _doubts(record: Evidence, found: Mapping[str, Ids]) -> Iterator[str]:
    """Yield why this run proves less than it should."""
    yield from (entry.facts["reason"] for entry in record.of("doubt"))
    yield from _doubts_of_traffic(record)
    if not any(entry.facts["complete"] for entry in record.of("drained")):
        reasons = [entry.facts["reason"] for entry in record.of("drained")]
        yield f"the drain was cut short ({reasons[-1] if reasons else 'it did not begin'})"
    missed = dict.fromkeys(fault.target for fault in record.faults if not fault.seen)
    if not record.faults:
        yield "no fault was injected"
    elif missed:
        yield f"the effect of the fault was not observed on {', '.join(missed)}"
    yield from _doubts_of_readings(record)
    if found["unsettled"] and not record.redelivery_is_off:
        states = sorted({record.states.get(i, "unknown") for i in found["unsettled"]})
        yield (
            f"{len(found['unsettled'])} indeterminate messages are in the log and were not delivered "
            f"(the facade says: {', '.join(states)}); they may still come"
        )
    if strangers(record) and not record.knows("foreign"):
        yield "messages of other clients during the run are unknown, and unexpected messages may be theirs"
    yield from record.lacks if record.format > 1 else ()


def _doubts_of_traffic(record: Evidence) -> Iterator[str]:
    if not record.having(Outcome.ACKNOWLEDGED):
        yield "nothing was acknowledged"
    elif "accepted" not in record.bounds and len(record.having(Outcome.ACKNOWLEDGED)) < ACCEPTED * record.asked:
        yield (
            f"only {len(record.having(Outcome.ACKNOWLEDGED))} of {record.asked} messages were acknowledged, "
            f"less than {ACCEPTED:.0%}: that proves little"
        )
    for name in record.bounds:
        label, measure = MEASURES[name]
        if measure(record) is None:
            yield f"{label}: this run has a bound for it, but it could not be measured"


def _doubts_of_readings(record: Evidence) -> Iterator[str]:
    last = record.last
    if last.absent:
        yield f"{', '.join(last.absent)} could not be read"
    if not last.consumers:
        yield "no messages-service was read"
    read = {*last.consumers, *last.loggers, *last.absent}
    if forgotten := [name for name in (*record.consumers, *record.loggers) if name not in read]:
        yield f"{', '.join(forgotten)}: neither read nor noted as absent"
    if len(record.readings) > 1 and not record.settled:
        yield f"the last two readings do not agree: {record.disagreement()}"
    elif len(record.readings) == 1 and (record.format > 1 or duplicated(record) - shown_twice_by_one(last)):
        yield "the services were read only once, so messages may still have been moving between them"


# -- cues: what a verdict does not prove -------------------------------------------------------------------------------


def _cues(record: Evidence) -> Iterator[str]:
    """Yield what the verdict does not prove."""
    servers = [fault for fault in record.faults if fault.target.startswith(f"{record.begin.facts['queue']}-")]
    if servers and not any(fault.owner for fault in record.faults):
        yield (
            "the killed server was not the queue's primary owner, so this run says nothing about the queue's copies; "
            "--target owner kills it"
        )
    before = record.copies("before")
    if before and not sum(owned for owned, _ in before.values()):
        yield "the queue was empty at the kill"
    if record.begin.facts["backup_count"] == 0:
        yield "backup-count is 0: the queue has no copies to survive with"
    if record.redelivered:
        several = len(record.redelivered) > 1
        yield (
            f"redelivery brought back {len(record.redelivered)} message{'s' if several else ''}: "
            f"{'they' if several else 'it'} had left the queue, and {'were' if several else 'was'} stored nowhere"
        )
    yield from _cues_of_checks(record)


def _cues_of_checks(record: Evidence) -> Iterator[str]:
    """Yield findings that are not judged, and checks that could not be made."""
    if record.foreign:
        yield f"{len(record.foreign)} foreign messages: other clients sent them during the run, and they are not judged"
    if unsettled(record) and record.redelivery_is_off:
        yield (
            f"{len(unsettled(record))} indeterminate messages are in the log and were not delivered: "
            f"{'external services need not deliver them' if record.by_text else 'redelivery is off in this run'}"
        )
    if record.by_text:
        yield from _cues_of_texts(record)
    if not record.clock_is_steady:
        yield "the clock of this machine was set during the run, so times of different processes were not compared"
    if record.format > 1 and not record.judges_order:
        yield "the order of messages was not checked: it is not promised in this run, or its history lacks it"
    if record.format == 1 and record.lacks:
        yield f"not checked, as this is an older history: {'; '.join(record.lacks)}"


def _cues_of_texts(record: Evidence) -> Iterator[str]:
    """Yield what is known of external services, and what is not."""
    yield "messages were counted by their texts: external services tell no ids, and no times of storing"
    if record.waited and record.waited[0] != record.waited[1]:
        items, acknowledged = record.waited
        yield (
            f"with the consumers off the queue held {items} items, and {acknowledged} messages were acknowledged: "
            f"{'some were put more than once' if items > acknowledged else 'some were acknowledged and not put'}"
        )


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _orderer(sent: Sequence[str]) -> Callable[[set[str]], tuple[str, ...]]:
    place = {i: number for number, i in enumerate(sent)}
    return lambda ids: tuple(sorted(ids, key=lambda i: (place.get(i, len(place)), i)))


# -- times, in seconds ------------------------------------------------------------------------------------------------
#
# "First" is timed from the confirmation of the fault: what came before may have come before the hit. "Longest" is timed
# from the beginning of the hit, because a pause is confirmed only at its end; and only if something came after the
# confirmation, because otherwise no sender waited through the fault.


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _first(kind: Kind, entries: Sequence[Entry]) -> Entry | None:
    """Return the first event of a kind: "fault" begins the first fault, "struck" confirms it."""
    return next((entry for entry in entries if entry.kind == kind), None)


def first_acknowledgement(entries: Sequence[Entry]) -> float | None:
    """Return the time from the confirmation of the fault to the first acknowledgement of a message sent after it."""
    struck = _first("struck", entries)
    if struck is None:
        return None
    sent: set[str] = set()
    for entry in entries:
        if entry.kind == "send" and entry.mono >= struck.mono:
            sent.add(entry.facts["id"])
        elif entry.kind == "outcome" and entry.facts["id"] in sent and entry.facts["outcome"] == Outcome.ACKNOWLEDGED:
            return round(entry.mono - struck.mono, 3)
    return None


def _deliveries(entries: Sequence[Entry], after: Entry, others: Collection[str]) -> list[float]:
    """Return the wall times, which all processes of a machine share, at which something was stored after an event."""
    return sorted(
        entry.facts["at"]
        for entry in entries
        if entry.kind == "shown" and entry.facts["id"] not in others and entry.facts.get("at", 0.0) >= after.wall
    )


def first_delivery(entries: Sequence[Entry], others: Collection[str]) -> float | None:
    """Return the time from the confirmation of the fault to the first message stored after it."""
    struck = _first("struck", entries)
    times = _deliveries(entries, struck, others) if struck else []
    return round(times[0] - struck.wall, 3) if struck and times else None


def longest_silence(entries: Sequence[Entry], others: Collection[str]) -> float | None:
    """Return the longest time from the beginning of the fault on in which nothing was stored, until the last storing.

    None if nothing was stored after the confirmation of the fault.
    """
    begun, struck = _first("fault", entries), _first("struck", entries)
    times = _deliveries(entries, begun, others) if begun else []
    if not (begun and struck and times and times[-1] >= struck.wall):
        return None
    return round(max(until - since for since, until in pairwise([begun.wall, *times])), 3)


def longest_gap(entries: Sequence[Entry]) -> float | None:
    """Return the length of `longest_wait` in seconds."""
    wait = longest_wait(entries)
    return round(wait[1] - wait[0], 3) if wait else None


def longest_wait(entries: Sequence[Entry]) -> tuple[float, float] | None:
    """Return begin and end, in monotonic time, of the longest wait of a sender without an acknowledgement.

    Where a fault was confirmed, waits that were over before it began do not count, nor does the part of one before
    that; None if no wait ended after the confirmation. One that no acknowledgement ended lasts until the last outcome.
    """
    waits = list(_waits(entries))
    begun, struck = _first("fault", entries), _first("struck", entries)
    if begun and struck:
        waits = [(max(since, begun.mono), until) for since, until in waits if until >= begun.mono]
        if not any(until >= struck.mono for _, until in waits):
            return None
    return max(waits, key=lambda wait: wait[1] - wait[0], default=None)


def _waits(entries: Sequence[Entry]) -> Iterator[tuple[float, float]]:
    waiting: set[str] = set()
    since = heard = None
    for entry in entries:
        if entry.kind == "send":
            waiting.add(entry.facts["id"])
            since = entry.mono if since is None else since
        elif entry.kind == "outcome":
            waiting.discard(entry.facts["id"])
            heard = entry.mono
            if entry.facts["outcome"] == Outcome.ACKNOWLEDGED and since is not None:
                yield since, entry.mono
                since = entry.mono if waiting else None
    if since is not None and heard is not None and heard > since:
        yield since, heard


def latency(attempts: Mapping[str, Sequence[Attempt]]) -> tuple[float | None, float | None]:
    """Return the median and the 99th percentile of the time from a send to its acknowledgement."""
    took = sorted(
        one.ended.mono - one.send.mono
        for mine in attempts.values()
        for one in mine
        if one.ended and one.outcome is Outcome.ACKNOWLEDGED
    )
    return (round(percentile(took, 0.5), 6), round(percentile(took, 0.99), 6)) if took else (None, None)


def availability(entries: Sequence[Entry]) -> float | None:
    """Return the share of the seconds, counted from the first send, in which an acknowledgement came.

    A second without one counts only if a sender waited during the whole second: from the first send of a message to
    its acknowledgement, or to the outcome of its last send.
    """
    waits: dict[str, tuple[float, float]] = {}
    acknowledged: set[float] = set()
    for entry in entries:
        if entry.kind == "send":
            message = entry.facts["id"]
            waits[message] = (waits.get(message, (entry.mono, 0.0))[0], math.inf)
        elif entry.kind == "outcome" and entry.facts["id"] in waits:
            waits[entry.facts["id"]] = (waits[entry.facts["id"]][0], entry.mono)
            if entry.facts["outcome"] == Outcome.ACKNOWLEDGED:
                acknowledged.add(entry.mono)
    if not waits:
        return None
    zero = min(since for since, _ in waits.values())
    good = sorted({math.floor(at - zero) for at in acknowledged})
    end = entries[-1].mono
    merged = _merged(sorted((since - zero, min(until, end) - zero) for since, until in waits.values()))
    bad = sum(_whole_seconds(since, until, good) for since, until in merged)
    return round(len(good) / (len(good) + bad), 4) if good or bad else None


def _merged(spans: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield spans, ordered by their beginnings, with overlapping ones merged."""
    since, until = spans[0]
    for begin, end in spans[1:]:
        if begin > until:
            yield since, until
            since, until = begin, end
        until = max(until, end)
    yield since, until


def _whole_seconds(since: float, until: float, but: Sequence[int]) -> int:
    """Return how many whole seconds are in a span, except the seconds `but`."""
    first, end = math.ceil(since), math.floor(until)
    return max(0, end - first - (bisect_left(but, end) - bisect_left(but, first))) if end > first else 0
