"""Ten thousand malformed requests to all four services, in this process: nothing breaks, in silence or in the log."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.fakes import PLAIN, FakeMap, FakeQueue, facade, logging_app, messages_app, serving
from support.malformed import Places, drawn, say_all, undocumented

from microq.services import config

REQUESTS, ROUNDS = 10_000, 10


@asynccontextmanager
async def everything() -> AsyncIterator[Places]:
    queue, log = FakeQueue(most=1_000_000), FakeMap()
    async with (
        serving(logging_app(log)) as logging,
        serving(messages_app(queue, FakeMap())) as messages,
        serving(config.make_app(PLAIN, "config-1")) as configuration,
        facade(queue, [logging], [messages]) as client,
    ):
        yield {"facade": client.address, "logging": logging, "messages": messages, "config": configuration}


@pytest.mark.timeout(300)
def test_ten_thousand_malformed_requests_break_nothing(caplog: pytest.LogCaptureFixture) -> None:
    statuses: Counter[int] = Counter()
    unheard: list[object] = []
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda _loop, context: unheard.append(context))
        services = everything()
        places = runner.run(services.__aenter__())

        for number in range(ROUNDS):
            caplog.clear()
            answers = runner.run(say_all(places, drawn(REQUESTS // ROUNDS, number)))
            statuses.update(status for status, _, _ in answers)
            assert not undocumented(answers)
            assert not unheard
            loud = [record for record in caplog.records if record.exc_info or not record.getMessage().isprintable()]
            assert not loud, [record.getMessage() for record in loud]

        runner.run(services.__aexit__(None, None, None))
    assert statuses.keys() >= {200, 400, 404, 405}, statuses
