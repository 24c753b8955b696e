"""Raw HTTP against the facade of the shared system: what no client of ours would send."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest
from support.commands import ask, until
from support.project import Project


def call(
    system: Project, method: str, body: bytes | None = None, path: str = "/facade", **headers: str
) -> tuple[int, Any]:
    return ask(system.config.service_ips.facade_service, method, path, body, **headers)


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        (b'{"msg": "' + b"x" * (2 << 20) + b'"}', 413, "larger than 1048576 bytes"),
        (b'{"msg": 1}', 400, '"msg" must be text'),
        (b'{"msg": null}', 400, '"msg" must be text'),
        (b'{"msg": ""}', 400, '"msg" is empty'),
        (b'{"text": "x"}', 400, '"msg" is missing'),
        (b'["msg"]', 400, "a list is not a message"),
        (b"", 400, "the body is empty"),
        (b'{"msg": "\xff\xfe"}', 400, "not UTF-8"),
        (b'{"msg": "\\ud83d"}', 400, "surrogate"),
        (b"[" * 100_000, 400, "not JSON"),
        (b'{"msg": "x", "uuid": 7}', 400, '"uuid" must be text'),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else "",
)
def test_a_wrong_body_is_refused_with_the_reason(body: bytes, status: int, part: str, system: Project) -> None:
    got, answer = call(system, "POST", body)
    assert (got, answer["status"]) == (status, "failure")
    assert part in answer["message"]


def test_a_large_text_comes_back_intact(system: Project) -> None:
    text = "🐟" * (100 * 1024 // 4)
    assert len(text.encode()) == 100 * 1024
    status, answer = call(system, "POST", json.dumps({"msg": text}, ensure_ascii=False).encode())
    assert (status, answer["status"]) == (200, "success")

    def received() -> bool:
        return any(text in call(system, "GET")[1]["message"] for _ in range(6))

    until(received)
    assert text in call(system, "GET")[1]["logs"]


def test_the_same_id_twice_is_one_message(system: Project) -> None:
    key = {"Idempotency-Key": "the-same-id"}
    first = call(system, "POST", b'{"msg": "said twice"}', **key)
    second = call(system, "POST", b'{"msg": "said twice"}', **key)
    assert first[0] == second[0] == 200
    assert first[1]["uuid"] == second[1]["uuid"] == "the-same-id"
    status, answer = call(system, "POST", b'{"msg": "something else"}', **key)
    assert (status, answer["status"]) == (422, "failure")
    assert call(system, "GET")[1]["logs"].count("said twice") == 1


def test_a_batch_answers_each_line(system: Project) -> None:
    address = system.config.service_ips.facade_service
    connection = http.client.HTTPConnection(address.host, address.port, timeout=20)
    connection.request("POST", "/facade/batch", body=b'{"msg": "in a batch"}\n{"msg": 1}\n\nnonsense\n')
    answers = [json.loads(line) for line in connection.getresponse().read().splitlines()]
    connection.close()
    assert [answer["code"] for answer in answers] == [200, 400, 400]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("PUT", "/facade", 405)])
def test_another_address_is_an_error_as_json(method: str, path: str, status: int, system: Project) -> None:
    got, answer = call(system, method, path=path)
    assert (got, answer["status"]) == (status, "failure")
