"""The commands that texts suggest can be pasted: they lead to the system that the text is about."""

from __future__ import annotations

import contextvars
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from rich.console import Console
from support.fakes import PLAIN
from support.snapshots import FINE, QUEUE, TOPIC
from typer.testing import CliRunner

from microq import hints
from microq.caveats import caveats
from microq.cli import app, output
from microq.fleet import Role
from microq.message import Message
from microq.supervisor.topology import child_environment, server_environment
from microq.terminal import messages
from microq.terminal.screen import Sight, screen
from microq.terminal.style import nearest
from microq.workflows.messages import Arrival


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROQ_NAME", "b")


@pytest.mark.parametrize(
    ("way", "text", "led"),
    [
        ({}, "`microq up` starts it", "`microq up --name b` starts it"),
        ({}, "`microq down --name c` ends it", "`microq down --name c` ends it"),
        ({}, "`microq ls`, `microq status`", "`microq ls`, `microq status --name b`"),
        ({}, "`cd /x && microq down`", "`cd /x && microq down`"),
        (
            {},
            "`microq chaos list`, `microq chaos kill-member`",
            "`microq chaos list`, `microq chaos kill-member --name b`",
        ),
        ({}, "`microq lsof`", "`microq lsof --name b`"),
        ({"-C": "my lab"}, "`microq up -d`", "`microq -C 'my lab' up -d --name b`"),
        ({"-C": "lab"}, "`microq -C x up`", "`microq -C x up --name b`"),
        ({"--config": "a.toml"}, "`microq status`", "`microq status --config a.toml --name b`"),
        (
            {"-C": "lab", "--config": "a.toml"},
            "`microq down --name c`",
            "`microq -C lab down --name c --config a.toml`",
        ),
        (
            {"--url": "http://x:1"},
            "`microq read`, `microq up`",
            "`microq read --url http://x:1 --name b`, `microq up --name b`",
        ),
    ],
)
@pytest.mark.usefixtures("named")
def test_a_command_that_is_suggested_leads_to_the_same_system(way: Mapping[str, str], text: str, led: str) -> None:
    ends = [hints.lead(option, value) for option, value in way.items()]
    assert hints.pasteable(text) == led
    for end in reversed(ends):
        end()
    assert hints.pasteable("`microq up`") == "`microq up --name b`"


@pytest.mark.parametrize(
    ("way", "text", "led"),
    [
        ({"-C": "lab"}, "`microq verify x`, `microq fetch`", "`microq -C lab verify x`, `microq -C lab fetch`"),
        ({"--config": "a"}, "`microq report x`, `microq fetch`", "`microq report x`, `microq fetch --config a`"),
    ],
)
@pytest.mark.usefixtures("named")
def test_suggested_command_has_only_options_that_it_needs(way: Mapping[str, str], text: str, led: str) -> None:
    ends = [hints.lead(option, value) for option, value in way.items()]
    assert hints.pasteable(text) == led
    for end in ends:
        end()


@pytest.fixture
def in_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The process that the user called with `-C lab --config a.toml`."""
    (tmp_path / "lab").mkdir()
    monkeypatch.chdir(tmp_path / "lab")
    ends = [hints.lead("-C", "lab"), hints.lead("--config", "a.toml")]
    yield tmp_path / "lab"
    for end in reversed(ends):
        end()


def test_child_suggests_commands_with_its_parents_options(in_lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environments = [child_environment(PLAIN, "run"), server_environment(PLAIN, Role.QUEUE, "run"), hints.variables()]
    assert {environment[hints.VARIABLE] for environment in environments} == {hints.variables()[hints.VARIABLE]}
    monkeypatch.setenv(hints.VARIABLE, hints.variables()[hints.VARIABLE])
    found = contextvars.Context().run(hints.pasteable, "`microq down`")  # a new process has no options of its own
    assert found == f"`microq -C {in_lab} down --config {in_lab}/a.toml`"
    assert contextvars.Context().run(hints.variables) == hints.variables()


def test_path_is_whole_if_the_shell_is_in_another_folder(in_lab: Path) -> None:
    assert nearest(f"{in_lab}/report.html") == f"{in_lab}/report.html"
    assert contextvars.Context().run(nearest, f"{in_lab}/report.html") == "report.html"


def test_unnamed_system_in_this_folder_needs_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    output.note("`microq up` starts it")
    assert capsys.readouterr().err == "`microq up` starts it\n"


def views() -> Iterator[str]:
    """Everything that is shown of a system and suggests a command."""
    yield from caveats(dataclasses.replace(TOPIC, partitions=()), {})
    yield from caveats(dataclasses.replace(FINE, queue=dataclasses.replace(QUEUE, dead=2)), {})
    console = Console(width=200, height=60)
    with console.capture() as caught:
        crowded = dataclasses.replace(FINE, queue=dataclasses.replace(QUEUE, dead=2, size=None, owner=None))
        console.print(screen(Sight(crowded), 100, 14))
        console.print(messages.arrived(Arrival(3, {"messages-5001": 1}, [Message("i", "m")], [], [], ["n"], 2)))
    yield caught.get()


@pytest.mark.usefixtures("named")
def test_what_a_view_suggests_leads_to_its_system() -> None:
    orders = [order for view in views() for order in view.split("`")[1::2]]
    assert len(orders) >= 5
    assert [order for order in orders if not order.endswith(" --name b")] == []


def test_suggested_commands_have_named_folder_and_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lab = tmp_path / "my lab"
    lab.mkdir()
    (lab / "other.toml").write_text("[queue]\n", encoding="utf-8")
    asked = CliRunner().invoke(app, ["-C", str(lab), "status", "--config", "other.toml"])
    assert f"`microq -C '{lab}' up --config other.toml` starts it" in asked.stderr
    again = CliRunner().invoke(app, ["status", "--config", str(lab / "other.toml")])
    assert f"`microq up --config '{lab}/other.toml'` starts it" in again.stderr
