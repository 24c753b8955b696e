"""The command line without a system: help, wrong input, and what cannot be because nothing runs."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import get_args

import pytest
import typer
from commands import complaint
from conftest import Project, environment
from typer.core import TyperGroup

from microq import __version__
from microq.cli import COMMANDS, app, output
from microq.queues import BACKENDS


def commands() -> list[str]:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    found = []
    for name in sorted(group.commands):
        found.append(name)
        command = group.get_command(typer.Context(group), name)
        if isinstance(command, TyperGroup):
            found += [f"{name} {inner}" for inner in sorted(command.commands)]
    return found


def test_version(project: Project) -> None:
    result = project.microq("--version")
    assert (result.returncode, result.stdout) == (0, f"microq {__version__}\n")


@pytest.mark.parametrize("words", ["", *commands()])
def test_help_of_every_command(words: str, project: Project) -> None:
    result = project.microq(*words.split(), "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"Usage: microq {words}".strip() in result.stdout
    assert "--help" in result.stdout


def test_what_the_list_says_of_a_command_is_what_its_help_begins_with() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    for name, (_, line) in COMMANDS.items():
        command = group.get_command(typer.Context(group), name)
        assert command
        assert command.help
        assert " ".join(command.help.split()).startswith(line), name


def test_a_command_imports_none_of_the_others() -> None:
    said = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "microq", "--help"], capture_output=True, text=True, check=True
    )
    assert "microq.cli.output" in said.stderr
    assert not [line for line in said.stderr.splitlines() if "microq.chaos" in line or "microq.bench" in line]


def test_no_command_shows_the_help(project: Project) -> None:
    result = project.microq()
    assert "microq chaos kill-member" in result.stdout + result.stderr


def test_help_imports_no_client(project: Project) -> None:
    words = [sys.executable, "-X", "importtime", "-m", "microq", "--help"]
    result = subprocess.run(words, capture_output=True, text=True, check=True, env=environment(), cwd=project.folder)
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "microq.cli" in imported
    assert not imported & {"aiohttp", "hazelcast", "jgo", "rich.console"}


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("send 0", "cannot send 0 messages; give 1 or more"),
        ("send -5", "cannot send -5 messages"),
        ("send abc", "not 'abc'"),
        ("send 1.5", "not '1.5'"),
        ("send --nonsense", "not '--nonsense'"),
        ("send", "say what to send, one of"),
        ("send 5 --text x", "say what to send, one of"),
        ("send --text=", "--text is empty"),
        ("status --config none.toml", "none.toml"),
    ],
)
def test_wrong_input_gets_one_line(words: str, part: str, project: Project) -> None:
    assert part in complaint(project.microq(*words.split()), 2)


@pytest.mark.parametrize("words", ["up", "fetch", "doctor"])
def test_only_a_backend_that_there_is_can_be_chosen(words: str, project: Project) -> None:
    result = project.microq(words, "--queue", "rabbit")
    assert (result.returncode, result.stdout) == (2, "")
    assert "'rabbit' is not one of 'hazelcast', 'kafka'" in result.stderr


def test_the_queue_option_knows_every_backend_and_is_a_set() -> None:
    assert list(get_args(output.Backend)) == list(BACKENDS)
    assert output.with_queue(None, None) == []
    assert output.with_queue("kafka", ["members=2"]) == ["members=2", "queue.backend=kafka"]


@pytest.mark.parametrize(
    "words",
    ["nonsense", "read -n 0", "read -n x", "read --nonsense", "logs -n -1", "send 5 -c 0", "start", "facade --port 0"],
)
def test_wrong_options_get_a_usage(words: str, project: Project) -> None:
    result = project.microq(*words.split())
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: microq")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "words", ["send 3", "send --text x", "read", "status", "queue", "logs", "stop all", "start nobody", "kill messages"]
)
def test_what_needs_a_system_says_how_to_start_one(words: str, project: Project) -> None:
    assert "`microq up`" in complaint(project.microq(*words.split()), 3)


def test_an_error_is_json_where_json_was_asked_for(project: Project) -> None:
    result = project.microq("status", "--json")
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith('{"code": "not-running", "message": ')


def test_down_of_nothing_is_fine(project: Project) -> None:
    result = project.microq("down")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "Nothing was running here.\n")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('colour = "red"\n', "[hazelcast] colour"),
        ("heap = 3\n", "[hazelcast] heap"),
        ("[queue]\nmax-size = 0\n", "[queue] max-size"),
        ("[nonsense]\n", "[nonsense]"),
        ("= 3\n", "wrong.toml: is not TOML"),
    ],
)
def test_a_wrong_configuration_names_table_and_key(text: str, part: str, project: Project) -> None:
    right = (project.folder / "config.toml").read_text(encoding="utf-8")
    (project.folder / "wrong.toml").write_text(right + text, encoding="utf-8")
    for words in (["up", "-d"], ["status"]):
        assert part in complaint(project.microq(*words, "--config", "wrong.toml"), 2)


@pytest.mark.parametrize("setting", ["nonsense", "nonsense=3", "queue.max-size=x"])
def test_a_wrong_setting_is_named(setting: str, project: Project) -> None:
    assert "--set" in complaint(project.microq("up", "-d", "--set", setting), 2)


@pytest.mark.parametrize("words", [["facade"], ["up"], ["up", "-d"], ["chaos", "kill-member"]])
def test_what_others_could_reach_is_said_in_one_line_before_it_is_opened(words: list[str], project: Project) -> None:
    port = project.config.service_ips.facade_service.port
    with socket.create_server(("127.0.0.1", port)):  # so that nothing of it is ever opened
        result = project.microq(*words, "--set", f"service_ips.facade-service=0.0.0.0:{port}")
    assert result.returncode == 4, result.stderr
    told = [line for line in result.stderr.splitlines() if "no authentication" in line]
    assert len(told) == 1
    assert f"facade-{port} (0.0.0.0:{port})" in told[0]
    assert "logging-" not in told[0]
    assert (
        "no authentication"
        not in project.microq(*words, "--set", f"service_ips.facade-service=127.0.0.1:{port}x").stderr
    )
