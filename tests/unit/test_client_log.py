"""What a task of the Hazelcast client met and nobody waits for is told in one line; what is ours keeps its stack."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest
from hazelcast.errors import HazelcastClientNotActiveError, TargetDisconnectedError

from microq.backends.hazelcast import client as hz


async def fail(error: Exception) -> None:
    """Let a task end by an error that nobody asks for."""

    async def task() -> None:
        raise error

    started = asyncio.ensure_future(task())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del started
    gc.collect()


@pytest.mark.parametrize(("error", "stack"), [(TargetDisconnectedError("gone"), False), (ValueError("ours"), True)])
async def test_only_an_error_of_the_client_loses_its_stack(
    caplog: pytest.LogCaptureFixture, error: Exception, *, stack: bool
) -> None:
    assert hz.without_stack in logging.getLogger("asyncio").filters
    await fail(error)
    [record] = caplog.records
    assert bool(record.exc_info) is stack
    assert ("a task of the Hazelcast client ended: TargetDisconnectedError: gone" in record.getMessage()) is not stack


async def test_end_of_a_client_that_we_shut_down_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    await fail(HazelcastClientNotActiveError("Client is not active"))
    assert not caplog.records
