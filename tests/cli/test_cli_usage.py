"""The command line without a system: help, wrong input, and what cannot be because nothing runs."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from support.commands import complaint, until
from support.project import Project, environment
from typer.core import TyperGroup
from typer.testing import CliRunner

from microq import __version__
from microq.backends import BACKENDS
from microq.cli import COMMANDS, app, output


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


FRESH = {"", *{module: name for name, (module, _) in COMMANDS.items()}.values()}
"""The help of all commands, and one command of each module: that imports the module by itself."""


@pytest.mark.parametrize("words", ["", *commands()])
def test_help_of_every_command(words: str, project: Project) -> None:
    result = project.microq(*words.split(), "--help", fresh=words in FRESH)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"Usage: microq {words}".strip() in result.stdout
    assert "--help" in result.stdout


def test_command_list_matches_first_line_of_help() -> None:
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
    assert not imported & {"aiohttp", "hazelcast", "jgo", "rich.console", "microq.backends.base"}


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
    assert [output.of_backend(name) for name in BACKENDS] == list(BACKENDS)
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
def test_exposed_addresses_are_warned_of_in_one_line(words: list[str], project: Project) -> None:
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


@pytest.mark.parametrize("words", ["up", "dead list", "chaos kill-member", "help", "facade"])
def test_help_of_a_command_is_its_help(words: str, project: Project) -> None:
    asked, given = project.microq("help", *words.split()), project.microq(*words.split(), "--help")
    assert (asked.returncode, asked.stdout) == (0, given.stdout)
    assert "Usage: microq" in asked.stdout


def test_help_lists_the_topics_and_prints_one(project: Project) -> None:
    listed = project.microq("help")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "  exit-codes     Exit codes" in listed.stdout
    assert "| 130 | interrupted with Ctrl-C |" in project.microq("help", "exit-codes").stdout


def test_help_of_what_there_is_not_lists_the_commands(project: Project) -> None:
    assert "kill-member" not in (line := complaint(project.microq("help", "nonsense"), 2))
    assert "up, down, status" in line


def test_a_command_works_in_another_folder(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = Project(tmp_path_factory.mktemp("elsewhere"))
    assert f"no system runs in {project.folder};" in complaint(elsewhere.microq("-C", str(project.folder), "status"), 3)
    for wrong in ("nowhere", str(project.folder / "config.toml")):
        assert f"-C {wrong}: " in complaint(elsewhere.microq("-C", wrong, "status"), 2)


def test_every_command_on_a_system_takes_its_name() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    nameless = set()
    for name in sorted(group.commands):
        command: Any = group.get_command(typer.Context(group), name)
        for inner, part in getattr(command, "commands", {"": command}).items():
            if "--name" not in {word for option in part.params for word in option.opts}:
                nameless.add(f"{name} {inner}".strip())
    assert nameless == {"ls", "help", "report", "verify", "chaos list", "grade"}


def told(*words: str, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run a command in this process; return its exit code and what it said on standard error, its only word."""
    result = CliRunner().invoke(app, words, env=environ)
    assert not result.stdout
    return result.exit_code, result.stderr


@pytest.mark.parametrize("name", ["", " ", "B", "-b", "a/b", "..", "b b", "é", "x" * 33, "\x1b[31m"])
def test_a_wrong_name_is_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rule = "a system's name has 1 to 32 lower-case letters, digits, '-' and '_', the first a letter or digit, not "
    assert told("status", f"--name={name}") == (2, f"microq: --name: {rule}{name!r}\n")
    if name:
        assert told("status", environ={"MICROQ_NAME": name}) == (2, f"microq: MICROQ_NAME: {rule}{name!r}\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words", ["status", "queue", "send 3", "read", "stop all", "dead list", "messages", "status --prometheus"]
)
def test_a_name_that_no_system_has_is_said(words: str, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a facade of this folder that has no name answers."""
    monkeypatch.chdir(project.folder)
    line = f"microq: no system runs in {project.folder} (name b); `microq up --name b` starts it\n"
    with answering(project, project.folder):
        assert told(*words.split(), "--name", "b") == (3, line)
        assert told(*words.split(), environ={"MICROQ_NAME": "b"}) == (3, line)


def test_down_of_a_name_that_no_system_has_is_fine(project: Project) -> None:
    result = project.microq("down", "--name", "b")
    assert (result.returncode, result.stderr) == (0, f"Nothing was running in {project.folder} (name b).\n")
    assert not (project.folder / ".microq").exists()


@contextmanager
def answering(project: Project, folder: Path) -> Iterator[int]:
    """Let somebody's program, started in a folder, answer where the facade of a project would; yield its pid."""
    address = project.config.service_ips.facade_service
    words = [sys.executable, "-m", "http.server", "--bind", address.host, str(address.port)]

    def listens() -> bool:
        with socket.socket() as probe:
            return not probe.connect_ex((address.host, address.port))

    with subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(listens)
            yield process.pid
        finally:
            process.kill()


@pytest.mark.parametrize("words", ["send 3", "read", "dead list", "read --check"])
def test_what_answers_in_place_of_our_facade_is_not_used(
    words: str, project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    theirs = tmp_path_factory.mktemp("theirs")
    url = project.config.service_ips.facade_service.url
    with answering(project, theirs) as pid:
        line = complaint(project.microq(*words.split()), 3)
        assert f"pid {pid} (" in line
        assert f"in {theirs}" in line
        assert f"--url {url}" in line
        # Asked for by name it is used, and says itself that it is no facade.
        assert f"pid {pid}" not in complaint(project.microq(*words.split(), "--url", f"{url}/facade"), 3)


def test_facade_started_by_hand_in_this_folder_is_ours(project: Project) -> None:
    with answering(project, project.folder) as pid:
        assert f"pid {pid}" not in complaint(project.microq("send", "3"), 3)


@pytest.mark.parametrize("url", ["nonsense", "http://", "https://x", "http://127.0.0.1", "http://127.0.0.1:x/"])
def test_a_wrong_url_is_said(url: str, project: Project) -> None:
    result = project.microq("send", "3", "--url", url)
    assert result.returncode == 2
    assert "write it as http://127.0.0.1:5000" in result.stderr
