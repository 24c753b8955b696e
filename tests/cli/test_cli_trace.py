"""`microq trace`: the journey of a message, of the shared system and of runs that were written here."""

from __future__ import annotations

import json
import uuid

from support.commands import ask, complaint, until
from support.journeys import Run
from support.project import Project


def a_run(project: Project, name: str) -> Run:
    return Run(project.folder / ".microq" / "runs" / name)


def test_a_message_of_the_running_system_is_followed(system: Project) -> None:
    message_id = str(uuid.uuid4())
    facade, body = system.config.service_ips.facade_service, b'{"msg": "traced"}'
    assert ask(facade, "POST", "/facade", body, **{"Idempotency-Key": message_id})[0] == 200

    def steps() -> set[str]:
        """Where the message was; a service writes its line a moment after it has answered."""
        done = system.microq("trace", message_id, "--json")
        return {step["where"].partition("-")[0] for step in json.loads(done.stdout)["steps"]} if done.stdout else set()

    until(lambda: steps() >= {"facade", "logging", "queue"})
    found = json.loads(system.microq("trace", message_id, "--json").stdout)
    assert (found["id"], found["text"]) == (message_id, '"traced"')
    assert found["steps"] == sorted(found["steps"], key=lambda step: step["at"])
    shown = system.microq("trace", message_id[:18])
    assert (shown.returncode, shown.stderr) == (0, "")
    assert 'accepted "traced"' in shown.stdout


def test_the_last_run_is_asked_unless_another_is_named(project: Project) -> None:
    a_run(project, "one").carries("abcd-1", "t", 1.0)
    a_run(project, "two").acknowledges("abcd-2", "t", 1.0)
    shown = project.microq("trace", "abcd-2")
    assert shown.returncode == 0
    assert "No messages-service has received it." in shown.stdout
    for run in ("one", ".microq/runs/one"):
        assert "received, and stored" in project.microq("trace", "abcd-1", "--run", run).stdout


def test_a_scenario_leads_to_the_system_that_it_used(project: Project) -> None:
    used = a_run(project, "used")
    used.carries("abcd-1", "t", 1.0)
    scenario = project.folder / ".microq" / "runs" / "kill-member"
    scenario.mkdir()
    begin = {"kind": "begin", "wall": 1.0, "mono": 1.0, "scenario": "x", "queue": "hazelcast", "backup_count": 2}
    history = scenario / "history.jsonl"
    history.write_text(json.dumps({**begin, "folder": str(used.folder)}) + "\n")
    for run in ("kill-member", str(history)):
        assert project.microq("trace", "abcd-1", "--run", run).returncode == 0
    history.write_text(json.dumps({**begin, "folder": "/gone"}) + "\n")
    assert "no longer in /gone" in complaint(project.microq("trace", "abcd-1", "--run", "kill-member"), 2)
    history.unlink()
    assert "neither logs nor a history" in complaint(project.microq("trace", "abcd-1", "--run", "kill-member"), 2)


def test_what_is_not_known_is_said_in_one_line(project: Project) -> None:
    assert "`microq up` starts one" in complaint(project.microq("trace", "abcd"), 3)
    run = a_run(project, "one")
    for n in range(9):
        run.carries(f"abcd-{n}", "t", 1.0 + n)
    assert "has a message 'nothing'" in complaint(project.microq("trace", "nothing"), 1)
    assert "at least 4 characters" in complaint(project.microq("trace", "abc"), 1)
    several = complaint(project.microq("trace", "abcd"), 2)
    assert "abcd-0, abcd-1, abcd-2, abcd-3, abcd-4, and more" in several
    assert "the last ones are one" in complaint(project.microq("trace", "abcd", "--run", "two"), 2)
    assert "no run is called ''" in complaint(project.microq("trace", "abcd", "--run", ""), 2)


def test_a_short_id_that_is_whole_is_enough(project: Project) -> None:
    run = a_run(project, "one")
    run.carries("a", "first", 1.0)
    run.carries("ab", "second", 2.0)
    assert "first" in project.microq("trace", "a").stdout


def test_a_message_is_found_by_its_whole_text(project: Project) -> None:
    run, long = a_run(project, "one"), "x" * 300 + ' "quoted"'
    run.carries("abcd-1", "msg7", 1.0)
    for number in range(70, 80):
        run.carries(f"abcd-{number}", f"msg{number}", float(number))
    run.carries("abcd-long", long, 200.0)
    assert "abcd-1 " in project.microq("trace", "msg7").stdout
    assert "abcd-77 " in project.microq("trace", "msg77").stdout
    assert "abcd-long" in project.microq("trace", long).stdout
    assert "has a message 'msg'" in complaint(project.microq("trace", "msg"), 1)
    assert "has a message 'sg77'" in complaint(project.microq("trace", "sg77"), 1)


def test_several_with_one_text_are_listed_the_newest_first(project: Project) -> None:
    run = a_run(project, "one")
    for number in range(8):
        run.carries(f"abcd-{number}", "msg7", 1.0 + number)
    line = complaint(project.microq("trace", "msg7"), 2)
    assert "several messages have the text 'msg7', the newest are abcd-7 (" in line
    assert line.index("abcd-7") < line.index("abcd-3")
    assert "abcd-2" not in line
    assert "and more; give the id" in line
    assert "msg7" in project.microq("trace", "abcd-2").stdout


def test_an_id_goes_before_a_text(project: Project) -> None:
    run = a_run(project, "one")
    run.carries("msg7", "the text of one", 1.0)
    run.carries("abcd-2", "msg7", 2.0)
    assert "the text of one" in project.microq("trace", "msg7").stdout
