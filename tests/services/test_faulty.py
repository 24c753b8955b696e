"""Services with a defect, for the negative controls: each breaks its one promise, and nobody gets one by accident."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import typer
from aiohttp import web
from support.fakes import PLAIN, FakeQueue, FakeStore, calling, facade, logging_app, queue_opener, until
from support.project import Project
from typer.core import TyperGroup

from microq.cli import app as command_line
from microq.config import Config, load
from microq.errors import ConfigError
from microq.fleet import SERVICES, Role
from microq.log import Took, read_event
from microq.message import Message
from microq.services import faulty, messages, redelivery
from microq.services.app import HEALTH
from microq.supervisor.topology import service_argv, specs

TABLES = ("service_ips", "hazelcast", "queue", "limits")


class Quick(redelivery.Watch):
    pause = 0.01


class QuickBlind(faulty.Blind):
    pause = 0.01


def consuming(queue: FakeQueue, store: FakeStore, kind: type[messages.Consumer]) -> web.Application:
    return messages.make_app(PLAIN, "messages-1", queue_opener(queue), store.opener(), kind)


@pytest.mark.parametrize(("watch", "redelivered"), [(Quick, True), (QuickBlind, False)])
async def test_a_facade_without_redelivery_leaves_what_left_the_queue(
    watch: type[redelivery.Watch], *, redelivered: bool
) -> None:
    store, queue = FakeStore(), FakeQueue()
    config = replace(PLAIN, queue=replace(PLAIN.queue, visibility_timeout=0))
    async with facade(queue, [logging_app(store.log)], (), config, store, watch) as client:
        assert (await client.post({"msg": "a"}))[0] == 200
        queue.items.clear()
        await asyncio.sleep(0.3)
        assert bool(queue.items) is redelivered


async def test_hesitant_consumer_waits_before_it_stores() -> None:
    store, queue = FakeStore(), FakeQueue([Message("a", "a", 1.0)])
    async with calling(consuming(queue, store, faulty.Hesitant)):
        await until(lambda: not queue.items)
        began = time.monotonic()
        await asyncio.sleep(0.2)
        assert not store.stored.entries
        await until(lambda: "a" in store.stored.entries)
        assert time.monotonic() - began >= faulty.HESITATION - 0.1


async def test_hasty_consumer_that_dies_has_logged_what_it_took(caplog: pytest.LogCaptureFixture) -> None:
    """Else the verdict would say that the queue lost what this consumer had confirmed."""

    class LastCall(FakeQueue):
        async def ack(self) -> None:
            said.extend(record.getMessage() for record in caplog.records if "took" in record.getMessage())
            await super().ack()

    said: list[str] = []
    store, queue = FakeStore(), LastCall([Message("id-1", "a", 1.0)])
    with caplog.at_level("INFO"):
        async with calling(consuming(queue, store, faulty.Hasty)):
            await until(lambda: queue.acks > 0)
            assert not store.stored.entries
    assert read_event(Took, said[0]) == Took.of(["id-1"])


@pytest.mark.parametrize(("kind", "shown"), [(messages.Consumer, ["a"]), (faulty.Undiscerning, ["a", "a"])])
async def test_a_consumer_without_dedupe_shows_twice_what_came_twice(
    kind: type[messages.Consumer], shown: list[str]
) -> None:
    store, queue = FakeStore(), FakeQueue([Message("id-1", "a", 1.0)] * 2)
    app = consuming(queue, store, kind)
    async with calling(app) as client:
        await until(lambda: not queue.items and app[HEALTH].held() == len(shown))
        assert await client.get("/messages") == (200, shown)


async def test_careless_logging_service_acknowledges_writes_nothing() -> None:
    store, queue = FakeStore(), FakeQueue()
    careless = faulty.careless(logging_app(store.log), "logging-1")
    async with facade(queue, [careless]) as client:
        status, body = await client.post({"msg": "a"})
        assert (status, body["logging-service"]) == (200, "logging-1")
        assert (len(queue.items), store.log.entries) == (1, {})
    async with facade(FakeQueue(most=0), [faulty.careless(logging_app(store.log), "logging-1")]) as client:
        assert (await client.post({"msg": "a"}))[0] == 503


def test_every_defect_makes_a_service_of_its_role() -> None:
    for role, make_app in faulty.DEFECTS.values():
        app = make_app(PLAIN, f"{role}-1")
        assert app[HEALTH].name == f"{role}-1"
        assert role in SERVICES


# -- nobody gets one by accident --------------------------------------------------------------------------------------


def test_no_key_of_a_configuration_asks_for_a_defect(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    for table in TABLES:
        for key in ("defect", "defects", "sabotage", *faulty.DEFECTS):
            file.write_text(f'[{table}]\n{key} = "no-redelivery"\n', encoding="utf-8")
            with pytest.raises(ConfigError, match="is not a key"):
                load(file, environ={})
            with pytest.raises(ConfigError):
                load(None, [f"{table}.{key}=true"], environ={})
    keys = {field.name for table in TABLES for field in fields(getattr(PLAIN, table))}
    assert not keys & {name.replace("-", "_") for name in faulty.DEFECTS}


def test_no_variable_of_the_environment_asks_for_a_defect() -> None:
    names = [name.upper().replace("-", "_") for name in ("defect", "defects", "sabotage", *faulty.DEFECTS)]
    given = {f"MICROQ_{middle}{name}": "no-redelivery" for name in names for middle in ("", "QUEUE_", "SERVICE_IPS_")}
    assert load(environ=given) == load(environ={})


def test_an_ordinary_start_is_of_the_services_own_module() -> None:
    for config in (PLAIN, load(environ={}), Config("a test", Path("no-redelivery"))):
        for spec in specs(config):
            if spec.role is not Role.QUEUE:
                assert service_argv(spec, Path("hesitant.toml"))[1:4] == ["-P", "-m", "microq.services"]


def words_of(command: Any) -> Iterator[str]:
    yield str(command.name)
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    if isinstance(command, TyperGroup):
        for inner in command.commands:
            yield from words_of(command.get_command(typer.Context(command), inner))


def test_no_command_and_no_option_has_the_name_of_a_defect() -> None:
    words = {word.lstrip("-") for word in words_of(typer.main.get_command(command_line))}
    assert "kill-member" in words
    assert not words & {"defect", "sabotage", *faulty.DEFECTS}


@pytest.mark.parametrize("more", [[], ["no-redelivery"], ["--defect", "no-redelivery"]])
def test_the_services_own_command_line_takes_no_defect(more: list[str], project: Project) -> None:
    # An unknown word ends it; the service itself would go on until it is stopped.
    done = subprocess.run(
        [sys.executable, "-m", "microq.services", *more, "nosuch" if not more else "facade", "--port", "0"],
        cwd=project.folder,
        env={**os.environ, "MICROQ_DEFECT": "no-redelivery"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "microq.services: error:" in done.stderr
