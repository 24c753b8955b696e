"""A put that found no room: refused, unless the client may have sent it twice."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from hazelcast.errors import IllegalStateError, TargetDisconnectedError, TargetNotMemberError
from support.fakes import FakeClient

from microq.backends.hazelcast import client as hz
from microq.backends.hazelcast.queue import HazelcastQueue
from microq.config import Config
from microq.errors import QueueError, QueueFullError, QueueIndeterminateError
from microq.message import Message


class FullQueue:
    """The proxy of a full queue; the client repeats a request so many times."""

    def __init__(self, client: FakeClient, retries: int) -> None:
        self._client, self._retries = client, retries

    async def offer(self, _item: str) -> bool:
        self._client.retries += self._retries
        return False

    async def add_all(self, _items: list[str]) -> bool:
        self._client.retries += self._retries
        raise IllegalStateError("Queue full!")


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(("retries", "error"), [(0, QueueFullError), (1, QueueIndeterminateError)])
async def test_full_queue_refuses_unless_put_was_repeated(count: int, retries: int, error: type[QueueError]) -> None:
    client = FakeClient()
    client.retries = 7
    queue = HazelcastQueue(hz.Cluster(client), FullQueue(client, retries))
    with pytest.raises(error):
        await queue.put([Message(f"m{n}", "hello") for n in range(count)])


async def test_client_counts_its_own_retries() -> None:
    client = hz._TextClient(hz._client_config(Config("the test", Path()), "the test"))
    request = SimpleNamespace(retryable=False)
    counts = []
    for error in (TargetDisconnectedError("gone"), TargetNotMemberError("left"), IllegalStateError("Queue full!")):
        invocation = SimpleNamespace(connection=None, uuid=None, request=request)
        client._invocation_service._should_retry(invocation, error)
        counts.append(client.retries)
    assert counts == [0, 1, 1]
