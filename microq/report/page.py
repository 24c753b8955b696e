"""The report of a run: one page, made of its history alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from microq.chaos.evidence import Evidence
from microq.chaos.history import Entry
from microq.chaos.judge import judge
from microq.chaos.verdict import Ruling, Verdict
from microq.fleet import Role
from microq.report import charts, journeys
from microq.report.course import Course, course
from microq.report.document import chart, document
from microq.report.markup import Html, join, right, scrolled, table, tag
from microq.report.repeat import command
from microq.report.story import LAST_SEEN, counted, moment, tale

SIGNS = {Ruling.PASS: "✔", Ruling.FAIL: "✘", Ruling.UNKNOWN: "?"}

COUNTS = {
    "attempted": "sent by the client",
    "acknowledged": "answered with success",
    "rejected": "answered with a refusal: must be nowhere",
    "indeterminate": "the answer never came, or said that nobody knows",
    "stored": "shown by a messages-service",
    "logged": "shown by every logging-service",
    "lost": "acknowledged, and shown by no messages-service",
    "unlogged": "acknowledged, and missing from the log",
    "unexpected": "shown, but never sent, or refused",
    "duplicated": "shown twice",
    "recovered": "indeterminate, and arrived",
    "redelivered": "put into the queue again, from the log",
    "dead": "given up: dead letters",
}
"""Count of a verdict -> what it means."""


def render(entries: Sequence[Entry], history_name: str, *, config_toml: str = "") -> str:
    """Return the report as a page of HTML. `config_toml` is the configuration that the run had, if it is known.

    Raises `UsageError` if the entries are no whole history.
    """
    found, record, way = judge(entries), Evidence(entries), course(entries)
    figures = {"timeline": journeys.timeline(way, found.lost)}
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
            *_setting(record, history_name, config_toml),
        )
    )
    return document(f"{found.verdict.upper()}: {found.scenario}, {found.queue}", body, figures)


MOST_ROWS = 15
"""Rows of what happened above which they are scrolled."""

SECTIONS = {
    "verdict": "Verdict",
    "counts": "Counts",
    "course": "Every message over time",
    "pace": "Latency and throughput",
    "who": "Who got what",
    "missing": "Missing messages",
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
    told = tale(record, found, way)
    yield _heading("verdict")
    ruling = tag("b", f"{SIGNS[found.verdict]} {found.verdict.upper()}")
    yield tag("div", tag("p", ruling, told.headline), class_=f"verdict {found.verdict}")
    if found.cues:
        listed = tag("ul", *(tag("li", cue) for cue in found.cues))
        yield tag("div", tag("p", "What this run does not prove, and what else must be known:"), listed, class_="cues")
    yield tag("dl", *(join((tag("dt", ask), tag("dd", answer))) for ask, answer in told.answers), class_="story")


def _counts(found: Verdict) -> Iterator[Html]:
    values: dict[str, Any] = {name: getattr(found, name) for name in COUNTS}
    rows = [(name, value if isinstance(value, int) else len(value), COUNTS[name]) for name, value in values.items()]
    yield _heading("counts")
    yield table(("messages", "", "meaning"), rows)
    if found.copies_before or found.copies_after:
        yield _copies(found, kafka=found.queue == Role.KAFKA)
    sides = (("messages-service", found.by_consumer), ("logging-service", found.by_logger))
    tables = (table((what, "messages"), list(counts.items()), f"By {what}") for what, counts in sides if counts)
    yield tag("div", *tables, class_="side")


def _copies(found: Verdict, *, kafka: bool) -> Html:
    before, after = found.copies_before, found.copies_after
    owned, backed = ("leads", "copies") if kafka else ("owns", "backs up")
    rows = [
        (name, *before.get(name, ("–", "–")), *after.get(name, ("gone", "") if after else ("–", "–")))
        for name in dict.fromkeys([*before, *after])
    ]
    head = ("server", f"{owned}, before", f"{backed}, before", f"{owned}, after", f"{backed}, after")
    return table(head, rows, "Copies of the queue before and after the fault")


def _timeline(way: Course, found: Verdict) -> Iterator[Html]:
    shown, every = journeys.drawn(way.ways)
    yield _heading("course")
    yield tag(
        "p",
        "Each line is a message: thick from its sending to its acknowledgement, thin until a consumer has stored it. "
        "The numbers above are what happened, as in the list below; the red band is the time of the fault, "
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
        yield tag("p", "Nobody showed a message.")
        return
    yield chart("shares", "Messages by messages-service and by logging-service", 110 + 42 * bars)


def _missing(found: Verdict) -> Iterator[Html]:
    yield _heading("missing")
    if not found.layers:
        yield tag("p", "None: every acknowledged message is with a messages-service and in the log.")
        return
    lost, unlogged = set(found.lost), set(found.unlogged)
    rows = [
        (
            tag("code", message),
            " and ".join(name for name, ids in (("lost", lost), ("unlogged", unlogged)) if message in ids),
            layer.value,
        )
        for message, layer in found.layers.items()
    ]
    for layer in dict.fromkeys(found.layers.values()):
        yield tag("p", tag("b", layer.value), f": last seen in {LAST_SEEN[layer]}.")
    inner = table(("message", "what is missing", "last seen in"), rows)
    yield scrolled(inner, "All missing messages")


def _setting(record: Evidence, history_name: str, config_toml: str) -> Iterator[Html]:
    facts = record.begin.facts
    rows: list[tuple[str, object]] = [
        *((name, _told(facts[name])) for name in ("fault", "defects") if facts.get(name)),
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


def _told(fact: object) -> str:
    return ", ".join(f"{name}: {value}" for name, value in fact.items()) if isinstance(fact, dict) else str(fact)
