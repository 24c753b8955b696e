"""A run told in words that can be handed in: plain text, made of the history and its verdict."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from microq.chaos.evidence import Evidence
from microq.chaos.faults import FAULTS
from microq.chaos.verdict import Fault, Layer, Ruling, Verdict
from microq.fleet import Role
from microq.report.course import Course

LAST_SEEN = {
    Layer.PENDING: "on their way: the facade still waits for them",
    Layer.LOG: "the log, but not every logging-service shows them",
    Layer.QUEUE: "the queue: they were acknowledged, so they were in it, and no consumer took them",
    Layer.CONSUMER: "a consumer, which took or stored them",
    Layer.DEAD: "the dead letters",
    Layer.UNKNOWN: "unknown: no consumer wrote down what it took",
}
"""Layer -> where that is, after "last seen in"."""


MOST_STEPS = 8
"""Steps that are told in a sentence; more are told by the list alone."""


@dataclass(frozen=True, slots=True)
class Tale:
    """What came out, in one sentence, and the questions that a reader has with their answers."""

    headline: str
    answers: tuple[tuple[str, str], ...]


def tale(record: Evidence, found: Verdict, way: Course) -> Tale:
    """Tell a run: who sent what, which server held it, what became of that server, and of the messages."""
    why = {Ruling.PASS: "Why was nothing lost?", Ruling.FAIL: "What went wrong, and where?"}
    answers = (
        ("What was sent?", _sent(found, way)),
        ("Which server held the messages?", _held(found)),
        ("What was broken, and when?", _broken(record, found, way)),
        ("What happened next?", _next(found, way)),
        ("Who got the messages?", _got(record, found)),
        (why.get(found.verdict, "Why does this run prove nothing?"), " ".join(_why(record, found, way))),
    )
    return Tale(_headline(found), answers)


def _headline(found: Verdict) -> str:
    if found.verdict is Ruling.PASS:
        return f"No acknowledged message was lost: all {found.acknowledged:,} were received, each exactly once."
    said = "; ".join(found.reasons)
    return f"The check failed: {said}." if found.verdict is Ruling.FAIL else f"This run proves nothing: {said}."


def _sent(found: Verdict, way: Course) -> str:
    how = (
        "while the messages-services, which consume them, were off"
        if found.quiet
        else "while the messages-services went on consuming them"
    )
    whole = found.acknowledged == found.attempted
    outcome = (
        ("it was acknowledged" if found.attempted == 1 else "every one of them was acknowledged")
        if whole
        else f"{found.acknowledged:,} were acknowledged, {found.rejected:,} were refused, "
        f"and of {found.indeterminate:,} the sender knows nothing for certain"
    )
    again = sum(one.attempts > 1 for one in way.ways)
    more = f" {counted(again, 'message')} had to be sent more than once, under the same id." if again else ""
    were = "was" if found.attempted == 1 else "were"
    return f"{counted(found.attempted, 'message')} {were} sent through the facade, {how}; {outcome}.{more}"


def _held(found: Verdict) -> str:
    kafka = found.queue == Role.KAFKA
    owns, backs = ("led partitions with", "had copies of") if kafka else ("owned", "backed up")
    before = found.copies_before
    if not before:
        owners = list(dict.fromkeys(fault.target for fault in found.faults if fault.owner))
        what = "a leader of the queue's partitions" if kafka else "the queue's primary owner"
        if not owners:
            return "Under traffic the queue changes all the time, so no count of its copies was taken."
        return f"When it was hit, {listed(owners)} was {what}; under traffic no count of the copies was taken."
    parts = [
        f"{name} {owns} {_items(owned)}" + (f" and {backs} {backed:,}" if backed else "")
        for name, (owned, backed) in before.items()
        if owned
    ]
    for backed, names in _grouped((backed, name) for name, (owned, backed) in before.items() if not owned):
        each = " each" if len(names) > 1 else ""
        parts.append(f"{listed(names)} {backs} {_items(backed)}{each}" if backed else f"{listed(names)} had no copy")
    return f"Before the fault {'; '.join(parts)}."


def _broken(record: Evidence, found: Verdict, way: Course) -> str:
    if way.struck_at is None or not found.faults:
        return "Nothing was broken: this history has no fault."
    kind = FAULTS.get(found.scenario)
    meant = (kind.__doc__ or "").strip().partition("\n")[0].partition(";")[0].rstrip(".") if kind else ""
    meant = meant if meant[:2].isupper() else meant[:1].lower() + meant[1:]
    hits = Counter((fault.target, _standing(fault, found.queue)) for fault in found.faults)
    told = [
        f"{target}{standing}{f', {times} times' if times > 1 else ''}" for (target, standing), times in hits.items()
    ]
    pids = [str(entry.facts["pid"]) for entry in record.of("fault") if isinstance(entry.facts.get("pid"), int)]
    process = f" (process {pids[0]})" if len(pids) == 1 == len(found.faults) else ""
    missed = [fault.target for fault in found.faults if not fault.seen]
    proof = f"It was not seen to happen on {listed(dict.fromkeys(missed))}." if missed else "It was seen to happen."
    first = "from" if len(found.faults) > 1 else "at"
    what = f"{found.scenario}{f' ({meant})' if meant else ''}"
    return f"{what} struck {first} {moment(way.struck_at)}: {listed(told)}{process}. {proof}"


def _standing(fault: Fault, queue: str) -> str:
    kafka = queue == Role.KAFKA
    if fault.owner:
        return ", a leader of the queue's partitions" if kafka else ", the queue's primary owner"
    if fault.target.startswith(f"{queue}-"):
        return ", which led no partition" if kafka else ", which held only backups of the queue"
    return ""


def _next(found: Verdict, way: Course) -> str:
    steps = [mark for mark in way.marks if not mark.hit]
    told = [f"{mark.what} (+{mark.at:.2f} s)" for mark in steps]
    parts = [f"With the seconds since the fault: {'; '.join(told)}."] if told and len(told) <= MOST_STEPS else []
    if len(told) > MOST_STEPS:
        parts.append(f"{counted(len(told), 'step')} were seen; the list below the chart tells them.")
    if found.first_acknowledgement_s is not None:
        parts.append(
            f"The first message sent after the fault was acknowledged {found.first_acknowledgement_s:.2f} s after it."
        )
    if found.first_delivery_s is not None:
        parts.append(f"The first delivery after the fault came {found.first_delivery_s:.2f} s after it.")
    if found.longest_gap_s is not None:
        parts.append(
            "The longest time in which somebody waited for an acknowledgement and none came was "
            f"{found.longest_gap_s:.2f} s."
        )
    if found.copies_after:
        now = [
            f"{name} {'led' if found.queue == Role.KAFKA else 'owned'} {_items(owned)}"
            for name, (owned, _) in found.copies_after.items()
            if owned
        ]
        parts.append(f"Afterwards {listed(now)}." if now else "Afterwards no server held a message.")
    return " ".join(parts) or "Nothing was timed."


def _got(record: Evidence, found: Verdict) -> str:
    if not found.by_consumer:
        return "No messages-service showed a message."
    shares = [f"{name} received {count:,}" for name, count in found.by_consumer.items()]
    writers = [f"{name} {count:,}" for name, count in found.by_logger.items()]
    read = len(record.logs())
    log = f" Every one of {counted(read, 'logging-service')} shows {found.logged:,} of them" if read else ""
    wrote = f"; who wrote them down: {listed(writers)}" if writers else ""
    return f"{listed(shares)} of the {counted(found.attempted, 'message')}.{f'{log}{wrote}.' if log else ''}"


def _why(record: Evidence, found: Verdict, way: Course) -> Iterator[str]:
    if found.verdict is Ruling.PASS:
        yield from _safe(record, found, way)
        return
    yield " ".join(f"{reason[:1].upper()}{reason[1:]}." for reason in found.reasons)
    for layer, count in Counter(found.layers.values()).most_common():
        yield f"Of the missing messages {count:,} {'was' if count == 1 else 'were'} last seen in {LAST_SEEN[layer]}."
    if found.unexpected:
        yield f"{counted(len(found.unexpected), 'message')} shown that nobody sent, or that had been refused."
    if found.duplicated:
        yield f"{counted(len(found.duplicated), 'message')} shown more than once."


def _safe(record: Evidence, found: Verdict, way: Course) -> Iterator[str]:
    servers = [fault for fault in found.faults if fault.target.startswith(f"{found.queue}-")]
    owners = listed(dict.fromkeys(fault.target for fault in servers if fault.owner))
    copies = record.begin.facts["backup_count"]
    if found.queue == Role.KAFKA:
        yield "The facade acknowledges a message only when every replica in sync has it."
        if owners:
            yield f"So when {owners} was gone, a follower that had the same messages became the leader."
    else:
        backups = f"and on {counted(copies, 'backup')}" if copies else "which has no backup"
        yield f"The facade acknowledges a message only when it is on the queue's primary owner, {backups}."
        heirs = [name for name, (owned, _) in found.copies_after.items() if owned]
        if owners and heirs:
            yield f"So when {owners} was gone, the backup on {listed(heirs)} became the queue, with everything in it."
        elif owners:
            yield f"So whenever the owner ({owners}) was gone, a backup became the queue, with everything in it."
        elif servers:
            yield "The server that was hit held only backups, so the queue itself was not in danger."
    if found.recovered:
        yield f"{counted(len(found.recovered), 'message')} of unknown outcome arrived as well, once each."
    if found.redelivered:
        yield f"{counted(len(found.redelivered), 'message')} lost on the way came back by redelivery, from the log."
    if not found.quiet:
        again = " A send that fails is repeated under its id." if any(one.attempts > 1 for one in way.ways) else ""
        yield f"Each consumer claims a message's id before it shows it, so nothing is shown twice.{again}"


def _items(count: float) -> str:
    return counted(count, "message")


def _grouped(pairs: Iterable[tuple[int, str]]) -> list[tuple[int, list[str]]]:
    groups: dict[int, list[str]] = {}
    for key, name in pairs:
        groups.setdefault(key, []).append(name)
    return sorted(groups.items(), reverse=True)


def counted(count: float, thing: str) -> str:
    """Return a number of things: 1 message, 2,000 messages."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def listed(names: Iterable[str]) -> str:
    """Return names as people list them: a, b and c."""
    known: Sequence[str] = list(names)
    return f"{', '.join(known[:-1])} and {known[-1]}" if len(known) > 1 else "".join(known)


def moment(wall: float) -> str:
    """Return a wall time as people say it, with its time zone."""
    try:
        return time.strftime("%H:%M:%S on %Y-%m-%d (UTC%z)", time.localtime(wall))
    except (OverflowError, OSError, ValueError):
        return "an unknown time"
