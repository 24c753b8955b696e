"""Reading back: again until two readings agree, each noted as a difference, and what others sent told apart."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from support.fakes import FakeStore, serving
from support.project import make_project

from microq.chaos.forensics import FacadeLog
from microq.chaos.history import Entry, History, record
from microq.chaos.readings import Item, Readings, difference
from microq.chaos.timeouts import Timeouts
from microq.chaos.workload import RecordingClient
from microq.client import open_session
from microq.config import Address, Config
from microq.message import Message, text_hash

SOON = Timeouts(agree=3.0, claims=1.0, loss=0.5, drain=3.0, quiet=0.1)

ITEMS = st.lists(st.builds(Item, st.sampled_from("abcdeVWXYZ"), st.sampled_from(["1", "2"])), max_size=12)
EARLIER = set("VWXYZ")


def fold(before: Sequence[Item], gone: Sequence[str], beside: Sequence[Item]) -> list[Item]:
    """What a reading shows, by the base that it is like: the contract of the history."""
    left = Counter(gone)
    kept = []
    for item in reversed(before):  # of equal ids the last ones are gone
        if left[item.id] > 0:
            left[item.id] -= 1
        else:
            kept.append(item)
    return [*reversed(kept), *beside]


@given(ITEMS, ITEMS)
def test_a_reading_is_its_base_and_the_difference(before: list[Item], now: list[Item]) -> None:
    gone, beside = difference(before, now, EARLIER)
    found = fold(before, gone, beside)
    assert Counter(item.id for item in found) == Counter(item.id for item in now)
    ours, wanted = ([i.id for i in items if i.id not in EARLIER] for items in (found, now))
    assert ours == wanted


def test_what_is_the_same_is_not_noted_again() -> None:
    before = [Item(f"{number}", "x") for number in range(1000)]
    assert difference(before, before, ()) == ([], [])
    assert difference(before, [*before[:500], *before[501:], Item("new", "x")], ()) == (["500"], [Item("new", "x")])


def log_line(text: str, *, as_json: bool = False) -> str:
    if as_json:
        return json.dumps(
            {"at": "2026-11-24T14:00:00.000+00:00", "level": "INFO", "process": "facade-1", "message": text}
        )
    return f"2026-11-24T14:00:00.000 INFO    facade-1         {text}"


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
async def test_what_the_facade_took_is_read_from_its_log(tmp_path: Path, *, as_json: bool) -> None:
    file = tmp_path / "logs" / "facade-1.log"
    file.parent.mkdir()
    said = [
        'acknowledged before "x", logged by logging-1, in 1.0 ms',
        'acknowledged a b "x", logged by logging-1, in 1.0 ms',
        "504 for c: the queue did not confirm; send it again",
        "503 for d: the queue is full",
        'took "acknowledged e "',
        'acknowledged late "x", logged by logging-1, in 1.0 ms',
    ]
    first, *rest = (log_line(text, as_json=as_json) + "\n" for text in said)
    file.write_text(first, encoding="utf-8")
    (tmp_path / "logs" / "messages-1.log").write_text(rest[0], encoding="utf-8")
    log = FacadeLog()
    await log.begin(tmp_path)
    assert (log.known, await log.look()) == (True, set())
    whole = "".join(rest)
    with file.open("a", encoding="utf-8") as writing:
        writing.write(whole[:-5])
        writing.flush()
        assert await log.look() == {"a b", "c"}
        writing.write(whole[-5:])
    assert await log.look() == {"a b", "c", "late"}


async def test_a_facade_without_a_log_says_nothing(tmp_path: Path) -> None:
    log = FacadeLog()
    await log.begin(tmp_path)
    assert (log.known, await log.look()) == (False, set())


class Scripted:
    """A service that shows one list of texts after another, and the last one for ever; ids are the texts."""

    def __init__(self, *states: Sequence[str]) -> None:
        self._states = states
        self.reads = 0
        self.app = web.Application()
        self.app.router.add_get("/log", self._answer)
        self.app.router.add_get("/messages", self._answer)

    async def _answer(self, _request: web.Request) -> web.Response:
        state = self._states[min(self.reads, len(self._states) - 1)]
        self.reads += 1
        return web.json_response([Message(text, text, 1.0, "logging-1").to_wire() for text in state])


async def settled(
    folder: Path, log: Scripted, consumers: Sequence[Scripted], stored: dict[str, int], timeouts: Timeouts = SOON
) -> tuple[bool, list[Entry]]:
    """Read these until two readings agree; `stored` is what the cluster says: text -> number of the consumer."""
    async with AsyncExitStack() as stack:
        places = [await stack.enter_async_context(serving(one.app)) for one in (log, *consumers)]
        config = with_services(make_project(folder).config, places[:1], places[1:])
        session = await stack.enter_async_context(open_session())
        history: History = stack.enter_context(record(folder / "history.jsonl"))
        store = FakeStore()
        for text, number in stored.items():
            claim = Message(text, text, 1.0, f"messages-{places[1 + number].port}")
            store.stored.entries[text] = claim.to_json()
        traffic = RecordingClient(session, config, history, timeouts)
        readings = Readings(traffic, session, config, history, store.opener())
        return await readings.settle(), history.entries


def with_services(config: Config, loggers: Sequence[Address], consumers: Sequence[Address]) -> Config:
    ips = replace(config.service_ips, logging_service=tuple(loggers), messages_service=tuple(consumers))
    return replace(config, service_ips=ips)


def agreed(entries: Sequence[Entry]) -> dict[str, Any]:
    (found,) = (entry.facts for entry in entries if entry.kind == "agreed")
    return found


async def test_two_equal_readings_are_enough(tmp_path: Path) -> None:
    log, first, second = Scripted(["a", "b"]), Scripted(["a"]), Scripted(["b"])
    done, entries = await settled(tmp_path, log, [first, second], {"a": 0, "b": 1})
    assert (done, log.reads) == (True, 2)
    assert agreed(entries) == {"readings": [1, 2], "agreed": True}
    hashes = {entry.facts["id"]: entry.facts["hash"] for entry in entries if entry.kind == "shown"}
    assert hashes == {"a": text_hash("a"), "b": text_hash("b")}
    # The second one differs by nothing.
    again = [entry for entry in entries if entry.facts.get("reading") == 2]
    assert [(entry.kind, entry.facts["like"], entry.facts["gone"]) for entry in again] == [("read", 1, [])] * 3


async def test_a_message_that_moves_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    """Both show it in the first reading: the one gives it up while the other has it already."""
    log, first, second = Scripted(["a"]), Scripted(["a"], []), Scripted(["a"])
    done, entries = await settled(tmp_path, log, [first, second], {"a": 1})
    assert done
    assert agreed(entries)["readings"] == [2, 3]
    moved = [entry.facts for entry in entries if entry.kind == "read" and entry.facts.get("gone")]
    assert [(facts["reading"], facts["gone"]) for facts in moved] == [(2, ["a"])]


async def test_differing_claims_get_time_to_reconcile(tmp_path: Path) -> None:
    """Two readings agree at once, but the cluster says that the message is the other one's: soon it is."""
    states = [["a"]] * 3
    log, first, second = Scripted(["a"]), Scripted(*states, []), Scripted(*states, ["a"])
    done, entries = await settled(tmp_path, log, [first, second], {"a": 1}, replace(SOON, loss=2.5))
    assert done
    assert agreed(entries)["readings"] == [4, 5]


async def test_what_stays_wrong_is_agreed_on(tmp_path: Path) -> None:
    log, both = Scripted(["a"]), [Scripted(["a"]), Scripted(["a"])]
    done, entries = await settled(tmp_path, log, both, {"a": 1})
    assert (done, agreed(entries)["agreed"]) == (True, True)


async def test_readings_that_never_agree_end_in_time(tmp_path: Path) -> None:
    restless = Scripted(*([f"{number}"] for number in range(1000)))
    done, entries = await settled(tmp_path, Scripted(["a"]), [restless, Scripted([])], {}, replace(SOON, agree=1.0))
    assert (done, agreed(entries)["agreed"]) == (False, False)


class Arriving(Scripted):
    """A messages-service that holds one message more with each question after its health, and shows all of them."""

    def __init__(self, count: int) -> None:
        super().__init__([f"{number}" for number in range(count)])
        self.count, self.held, self.held_when_read = count, 0, list[int]()
        self.app.router.add_get("/healthz", self._health)

    async def _health(self, _request: web.Request) -> web.Response:
        self.held = min(self.held + 1, self.count)
        return web.json_response({"held": self.held})

    async def _answer(self, request: web.Request) -> web.Response:
        self.held_when_read.append(self.held)
        return await super()._answer(request)


async def _no_items(_request: web.Request) -> web.Response:
    return web.json_response({"size": 0})


async def test_reading_waits_until_acknowledged_messages_are_held(tmp_path: Path) -> None:
    """A reading of 100,000 messages takes seconds, and the links that the system needs to catch up wait meanwhile."""
    consumer, log = Arriving(20), Scripted([f"{number}" for number in range(20)])
    facade = web.Application()
    facade.router.add_get("/queue", _no_items)
    async with AsyncExitStack() as stack:
        places = [await stack.enter_async_context(serving(one)) for one in (facade, log.app, consumer.app)]
        config = with_services(make_project(tmp_path).config, places[1:2], places[2:])
        config = replace(config, service_ips=replace(config.service_ips, facade_service=places[0]))
        session = await stack.enter_async_context(open_session())
        history: History = stack.enter_context(record(tmp_path / "history.jsonl"))
        timeouts = replace(SOON, quiet=0.0, loss=30.0, drain=60.0)
        traffic = RecordingClient(session, config, history, timeouts)
        traffic.acknowledged.update(dict.fromkeys(f"{number}" for number in range(20)))
        await Readings(traffic, session, config, history, FakeStore().opener()).drain()
        entries = history.entries
    assert consumer.held_when_read == [20]
    assert [entry.facts["complete"] for entry in entries if entry.kind == "drained"] == [True]
