"""The architecture: imports point down only, and no name is a drawer for everything."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import pytest

from microq.backends import BACKENDS

PACKAGE = Path(__file__).parents[2] / "microq"

RANKS = {
    # words: no network, no processes
    "errors": 0,
    "message": 0,
    "settings": 0,
    "clock": 0,
    "config": 0,
    "figures": 0,
    "interpreter": 0,
    "fleet": 0,
    "hints": 0,
    "log": 0,
    "timeline": 0,
    "tracing": 0,
    "caveats": 0,
    "metrics": 0,
    "aio": 0,
    "allowance": 0,
    "capacity": 0,
    "wire": 0,
    # ports to the outside
    "child": 1,
    "backends": 1,
    "store": 1,
    "client": 1,
    "replicas": 1,
    "exchange": 1,
    "trace": 1,
    "usage": 1,
    "web": 1,
    # the services, and the system that runs them
    "services": 2,
    "supervisor": 2,
    "chaos": 3,
    "bench": 3,
    "terminal": 4,
    "dashboard": 4,
    "workflows": 4,
    "report": 4,
    "cli": 5,
    "__main__": 5,
}
"""Part of the package -> its rank; a part imports its own rank and those below."""

WORDS_OF_BACKENDS = {"microq.backends", "microq.backends.base", "microq.backends.jars", "microq.backends.java"}
"""What a backend is, and their names: of rank 0, because the configuration and the snapshot are made of them."""

STRANGERS = {
    "services": {"supervisor"},
    "supervisor": {"services"},
    "chaos": {"services", "supervisor"},
    "bench": {"services", "supervisor"},
    "terminal": {"services", "supervisor"},
    "dashboard": {"services", "supervisor"},
    "report": {"services", "supervisor"},
}
"""Parts that must not import each other although their ranks would allow it."""

ALLOWED = {
    ("microq.backends", "microq.backends.hazelcast"),
    ("microq.backends", "microq.backends.kafka"),
    ("microq.supervisor.topology", "microq.services"),
    ("microq.supervisor.topology", "microq.services.faulty"),
    ("microq.supervisor.topology", "microq.services.forkserver"),
}
"""The registry names the backends; where a service listens is its own word, and the supervisor asks for it."""

DRAWERS = {"util", "utils", "common", "helpers", "misc", "manager"}


@cache
def sources() -> Mapping[str, str]:
    """Every module of the package, by its name, and its source."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = file.read_text(encoding="utf-8")
    return MappingProxyType(found)


@cache
def nodes(source: str) -> tuple[ast.AST, ...]:
    """Every node of a module."""
    return tuple(ast.walk(ast.parse(source)))


def imports(found: Iterable[ast.AST], known: Mapping[str, str]) -> Iterator[str]:
    """Yield what nodes of a module import of microq, also inside of functions and by text."""
    for node in found:
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


def rank(module: str) -> int:
    return 0 if module in WORDS_OF_BACKENDS else RANKS[part(module)]


def faults(known: Mapping[str, str]) -> list[str]:
    """What is wrong with the imports of some modules: name -> source."""
    found = []
    for module, source in known.items():
        for target in imports(nodes(source), known):
            mine, theirs = part(module), part(target)
            if not theirs and target in ("microq", "a relative import"):
                found += [f"{module}: {target}"] if target != "microq" else []
            elif (module, target) in ALLOWED:
                continue
            elif not mine or rank(target) > rank(module) or theirs in STRANGERS.get(mine, set()):
                found.append(f"{module} imports {target}")
    return found


def cycles(known: Mapping[str, str]) -> set[frozenset[str]]:
    """The groups of modules that import each other, also inside of functions."""
    statements = {
        module: {
            target
            for node in nodes(source)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for target in imports([node], known)
            if target in known and target != module
        }
        for module, source in known.items()
    }
    reached = {module: {*targets} for module, targets in statements.items()}
    for middle, further in reached.items():
        for targets in reached.values():
            if middle in targets:
                targets.update(further)
    return {
        frozenset(other for other in targets if module in reached[other])
        for module, targets in reached.items()
        if module in targets
    }


CIRCLE = frozenset({"microq.backends", "microq.backends.base", "microq.capacity", "microq.config"})
"""A configuration names a backend, whose traits say what a configuration may ask for."""


def test_no_modules_import_each_other() -> None:
    assert cycles(sources()) <= {CIRCLE}


def test_modules_that_import_each_other_are_found() -> None:
    late = {
        "microq.a": "import microq.b",
        "microq.b": "def f():\n    from microq import c",
        "microq.c": "import microq.a",
    }
    assert cycles(late) == {frozenset(late)}
    assert cycles({**late, "microq.c": ""}) == set()


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
        ("microq.config", "import microq.backends.hazelcast.client"),
        ("microq.services.facade", "def late():\n    from microq.supervisor import records"),
        ("microq.supervisor.supervisor", "from microq.services.app import HEALTH"),
        ("microq.supervisor.topology", "from microq.services.app import HEALTH"),
        ("microq.supervisor.records", "from microq import services"),
        ("microq.chaos.faults", "from microq.supervisor.supervisor import Supervisor"),
        ("microq.terminal.status", "if True:\n    from microq.supervisor import control"),
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
        ("microq.supervisor.topology", "from microq import services"),
        ("microq.cli.output", "from microq import __version__"),
        ("microq.cli.chaos", "from microq.chaos.checker import judge\nfrom microq.supervisor import control"),
        ("microq.terminal.logs", "from microq.terminal.style import COLOURS\nimport json"),
        ("microq.backends.hazelcast.server", "from microq.store import names"),
    ],
)
def test_an_import_that_points_down_is_none_of_them(module: str, source: str) -> None:
    known = dict.fromkeys(sources(), "") | {module: source}
    assert faults(known) == []


def of_backends(source: str) -> Iterator[str]:
    """Yield where a module compares with the name of a backend, also as a process's name begins, or matches it."""
    for node in nodes(source):
        compared: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            compared = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            compared = [node.value]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "startswith":
            compared = list(node.args)
        for inner in (each for expression in compared for each in ast.walk(expression)):
            text = inner.value if isinstance(inner, ast.Constant) and isinstance(inner.value, str) else ""
            if text.partition("-")[0] in BACKENDS:
                yield text


def test_no_module_outside_asks_which_backend_it_is() -> None:
    outside = {name: source for name, source in sources().items() if part(name) != "backends"}
    asking = {name: list(of_backends(source)) for name, source in outside.items()}
    assert not {name: where for name, where in asking.items() if where}


@pytest.mark.parametrize(
    "source",
    [
        'config.queue.backend == "kafka"',
        'kind = 1 if "hazelcast" != name else 2',
        'name in {"kafka", "hazelcast"}',
        'name.startswith("kafka-")',
        'match name:\n    case "kafka":\n        pass',
    ],
)
def test_a_question_which_backend_it_is_is_found(source: str) -> None:
    assert list(of_backends(source))


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
