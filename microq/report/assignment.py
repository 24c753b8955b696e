"""The report of the assignment: every step with its evidence and its result, and a place for a name."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from microq import __version__
from microq.backends import described
from microq.chaos.assignment import Assignment, Excerpt, Number, Step
from microq.chaos.checker import judge
from microq.chaos.history import Entry
from microq.chaos.verdict import Ruling
from microq.report import charts
from microq.report.course import Course, course
from microq.report.html import Figure, Html, chart, document, join, scrolled, table, tag
from microq.report.run import SIGNS, moment

LONG = 15
"""Number of rows above which an excerpt is scrolled."""

RESULTS = {Ruling.PASS: "holds", Ruling.FAIL: "does not hold", Ruling.UNKNOWN: "unknown"}
"""Ruling of a step -> its words."""


def render(found: Assignment, entries: Sequence[Entry] = (), *, config_toml: str = "") -> str:
    """Return the report as an HTML page; `entries` are the history of the fault-tolerance check, if there is one."""
    figures: dict[str, Figure] = {}
    way: Course | None = None
    if entries:
        way = course(entries)
        figures["timeline"] = charts.timeline(way, judge(entries).lost)
    body = join(
        (
            _top(found),
            *(part for step in found.steps for part in _step(step, way)),
            *_setting(found, config_toml),
        )
    )
    return document(f"{found.verdict.upper()}: {_title(found)}", body, figures)


def _title(found: Assignment) -> str:
    by = f" by {found.student}" if found.student else ""
    return f"Microservices with a message queue in {described(found.queue).words.product}{by}"


def _top(found: Assignment) -> Html:
    whole = len(found.steps)
    result = f"{found.held} of {whole} steps hold" if found.held < whole else f"all {whole} steps hold"
    rows = [
        (tag("a", f"{step.number:d} {step.number.title}", href=f"#step-{step.number:d}"), _sign(step), step.came)
        for step in found.steps
    ]
    return tag(
        "header",
        tag("h1", _title(Assignment("", found.queue, found.began, ()))),
        tag(
            "p",
            tag("label", "Name: ", for_="name"),
            # It can be filled in before the page is printed or saved.
            tag("span", found.student, class_="name", id="name", contenteditable="", role="textbox", aria_label="Name"),
        ),
        tag("p", f"microq {__version__}, run of {moment(found.began)}", class_="soft"),
        tag("div", tag("p", tag("b", f"{SIGNS[found.verdict]} {found.verdict.upper()}"), result), class_=_class(found)),
        table(("step", "result", "what came"), rows, "The steps"),
    )


def _class(found: Assignment) -> str:
    return f"verdict {found.verdict}"


def _sign(step: Step) -> Html:
    return tag("span", tag("b", f"{SIGNS[step.ruling]} {RESULTS[step.ruling]}"), class_=f"sign {step.ruling}")


def _step(step: Step, way: Course | None) -> Iterator[Html]:
    yield tag("h2", f"{step.number:d} {step.number.title}", id=f"step-{step.number:d}")
    rows: list[tuple[str, object]] = [
        ("task", step.number.task),
        *([("expected", step.expected)] if step.expected else []),
        ("came", step.came),
        ("result", _sign(step)),
        *([("took", f"{step.seconds:.1f} s")] if step.seconds else []),
    ]
    yield tag("dl", *(join((tag("dt", name), tag("dd", value))) for name, value in rows), class_="facts")
    if step.notes:
        yield tag("div", tag("ul", *(tag("li", note) for note in step.notes)), class_="cues")
    if way and step.number is Number.DRAIN:
        yield tag("h3", "Every message over time")
        yield tag(
            "p",
            "Each line is a message: thick from its sending to its acknowledgement, thin until a consumer has stored "
            "it. The red band is the time of the fault.",
        )
        yield chart("timeline", f"Timeline of {len(way.ways):,} messages", 480, time=True)
    yield from map(_excerpt, step.evidence)


def _excerpt(part: Excerpt) -> Html:
    more = f"… {part.left_out:,} more lines" if part.left_out else ""
    if part.head:
        inner = table(part.head, part.rows, part.title)
    elif part.rows:
        lines = "\n".join([*(" ".join(row) for row in part.rows), *([more] if more else [])])
        inner = join((tag("h3", part.title), tag("pre", lines, class_="lines")))
    else:
        inner = join((tag("h3", part.title), tag("p", "No such line.", class_="soft")))
    return scrolled(inner, part.title) if len(part.rows) > LONG else inner


def _setting(found: Assignment, config_toml: str) -> Iterator[Html]:
    again = shlex.join(
        ["microq", "assignment", "--queue", found.queue, *(["--student", found.student] if found.student else [])]
    )
    yield tag("h2", "How to repeat it", id="setting")
    rows: list[tuple[str, object]] = [("do the assignment again", tag("code", again))]
    if found.history:
        folder = shlex.quote(str(Path(found.history).parent))
        rows.append(("more about the fault-tolerance check", tag("code", f"microq report {folder}")))
    yield tag("dl", *(join((tag("dt", name), tag("dd", value))) for name, value in rows), class_="facts")
    if config_toml:
        yield tag("h3", "Configuration")
        yield scrolled(tag("pre", config_toml), "The configuration of the run")
