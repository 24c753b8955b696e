"""`microq bench`: what the system reaches, beside the ceiling of the same machine in the same run."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from microq.cli.output import INTERRUPTED, ConfigOption, JsonOption, SetOption, configuration, emit
from microq.config import Config


class Part(StrEnum):
    """What can be measured by itself."""

    START = "start"
    IDLE = "idle"
    RATES = "rates"
    LAG = "lag"
    BATCH = "batch"
    HELD = "held"
    COST = "cost"


JSON_FILE, MARKDOWN_FILE = "bench.json", "bench.md"

FORMAT = 1
"""The version of the JSON's shape."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured: each rate for `seconds`, idle and bare clients for theirs, `starts` of each kind."""

    parts: tuple[Part, ...] = tuple(Part)
    connections: tuple[int, ...] = (1, 8, 32, 128)
    seconds: float = 5.0
    rounds: int = 3
    warm: float = 2.0
    bare: float = 2.0
    idle: float = 10.0
    starts: int = 2
    lines: int = 100_000
    held: tuple[int, ...] = (1_000, 100_000, 1_000_000)

    @property
    def cost_connections(self) -> int:
        """Over how many connections it is measured what crash safety costs."""
        return min(self.connections, key=lambda count: abs(count - 32))


QUICK = Options(seconds=2.0, rounds=1, warm=1.0, bare=1.0, idle=4.0, starts=1, lines=20_000, held=(1_000, 20_000))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench")(bench)


def bench(
    only: Annotated[
        list[Part] | None, typer.Option("--only", help="One part; may be repeated.", show_default="all")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One short round of each, two minutes.")] = False,
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="Show where a process spends its time: its name, or its role.", metavar="NAME"),
    ] = None,
    connections: Annotated[
        list[int] | None,
        typer.Option("--connections", min=1, max=1000, help="May be repeated.", show_default="1, 8, 32, 128"),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", min=0.2, max=600, help="How long each rate is measured.", show_default="5"),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, max=100, help="How often rates are.", show_default="3")
    ] = None,
    lines: Annotated[
        int | None, typer.Option("--lines", min=1, help="Messages of the batch.", show_default="100000")
    ] = None,
    held: Annotated[
        list[int] | None,
        typer.Option("--held", min=1, help="Messages held; may be repeated.", show_default="1000, 100000, 1000000"),
    ] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the system beside what this machine can do at most.

    Start-up and rest, rates and latencies over 1 to 128 connections beside those of a handler that does nothing, the
    batch API beside the bare client, how far storing is behind accepting, what changes with a million messages held,
    and what crash safety costs. Each on a system of its own, with consumers. The tables, the JSON and a Markdown table
    are in the run's folder.

    Exit code 1 if something could not be measured; what is left out for want of memory or time is told.

    \b
    microq bench                           a quarter of an hour
    microq bench --quick                   two minutes
    microq bench --only rates --only lag   some parts
    microq bench --profile facade          where the facade's time goes
    """
    from microq.bench.result import Result  # noqa: PLC0415 - --help needs none of it
    from microq.cli.machine import prepare  # noqa: PLC0415
    from microq.cli.parts import Bench  # noqa: PLC0415
    from microq.cli.trials import alone, interruptible  # noqa: PLC0415
    from microq.system.runs import new_run, only_scenario  # noqa: PLC0415
    from microq.views.bench import benchmark  # noqa: PLC0415

    options = _options(
        QUICK if quick else Options(),
        parts=only,
        connections=connections,
        seconds=seconds,
        rounds=rounds,
        lines=lines,
        held=held,
    )
    loaded = configuration(config, sets)
    alone(config, sets)
    with only_scenario(loaded):
        if profile is not None:
            from microq.cli.profiling import show_profile  # noqa: PLC0415

            show_profile(loaded, profile, options, as_json=as_json)
            return
        engine = prepare(loaded)
        facts = _facts(loaded, engine, options)
        folder = new_run(loaded, "bench")
        parts = Bench(config, sets or [], engine, folder, options)
        with interruptible() as interrupted:
            for _ in parts.take():
                _write(folder, parts.result, facts, complete=False)
        whole = _write(folder, parts.result, facts, complete=not interrupted)
    result: Result = parts.result
    emit({**whole, "folder": str(folder)}, lambda: benchmark(result, str(folder)), as_json=as_json)
    raise typer.Exit(INTERRUPTED if interrupted else result.code)


def _options(basis: Options, **given: Any) -> Options:
    known: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items() if v}
    return dataclasses.replace(basis, **known)


def _facts(config: Config, engine: Any, options: Options) -> dict[str, Any]:
    """Return what is measured with, on which machine, when, and how to repeat it."""
    from microq.cli.rounds import machine, versions  # noqa: PLC0415 - --help needs none of it

    return {
        "format": FORMAT,
        "machine": machine(),
        "versions": versions(engine),
        "options": dataclasses.asdict(options),
        "repeat": shlex.join(["microq", *sys.argv[1:]]),
        "configuration": config.to_toml(),
    }


def _write(folder: Path, result: Any, facts: dict[str, Any], *, complete: bool) -> dict[str, Any]:
    from microq.bench.targets import TARGETS, judge  # noqa: PLC0415 - --help needs none of it
    from microq.views.bench import markdown  # noqa: PLC0415

    judged = [dataclasses.asdict(each) for each in judge(result, TARGETS)]
    whole = {**facts, "complete": complete, "targets": judged, **result.to_json()}
    (folder / JSON_FILE).write_text(json.dumps(whole, ensure_ascii=False, indent=2), encoding="utf-8")
    (folder / MARKDOWN_FILE).write_text(markdown(result, facts), encoding="utf-8")
    return whole
