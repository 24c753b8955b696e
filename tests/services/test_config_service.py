"""The config-service over real HTTP: every name of its two tables, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from support.fakes import PLAIN, calling

from microq.services.config import make_app


async def ask(name: str) -> tuple[int, Any]:
    async with calling(make_app(PLAIN, "config-1")) as client:
        return await client.get(f"/config/{name}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("messages-service", ["127.0.0.1:5001", "127.0.0.1:5002"]),
        ("logging-service", ["127.0.0.1:5003", "127.0.0.1:5004", "127.0.0.1:5005"]),
        ("facade-service", "127.0.0.1:5000"),
        ("config-service", "127.0.0.1:5006"),
        ("hazelcast-cluster-name", "microservice"),
        ("hazelcast-clients", ["127.0.0.1:5701", "127.0.0.1:5702", "127.0.0.1:5703"]),
        ("managed", True),
        ("partition-count", 13),
    ],
)
async def test_a_name_in_the_tables_answers_its_value(name: str, value: object) -> None:
    assert await ask(name) == (200, {name: value})


@pytest.mark.parametrize("name", ["nothing", "max-size", "messages_service", "a%2Fb", "project", "environment"])
async def test_another_name_answers_404_in_the_one_shape(name: str) -> None:
    status, body = await ask(name)
    assert (status, body["status"]) == (404, "failure")


async def test_it_is_ready_at_once_and_holds_nothing() -> None:
    async with calling(make_app(PLAIN, "config-1")) as client:
        assert (await client.get("/readyz"))[0] == 200
        assert (await client.get("/healthz"))[1]["held"] is None
