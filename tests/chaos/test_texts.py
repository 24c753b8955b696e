"""External services under the real scenario: the verdict that each deserves, with the right texts.

All programs share one system: the words in the file `mode` change what they do from their next start on.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.foreign import HERE, foreign_project, program, set_mode
from support.project import Project

from microq.chaos.verdict import Layer, Ruling, Verdict
from microq.errors import DeadlineError, UsageError
from microq.fleet import Event, Operator, Role, Snapshot
from microq.supervisor import control, runs
from microq.wire import READY, Wire
from microq.workflows.trial import make, run_on, trial_of

pytestmark = pytest.mark.usefixtures("engine")

BOUND = 30
"""Items that the members let into the queue. The configuration of the trials says more, as one that is wrong would."""

JOINED = replace(READY["string"], read_logs="~logged: (.*?);", read_messages="~consumed: (.*)")

PAGE = replace(READY["form"], read_logs="~<h1>(.*?)</h1>", read_messages="~<li>(.*?)</li>")


class Patient(Operator):
    """The operator of a running system, asked again if a busy machine kept it from answering a look in time."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    async def act(self, verb: str, names: Sequence[str]) -> list[str]:
        return await self._operator.act(verb, names)

    async def sabotage(self, role: str, defect: str) -> None:
        await self._operator.sabotage(role, defect)

    async def announce(self, event: Event) -> None:
        await self._operator.announce(event)

    async def snapshot(self) -> Snapshot:
        for _ in range(LOOKS - 1):
            with contextlib.suppress(DeadlineError):
                return await self._operator.snapshot()
        return await self._operator.snapshot()

    def events(self) -> AsyncIterator[Event]:
        return self._operator.events()


LOOKS = 10


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory, engine: None) -> Iterator[Project]:
    """One system of external services."""
    folder = tmp_path_factory.mktemp("external")
    extra = f"[queue]\nmax-size = {BOUND}\n"
    project = foreign_project(folder, "facade", "logging", "messages", "config", members=3, extra=extra)
    started = project.microq("up", "-d")
    assert started.returncode == 0, started.stderr
    yield project
    assert project.microq("down").returncode == 0
    assert not project.alive()


async def judged(
    project: Project, fault: str, *mode: str, wire: Wire = READY["microq"], messages: int = 20, **options: Any
) -> Verdict:
    """Restart the services with the words of `mode`, and run a trial on them."""
    config = project.config
    for file in config.project.glob("stored-*"):
        file.unlink()
    set_mode(config.project, *mode)
    config = replace(config, wire=wire, queue=replace(config.queue, max_size=1000))
    trial = trial_of(make(fault, options), None, messages, seed=1, connections=4)
    folder = runs.new_run(config, fault)
    async with control.connect(config) as operator:
        await operator.restart([Role.FACADE, Role.LOGGING, Role.MESSAGES])
        verdict, _ = await run_on(Patient(operator), config, trial, folder, lambda _: None, restore=True)
    return verdict


async def test_right_services_pass_when_the_owner_dies(stand: Project) -> None:
    verdict = await judged(stand, "kill-member", target="owner")
    assert (verdict.verdict, verdict.reasons) == (Ruling.PASS, ())
    # The probe is sent again, as another text, if the first one met the kill.
    assert verdict.acknowledged == 21 <= verdict.stored <= verdict.logged <= verdict.attempted
    assert not verdict.lost
    assert not verdict.duplicated
    assert [(hit.owner, hit.seen) for hit in verdict.faults] == [(True, True)]
    assert sorted(verdict.copies_before.values()) == [[0, 20], [0, 20], [20, 0]]
    assert any("counted by their texts" in cue for cue in verdict.cues)


async def test_facade_that_ignores_a_full_queue_loses_the_rest(stand: Project) -> None:
    verdict = await judged(stand, "kill-member", "swallow", messages=BOUND + 10, target="lowest")
    assert verdict.verdict is Ruling.FAIL
    # The probe may be refused too.
    assert len(verdict.lost) >= 10
    assert set(verdict.layers.values()) == {Layer.LOG}
    (cue,) = [cue for cue in verdict.cues if "consumers off" in cue]
    assert f"held {BOUND} items, and {BOUND + 10} messages were acknowledged: some were acknowledged and not put" in cue


async def test_facade_that_puts_twice_duplicates_all(stand: Project) -> None:
    verdict = await judged(stand, "pause-consumer", "twice", seconds=0.3, times=1)
    assert verdict.verdict is Ruling.FAIL
    assert len(verdict.duplicated) == verdict.acknowledged >= 20
    assert not verdict.lost


async def test_facade_that_acknowledges_early_loses_what_it_had(stand: Project) -> None:
    verdict = await judged(stand, "kill-facade", "early", times=1)
    assert verdict.verdict is Ruling.FAIL
    assert verdict.lost
    assert all(text.startswith("msg") for text in verdict.lost)
    assert {verdict.layers[text] for text in verdict.lost} == {Layer.LOG}


async def test_consumer_that_is_killed_loses_what_it_held(stand: Project) -> None:
    verdict = await judged(stand, "kill-consumer", "hoard", messages=60, times=1)
    assert verdict.verdict is Ruling.FAIL
    kept = {text for file in stand.folder.glob("stored-*") for text in file.read_text().split()}
    assert verdict.lost
    assert not kept & set(verdict.lost)
    assert len(kept) + len(verdict.lost) >= verdict.acknowledged
    assert {verdict.layers[text] for text in verdict.lost} == {Layer.CONSUMER}


@pytest.mark.parametrize(("mode", "wire"), [(("bare", "joined"), JOINED), (("form", "html"), PAGE)])
async def test_right_services_with_another_wire_pass(stand: Project, mode: tuple[str, ...], wire: Wire) -> None:
    verdict = await judged(stand, "pause-consumer", *mode, wire=wire, seconds=0.3, times=1)
    assert (verdict.verdict, verdict.reasons) == (Ruling.PASS, ())
    assert verdict.stored == verdict.acknowledged >= 20


async def test_consumers_that_cannot_be_read_are_unknown(stand: Project) -> None:
    verdict = await judged(stand, "pause-consumer", "unreadable", seconds=0.3, times=1)
    assert verdict.verdict is Ruling.UNKNOWN
    assert any("expected the status 2xx, came 404" in reason for reason in verdict.reasons)
    assert not verdict.lost


def test_commands_talk_to_services_of_another_make(stand: Project) -> None:
    set_mode(stand.folder)
    assert stand.microq("restart", "facade", "logging", "messages").returncode == 0
    sent = stand.microq("send", "3", "--json")
    assert json.loads(sent.stdout)["acknowledged"] == 3, sent.stderr
    tried = stand.microq("wire", "--text", "hello", "--json")
    assert (tried.returncode, json.loads(tried.stdout)["problems"]) == (0, []), tried.stderr
    read = json.loads(stand.microq("read", "-n", "10", "--json").stdout)
    assert sorted(read["logs"]) == sorted(read["messages"]) == ["hello", "msg1", "msg2", "msg3"]
    status = json.loads(stand.microq("status", "--json").stdout)
    assert {process["name"].split("-")[0] for process in status["processes"] if process["external"]} == {
        "facade",
        "logging",
        "messages",
        "config",
    }


MEMBERS = """\
<hazelcast xmlns="http://www.hazelcast.com/schema/config">
  <cluster-name>lab4</cluster-name>
  <queue name="lab-queue"><backup-count>0</backup-count></queue>
</hazelcast>
"""
"""The members' configuration of a stranger, whose queue has no backup."""


@pytest.mark.skipif(shutil.which("javac") is None, reason="a program in Java needs a compiler")
def test_queue_without_a_backup_is_lost_with_its_owner(tmp_path: Path) -> None:
    shutil.copy(HERE / "Logging.java", tmp_path)
    (tmp_path / "hazelcast.xml").write_text(MEMBERS, encoding="utf-8")
    logging = program("logging", "java -XX:TieredStopAtLevel=1 Logging.java {port}")
    of_members, queue = 'config = "hazelcast.xml"\n', '[queue]\nname = "lab-queue"\n'
    project = foreign_project(
        tmp_path, "facade", "messages", members=2, messages=1, of_members=of_members, extra=f"{logging}{queue}"
    )
    text = (tmp_path / "config.toml").read_text(encoding="utf-8")
    (tmp_path / "config.toml").write_text(re.sub("hazelcast-cluster-name.*", "", text), encoding="utf-8")
    done = project.microq("chaos", "kill-member", "--target", "owner", "-m", "10", "--json")
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert "hazelcast.xml: hazelcast.jmx = true" in done.stderr
    found = json.loads(done.stdout)
    assert found["verdict"] == "fail"
    assert len(found["lost"]) == 10
    assert {re.sub("-.*", "", text) for text in found["lost"]} == {f"msg{number}" for number in range(1, 11)}
    assert set(found["layers"].values()) == {Layer.QUEUE}
    assert sorted(found["copies_before"].values()) == [[0, 0], [10, 0]]
    assert not project.alive()


async def test_fault_that_needs_a_service_of_ours_is_refused(stand: Project) -> None:
    with pytest.raises(UsageError, match="jump-clock needs microq's own service, and external is: facade"):
        await judged(stand, "jump-clock")
