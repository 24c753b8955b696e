"""Words such as owner, in the place of the name of a server."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.operators import SNAPSHOT, FakeOperator

from microq.cli.system import _servers
from microq.errors import UnknownServerError
from microq.fleet import Snapshot

SILENT = replace(SNAPSHOT, queue=None)
"""The facade, which reports the owner, does not answer."""


class BusyAtFirst(FakeOperator):
    """In its first snapshots the facade does not answer."""

    async def snapshot(self) -> Snapshot:
        self.view = SILENT if self.looks < 2 else SNAPSHOT
        return await super().snapshot()


async def test_owner_that_is_unknown_for_a_moment_is_found() -> None:
    assert await _servers(BusyAtFirst(), ["owner", "lowest"]) == dict.fromkeys(["owner", "lowest"], "hazelcast-5701")


async def test_owner_that_stays_unknown_is_an_error() -> None:
    operator = FakeOperator()
    operator.view = SILENT
    with pytest.raises(UnknownServerError, match="the owner is unknown now"):
        await _servers(operator, ["owner"], seconds=0.2)
    assert operator.looks > 1
