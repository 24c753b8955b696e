"""A group of equal services of which some hang, refuse or fail: who is asked, who is left out, and what is known."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
from aiohttp import web
from support.fakes import FakeMap, FakeQueue, facade, logging_app, serving, until
from support.project import free_ports

from microq.client import ATTEMPT_SECONDS, open_session
from microq.config import Address
from microq.message import Message
from microq.replicas import Replicas, ReplicasUnavailableError, open_replicas


class Service:
    """One of a group. It may hang, as a process that is paused: then nothing is answered until it wakes."""

    def __init__(self, name: str = "", status: int = 200) -> None:
        self.name, self.status = name, status
        self.calls: Counter[str] = Counter()
        self.awake = asyncio.Event()
        self.awake.set()
        self.slow = 0.0
        """Seconds that each request takes but the question whether it lives."""
        self.app = web.Application()
        self.app.router.add_route("*", "/{path:.*}", self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        self.calls[request.path] += 1
        await self.awake.wait()
        if request.path != "/healthz":
            await asyncio.sleep(self.slow)
        return web.json_response({"name": self.name}, status=self.status)


@dataclass
class Group:
    """The client of a group of services."""

    replicas: Replicas

    async def ask(self, times: int = 1) -> Counter[str]:
        """Ask one after another; return how often each answered."""
        return Counter([(await self.replicas.call("GET", "/work")).body["name"] for _ in range(times)])


@asynccontextmanager
async def group(*services: Service | Address) -> AsyncIterator[Group]:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(open_session())
        places = [s if isinstance(s, Address) else await stack.enter_async_context(serving(s.app)) for s in services]
        yield Group(await stack.enter_async_context(open_replicas(session, "some-service", places)))


def nobody() -> Address:
    return Address("127.0.0.1", free_ports(1)[0])


async def test_each_healthy_one_gets_its_share() -> None:
    async with group(*(Service(name) for name in "abc")) as it:
        shares = await it.ask(150)
        assert set(shares) == {*"abc"}
        assert min(shares.values()) > 20


async def test_hanging_replica_is_left_out() -> None:
    hung, others = Service("hung"), [Service("a"), Service("b")]
    async with group(hung, *others) as it:
        hung.awake.clear()
        began = time.monotonic()
        shares = await it.ask(200)
        assert set(shares) == {"a", "b"}
        assert min(shares.values()) > 40
        # Each of these requests would have waited for the whole time of an attempt.
        assert hung.calls["/work"] <= 1 + (time.monotonic() - began) / 0.25
        hung.awake.set()


async def test_one_that_wakes_up_is_asked_again() -> None:
    hung = Service("hung")
    async with group(hung, Service("a")) as it:
        hung.awake.clear()
        assert set(await it.ask(20)) == {"a"}
        hung.awake.set()
        async with asyncio.timeout(20):
            while "hung" not in await it.ask():
                pass


async def test_the_question_whether_it_lives_is_asked_once_at_a_time() -> None:
    hung = Service("hung")
    async with group(hung, Service("a")) as it:
        hung.awake.clear()
        await asyncio.gather(*(it.ask() for _ in range(50)))
        assert hung.calls["/healthz"] == 1
        hung.awake.set()


async def test_slow_healthy_replica_is_waited_for() -> None:
    slow = [Service("a"), Service("b")]
    for each in slow:
        each.slow = 0.7
    async with group(*slow) as it:
        answer = await it.replicas.call("GET", "/work")
        assert not answer.repeated
        assert sum(each.calls["/work"] for each in slow) == 1


async def test_one_that_refuses_is_left_out() -> None:
    async with group(nobody(), Service("a")) as it:
        await it.ask(20)
        assert len({it.replicas.choose() for _ in range(50)}) == 1


async def test_one_that_starts_later_gets_its_share() -> None:
    late, place = Service("late"), nobody()
    async with group(place, Service("a")) as it:
        assert set(await it.ask(20)) == {"a"}
        runner = web.AppRunner(late.app)
        await runner.setup()
        await web.TCPSite(runner, place.host, place.port).start()
        async with asyncio.timeout(20):
            while "late" not in await it.ask():
                pass
        await runner.cleanup()


async def test_when_all_are_left_out_they_are_asked_all_the_same() -> None:
    hung = [Service("a"), Service("b")]
    async with group(*hung) as it:
        for each in hung:
            each.awake.clear()
        asking = asyncio.ensure_future(it.ask())
        await until(lambda: all(each.calls["/work"] for each in hung))
        again = asyncio.ensure_future(it.ask())
        await until(lambda: sum(each.calls["/work"] for each in hung) > 2)
        for each in hung:
            each.awake.set()
        assert await asking
        assert await again


async def test_error_of_hanging_group_is_indeterminate() -> None:
    hung = [Service("a"), Service("b")]
    async with group(*hung) as it:
        for each in hung:
            each.awake.clear()
        began = time.monotonic()
        with pytest.raises(ReplicasUnavailableError) as caught:
            await it.ask()
        assert caught.value.sent
        assert time.monotonic() - began < 2 * ATTEMPT_SECONDS
        assert len(caught.value.reasons) == 2


async def test_what_another_one_may_still_carry_out_is_said() -> None:
    hung = Service("hung")
    async with group(hung, Service("a")) as it:
        hung.awake.clear()
        answer = await it.replicas.call("POST", "/work", [], it.replicas.addresses[0])
        assert (answer.body, answer.repeated) == ({"name": "a"}, True)
        # It is left out now.
        assert not (await it.replicas.call("POST", "/work", [])).repeated
        hung.awake.set()


@pytest.mark.parametrize(("status", "repeated"), [(503, False), (504, True), (500, True)])
async def test_an_error_of_another_one_says_whether_it_did_it(status: int, *, repeated: bool) -> None:
    async with group(Service("bad", status), Service("a")) as it:
        answer = await it.replicas.call("POST", "/work", [], it.replicas.addresses[0])
        assert (answer.body, answer.repeated) == ({"name": "a"}, repeated)


async def test_entry_that_may_still_be_written_is_not_refused() -> None:
    """It writes when it wakes up, after the queue has refused the message."""
    log, queue = FakeMap(), FakeQueue(most=0)
    awake = asyncio.Event()
    late = logging_app(log, "logging-2")

    @web.middleware
    async def hang(request: web.Request, handler: object) -> web.StreamResponse:
        await awake.wait()
        assert callable(handler)
        response: web.StreamResponse = await handler(request)
        return response

    late.middlewares.append(hang)
    answers: dict[str, int] = {}
    async with serving(late) as hung, serving(logging_app(log)) as healthy:
        # One facade asks the hung service once, on a slow machine perhaps in vain: the request may not have left.
        while 504 not in answers.values():
            assert len(answers) < 100
            async with facade(queue, [hung, healthy]) as client:
                message_id = f"id-{len(answers)}"
                answers[message_id] = (await client.post({"msg": "a", "uuid": message_id}))[0]
        awake.set()
        await asyncio.sleep(0.1)
    refused = {message_id for message_id, status in answers.items() if status == 503}
    assert refused.isdisjoint(log.entries)


@pytest.mark.parametrize("body", ["", "null", "[]", "7", "{}", '{"new": 1}', '{"new": [true], "at": []}'])
async def test_foreign_answer_is_indeterminate(body: str) -> None:
    """Another program may have its port."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=body, content_type="application/json")

    odd = web.Application()
    odd.router.add_route("*", "/{path:.*}", answer)
    async with facade(FakeQueue(), [odd]) as client:
        for _ in range(2):
            status, _ = await client.post({"msg": "hello"})
            assert status == 504


async def test_batch_does_not_wait_for_a_hanging_service() -> None:
    hung = Service("hung")
    apps: Sequence[web.Application] = [hung.app, logging_app(FakeMap(), "logging-2")]
    async with facade(FakeQueue(), apps) as client:
        hung.awake.clear()
        answers = await asyncio.gather(*(client.post({"msg": f"m{n}"}) for n in range(100)))
        assert {status for status, _ in answers} == {200}
        assert hung.calls["/log"] <= 2
        hung.awake.set()


async def test_texts_of_hanging_service_are_not_waited_for() -> None:
    hung = Service("hung")
    shown = Message("id-1", "a", 1.0, "messages-1")

    async def show(_request: web.Request) -> web.Response:
        return web.json_response([shown.text])

    good = web.Application()
    good.router.add_get("/messages", show)
    async with facade(FakeQueue(), [logging_app(FakeMap())], [hung.app, good]) as client:
        hung.awake.clear()
        for _ in range(10):
            assert (await client.get("/facade"))[1]["message"] == ["a"]
        assert hung.calls["/messages"] <= 2
        hung.awake.set()
