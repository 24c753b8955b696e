"""The report of a run: one page, made from its history alone."""

from __future__ import annotations

import ast
import dataclasses
import shlex
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from microq.backends import described
from microq.chaos.checker import judge
from microq.chaos.evidence import Evidence
from microq.chaos.faults import FAULTS
from microq.chaos.faults.base import SIGN
from microq.chaos.faults.servers import ServerFault
from microq.chaos.history import BOUNDS, Entry
from microq.chaos.verdict import FOUND, Fault, Layer, Ruling, Verdict, named
from microq.config import Queue
from microq.report import charts
from microq.report.course import Course, course
from microq.report.html import Html, chart, document, join, right, scrolled, table, tag

SIGNS = {Ruling.PASS: "✔", Ruling.FAIL: "✘", Ruling.UNKNOWN: "?"}

COUNTS = {
    "attempted": "sent by the client",
    "acknowledged": "answered with success",
    "rejected": "refused: must be nowhere",
    "indeterminate": "no answer came, or the answer was 504",
    "stored": "shown by a messages-service",
    "logged": "shown by every logging-service",
}
"""Number of a verdict -> its meaning; `FOUND` has the meanings of its lists of ids."""


def render(entries: Sequence[Entry], history_name: str, *, config_toml: str = "") -> str:
    """Return the report as an HTML page. `config_toml` is the configuration of the run, if it is known.

    Raises `UsageError` if the entries are not a complete history.
    """
    found, record, way = judge(entries), Evidence(entries), course(entries)
    figures = {"timeline": charts.timeline(way, found.lost)}
    if way.attempts:
        figures |= {"latency": charts.latency(way), "throughput": charts.throughput(way)}
    if found.by_consumer or found.by_logger:
        groups = {"messages-services, stored": found.by_consumer, "logging-services, wrote": found.by_logger}
        figures["shares"] = charts.shares(groups)
    body = join(
        (
            _top(record, found),
            *_verdict(record, found, way),
            *_counts(found),
            *_timeline(way, found),
            *_pace(way),
            *_shares(found),
            *_missing(found),
            *_findings(found),
            *_setting(record, history_name, config_toml),
        )
    )
    return document(f"{found.verdict.upper()}: {found.scenario}, {found.queue}", body, figures)


MISSING = ("lost", "unlogged", "unsettled")
"""The lists of missing messages in a verdict, for which the last layer is known."""

MOST_ODD = 200
"""The number of ids of a list that are shown; a run may have thousands of foreign or redelivered messages."""

MOST_ROWS = 15
"""Number of rows above which the table of events is scrolled."""

SECTIONS = {
    "verdict": "Verdict",
    "counts": "Counts",
    "course": "Every message over time",
    "pace": "Latency and throughput",
    "who": "Which instance got which messages",
    "missing": "Missing messages",
    "odd": "Other findings",
    "setting": "How to repeat it",
}


def _heading(key: str) -> Html:
    return tag("h2", SECTIONS[key], id=key)


def _top(record: Evidence, found: Verdict) -> Html:
    links = (tag("li", tag("a", name, href=f"#{key}")) for key, name in SECTIONS.items())
    form = "consumers off" if found.quiet else "under traffic"
    return tag(
        "header",
        tag("h1", f"{found.scenario}, {found.queue}, {form}"),
        tag("p", f"microq, run of {moment(record.begin.wall)}, {found.duration_s:.1f} s", class_="soft"),
        tag("nav", tag("ul", *links), aria_label="Sections"),
    )


def _verdict(record: Evidence, found: Verdict, way: Course) -> Iterator[Html]:
    story = story_of(record, found, way)
    yield _heading("verdict")
    ruling = tag("b", f"{SIGNS[found.verdict]} {found.verdict.upper()}")
    yield tag("div", tag("p", ruling, story.headline), class_=f"verdict {found.verdict}")
    if found.cues:
        listed = tag("ul", *(tag("li", cue) for cue in found.cues))
        yield tag("div", tag("p", "What this run does not prove, and other caveats:"), listed, class_="cues")
    yield tag("dl", *(join((tag("dt", ask), tag("dd", answer))) for ask, answer in story.answers), class_="story")


def _counts(found: Verdict) -> Iterator[Html]:
    rows: list[tuple[object, ...]] = [(name, getattr(found, name), meaning) for name, meaning in COUNTS.items()]
    rows += [(named(name), len(ids), FOUND[name]) for name, ids in found.found().items()]
    yield _heading("counts")
    yield table(("messages", "", "meaning"), rows)
    if found.copies_before or found.copies_after:
        yield _copies(found)
    sides = (("messages-service", found.by_consumer), ("logging-service", found.by_logger))
    tables = (table((what, "messages"), list(counts.items()), f"By {what}") for what, counts in sides if counts)
    yield tag("div", *tables, class_="side")


def _copies(found: Verdict) -> Html:
    before, after = found.copies_before, found.copies_after
    words = described(found.queue).words
    rows = [
        (name, *before.get(name, ("–", "–")), *after.get(name, ("gone", "") if after else ("–", "–")))
        for name in dict.fromkeys([*before, *after])
    ]
    head = ("server", *(f"{verb}, {when}" for when in ("before", "after") for verb in (words.owns, words.copies)))
    return table(head, rows, "Copies of the queue before and after the fault")


def _timeline(way: Course, found: Verdict) -> Iterator[Html]:
    shown, every = charts.drawn(way.ways)
    yield _heading("course")
    yield tag(
        "p",
        "Each line is a message: thick from its sending to its acknowledgement, thin until a consumer has stored it. "
        "The numbers above stand for the events in the list below; the red band is the time of the fault, "
        "the dotted frame the longest wait for an acknowledgement. Drag to zoom, double-click to see all again.",
    )
    if every > 1:
        yield tag(
            "p",
            f"{len(shown):,} of {counted(len(way.ways), 'message')} are drawn: every {every}th, and each that was "
            "lost, shown twice, not acknowledged or sent again.",
            class_="soft",
        )
    yield chart("timeline", f"Timeline of {counted(found.attempted, 'message')}", 520, time=True)
    if way.marks:
        rows = [(mark.number, right(f"{mark.at:+.2f} s"), ("★ " if mark.hit else "") + mark.what) for mark in way.marks]
        what = "What happened, in seconds since the fault (★ the fault hits)"
        listed = table(("", right("time"), "what happened"), rows, what)
        yield listed if len(rows) <= MOST_ROWS else scrolled(listed, what)


def _pace(way: Course) -> Iterator[Html]:
    yield _heading("pace")
    if not way.attempts:
        yield tag("p", "No send had an outcome.")
        return
    yield tag("h3", "How long a send took until its outcome")
    yield chart("latency", "How long each send took until its outcome", 340, time=True)
    yield tag("h3", "Messages acknowledged and stored per second")
    yield chart("throughput", "Messages acknowledged and stored per second", 320, time=True)


def _shares(found: Verdict) -> Iterator[Html]:
    bars = len(found.by_consumer) + len(found.by_logger)
    yield _heading("who")
    if not bars:
        yield tag("p", "No messages-service showed a message.")
        return
    yield chart("shares", "Messages by messages-service and by logging-service", 110 + 42 * bars)


def _missing(found: Verdict) -> Iterator[Html]:
    yield _heading("missing")
    if not found.layers:
        yield tag("p", "None: every acknowledged message is with a messages-service and in the log.")
        return
    kinds = {name: set(found.found().get(name, ())) for name in MISSING}
    rows = [
        (
            tag("code", message),
            " and ".join(name for name, ids in kinds.items() if message in ids),
            layer.value,
        )
        for message, layer in found.layers.items()
    ]
    for layer in dict.fromkeys(found.layers.values()):
        yield tag("p", tag("b", layer.value), f": last seen in {LAST_SEEN[layer]}.")
    inner = table(("message", "what is missing", "last seen in"), rows)
    yield scrolled(inner, "All missing messages")


def _findings(found: Verdict) -> Iterator[Html]:
    """Yield the ids of all other lists, failures or not."""
    rows = [
        (tag("code", message), named(name), FOUND[name])
        for name, ids in found.found().items()
        for message in ids[:MOST_ODD]
        if name not in MISSING
    ]
    yield _heading("odd")
    if not rows:
        yield tag("p", "None.")
        return
    cut = [f"{named(name)}: {len(ids) - MOST_ODD:,} more" for name, ids in found.found().items() if len(ids) > MOST_ODD]
    if cut:
        yield tag("p", f"Not all are listed ({'; '.join(cut)}); `microq verify --json` has every id.", class_="soft")
    yield scrolled(table(("message", "what was found", "meaning"), rows), "All other findings")


def _setting(record: Evidence, history_name: str, config_toml: str) -> Iterator[Html]:
    facts = record.begin.facts
    rows: list[tuple[str, object]] = [
        *((name, _fact_text(facts[name])) for name in ("fault", "defects") if facts.get(name)),
        ("the same choices again", tag("code", command(facts))),
        ("judge the history again", tag("code", f"microq verify {history_name}")),
        ("make this page again", tag("code", f"microq report {history_name}")),
        *((name, facts[name]) for name in ("microq", "python", "system") if name in facts),
    ]
    yield _heading("setting")
    yield tag("dl", *(join((tag("dt", name), tag("dd", value))) for name, value in rows), class_="facts")
    yield tag("h3", "Configuration")
    if config_toml:
        yield scrolled(tag("pre", config_toml), "The configuration of the run")
    else:
        yield tag("p", "The configuration of this run is not beside its history.")


def _fact_text(fact: object) -> str:
    return ", ".join(f"{name}: {value}" for name, value in fact.items()) if isinstance(fact, dict) else str(fact)


# -- the run in words --------------------------------------------------------------------------------------------------

LAST_SEEN = {
    Layer.PENDING: "on their way: the facade still waits for them",
    Layer.LOG: "the log, but not every logging-service shows them, or no consumer",
    Layer.QUEUE: "the queue: they were acknowledged, so they were in it, and no consumer took them",
    Layer.CONSUMER: "a consumer, which took or stored them",
    Layer.DEAD: "the dead letters",
    Layer.UNKNOWN: "unknown: no consumer wrote down what it took",
}
"""Layer -> its words after "last seen in"."""


REPORTED_ELSEWHERE = frozenset({"lost", "unlogged", "recovered", "redelivered", "dead", "foreign"})
"""Lists of ids that are not failures, or that are reported with the layer where the messages were last seen."""

MOST_STEPS = 8
"""Steps that fit into a sentence; more are shown only in the list."""


@dataclass(frozen=True, slots=True)
class Story:
    """The result in one sentence, and a reader's questions with their answers."""

    headline: str
    answers: tuple[tuple[str, str], ...]


def story_of(record: Evidence, found: Verdict, way: Course) -> Story:
    """Return a run in words: what was sent, which server held it, what happened to that server and to the messages."""
    why = {Ruling.PASS: "Why was nothing lost?", Ruling.FAIL: "What went wrong, and where?"}
    answers = (
        ("What was sent?", _sent(found, way)),
        ("Which server held the messages?", _held(found)),
        ("What was broken, and when?", _broken(record, found, way)),
        ("What happened next?", _next(found, way)),
        ("Who got the messages?", _got(record, found)),
        (why.get(found.verdict, "Why does this run prove nothing?"), " ".join(_why(record, found, way))),
    )
    return Story(_headline(found), answers)


def _headline(found: Verdict) -> str:
    if found.verdict is Ruling.PASS:
        return f"No acknowledged message was lost: all {found.acknowledged:,} were received, each exactly once."
    said = "; ".join(found.reasons)
    return f"The check failed: {said}." if found.verdict is Ruling.FAIL else f"This run proves nothing: {said}."


def _sent(found: Verdict, way: Course) -> str:
    how = (
        "while the messages-services, which consume them, were off"
        if found.quiet
        else "while the messages-services consumed them"
    )
    whole = found.acknowledged == found.attempted
    outcome = (
        ("it was acknowledged" if found.attempted == 1 else "every one of them was acknowledged")
        if whole
        else f"{found.acknowledged:,} were acknowledged, {found.rejected:,} were refused, "
        f"and {found.indeterminate:,} are indeterminate"
    )
    again = sum(one.attempts > 1 for one in way.ways)
    more = f" {counted(again, 'message')} had to be sent more than once, under the same id." if again else ""
    were = "was" if found.attempted == 1 else "were"
    return f"{counted(found.attempted, 'message')} {were} sent through the facade, {how}; {outcome}.{more}"


def _held(found: Verdict) -> str:
    words = described(found.queue).words
    before = found.copies_before
    if not before:
        owners = list(dict.fromkeys(fault.target for fault in found.faults if fault.owner))
        if not owners:
            return "Under traffic the queue changes all the time, so no count of its copies was taken."
        was = f"When it was hit, {listed(owners)} was {words.owner_of_queue}"
        return f"{was}; under traffic no count of the copies was taken."
    parts = [
        f"{name} {words.owned_with} {_items(owned)}" + (f" and {words.copied} {backed:,}" if backed else "")
        for name, (owned, backed) in before.items()
        if owned
    ]
    for backed, names in _grouped((backed, name) for name, (owned, backed) in before.items() if not owned):
        each = " each" if len(names) > 1 else ""
        parts.append(
            f"{listed(names)} {words.copied} {_items(backed)}{each}" if backed else f"{listed(names)} had no copy"
        )
    return f"Before the fault {'; '.join(parts)}."


def _broken(record: Evidence, found: Verdict, way: Course) -> str:
    if way.struck_at is None or not found.faults:
        return "Nothing was broken: this history has no fault."
    kind = FAULTS.get(found.scenario)
    meant = (kind.__doc__ or "").strip().partition("\n")[0].partition(";")[0].rstrip(".") if kind else ""
    meant = meant if meant[:2].isupper() else meant[:1].lower() + meant[1:]
    hits = Counter((fault.target, _standing(fault, found.queue)) for fault in found.faults)
    strikes = [
        f"{target}{standing}{f', {times} times' if times > 1 else ''}" for (target, standing), times in hits.items()
    ]
    pids = [str(entry.facts["pid"]) for entry in record.of("fault") if isinstance(entry.facts.get("pid"), int)]
    process = f" (process {pids[0]})" if len(pids) == 1 == len(found.faults) else ""
    missed = [fault.target for fault in found.faults if not fault.seen]
    proof = f"Its effect was not observed on {listed(dict.fromkeys(missed))}." if missed else "Its effect was observed."
    first = "from" if len(found.faults) > 1 else "at"
    what = f"{found.scenario}{f' ({meant})' if meant else ''}"
    return f"{what} struck {first} {moment(way.struck_at)}: {listed(strikes)}{process}. {proof}"


def _standing(fault: Fault, queue: str) -> str:
    words = described(queue).words
    if fault.owner:
        return f", {words.owner_of_queue}"
    if fault.target.startswith(f"{queue}-"):
        return f", which {words.other}"
    return ""


def _next(found: Verdict, way: Course) -> str:
    steps = [mark for mark in way.marks if not mark.hit]
    shown = [f"{mark.what} (+{mark.at:.2f} s)" for mark in steps]
    parts = [f"With the seconds since the fault: {'; '.join(shown)}."] if shown and len(shown) <= MOST_STEPS else []
    if len(shown) > MOST_STEPS:
        parts.append(f"{counted(len(shown), 'step')} were observed; the list below the chart shows them.")
    if found.first_acknowledgement_s is not None:
        parts.append(
            "The first message sent after the fault was confirmed was acknowledged "
            f"{found.first_acknowledgement_s:.2f} s after that."
        )
    if found.first_delivery_s is not None:
        parts.append(f"The first delivery after that moment came {found.first_delivery_s:.2f} s after it.")
    if found.longest_gap_s is not None:
        parts.append(
            "After the fault, the longest time in which a sender waited without an acknowledgement was "
            f"{found.longest_gap_s:.2f} s."
        )
    if found.acknowledgement_p50_s is not None and found.acknowledgement_p99_s is not None:
        parts.append(
            f"Half of the acknowledgements came within {found.acknowledgement_p50_s * 1000:,.1f} ms, "
            f"99 % within {found.acknowledgement_p99_s * 1000:,.1f} ms."
        )
    if found.availability is not None:
        parts.append(f"In {found.availability:.0%} of the seconds in which a sender waited, an acknowledgement came.")
    if found.copies_after:
        now = [
            f"{name} {described(found.queue).words.owned} {_items(owned)}"
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
    wrote = f"; written by {listed(writers)}" if writers else ""
    return f"{listed(shares)} of the {counted(found.attempted, 'message')}.{f'{log}{wrote}.' if log else ''}"


def _why(record: Evidence, found: Verdict, way: Course) -> Iterator[str]:
    if found.verdict is Ruling.PASS:
        yield from _safe(record, found, way)
        return
    yield " ".join(f"{reason[:1].upper()}{reason[1:]}." for reason in found.reasons)
    for layer, count in Counter(found.layers.values()).most_common():
        yield f"Of the missing messages {count:,} {'was' if count == 1 else 'were'} last seen in {LAST_SEEN[layer]}."
    for name, ids in found.found().items():
        if ids and name not in REPORTED_ELSEWHERE:
            yield f"{counted(len(ids), 'message')} {named(name)}: {FOUND[name]}."


def _safe(record: Evidence, found: Verdict, way: Course) -> Iterator[str]:
    servers = [fault for fault in found.faults if fault.target.startswith(f"{found.queue}-")]
    owners = listed(dict.fromkeys(fault.target for fault in servers if fault.owner))
    copies = record.begin.facts["backup_count"]
    of_queue = described(found.queue)
    backups = f"and on {counted(copies, 'backup')}" if copies else "which has no backup"
    yield of_queue.words.promise.format(backups=backups)
    if of_queue.partitioned:
        if owners:
            yield f"So when {owners} was gone, a follower that had the same messages became the leader."
    else:
        heirs = [name for name, (owned, _) in found.copies_after.items() if owned]
        if owners and heirs:
            yield f"So when {owners} was gone, the backup on {listed(heirs)} became the queue, with everything in it."
        elif owners:
            yield f"So whenever the owner ({owners}) was gone, a backup became the queue, with everything in it."
        elif servers:
            yield "The server that was hit held only backups, so the queue itself was not in danger."
    if found.recovered:
        yield f"{counted(len(found.recovered), 'indeterminate message')} arrived too, once each."
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
    """Return names as a list in words: a, b and c."""
    known: Sequence[str] = list(names)
    return f"{', '.join(known[:-1])} and {known[-1]}" if len(known) > 1 else "".join(known)


def moment(wall: float) -> str:
    """Return a wall time with its time zone, for people."""
    try:
        return time.strftime("%H:%M:%S on %Y-%m-%d (UTC%z)", time.localtime(wall))
    except (OverflowError, OSError, ValueError):
        return "an unknown time"


# -- the command that repeats the run ----------------------------------------------------------------------------------


def command(facts: Mapping[str, Any]) -> str:
    """Return the command that repeats a run, quoted for a shell: a history may contain anything."""
    first, *others = str(facts["scenario"]).split(SIGN)
    also = [word for name in others for word in ("--also", name)]
    return shlex.join(["microq", "chaos", first, *also, *_words(facts, FAULTS.get(first))])


def _words(facts: Mapping[str, Any], kind: Any) -> Iterator[str]:
    yield from ("--queue", facts["queue"])
    if kind:
        if issubclass(kind, ServerFault) and facts.get("form") in {"live", "quiet"}:
            yield f"--{facts['form']}"
        chosen = _fields(str(facts.get("fault", "")))
        for field in dataclasses.fields(kind):
            value = chosen.get(field.name, field.default)
            if value != field.default:
                yield from (f"--{field.name}", str(value))
    for option in ("messages", "connections", "seed"):
        if facts.get(option) is not None:
            yield from (f"--{option}", str(facts[option]))
    yield from _extras(facts, dict(kind.bounds) if kind else {})
    if facts["backup_count"] != Queue().backup_count:
        yield from ("--set", f"queue.backup-count={facts['backup_count']}")


def _extras(facts: Mapping[str, Any], usual: Mapping[str, float]) -> Iterator[str]:
    bounds = facts.get("bounds")
    for bound, value in bounds.items() if isinstance(bounds, dict) else ():
        if bound in BOUNDS and value != usual.get(bound):
            yield from (f"--{BOUNDS[bound]}", str(value))
    if facts.get("held"):
        yield from ("--held", str(facts["held"]))
    if facts.get("reread") is False:
        yield "--no-reread"


def _fields(fault: str) -> dict[str, Any]:
    """Return the options in the text of a fault, such as `BounceOwner(times=3)`; empty if it is not one."""
    try:
        call = _first(ast.parse(fault, mode="eval").body)
        keywords = call.keywords if isinstance(call, ast.Call) else []
        return {word.arg: ast.literal_eval(word.value) for word in keywords if word.arg}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}


def _first(call: ast.expr) -> ast.expr:
    """Return the first of combined faults, such as `CombinedFault(parts=(KillMember(), Poison()))`."""
    parts = [word.value for word in call.keywords if word.arg == "parts"] if isinstance(call, ast.Call) else []
    together = parts[0] if parts else None
    return together.elts[0] if isinstance(together, ast.Tuple) and together.elts else call
