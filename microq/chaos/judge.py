"""The judge: a pure function of a history. After Jepsen's total-queue checker, and stricter: duplicates fail.

It imports nothing of Hazelcast, Kafka or the network, and is proved with histories that must fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from microq.chaos import timing
from microq.chaos.evidence import Evidence
from microq.chaos.history import Entry
from microq.chaos.verdict import Ruling, Verdict
from microq.errors import UsageError
from microq.message import Outcome


def judge(entries: Sequence[Entry]) -> Verdict:
    """Return what a history proves. Raises `UsageError` if it is no whole history."""
    try:
        return _judge(Evidence(entries))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"an event of this history lacks a fact: {error}") from error


def _judge(record: Evidence) -> Verdict:
    acknowledged, rejected, indeterminate = (
        record.having(o) for o in (Outcome.ACKNOWLEDGED, Outcome.REJECTED, Outcome.INDETERMINATE)
    )
    attempted = set(record.sent)
    times_shown = Counter(entry.facts["id"] for entry in record.shown)
    stored = set(times_shown)
    logs = record.logs()
    # The logging-services read one map, so each must show all of it.
    logged = set.intersection(*logs) if logs else set()
    lost = acknowledged - stored
    unlogged = acknowledged - logged
    # A message that was answered with a rejection must be nowhere.
    unexpected = (stored - attempted) | (stored & rejected)
    duplicated = {i for i, times in times_shown.items() if times > 1}
    redelivered = record.noted("redelivered") & attempted
    failures = _failures(
        lost=lost,
        unlogged=unlogged,
        unexpected=unexpected,
        duplicated=duplicated,
        hidden_by_the_facade=_hidden(record, stored),
    )
    failures += _repaired(record, redelivered)
    doubts = _doubts(record, acknowledged)
    # What is missing may still come where something is in doubt; what should not be there is there.
    certain = unexpected or duplicated or (failures and not doubts)
    ruling = Ruling.FAIL if certain else Ruling.UNKNOWN if doubts else Ruling.PASS
    in_order = _orderer(record.sent)
    return Verdict(
        scenario=record.begin.facts["scenario"],
        queue=record.begin.facts["queue"],
        verdict=ruling,
        reasons=(*doubts, *failures),
        cues=tuple(_cues(record, len(redelivered))),
        attempted=len(attempted),
        acknowledged=len(acknowledged),
        rejected=len(rejected),
        indeterminate=len(indeterminate),
        stored=len(stored),
        logged=len(logged),
        lost=in_order(lost),
        unlogged=in_order(unlogged),
        unexpected=in_order(unexpected),
        duplicated=in_order(duplicated),
        recovered=in_order(indeterminate & stored),
        redelivered=in_order(redelivered),
        dead=in_order(record.noted("dead")),
        layers=record.layers(lost, unlogged),
        by_consumer=_counted(entry.facts["instance"] for entry in record.shown),
        by_logger=_counted({entry.facts["id"]: entry.facts["by"] for entry in record.logged}.values()),
        copies_before=record.copies("before"),
        copies_after=record.copies("after"),
        faults=tuple(record.faults),
        first_acknowledgement_s=timing.first_acknowledgement(record.entries),
        first_delivery_s=timing.first_delivery(record.entries, record.earlier),
        longest_gap_s=timing.longest_gap(record.entries),
        duration_s=round(record.entries[-1].mono - record.entries[0].mono, 3),
        quiet=record.quiet,
        seed=record.begin.facts.get("seed"),
    )


def _failures(**found: set[str]) -> list[str]:
    return [f"{len(ids)} {name.replace('_', ' ')}" for name, ids in found.items() if ids]


def _repaired(record: Evidence, redelivered: set[str]) -> list[str]:
    """With the consumers off nobody but the queue can have lost what was delivered again."""
    if not record.quiet or not redelivered:
        return []
    return [f"{len(redelivered)} lost by the queue; redelivery brought them back"]


def _hidden(record: Evidence, stored: set[str]) -> set[str]:
    """Return what a messages-service shows and the facade did not, although it reached all of them."""
    combined = [set(entry.facts["messages"]) for entry in record.of("combined") if entry.facts["met"]]
    return stored - combined[-1] if combined else set()


def _doubts(record: Evidence, acknowledged: set[str]) -> list[str]:
    doubts = [entry.facts["reason"] for entry in record.of("doubt")]
    if not acknowledged:
        doubts.append("nothing was acknowledged")
    if not any(entry.facts["complete"] for entry in record.of("drained")):
        reasons = [entry.facts["reason"] for entry in record.of("drained")]
        doubts.append(f"the drain was cut short ({reasons[-1] if reasons else 'it did not begin'})")
    missed = dict.fromkeys(fault.target for fault in record.faults if not fault.seen)
    if not record.faults:
        doubts.append("no fault was injected")
    elif missed:
        doubts.append(f"the fault was not seen to happen on {', '.join(missed)}")
    absent = [entry.facts["instance"] for entry in record.of("absent")]
    if absent:
        doubts.append(f"{', '.join(absent)} could not be read")
    return doubts


def _cues(record: Evidence, redelivered: int) -> Iterable[str]:
    """Say what the verdict does not prove."""
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
    if redelivered:
        yield f"redelivery brought back {redelivered} messages that the queue had lost"


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _orderer(sent: Sequence[str]) -> Callable[[set[str]], tuple[str, ...]]:
    place = {i: number for number, i in enumerate(sent)}
    return lambda ids: tuple(sorted(ids, key=lambda i: (place.get(i, len(place)), i)))
