"""The whole API of a real system, called as its own description says, and as it says not to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import forget_unsent
from support.project import Project

from microq.config import Address
from microq.fleet import Role, addresses

EXAMPLES = 5
"""Requests of a call that are made up by chance, beside all that follow from its schemas."""

SECONDS = 240

# All checks are on unless told; asked for by name, they would not be turned off where they do not fit.
CONFIG = """
hooks = "support.schemathesis_hooks"

[checks.not_a_server_error]
# What a service says while servers or other services are too busy to answer it.
expected-statuses = ["2xx", "3xx", "4xx", "503", "504"]

[checks.positive_data_acceptance]
# An id that is in use for another text is well-formed.
expected-statuses = ["2xx", "409", "422", "503", "504"]

[[operations]]
include-path-regex = "^/dead/"
# So is the id of no dead letter.
checks.positive_data_acceptance.expected-statuses = ["2xx", "400"]

[[operations]]
include-path-regex = "^/facade/batch"
# What is wrong with a line is said in its own line of the answer, which is 200.
checks.negative_data_rejection.enabled = false
# GET of it asks for a message that is called batch.
checks.allow_header_conformance.enabled = false
"""


def judged(address: Address, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run schemathesis with all of its checks against a service, from the description that it gives itself."""
    file = folder / "schemathesis.toml"
    file.write_text(CONFIG, encoding="utf-8")
    words = ["--config-file", str(file), "run", f"{address.url}/openapi.json"]
    bounds = [
        "--generation-deterministic",
        "--max-examples",
        str(EXAMPLES),
        "--continue-on-failure",
        "--warnings",
        "off",
    ]
    return subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", *words, *bounds, "--output-truncate", "false"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.fixture(scope="module")
def tidied(system: Project) -> Iterator[Project]:
    """The shared system, of which only what every part of it knows is left."""
    yield system
    forget_unsent(system)


@pytest.mark.parametrize("role", [Role.FACADE, Role.LOGGING, Role.MESSAGES, Role.CONFIG])
def test_every_service_does_what_it_says_of_itself(role: Role, tidied: Project, tmp_path: Path) -> None:
    done = judged(addresses(tidied.config, role)[0], tmp_path)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
    assert "No issues found" in done.stdout, done.stdout
