"""What a service tells Prometheus, read back by Prometheus's own parsers."""

from __future__ import annotations

import pytest
from aiohttp import web
from prometheus_client import Metric, parser
from prometheus_client.openmetrics import parser as openmetrics_parser
from support.fakes import PLAIN, Caller, FakeMap, FakeQueue, calling, facade, logging_app, messages_app

from microq.errors import QueueIndeterminateError
from microq.fleet import SERVICES, Role
from microq.message import Message
from microq.metrics import BOUNDS
from microq.services import config, health

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


async def scrape(client: Caller, accept: str = "text/plain") -> tuple[str, list[Metric]]:
    """The content type and the metrics of a service."""
    async with client.session.get(f"{client.address.url}/metrics", headers={"Accept": accept}) as response:
        text = await response.text()
        kind = response.headers["Content-Type"]
    read = openmetrics_parser if "openmetrics" in kind else parser
    return kind, list(read.text_string_to_metric_families(text))


def values(metrics: list[Metric], prefix: str = "microq_") -> dict[str, float]:
    """The samples that have no labels."""
    return {
        sample.name: sample.value
        for metric in metrics
        for sample in metric.samples
        if sample.name.startswith(prefix) and not sample.labels and not sample.name.endswith("_created")
    }


async def test_facade_counts_outcomes_and_latency_of_success() -> None:
    queue = FakeQueue()
    async with facade(queue, [logging_app(FakeMap())]) as client:
        for _ in range(3):
            await client.post({"msg": "a"})
        await client.post({"msg": ""})
        queue.errors.extend([QueueIndeterminateError("unknown")] * 100)
        await client.post({"msg": "b"})
        _, metrics = await scrape(client)
    found = values(metrics)
    assert found.pop("microq_acknowledge_seconds_sum") > 0
    assert found == {
        "microq_ready": 1,
        "microq_full": 0,
        "microq_messages_acknowledged_total": 3,
        "microq_messages_rejected_total": 1,
        "microq_messages_indeterminate_total": 1,
        "microq_messages_redelivered_total": 0,
        "microq_messages_relogged_total": 0,
        "microq_log_lines_lost_total": 0,
        "microq_acknowledge_seconds_count": 3,
    }
    (histogram,) = [metric for metric in metrics if metric.name == "microq_acknowledge_seconds"]
    buckets = [sample for sample in histogram.samples if sample.name.endswith("_bucket")]
    counts = [sample.value for sample in buckets]
    assert counts == sorted(counts)
    assert counts[-1] == 3
    bounds = [float(sample.labels["le"]) for sample in buckets]
    assert bounds[:3] == [0.00025, 0.000354, 0.0005]
    assert bounds[:-1] == pytest.approx(BOUNDS, rel=0.005)


async def test_a_logging_service_tells_what_it_stored() -> None:
    async with calling(logging_app(FakeMap())) as client:
        await client.post([{"uuid": "a", "msg": "a"}, {"uuid": "b", "msg": "b"}], "/log")
        _, metrics = await scrape(client)
    assert values(metrics) == {
        "microq_ready": 1,
        "microq_messages_held": 2,
        "microq_messages_logged_total": 2,
        "microq_log_lines_lost_total": 0,
    }


@pytest.mark.parametrize(
    ("app", "role"),
    [
        (lambda: messages_app(FakeQueue(), FakeMap()), Role.MESSAGES),
        (lambda: logging_app(FakeMap()), Role.LOGGING),
        (lambda: config.make_app(PLAIN, "config-1"), Role.CONFIG),
    ],
)
async def test_every_counter_is_there_from_the_start(app: object, role: Role) -> None:
    served: web.Application = app()  # type: ignore[operator]  # a maker
    async with calling(served) as client:
        _, metrics = await scrape(client)
    counters = {name for name in values(metrics) if name.endswith("_total")}
    assert counters == {f"microq_{name}_total" for name in SERVICES[role].counters}
    assert all(metric.documentation for metric in metrics)
    assert values(metrics, "process_")["process_resident_memory_bytes"] > 0


async def test_what_is_asked_for_is_answered_in_either_format() -> None:
    async with calling(messages_app(FakeQueue([Message("a", "a", 1.0)]), FakeMap())) as client:
        plain, first = await scrape(client)
        newer, second = await scrape(client, OPENMETRICS)
        anything, _ = await scrape(client, "*/*")
        odd, _ = await scrape(client, "application/openmetrics-text; version=odd; escaping=\x80")
    assert plain.startswith("text/plain; version=")
    assert newer.startswith("application/openmetrics-text; version=1")
    assert anything.startswith("text/plain; version=")
    assert odd == newer
    assert values(first).keys() == values(second).keys()


def test_what_no_service_declares_cannot_be_counted() -> None:
    mine = health.Health("facade-1")
    mine.count("messages_acknowledged", 2)
    assert mine.counters["messages_acknowledged"] == 2
    with pytest.raises(KeyError):
        mine.count("messages_acknowleged")
