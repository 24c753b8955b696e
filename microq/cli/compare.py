"""`microq compare`: both queues through the same scenarios in one run, side by side."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from microq.cli.output import (
    INTERRUPTED,
    Backend,
    ConfigOption,
    JsonOption,
    SetOption,
    configuration,
    emit,
    note,
    with_queue,
)
from microq.cli.report import REPORT, JunitOption, write_junit
from microq.cli.trials import alone, interruptible
from microq.config import Config
from microq.errors import MicroqError, UsageError

BACKENDS: tuple[Backend, ...] = ("hazelcast", "kafka")

CONNECTIONS = (1, 32, 128)

FILE = "compare.json"

BUSY = 0.5
"""From which load for each core on a machine is told to be in use by others."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured: `runs` of each, each rate for `seconds`, and in a live scene so many messages at least."""

    runs: int = 3
    seconds: float = 5.0
    warm: float = 1.5
    messages: int = 5000
    quiet_messages: int = 100
    connections: tuple[int, ...] = CONNECTIONS
    seed: int = 0


QUICK = Options(runs=1, seconds=1.0, warm=0.5, messages=500)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare")(compare)


def compare(
    only: Annotated[Backend | None, typer.Option("--only", help="One of them.", show_default="both")] = None,
    runs: Annotated[int | None, typer.Option("--runs", min=1, max=100, help="Of each.", show_default="3")] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", min=0.5, max=600, help="How long each rate is measured.", show_default="5"),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One short run; its figures say little.")] = False,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Repeat the faults' choices.")] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
    junit: JunitOption = None,
) -> None:
    """Put Hazelcast and Kafka through the same scenarios, side by side.

    Start-up, memory, throughput and latency at 1, 32 and 128 connections; then the server that matters most is killed,
    with the consumers off and under traffic, and paused. The runs of both take turns, each on a fresh system.

    Exit codes: 1 if a verdict failed, else 3 if one is unknown or a run could not be made, else 0.

    \b
    microq compare                     some minutes
    microq compare --quick             a first look
    microq compare --only hazelcast    one of them
    """
    from microq.bench.found import Found, code  # noqa: PLC0415 - --help needs none of it
    from microq.cli.rounds import provided, take  # noqa: PLC0415
    from microq.system.runs import new_run, only_scenario  # noqa: PLC0415
    from microq.views.comparison import comparison  # noqa: PLC0415

    options = _options(QUICK if quick else Options(), runs=runs, seconds=seconds, seed=seed)
    configs = _configurations((only,) if only else BACKENDS, config, sets)
    alone(config, sets)
    some = next(iter(configs.values()))
    found = Found(tuple(configs), options.connections)
    with only_scenario(some):
        facts = _facts(configs, options, provided(configs), quick=quick)
        folder = new_run(some, "compare")
        with interruptible() as interrupted:
            for _ in take(configs, folder, options, found):
                _write(folder, found, facts, complete=False)
        whole = _write(folder, found, facts, complete=not interrupted)
    report = _report(folder, found, facts, complete=not interrupted)
    write_junit(junit, _cases(found))
    emit({**whole, "report": report}, lambda: comparison(found, str(folder / FILE), report), as_json=as_json)
    raise typer.Exit(INTERRUPTED if interrupted else code(found))


def _options(basis: Options, **given: Any) -> Options:
    if given["seed"] is None:
        given["seed"] = secrets.randbelow(1 << 32)
    return dataclasses.replace(basis, **{name: value for name, value in given.items() if value is not None})


def _configurations(backends: tuple[Backend, ...], path: Path | None, sets: list[str] | None) -> dict[str, Config]:
    """Return the configuration of each system; raises `UsageError` if one cannot be put through all scenes."""
    from microq.bench.scenes import SCENES  # noqa: PLC0415 - --help needs none of it

    configs: dict[str, Config] = {}
    for backend in backends:
        config = configuration(path, with_queue(backend, sets))
        if not config.managed:
            raise UsageError(f"[{backend}] managed = false: the servers are not microq's, it cannot break them")
        for scene in SCENES:
            scene.fault.check(config, config.servers)
        configs[backend] = config
    return configs


def _facts(configs: Mapping[str, Config], options: Options, versions: Any, *, quick: bool) -> dict[str, Any]:
    """Return what is measured with, on which machine, and when."""
    from microq.cli.rounds import machine  # noqa: PLC0415 - --help needs none of it

    mine = machine()
    if mine["load_average"][0] > mine["cores"] * BUSY:
        note(f"Others use this machine (load {mine['load_average'][0]} on {mine['cores']} cores); figures say less.")
    return {
        "versions": versions,
        "machine": mine,
        "options": {**dataclasses.asdict(options), "quick": quick, "backends": list(configs)},
        "seed": options.seed,
        "configuration": {backend: config.to_toml() for backend, config in configs.items()},
    }


def _write(folder: Path, found: Any, facts: Mapping[str, Any], *, complete: bool) -> dict[str, Any]:
    from microq.bench.comparison import to_json  # noqa: PLC0415 - --help needs none of it

    whole = to_json(found, facts, complete=complete)
    (folder / FILE).write_text(json.dumps(whole, ensure_ascii=False, indent=2), encoding="utf-8")
    return whole


def _report(folder: Path, found: Any, facts: Mapping[str, Any], *, complete: bool) -> str | None:
    """Write the page of the comparison and return its path; the figures do not depend on it."""
    from microq.report.comparison import render  # noqa: PLC0415 - --help needs none of it

    try:
        (folder / REPORT).write_text(render(found, facts, complete=complete), encoding="utf-8")
    except (MicroqError, OSError) as error:
        note(f"The report could not be written: {error}")
        return None
    return str(folder / REPORT)


def _cases(found: Any) -> list[Any]:
    from microq.bench.scenes import SCENES  # noqa: PLC0415 - --help needs none of it
    from microq.chaos.matrix import ERROR  # noqa: PLC0415
    from microq.report.junit import Case, of_row  # noqa: PLC0415

    forms = {scene.key: "quiet" if scene.quiet else "live" for scene in SCENES}
    made = [of_row(one.row, one.backend, forms[one.scene]) for one in found.struck]
    unmade = [
        Case(one.backend or "compare", f"{one.what} run {one.run}", ERROR, reasons=(one.error,))
        for one in found.failures
    ]
    return made + unmade
