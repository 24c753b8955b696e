"""What every service says of itself as OpenAPI: valid, complete, with examples that it takes itself."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from openapi_spec_validator import OpenAPIV31SpecValidator
from support.fakes import PLAIN, FakeMap, FakeQueue, every_service, facade, logging_app

from microq.fleet import SERVICES
from microq.services import module_of
from microq.services.routes import FORM, JSON, ROUTES

Document = dict[str, Any]


async def documents() -> dict[str, Document]:
    async with every_service() as callers:
        return {role: (await caller.get("/openapi.json"))[1] for role, caller in callers.items()}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def described() -> dict[str, Document]:
    return await documents()


def operations(document: Document) -> list[tuple[str, str, Document]]:
    return [(path, method, one) for path, item in document["paths"].items() for method, one in item.items()]


@pytest.mark.parametrize("role", ["facade", "logging", "messages", "config"])
def test_a_service_describes_itself_as_postman_reads_it(role: str, described: dict[str, Document]) -> None:
    document = described[role]
    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["title"] == f"microq {role}-1"
    assert document["servers"][0]["url"].startswith("http://127.0.0.1:")
    names = [one["operationId"] for _, _, one in operations(document)]
    assert len(set(names)) == len(names)
    for path, method, one in operations(document):
        assert one["summary"].endswith("."), (method, path)
        assert one["responses"]["200"]["content"], (method, path)
        for media in one.get("requestBody", {"content": {}})["content"].values():
            assert "example" in media, (method, path)


async def test_each_description_is_checked_against_the_rules() -> None:
    broken = (await documents())["config"]
    broken["paths"]["/healthz"]["get"]["responses"]["200"].pop("description")
    assert list(OpenAPIV31SpecValidator(broken).iter_errors())


def test_the_wire_api_is_described_whole(described: dict[str, Document]) -> None:
    calls = {role: {f"{m.upper()} {p}" for p, m, _ in operations(document)} for role, document in described.items()}
    every = {f"GET /{name}" for name in ("healthz", "health", "readyz", "metrics", "openapi.json")}
    assert all(every <= found for found in calls.values())
    assert {"POST /facade", "GET /facade", "POST /facade/batch", "GET /queue"} <= calls["facade"]
    assert {"GET /facade/{uuid}", "GET /dead", "POST /dead/replay", "POST /dead/drop"} <= calls["facade"]
    assert {"POST /log", "GET /log", "DELETE /log"} <= calls["logging"]
    assert {"GET /messages", "GET /arrivals"} <= calls["messages"]
    assert "GET /config/{name}" in calls["config"]


async def test_examples_of_a_message_are_accepted_by_the_facade(described: dict[str, Document]) -> None:
    content = described["facade"]["paths"]["/facade"]["post"]["requestBody"]["content"]
    queue = FakeQueue()
    async with facade(queue, [logging_app(FakeMap())]) as client:
        for kind, media in content.items():
            example = media["example"]
            body = {JSON: json.dumps(example), FORM: urlencode(example) if kind == FORM else ""}.get(kind, example)
            status, told = await client.call("POST", "/facade", data=body, headers={"Content-Type": kind})
            assert status == 200, (kind, told)
        assert await queue.size() == len(content) == 3


def test_shell_examples_name_service_and_existing_path() -> None:
    found = [route for role in SERVICES for route in module_of(role).make_app(PLAIN, f"{role}-1")[ROUTES]]
    assert len(found) > 20
    for route in found:
        words = route.curl("http://here")
        assert words.startswith(("curl ", "printf ")), words
        assert f"http://here{route.path.partition('{')[0]}" in words, words
