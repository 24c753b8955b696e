"""Services of another make, for the tests: what a stranger's project brings."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from support.project import Project, free_ports, make_project

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
    folder: Path, *roles: str, messages: int = 2, members: int = 1, of_members: str = "", extra: str = ""
) -> Project:
    """Make a project with programs of another make in some roles.

    It has one logging-service and so many messages-services and members; `of_members` are lines of their table.
    """
    shutil.copy(HERE / "service.py", folder)
    set_mode(folder)
    tables = "".join(map(program, roles))
    project = make_project(folder, messages=messages, others=1, extra=f"{of_members}{tables}{extra}")
    more = "".join(f', "127.0.0.1:{port}"' for port in free_ports(members - 1))
    file = folder / "config.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text(re.sub(r"(hazelcast-clients = \[[^]]*)\]", rf"\1{more}]", text), encoding="utf-8")
    return project


def set_mode(folder: Path, *words: str) -> None:
    """Write the words that the programs read when they start."""
    (folder / "mode").write_text(" ".join(words), encoding="utf-8")
