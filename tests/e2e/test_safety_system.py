"""What a real system says of its copies: counted on its servers, in every view alike."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest
from support.commands import observed, until
from support.project import Project, make_project

SAFE = "cluster safe: every copy is in place"


def scraped(project: Project, name: str) -> float | None:
    page = project.config.dashboard.address
    connection = http.client.HTTPConnection(page.host, page.port, timeout=10)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return next((float(line.split()[1]) for line in lines if line.startswith(f"{name} ")), None)


def says(project: Project, sentence: str, *, copies: int) -> None:
    """Wait until every view of a system says the same; meanwhile none may call it safe that is not.

    Each view asks the servers anew, and what one tells that is busy at that moment is unknown in that view.
    """
    safe = sentence == SAFE

    def shown() -> bool:
        text = project.microq("status").stdout
        assert safe or SAFE not in text
        return sentence in text

    def told(view: Any) -> bool:
        assert safe or not view["safe"]
        return (view["safe"], view["copies"]) == (safe, copies)

    def measured() -> bool:
        found = scraped(project, "microq_cluster_safe")
        assert safe or not found
        return (found, scraped(project, "microq_copies")) == (safe, copies)

    observed(project, told)
    until(shown, 60)
    until(measured, 60)


@pytest.fixture
def quiet(project: Project, engine: None) -> Project:
    """A system with thirty messages in its queue."""
    started = project.microq("up", "-d", "--no-messages")
    assert started.returncode == 0, started.stderr
    assert "Warning" not in started.stderr
    assert project.microq("send", "30").returncode == 0
    return project


def test_copies_are_counted_on_the_servers(quiet: Project) -> None:
    says(quiet, SAFE, copies=2)
    members = [f"hazelcast-{address.port}" for address in quiet.config.hazelcast.hazelcast_clients]
    assert quiet.microq("kill", members[0]).returncode == 0
    says(quiet, "1 of 2 backups: one member is down", copies=1)
    assert quiet.microq("kill", members[1]).returncode == 0
    says(quiet, "0 of 2 backups: two members are down", copies=0)
    assert quiet.microq("start", *members[:2]).returncode == 0
    says(quiet, SAFE, copies=2)
    assert quiet.microq("down").returncode == 0


def test_what_the_members_run_with_is_read_back_from_them(project: Project, engine: None) -> None:
    told = json.dumps(["HZ_QUEUE_MESSAGES-QUEUE_BACKUPCOUNT=0"])
    words = [
        word
        for each in ("members=2", "queue.backup-count=1", f"hazelcast.environment={told}")
        for word in ("--set", each)
    ]
    started = project.microq("up", "-d", "--no-messages", *words)
    assert started.returncode == 0, started.stderr
    assert started.stderr.count("runs with backup-count of messages-queue 0, not 1 as configured") == 2
    assert project.microq("send", "5").returncode == 0
    says(project, "0 of 1 backups: the servers run with that number", copies=0)
    assert project.microq("down").returncode == 0


def test_too_many_copies_are_warned_of_at_the_start(
    tmp_path_factory: pytest.TempPathFactory, kafka_engine: None
) -> None:
    project = make_project(tmp_path_factory.mktemp("small"), messages=1, others=1)
    started = project.microq("up", "-d", "--queue", "kafka", "--set", "brokers=2")
    assert started.returncode == 0, started.stderr
    assert "needs 3 servers, and [hazelcast] hazelcast-clients lists 1" in started.stderr
    assert "needs 3 servers, and [kafka] kafka-brokers lists 2" in started.stderr
    says(project, "0 of 2 backups: one member can hold no more", copies=0)
    done = project.microq("doctor", "--json")
    assert any(finding["what"] == "backup-count" for finding in json.loads(done.stdout))
    assert project.microq("down").returncode == 0
