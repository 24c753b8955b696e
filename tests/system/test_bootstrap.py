"""The members of a new cluster find each other however slow the first one is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from support.project import Project

from microq.backends.jars import Engine
from microq.chaos.recovery import until
from microq.client import listens
from microq.fleet import Role
from microq.supervisor import runs
from microq.supervisor.supervisor import supervise
from microq.workflows.machine import provide


def slow_for(engine: Engine, name: str, seconds: int, folder: Path) -> Engine:
    """An engine whose Java takes its time for one member."""
    script = folder / "java"
    script.write_text(
        f'#!/bin/sh\ncase "$*" in *{name}.yaml*) sleep {seconds};; esac\nexec {engine.java.path} "$@"\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    return replace(engine, java=replace(engine.java, path=script))


async def test_a_slow_first_member_splits_no_cluster(project: Project, engine: None, tmp_path: Path) -> None:
    config = project.config
    first = f"hazelcast-{config.hazelcast.hazelcast_clients[0].port}"
    # Longer than the others need to give up on it and make a cluster of their own.
    slow = slow_for(provide(config), first, 4, tmp_path)
    async with supervise(config, runs.new_run(config, "up"), slow) as supervisor:
        await supervisor.start(["hazelcast", "facade"])
        assert await until(supervisor, lambda view: view.joined, 60)
        for spec in supervisor.specs:
            assert await listens(spec.address) is (spec.role in {Role.QUEUE, Role.FACADE})
