"""The architecture: imports point down only, modules are short, and no name is a drawer for everything."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "microq"

RANKS = {
    # words: no network, no processes
    "errors": 0,
    "message": 0,
    "letters": 0,
    "values": 0,
    "tables": 0,
    "sources": 0,
    "exposure": 0,
    "config": 0,
    "figures": 0,
    "layout": 0,
    "fleet": 0,
    "log": 0,
    "plotlyjs": 0,
    "latency": 0,
    "loops": 0,
    "timeline": 0,
    "tracing": 0,
    "cues": 0,
    "prometheus": 0,
    "tasks": 0,
    # ports to the outside
    "hz": 1,
    "hz_scan": 1,
    "queues": 1,
    "maps": 1,
    "store": 1,
    "members": 1,
    "kfk": 1,
    "brokers": 1,
    "client": 1,
    "batch": 1,
    "sending": 1,
    "trails": 1,
    "usage": 1,
    # the services, and the system that runs them
    "services": 2,
    "engines": 2,
    "system": 2,
    "chaos": 3,
    "bench": 3,
    "views": 4,
    "dashboard": 4,
    "host": 5,
    "report": 4,
    "cli": 5,
    "__main__": 5,
}
"""Part of the package -> its rank; a part imports its own rank and those below."""

STRANGERS = {
    "services": {"engines", "system"},
    "engines": {"services", "system"},
    "system": {"services"},
    "chaos": {"services", "engines", "system"},
    "bench": {"services", "engines", "system"},
    "views": {"services", "engines", "system"},
    "dashboard": {"services", "engines", "system"},
    "host": {"cli"},
    "report": {"services", "engines", "system"},
}
"""Parts that must not import each other although their ranks would allow it."""

ALLOWED = {
    ("microq.system.topology", "microq.services"),
    ("microq.system.topology", "microq.services.defects"),
    ("microq.system.topology", "microq.services.forkserver"),
}
"""Where a service listens is its own word, and the supervisor asks for it."""

LONGEST = 260
DRAWERS = {"util", "utils", "common", "helpers", "misc", "manager"}


def sources() -> dict[str, str]:
    """Every module of the package, by its name, and its source."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = file.read_text(encoding="utf-8")
    return found


def imports(source: str, known: Mapping[str, str]) -> Iterator[str]:
    """Yield what a module imports of microq, also inside of functions and by text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "microq")
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield "a relative import"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "microq":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else str(node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in known:
            yield node.value


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def faults(known: Mapping[str, str]) -> list[str]:
    """What is wrong with the imports of some modules: name -> source."""
    found = []
    for module, source in known.items():
        for target in imports(source, known):
            mine, theirs = part(module), part(target)
            if not theirs and target in ("microq", "a relative import"):
                found += [f"{module}: {target}"] if target != "microq" else []
            elif (module, target) in ALLOWED:
                continue
            elif not mine or RANKS[theirs] > RANKS[mine] or theirs in STRANGERS.get(mine, set()):
                found.append(f"{module} imports {target}")
    return found


def test_every_part_of_the_package_has_a_rank() -> None:
    parts = {part(module) for module in sources()} - {""}
    assert parts == set(RANKS), "a new part of the package needs its rank, a gone one none"


def test_imports_point_down_only() -> None:
    assert faults(sources()) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("microq.message", "from microq.cli import output"),
        ("microq.message", "from microq import cli"),
        ("microq.config", "import microq.hz"),
        ("microq.services.facade", "def late():\n    from microq.system import records"),
        ("microq.system.supervisor", "from microq.services.app import HEALTH"),
        ("microq.system.topology", "from microq.services.app import HEALTH"),
        ("microq.system.records", "from microq import services"),
        ("microq.chaos.faults", "from microq.system.supervisor import Supervisor"),
        ("microq.views.terminal", "if True:\n    from microq.system import control"),
        ("microq.store", "MODULE = 'microq.services'"),
        ("microq.store", "from . import hz"),
        ("microq", "from microq.errors import MicroqError"),
    ],
)
def test_an_import_that_points_up_or_across_is_found(module: str, source: str) -> None:
    known = dict.fromkeys(sources(), "") | {module: source}
    assert len(faults(known)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("microq.system.topology", "from microq import services"),
        ("microq.cli.output", "from microq import __version__"),
        ("microq.cli.chaos", "from microq.chaos.judge import judge\nfrom microq.system import control"),
        ("microq.views.logs", "from microq.views.cells import COLOURS\nimport json"),
        ("microq.engines.hazelcast", "from microq.store import MAPS"),
    ],
)
def test_an_import_that_points_down_is_none_of_them(module: str, source: str) -> None:
    known = dict.fromkeys(sources(), "") | {module: source}
    assert faults(known) == []


def test_no_module_is_long() -> None:
    lengths = {module: len(source.splitlines()) for module, source in sources().items()}
    assert {module: length for module, length in lengths.items() if length > LONGEST} == {}


def test_no_module_is_a_drawer_for_everything() -> None:
    words = {word for module in sources() for word in module.split(".")}
    assert not words & DRAWERS


def test_every_module_opens_with_its_role() -> None:
    silent = [module for module, source in sources().items() if not ast.get_docstring(ast.parse(source))]
    assert not silent


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["up", "--help"],
        ["chaos", "kill-member", "--help"],
        ["chaos", "all", "--help"],
        ["compare", "--help"],
    ],
)
def test_help_loads_no_client_library(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "microq", *words], capture_output=True, text=True, check=True
    )
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in loaded
    assert not loaded & {"hazelcast", "aiohttp", "jgo", "requests"}
