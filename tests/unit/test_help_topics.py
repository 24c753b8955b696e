"""The help topics: everything that can be asked for is in one of them, and the README names each."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from microq import errors, services
from microq.chaos.faults import FAULTS
from microq.cli import COMMANDS
from microq.cli.help import topics
from microq.config import Config, kebab, load
from microq.errors import MicroqError
from microq.fleet import SERVICES
from microq.services.routes import ROUTES

TOPICS = topics()
README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")

LONGEST = 250
"""Lines of the README at most."""


def kinds(error: type[MicroqError] = MicroqError) -> list[type[MicroqError]]:
    return [error, *(kind for each in error.__subclasses__() for kind in kinds(each))]


def keys(config: Config) -> set[tuple[str, str]]:
    return {(name, kebab(key.name)) for name, table in config.tables.items() for key in fields(table)}


def missing(topic: str, wanted: set[str]) -> list[str]:
    return sorted(each for each in wanted if not re.search(rf"(?<![\w-]){re.escape(each)}(?![\w-])", TOPICS[topic]))


def test_every_topic_has_a_title_and_a_name_of_its_own() -> None:
    assert all(re.match(r"# \S.*\n\n\S", text) for text in TOPICS.values())
    assert not TOPICS.keys() & COMMANDS.keys(), "a command of that name could not be explained"


@pytest.mark.parametrize("topic", TOPICS)
def test_the_readme_names_every_topic(topic: str) -> None:
    assert f"`{topic}`" in README or f"microq help {topic}" in README


@pytest.mark.parametrize("where", ["README.md", *TOPICS])
def test_a_topic_that_is_referred_to_exists(where: str) -> None:
    named = set(re.findall(r"microq help ([a-z-]+)", README if where == "README.md" else TOPICS[where]))
    assert named <= TOPICS.keys() | COMMANDS.keys()


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= LONGEST


def test_the_readme_shows_pictures_that_exist() -> None:
    pictures = re.findall(r"\((\.github/[^)]+)\)", README)
    assert len(pictures) == 2
    for picture in pictures:
        file = Path(__file__).parents[2] / picture
        assert file.read_bytes().startswith(b"\x89PNG")
        assert file.stat().st_size < 200_000


def test_the_readme_names_every_module_and_folder() -> None:
    package = Path(__file__).parents[2] / "microq"
    modules = {f"`{file.stem}`" for file in package.glob("*.py") if not file.stem.startswith("__")}
    folders = {f"`{file.name}/`" for file in package.iterdir() if file.is_dir() and file.name != "__pycache__"}
    rows = README.partition("## Modules")[2].partition("| where is")[0].splitlines()
    named = [name for row in rows if row.startswith("| `") for name in re.findall(r"`[a-z_]+/?`", row.split("|")[1])]
    assert sorted(named) == sorted(modules | folders)


def test_every_command_is_explained() -> None:
    assert missing("commands", {name for name, (_, line) in COMMANDS.items() if line}) == []


def test_every_fault_is_explained() -> None:
    assert missing("faults", set(FAULTS)) == []


def test_every_exit_code_is_explained() -> None:
    assert {kind.exit_code for kind in kinds()} <= set(errors.ExitCode)
    assert missing("exit-codes", {str(int(code)) for code in errors.ExitCode}) == []


def test_every_key_of_the_configuration_is_explained() -> None:
    known = keys(load(environ={}))
    tables = {table for table, _ in known}
    assert missing("configuration", {key for table, key in known if table != "limits"} | tables) == []
    assert missing("limits", {key for table, key in known if table == "limits"}) == []


def test_every_call_over_http_is_explained() -> None:
    config = load(environ={})
    apps = [services.module_of(role).make_app(config, services.place(role, config, None)[0]) for role in SERVICES]
    paths = {route.path for app in apps for route in app[ROUTES]}
    assert "/facade" in paths
    assert [path for path in sorted(paths) if path not in TOPICS["http"]] == []


def test_what_is_left_out_is_noticed() -> None:
    assert missing("faults", {"kill-member", "kill-everything", "kill"}) == ["kill", "kill-everything"]
