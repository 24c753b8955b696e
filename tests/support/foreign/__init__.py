"""Services of another make, for the tests: what a stranger's project brings."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection
from pathlib import Path

from support.project import Project, make_project

HERE = Path(__file__).parent

COMMANDS = {
    "facade": "facade --port {port} --servers {servers} --cluster {cluster} --queue {queue} --logging {logging} "
    "--messages {messages}",
    "logging": "logging --port {port}",
    "messages": "messages --port {port} --servers {servers} --cluster {cluster} --queue {queue}",
    "config": "fixed --port {port}",
}
"""Role -> the words of its command after the file."""


def program(role: str, command: str = "", more: str = "") -> str:
    """Return the table of a service that runs in place of microq's own."""
    command = command or f"{sys.executable} service.py {COMMANDS[role]}"
    return f"[services.\"{role}-service\"]\ncommand = '{command}'\n{more}"


def foreign_project(
    folder: Path,
    *roles: str,
    messages: int = 2,
    others: int = 1,
    members: str = "",
    extra: str = "",
    mode: Collection[str] = (),
) -> Project:
    """Make a project with programs of another make in some roles; `members` are lines of the table of the members."""
    shutil.copy(HERE / "service.py", folder)
    set_mode(folder, *mode)
    tables = "".join(map(program, roles))
    return make_project(folder, messages=messages, others=others, extra=f"{members}{tables}{extra}")


def set_mode(folder: Path, *words: str) -> None:
    """Write the words that the programs read when they start."""
    (folder / "mode").write_text(" ".join(words), encoding="utf-8")
