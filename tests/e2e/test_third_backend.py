"""A backend that nobody inside of microq knows is plugged in by one line, and everything works with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.commands import asked, complaint, observed, told, until
from support.plug import plugged_in
from support.project import Project, free_ports, make_project


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, engine: None) -> Iterator[Project]:
    nodes = json.dumps([f"127.0.0.1:{port}" for port in free_ports(3)])
    extra = f'[queue]\nbackend = "memory"\nbackup-count = 1\n[memory]\nmemory-nodes = {nodes}\n'
    with plugged_in(tmp_path_factory.mktemp("installed")) as environ:
        project = make_project(tmp_path_factory.mktemp("system"), others=2, extra=extra, environ=environ)
        started = project.microq("up", "-d")
        assert started.returncode == 0, started.stderr
        yield project
        ended = project.microq("down")
        assert ended.returncode == 0, ended.stderr
        assert not project.alive()


def names(project: Project) -> list[str]:
    return [f"memory-{address.port}" for address in project.config.servers]


def owned(view: Any) -> bool:
    """Whether it is known who owns the queue, and every copy is in place."""
    return bool(view["queue"]["owner"] and view["safe"])


def test_what_is_sent_is_read(running: Project) -> None:
    sent = running.microq("send", "10")
    assert sent.returncode == 0, sent.stderr
    until(lambda: len(asked(running, "read", "-n", "20")["messages"]) == 10)
    assert len(asked(running, "read")["logs"]) == 10


def test_status_and_queue_show_its_servers(running: Project) -> None:
    view = observed(running, owned)
    servers = [each for each in view["processes"] if each["name"].startswith("memory-")]
    assert [(each["name"], each["role"], each["state"]) for each in servers] == [
        (name, "queue", "ready") for name in names(running)
    ]
    assert (view["backend"], view["safe"], view["copies"]) == ("memory", True, 1)
    assert view["queue"]["owner"] in names(running)
    shown = running.microq("queue")
    assert shown.returncode == 0, shown.stderr
    assert all(name in shown.stdout for name in names(running))


def test_no_message_is_lost_when_its_primary_dies(running: Project) -> None:
    before = observed(running, owned)["queue"]["owner"]
    found = told(running, "kill-member", "-m", "50")
    assert (found["verdict"], found["reasons"], found["queue"], found["quiet"]) == ("pass", [], "memory", True)
    assert 50 <= found["acknowledged"] <= found["stored"] <= 51
    assert [found[kind] for kind in ("lost", "unlogged", "unexpected", "duplicated", "redelivered")] == [[]] * 5
    [hit] = found["faults"]
    assert (hit["target"], hit["owner"], hit["seen"]) == (before, True, True)
    assert found["copies_before"][before] == [50, 0]
    view = observed(running, owned)
    assert view["queue"]["owner"] != before
    assert {process["state"] for process in view["processes"]} == {"ready"}


def test_without_its_line_it_is_unknown(running: Project) -> None:
    done = running.microq("status", environ={"PYTHONPATH": ""})
    assert "[memory]: is not a table; the tables are service_ips, hazelcast, kafka, services" in complaint(done, 2)
