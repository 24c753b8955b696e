"""What Prometheus is told to scrape, and what the lines of a service look like in JSON."""

from __future__ import annotations

import json
import urllib.request

from support.commands import until
from support.project import Project, small

from microq.log import parse


def targets(project: Project, *words: str) -> dict[str, dict[str, str]]:
    """Address -> labels."""
    done = project.microq("status", "--prometheus", *words)
    assert (done.returncode, done.stderr) == (0, "")
    groups = json.loads(done.stdout)
    assert all(sorted(group) == ["labels", "targets"] for group in groups)
    return {address: group["labels"] for group in groups for address in group["targets"]}


def test_the_targets_need_no_running_system(project: Project) -> None:
    config = project.config
    ips = config.service_ips
    found = targets(project)
    services = [*ips.messages_service, *ips.logging_service, ips.facade_service, ips.config_service]
    assert set(found) == {str(address) for address in (*services, config.dashboard.address)}
    facade = ips.facade_service
    assert found[str(facade)] == {"role": "facade", "process": f"facade-{facade.port}"}
    # Its series name their processes themselves.
    assert found[str(config.dashboard.address)] == {}


def test_without_a_page_the_supervisor_is_no_target(project: Project) -> None:
    file = project.folder / "config.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("[dashboard]\n", "[dashboard]\nenabled = false\n"), encoding="utf-8")
    assert str(project.config.dashboard.address) not in targets(project)


@small
def test_targets_of_running_system_answer_and_log_json(project: Project, engine: None) -> None:
    started = project.microq("up", "-d", "--set", "logging=2", "--set", "logs.format=json")
    assert started.returncode == 0, started.stderr
    try:
        found = targets(project)
        assert sum(labels.get("role") == "logging" for labels in found.values()) == 2, "of the system, not of the file"
        for address, labels in found.items():
            if labels:
                with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
                    assert b"microq_ready 1.0" in answer.read()
        assert project.microq("send", "3").returncode == 0
        logs = ("logs", "facade", "--grep", "acknowledged")
        until(lambda: project.microq(*logs).stdout.count("\n") == 3)
        raw = project.microq(*logs, "--raw").stdout.splitlines()
        assert len(raw) == 3
        assert all(json.loads(line)["level"] == "INFO" for line in raw)
        shown = project.microq(*logs).stdout.splitlines()
        assert [str(parse(line)) for line in raw] == shown
    finally:
        assert project.microq("down").returncode == 0
