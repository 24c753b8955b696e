"""A history sorted by what its events are about; pure, as the judge that reads it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from microq.chaos.history import Entry, Kind
from microq.chaos.verdict import Copies, Fault, Layer
from microq.errors import UsageError
from microq.fleet import Role
from microq.message import Outcome


class Evidence:
    """What a history says of each message, and of the faults."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self._of: dict[Kind, list[Entry]] = defaultdict(list)
        for entry in entries:
            self._of[entry.kind].append(entry)
        self.begin = self._first("begin")
        self.quiet = self.begin.facts.get("form", "quiet") == "quiet"
        self.earlier = {i for entry in self.of("earlier") for i in entry.facts["ids"]}
        self.sent = list(dict.fromkeys(entry.facts["id"] for entry in self.of("send")))
        self.outcomes = _outcomes(entries)
        self.shown = [entry for entry in self.of("shown") if entry.facts["id"] not in self.earlier]
        self.logged = [entry for entry in self.of("logged") if entry.facts["id"] not in self.earlier]
        self.faults = list(_faults(entries))

    def of(self, kind: Kind) -> list[Entry]:
        """Return the events of one kind."""
        return self._of.get(kind, [])

    def _first(self, kind: Kind) -> Entry:
        found = self.of(kind)
        if not found:
            raise UsageError(f"this history has no event {kind!r}; it is not whole")
        return found[0]

    def copies(self, when: str) -> Copies:
        """Return where the queue's items were, by the last look."""
        found = [entry for entry in self.of("copies") if entry.facts["when"] == when]
        members = found[-1].facts["members"] if found else {}
        return {name: [owned, backups] for name, (owned, backups) in members.items()}

    def having(self, outcome: Outcome) -> set[str]:
        """Return the ids that had an outcome, all their sends taken together."""
        return {i for i in self.sent if self.outcomes[i] is outcome}

    def noted(self, kind: Kind) -> set[str]:
        """Return the ids that events of this kind list, without those that were there before."""
        return {i for entry in self.of(kind) for i in entry.facts["ids"]} - self.earlier

    def logs(self) -> list[set[str]]:
        """Return what each logging-service that was read shows."""
        shown: dict[str, set[str]] = {
            entry.facts["instance"]: set() for entry in self.of("read") if entry.facts["role"] == Role.LOGGING
        }
        for entry in self.logged:
            shown.setdefault(entry.facts["instance"], set()).add(entry.facts["id"])
        return list(shown.values())

    def layers(self, lost: set[str], unlogged: set[str]) -> dict[str, Layer]:
        """Return where each message that is lost or unlogged was seen last on its way."""
        states = {entry.facts["id"]: entry.facts["state"] for entry in self.of("state")}
        # From the end of the way back: the first layer that knows a message had it last.
        known = {
            Layer.DEAD: {i for i, state in states.items() if state == "dead"} | self.noted("dead"),
            Layer.LOG: (unlogged & set().union(*self.logs())) - lost,
            Layer.CONSUMER: {entry.facts["id"] for entry in self.shown}
            | {i for i, state in states.items() if state == "stored"}
            | {i for entry in self.of("took") for i in entry.facts["ids"]},
        }
        # An acknowledged message was in the queue; it left it without a trace only if consumers leave one.
        if any(entry.facts["lines"] for entry in self.of("took")):
            known[Layer.QUEUE] = lost
        known[Layer.PENDING] = {i for i, state in states.items() if state == "pending"}
        missing = [i for i in self.sent if i in lost or i in unlogged]
        return {i: next((layer for layer, ids in known.items() if i in ids), Layer.UNKNOWN) for i in missing}


def _outcomes(entries: Sequence[Entry]) -> dict[str, Outcome]:
    """Return what became of each id: acknowledged if one of its sends was, else indeterminate if one may have been."""
    outcomes: dict[str, set[Outcome]] = defaultdict(set)
    under_way: dict[str, int] = defaultdict(int)
    for entry in entries:
        if entry.kind == "send":
            under_way[entry.facts["id"]] += 1
        elif entry.kind == "outcome":
            under_way[entry.facts["id"]] -= 1
            outcomes[entry.facts["id"]].add(Outcome(entry.facts["outcome"]))
    for cut_short in (i for i, count in under_way.items() if count > 0):
        # A send that has no outcome was cut short: nobody knows.
        outcomes[cut_short].add(Outcome.INDETERMINATE)
    ranked = (Outcome.ACKNOWLEDGED, Outcome.INDETERMINATE, Outcome.REJECTED)
    return {i: next(outcome for outcome in ranked if outcome in found) for i, found in outcomes.items()}


def _faults(entries: Sequence[Entry]) -> Iterator[Fault]:
    """Return the faults in their order; what was seen to strike a target is its last fault."""
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
