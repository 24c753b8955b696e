"""The proof itself: the real command, real members, a real SIGKILL."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.commands import Done, accounted_for, command, complaint, observed
from support.project import TWO, Project, make_project

pytestmark = pytest.mark.usefixtures("engine")

KILL = ("chaos", "kill-member")

SAFE = [(True, 3)] * 3
"""What three members tell that are one safe cluster: whether each is safe, and how many it sees."""


def verdict(done: Done, code: int) -> dict[str, Any]:
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def judged_again(project: Project, found: dict[str, Any], code: int) -> None:
    assert Path(found["report"]).is_file()
    alone = {name: value for name, value in found.items() if name != "report"}
    assert verdict(project.microq("verify", found["history"], "--json"), code) == alone


# -- on a system of its own -------------------------------------------------------------------------------------------


def test_no_message_is_lost_when_the_owner_dies(project: Project) -> None:
    done = project.microq(*KILL, "--target", "owner", "-m", "50", "--json")
    found = verdict(done, 0)
    assert (found["verdict"], found["reasons"]) == ("pass", [])
    assert [cue for cue in found["cues"] if "indeterminate" not in cue] == []
    accounted_for(found, 51)  # with the probe after the kill
    assert [(hit["fault"], hit["owner"], hit["seen"]) for hit in found["faults"]] == [("kill-member", True, True)]
    owner = found["faults"][0]["target"]
    owned = found["copies_before"][owner][0]
    assert 0 < owned <= 50
    assert found["copies_before"] == {
        name: [owned, 0] if name == owner else [0, owned] for name in found["copies_before"]
    }
    assert len(found["copies_before"]) == 3
    [(none, backed_up), (owned_now, nothing)] = sorted(found["copies_after"].values())
    assert (none, nothing) == (0, 0)
    # A send that was not confirmed may be in the queue too.
    assert found["acknowledged"] <= owned_now == backed_up
    assert 0 < found["first_acknowledgement_s"] < found["duration_s"]
    assert 0 < found["longest_gap_s"] < found["duration_s"]
    for step in (
        "Sent 50, acknowledged ",
        "It owns the queue",
        "killed",
        "backup promoted",
        "1 of 2 backups in place",
    ):
        assert step in done.stderr
    assert not project.alive()
    judged_again(project, found, 0)
    shown = project.microq("verify", found["history"])
    assert "PASS" in shown.stdout
    assert f"{owner} (the primary owner)" in shown.stdout


def test_without_copies_the_loss_is_seen(project: Project) -> None:
    done = project.microq(*KILL, *TWO, "--set", "queue.backup-count=0", "--target", "owner", "-m", "50", "--json")
    found = verdict(done, 1)
    assert found["verdict"] == "fail"
    assert 0 < len(found["lost"]) <= 50
    assert [cue for cue in found["cues"] if "backup-count is 0" in cue]
    assert not project.alive()
    judged_again(project, found, 1)
    assert "FAIL" in project.microq("verify", found["history"]).stdout


def test_ctrl_c_in_the_middle_leaves_nothing(project: Project) -> None:
    with command(project, *KILL, *TWO, "-m", "20000") as running:
        running.says("Consumers are off", 90)
        assert project.alive()
        running.interrupt()
        assert running.ended(60) == 130
        assert "Traceback" not in running.err
        assert running.err.splitlines()[-1].startswith("Interrupted")
        assert not running.out
    assert not project.alive()
    history = next((project.folder / ".microq" / "runs").glob("*/history.jsonl"))
    assert verdict(project.microq("verify", str(history), "--json"), 3)["verdict"] == "unknown"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-m", "0"], "'--messages' / '-m'"),
        (["-m", "-5"], "'--messages' / '-m'"),
        (["-m", "many"], "'--messages' / '-m'"),
        (["--members", "3"], "'--members'"),
        (["--members", "0"], "'--members'"),
    ],
)
def test_a_number_that_cannot_be_is_refused(project: Project, words: list[str], says: str) -> None:
    done = project.microq(*KILL, *words)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]
    assert not (project.folder / ".microq").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--target", "nosuch"], "nosuch"),
        (["--set", "members=2", "--members", "2"], "needs 3 members, so that one survives; 2 are up"),
        (["--set", "queue.backup-count=many"], "backup-count"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_starts(project: Project, words: list[str], says: str) -> None:
    assert says in complaint(project.microq(*KILL, *words), 2)
    assert not (project.folder / ".microq").exists()


def test_verify_refuses_what_is_no_history(project: Project) -> None:
    assert "nowhere" in complaint(project.microq("verify", "nowhere.jsonl"), 2)
    (project.folder / "half.jsonl").write_text('{"kind": "begin"', encoding="utf-8")
    assert "line 1" in complaint(project.microq("verify", "half.jsonl"), 2)


# -- on a system that runs --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, engine: None) -> Iterator[Project]:
    """A system that was brought up without consumers, with what a user sent before."""
    project = make_project(tmp_path_factory.mktemp("running"))
    started = project.microq("up", "-d", "--no-messages")
    assert started.returncode == 0, started.stderr
    while (sent := project.microq("send", "10", "--prefix", "mine")).returncode:
        # A busy machine may leave one indeterminate.
        assert "indeterminate" in sent.stderr
    yield project
    assert project.microq("down").returncode == 0
    assert not project.alive()


def status(project: Project) -> dict[str, dict[str, Any]]:
    """The processes of a system whose members are one safe cluster."""
    view = observed(project, lambda view: [(m["cluster_safe"], m["members_seen"]) for m in view["members"]] == SAFE)
    return {process["name"]: process for process in view["processes"]}


def waits(project: Project) -> int:
    return int(observed(project)["queue"]["size"])


def untouched(processes: dict[str, dict[str, Any]], targets: set[str]) -> dict[str, int]:
    """The pids of all that a run has no reason to touch; the facade is another one while nobody redelivers."""
    return {
        name: process["pid"]
        for name, process in processes.items()
        if name not in targets and process["role"] not in ("messages", "facade")
    }


def consumers(processes: dict[str, dict[str, Any]]) -> list[str]:
    return [process["state"] for process in processes.values() if process["role"] == "messages"]


def read(project: Project) -> dict[str, list[str]]:
    done = project.microq("read", "-n", "20", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def settled(project: Project) -> dict[str, list[str]]:
    """Read when all that was logged is delivered: what an earlier kill left indeterminate may be on its way still."""
    deadline = time.monotonic() + 60
    while Counter((shown := read(project))["logs"]) != Counter(shown["messages"]):
        assert time.monotonic() < deadline, "logged, and not delivered"
    return shown


def test_a_running_system_is_used_and_restored(running: Project) -> None:
    before, waiting = status(running), waits(running)
    assert consumers(before) == ["stopped", "stopped"]
    assert waiting >= 10
    done = running.microq(*KILL, "--members", "2", "-m", "30", "--json")
    found = verdict(done, 0)
    targets = {hit["target"] for hit in found["faults"]}
    assert len(targets) == 2
    # What the user had sent waits in the queue too, and is not of this run.
    assert waiting < sum(owned for owned, _ in found["copies_before"].values()) <= waiting + 30
    accounted_for(found, 31)
    after = status(running)
    assert untouched(after, targets) == untouched(before, targets)
    assert all(after[name]["state"] == "ready" and after[name]["pid"] != before[name]["pid"] for name in targets)
    assert consumers(after) == ["stopped", "stopped"]
    assert "Using the system that runs here" in done.stderr
    judged_again(running, found, 0)

    started = running.microq("start", "messages")
    assert started.returncode == 0, started.stderr
    shown = read(running)
    mine = {f"mine{number}" for number in range(1, 11)}
    assert mine <= set(shown["messages"])
    assert mine <= set(shown["logs"])
    late = len(shown["messages"]) - waiting - found["stored"]
    assert 0 <= late <= found["indeterminate"]


def test_consumers_that_ran_run_again(running: Project) -> None:
    running.microq("start", "messages")
    before, old = status(running), settled(running)["messages"]
    found = verdict(running.microq(*KILL, "--target", "owner", "-m", "30", "--no-probe", "--json"), 0)
    after, now = status(running), settled(running)
    accounted_for(found, 30)
    assert found["first_acknowledgement_s"] is None
    targets = {hit["target"] for hit in found["faults"]}
    assert untouched(after, targets) == untouched(before, targets)
    assert consumers(after) == ["ready", "ready"]
    assert Counter(old) <= Counter(now["messages"])
    assert found["stored"] <= len(now["messages"]) - len(old) <= found["stored"] + found["indeterminate"]


def test_what_somebody_else_sends_meanwhile_is_no_failure(running: Project) -> None:
    running.microq("start", "messages")
    with command(running, *KILL, "--target", "owner", "-m", "300", "--json") as check:
        check.says("Sent 300", 90)
        sent = running.microq("send", "500")
        assert check.ended(90) == 0, check.err
    found = json.loads(check.out)
    assert (found["verdict"], found["unexpected"]) == ("pass", [])
    # A part may have been sent before the run took note of what is there.
    assert 0 < len(found["foreign"]) <= 500, sent.stderr
    history = Path(found["history"]).read_text(encoding="utf-8")
    assert '"kind": "restarted"' in history
    judged_again(running, found, 0)


@pytest.mark.parametrize("target", ["nosuch", "messages"])
def test_a_target_that_is_not_there_disturbs_nothing(running: Project, target: str) -> None:
    before = status(running)
    done = running.microq(*KILL, "--target", target)
    assert done.returncode == 2
    assert f"microq: --target {target} is not a member" in done.stderr.splitlines()[-1]
    assert {name: process["pid"] for name, process in status(running).items()} == {
        name: process["pid"] for name, process in before.items()
    }


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_after_the_kill_restores_running_system(running: Project, how: signal.Signals) -> None:
    running.microq("start", "messages")
    before = status(running)
    with command(running, *KILL, "-m", "100") as interrupted:
        interrupted.says(" killed", 90)
        interrupted.interrupt(how)
        assert interrupted.ended(90) == 130
        assert "Traceback" not in interrupted.err
    after = status(running)
    lowest = min(name for name, process in before.items() if process["role"] == "queue")
    assert untouched(after, {lowest}) == untouched(before, {lowest})
    assert after[lowest]["pid"] != before[lowest]["pid"]
    assert consumers(after) == ["ready", "ready"]
