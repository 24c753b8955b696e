"""External programs in the configuration: their tables, and one clear line for each thing that can be wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from microq.config import Config, load, without_secrets
from microq.errors import ConfigError, UsageError
from microq.fleet import Role, external_roles, program_of
from microq.settings import Address, Program
from microq.supervisor.topology import plan_detours, program_argv, program_environment, specs

TABLE = """\
[services."messages-service"]
command = "python messages.py --port {port} --name 'the queue {queue}'"
folder = "theirs"
env = {HOST = "{host}", MEMBERS = "{servers}", PASSWORD = "secret", URL = "{config_url}/config"}
ready = "/health"
"""


def written(folder: Path, text: str) -> Config:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, environ={})


def test_program_replaces_one_service_and_no_other(tmp_path: Path) -> None:
    config = written(tmp_path, TABLE)
    program = program_of(config, Role.MESSAGES)
    assert program is not None
    assert (program.folder, program.ready) == (str(tmp_path / "theirs"), "/health")
    assert external_roles(config) == (Role.MESSAGES,)
    assert [spec.name for spec in specs(config) if spec.program] == ["messages-5001", "messages-5002"]
    assert external_roles(written(tmp_path, "")) == ()


def test_placeholders_get_the_values_of_the_system(tmp_path: Path) -> None:
    config = written(tmp_path, TABLE)
    spec = next(each for each in specs(config) if each.program)
    assert spec.program
    assert program_argv(config, spec, spec.program) == [
        "python",
        "messages.py",
        "--port",
        "5001",
        "--name",
        "the queue messages-queue",
    ]
    environment = program_environment(config, spec, spec.program, "run")
    assert environment["HOST"] == "127.0.0.1"
    assert environment["MEMBERS"] == "127.0.0.1:5701,127.0.0.1:5702,127.0.0.1:5703"
    assert environment["URL"] == "http://127.0.0.1:5006/config"
    assert environment["MICROQ_RUN"] == "run"
    hidden = program_argv(config, replace(spec, hidden=Address("127.0.0.1", 7001)), spec.program)
    assert hidden[3] == "7001"


def test_program_with_a_path_is_in_its_folder() -> None:
    assert Program("./run {port}", "/theirs").argv({"port": "1"}) == ["/theirs/./run", "1"]
    assert Program("/bin/run", "/theirs").argv({}) == ["/bin/run"]
    assert Program("run", "/theirs").argv({}) == ["run"]


def test_programs_are_written_for_the_children_as_read(tmp_path: Path) -> None:
    config = written(tmp_path, TABLE)
    child = tmp_path / "runs" / "run.toml"
    child.parent.mkdir()
    child.write_text(config.to_toml(), encoding="utf-8")
    assert load(child, environ={}).services == config.services
    assert "secret" in config.to_toml()
    assert "secret" not in without_secrets(config.to_toml())


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ('command = "run {prot}"', "{prot} is not a placeholder; the placeholders are {host}, {port}, {config_url}"),
        ('command = "run"\nenv = ["A={b}"]', "{b} is not a placeholder"),
        ('command = "run \'a"', "command: No closing quotation"),
        ("folder = '.'", "command: must be text in one line, not None"),
        ('command = ""', "command: must be text in one line"),
        ('command = "run"\nport = 5', "'port' is not a key of a program; the keys are command, folder, env, ready"),
        ('command = "run"\nenv = ["A"]', "'A' is not a variable"),
        ('command = "run"\nready = "a\\nb"', "must be text in one line"),
    ],
)
def test_mistake_in_a_program_names_its_place(tmp_path: Path, rows: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        written(tmp_path, f'[services."logging-service"]\n{rows}\n')
    assert f"[services] logging-service: {problem}" in str(caught.value)


def test_program_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be a table such as"):
        written(tmp_path, '[services]\nfacade-service = "run"\n')


def test_program_with_a_fixed_port_has_no_link(tmp_path: Path) -> None:
    config = written(tmp_path, '[services."facade-service"]\ncommand = "run"\n')
    with pytest.raises(UsageError, match=r"no link can be put before facade-5000: its command has no \{port\}"):
        plan_detours(config)
