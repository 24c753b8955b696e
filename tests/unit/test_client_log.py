"""What a task of the Hazelcast client met and nobody waits for is told in one line; what is ours keeps its stack."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest
from hazelcast.errors import TargetDisconnectedError

from microq.backends.hazelcast import client as hz


@pytest.mark.parametrize(("error", "stack"), [(TargetDisconnectedError("gone"), False), (ValueError("ours"), True)])
async def test_only_an_error_of_the_client_loses_its_stack(
    caplog: pytest.LogCaptureFixture, error: Exception, *, stack: bool
) -> None:
    assert hz.without_stack in logging.getLogger("asyncio").filters

    async def fail() -> None:
        raise error

    task = asyncio.ensure_future(fail())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    gc.collect()
    [record] = caplog.records
    assert bool(record.exc_info) is stack
    assert ("a task of the Hazelcast client ended: TargetDisconnectedError: gone" in record.getMessage()) is not stack
