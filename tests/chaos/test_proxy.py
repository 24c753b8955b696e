"""The proxy between small servers and clients: what each switch does, that it is counted, and that it ends."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

import aiohttp
import psutil
import pytest
from aiohttp import web
from support.fakes import serving, until
from support.hazelcast_frames import REPLY_BYTES, FakeMember, error, reply, request
from support.kafka_frames import COMMIT, FETCH, METADATA, PRODUCE, FakeBroker, committed, fetched, produced
from support.kafka_frames import reply as kafka_reply
from support.kafka_frames import request as kafka_request
from support.project import free_ports

from microq.backends.base import Kind, Reply
from microq.chaos.conditions import CLIENTS, Ends, around, to
from microq.chaos.faults.network import Cut, Loss, Silence, Slowness
from microq.chaos.proxy import Links, open_links, proxying
from microq.child import child
from microq.client import listens
from microq.config import Address
from microq.errors import MachineError, RemoteError
from microq.fleet import Detour

OFFER, POLL, PUT_IF_ABSENT = 196864, 197888, 69120

ONE, TWO, THREE = (f"hazelcast-{number}" for number in (1, 2, 3))

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


def detour(name: str) -> Detour:
    address, hidden = (Address("127.0.0.1", port) for port in free_ports(2))
    return Detour(name, address, hidden)


@asynccontextmanager
async def listening(way: Detour, handler: Handler) -> AsyncIterator[None]:
    """Serve the target of a detour."""
    server = await asyncio.start_server(handler, way.hidden.host, way.hidden.port)  # type: ignore[arg-type]  # any kind
    try:
        yield
    finally:
        server.close()


@dataclass
class Caller:
    """One connection to the address of a detour."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def says(self, data: bytes) -> bytes:
        """Send, and return as many bytes of the answer."""
        self.writer.write(data)
        return await self.reader.readexactly(len(data))

    async def asks(self, kind: int, number: int) -> bytes:
        """Send a request, and return what comes back: a reply, or less if the connection ends."""
        self.writer.write(request(kind, number))
        return await self.hears(REPLY_BYTES)

    async def hears(self, size: int) -> bytes:
        try:
            return await self.reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            return error.partial
        except ConnectionError:
            return b""

    async def is_cut(self) -> bool:
        return await self.hears(1) == b""

    async def is_silent(self) -> bool:
        """Whether nothing is heard for a while; only ever wrong if nothing was cut."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.15):
                await self.reader.read(1)
                return False
        return True


@dataclass
class Net:
    """Links to fake members, and whoever calls; those who greet as members introduce themselves as `opener`."""

    links: Links
    ways: dict[str, Detour]
    member: FakeMember
    stack: contextlib.AsyncExitStack

    async def call(self, greeting: bytes = b"CP2", target: str = ONE, opener: str = "") -> Caller:
        """Connect, and greet; a member introduces itself as well."""
        address = self.ways[target].address
        reader, writer = await asyncio.open_connection(address.host, address.port)
        self.stack.callback(writer.close)
        writer.write(greeting)
        caller = Caller(reader, writer)
        if opener and await caller.hears(3):
            writer.write(self.introduction(target, opener))
        return caller

    def introduction(self, target: str, opener: str) -> bytes:
        ports = [self.ways[name].address.port for name in (target, opener)]
        return b"".join(struct.pack(">iBi", port, 4, 9) + b"127.0.0.1" for port in ports)

    async def talks(self, greeting: bytes = b"CP2", target: str = ONE, opener: str = "") -> Caller:
        """Connect, and wait until the target answers."""
        caller = await self.call(greeting, target, opener)
        if greeting == b"CP2":
            assert await caller.asks(1, 0) == reply(2, 0)
        elif opener:
            said = self.introduction(target, opener)
            assert await caller.hears(len(said)) == said
        else:
            assert await caller.hears(3) == greeting
        return caller


@asynccontextmanager
async def linked() -> AsyncIterator[Net]:
    """Links between a client and members, under the deadline of a test."""
    ways = {name: detour(name) for name in (ONE, TWO, THREE)}
    member = FakeMember()
    async with asyncio.timeout(60), contextlib.AsyncExitStack() as stack:
        for way in ways.values():
            await stack.enter_async_context(listening(way, member.serve))
        links = await stack.enter_async_context(open_links(list(ways.values())))
        for way in ways.values():
            await answers(way.address)
        yield Net(links, ways, member, stack)


async def answers(address: Address, *, does: bool = True) -> None:
    """Wait until somebody listens there, or nobody does."""
    while await listens(address) is not does:  # noqa: ASYNC110 - nobody tells it
        await asyncio.sleep(0.01)


# -- nothing switched on ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("greeting", [b"HZC", b"GET"])
async def test_a_link_carries_everything_both_ways(greeting: bytes) -> None:
    async with linked() as net:
        caller = await net.talks(greeting)
        data = Random(1).randbytes(8 << 20)
        caller.writer.write(data)
        # The sender is far ahead of the receiver: nothing but a full buffer stops it.
        assert await caller.hears(len(data)) == data
        link = net.links.links[ONE]
        assert link.opened == 1
        assert link.towards.taken == link.back.taken == len(data) + 3
        assert net.links.counts.delayed == net.links.counts.cut == 0


async def test_a_link_carries_calls_of_any_length() -> None:
    async with linked() as net:
        caller = await net.talks()
        big = request(OFFER, 7, b"x" * (3 << 20))
        for part in (big[:10], big[10:]):
            caller.writer.write(part)
            await asyncio.sleep(0.01)
        assert await caller.hears(REPLY_BYTES) == reply(OFFER + 1, 7)
        assert net.links.connections() == [Ends(Kind.CLIENT, ONE)]


async def test_the_end_of_one_direction_is_not_that_of_the_other() -> None:
    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = await reader.read()
        writer.write(heard.upper())
        writer.close()

    async with asyncio.timeout(60):
        way = detour("hazelcast-4")
        async with listening(way, late), open_links([way]) as links:
            await answers(way.address)
            reader, writer = await asyncio.open_connection(way.address.host, way.address.port)
            writer.write(b"the question")
            writer.write_eof()
            assert await reader.read() == b"THE QUESTION"
            await until(lambda: not links.links["hazelcast-4"].pipes)
            writer.close()


async def test_a_link_refuses_while_its_target_is_away() -> None:
    async with linked() as net:
        way = detour("hazelcast-4")

        async def leave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HZC")
            server.close()
            writer.transport.abort()

        async with open_links([way]):
            await asyncio.sleep(0.1)
            assert not await listens(way.address)
            async with listening(way, net.member.serve):
                await answers(way.address)
            # It went without having been called: the first caller is reset, the next one refused.
            _, writer = await asyncio.open_connection(way.address.host, way.address.port)
            writer.write(b"GET /")
            await answers(way.address, does=False)
            writer.close()
            server = await asyncio.start_server(leave, way.hidden.host, way.hidden.port)
            await answers(way.address)
            _, writer = await asyncio.open_connection(way.address.host, way.address.port)
            writer.write(b"GET /")
            # It went while a connection was open.
            await answers(way.address, does=False)
            writer.close()
            async with listening(way, net.member.serve):
                await answers(way.address)


async def test_an_address_that_is_in_use_is_named() -> None:
    async with linked() as net:
        way = net.ways[ONE]
        with pytest.raises(MachineError, match=f"the link to {ONE} cannot listen on {way.address}"):
            async with open_links([way]):
                pytest.fail("it was taken")


async def test_closed_links_leave_no_connection() -> None:
    async with linked() as net:
        way = detour("hazelcast-4")
        async with listening(way, net.member.serve):
            async with open_links([way]):
                await answers(way.address)
                reader, writer = await asyncio.open_connection(way.address.host, way.address.port)
                writer.write(b"GET /")
                assert await reader.readexactly(5) == b"GET /"
            assert await Caller(reader, writer).is_cut()
            writer.close()
            assert not await listens(way.address)


async def test_what_is_no_call_ends_the_connection() -> None:
    async with linked() as net:
        caller = await net.call(b"CP2" + bytes(6))
        assert await caller.is_cut()


# -- cut ----------------------------------------------------------------------------------------------------------


async def test_cut_clients_are_reset_and_turned_away_until_healed() -> None:
    async with linked() as net:
        both = [await net.talks(target=target) for target in (ONE, TWO)]
        others = [await net.talks(b"GET"), await net.talks(b"HZC", opener=TWO)]
        assert net.links.impose(Cut(CLIENTS)) == 2
        assert [await each.is_cut() for each in both] == [True, True]
        assert await (await net.call()).is_cut()
        assert [await each.says(b"still here") for each in others] == [b"still here"] * 2
        assert (net.links.counts.cut, net.links.counts.refused, net.links.counts.held) == (2, 1, 0)
        net.links.lift()
        await net.talks()
        assert (net.links.counts.cut, net.links.counts.refused) == (2, 1)


@pytest.mark.parametrize("silent", [True, False])
async def test_a_member_is_cut_off_both_ways_and_nobody_else_is(silent: bool) -> None:  # noqa: FBT001 - a parameter
    async with linked() as net:
        mine = [await net.talks(b"HZC", ONE, TWO), await net.talks(b"HZC", TWO, ONE)]
        others = [await net.talks(b"HZC", TWO, THREE), await net.talks(b"GET", ONE)]
        client = await net.talks()
        assert net.links.impose((Silence if silent else Cut)(around(ONE))) == 2
        for each in mine:
            each.writer.write(b"x")
            assert await (each.is_silent() if silent else each.is_cut())
        assert [await each.says(b"still here") for each in others] == [b"still here"] * 2
        assert await client.asks(OFFER, 1) == reply(OFFER + 1, 1)
        late = await net.call(b"HZC", TWO, ONE)
        assert await (late.is_silent() if silent else late.is_cut())
        assert (net.links.counts.held if silent else net.links.counts.cut + net.links.counts.refused) == 3
        net.links.lift()
        await net.talks(b"HZC", TWO, ONE)


async def test_what_a_silence_held_arrives_in_order_after_it() -> None:
    async with linked() as net:
        caller, leaver = await net.talks(b"HZC"), await net.talks(b"HZC")
        net.links.impose(Silence(around(ONE)))
        late = await net.call(b"HZC")
        data = Random(2).randbytes(1 << 20)
        caller.writer.write(data)
        leaver.writer.close()
        assert await caller.is_silent()
        assert len(net.links.links[ONE].pipes) == 3  # that one left is heard of later, too
        net.links.lift()
        assert await caller.hears(len(data)) == data
        assert await late.hears(3) == b"HZC"
        await until(lambda: len(net.links.links[ONE].pipes) == 2)


# -- slow ---------------------------------------------------------------------------------------------------------


async def test_a_slow_link_is_slow_each_way_and_quick_afterwards() -> None:
    async with linked() as net:
        caller = await net.talks(b"GET")
        net.links.impose(Slowness(delay=0.1, jitter=0.05, rate=500 << 10, seed=3))
        began = time.monotonic()
        assert await caller.says(b"hello") == b"hello"
        assert time.monotonic() - began >= 0.1
        assert net.links.counts.delayed == 10
        net.links.lift()
        assert await caller.says(b"hello") == b"hello"
        assert net.links.counts.delayed == 10


async def test_nothing_overtakes_and_nothing_is_lost_on_a_slow_link() -> None:
    async with linked() as net:
        caller = await net.talks(b"GET")
        net.links.impose(Slowness(delay=0.02, jitter=0.02, rate=10 << 20, seed=4))
        parts = [bytes([number]) * 1000 for number in range(200)]
        for number, part in enumerate(parts):
            caller.writer.write(part)
            if number == 150:
                net.links.lift()
            await asyncio.sleep(0)
        assert await caller.hears(200_000) == b"".join(parts)


async def test_the_connections_of_a_link_share_its_rate() -> None:
    async with linked() as net:
        callers = [await net.talks(b"GET"), await net.talks(b"GET")]
        net.links.impose(Slowness(delay=0, jitter=0, rate=1 << 20))
        began = time.monotonic()
        data = bytes(256 << 10)
        for caller in callers:
            caller.writer.write(data)
        for caller in callers:
            assert await caller.hears(len(data)) == data
        assert time.monotonic() - began >= 0.5


# -- lost replies ---------------------------------------------------------------------------------------------------


async def test_a_reply_is_lost_after_its_request_was_carried_out() -> None:
    async with linked() as net:
        caller, bystander = await net.talks(), await net.talks()
        net.links.impose(Loss(Reply.ENQUEUE, every=2))
        assert await caller.asks(PUT_IF_ABSENT, 1) == reply(PUT_IF_ABSENT + 1, 1)
        assert await caller.asks(OFFER, 2) == reply(OFFER + 1, 2)
        assert await caller.asks(OFFER, 3) == b""
        assert (OFFER, 3) in net.member.asked
        assert net.links.counts.lost == {Reply.ENQUEUE: 1}
        assert await bystander.asks(OFFER, 4) == reply(OFFER + 1, 4)
        net.links.lift()
        assert await bystander.asks(OFFER, 5) == reply(OFFER + 1, 5)
        assert net.links.counts.lost == {Reply.ENQUEUE: 1}


async def test_replies_before_the_lost_one_arrive() -> None:
    async with linked() as net:
        caller = await net.talks()
        net.links.impose(Loss(Reply.STORE))
        caller.writer.write(request(OFFER, 1) + request(PUT_IF_ABSENT, 2) + request(OFFER, 3))
        assert await caller.hears(1000) == reply(OFFER + 1, 1)


async def test_replies_are_lost_by_chance_and_where_asked_for() -> None:
    async def lost(net: Net, seed: int) -> list[int]:
        net.links.impose(Loss(Reply.ENQUEUE, every=3, seed=seed, where=to(ONE)))
        found = []
        for number in range(30):
            caller = await net.talks()
            if await caller.asks(OFFER, number) == b"":
                found.append(number)
            caller.writer.close()
        assert await (await net.talks(target=TWO)).asks(OFFER, 1) == reply(OFFER + 1, 1)
        return found

    async with linked() as net:
        first = await lost(net, 5)
        assert 2 < len(first) < 25
        assert await lost(net, 5) == first != await lost(net, 6)


async def test_an_error_is_never_lost() -> None:
    async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(3 + len(request(OFFER, 1)))
        writer.write(error(1))
        await reader.read()
        writer.close()

    async with asyncio.timeout(60):
        way = detour("hazelcast-4")
        async with listening(way, fail), open_links([way]) as links:
            await answers(way.address)
            links.impose(Loss(Reply.ENQUEUE))
            reader, writer = await asyncio.open_connection(way.address.host, way.address.port)
            writer.write(b"CP2" + request(OFFER, 1))
            assert await reader.readexactly(len(error(1))) == error(1)
            writer.close()
            assert not links.counts.lost


async def test_http_reply_is_lost_after_the_request_was_carried_out() -> None:
    done: list[str] = []

    async def work(request: web.Request) -> web.Response:
        done.append(f"{request.method} {await request.text()}")
        return web.Response(text="done")

    app = web.Application()
    app.router.add_route("*", "/", work)
    async with asyncio.timeout(60), serving(app) as target, aiohttp.ClientSession() as session:
        way = Detour("facade-5000", detour("facade-5000").address, target)
        async with open_links([way]) as links:
            await answers(way.address)
            links.impose(Loss(Reply.HTTP))
            for _ in range(2):
                async with session.get(way.address.url) as response:
                    assert await response.text() == "done"
            # A big body, so that it comes in many parts.
            with pytest.raises(aiohttp.ClientError):
                await session.post(way.address.url, data="x" * 500_000)
            assert done == ["GET ", "GET ", "POST " + "x" * 500_000]
            assert links.counts.lost == {Reply.HTTP: 1}
            links.lift()
            async with session.post(way.address.url, data="again") as response:
                assert await response.text() == "done"
            assert links.counts.lost == {Reply.HTTP: 1}


# -- a broker -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def brokered() -> AsyncIterator[tuple[Links, FakeBroker, Callable[[], Awaitable[Caller]]]]:
    """Give links to a member and a broker, the broker, and what connects to it."""
    member, broker, ways = FakeMember(), FakeBroker(), [detour("hazelcast-5701"), detour("kafka-9092")]
    async with contextlib.AsyncExitStack() as stack:
        for way, handler in zip(ways, (member.serve, broker.serve), strict=True):
            await stack.enter_async_context(listening(way, handler))
        links = await stack.enter_async_context(open_links(ways))
        for way in ways:
            await answers(way.address)

        async def call() -> Caller:
            reader, writer = await asyncio.open_connection(ways[1].address.host, ways[1].address.port)
            stack.callback(writer.close)
            return Caller(reader, writer)

        yield links, broker, call


async def gets(caller: Caller, asked: bytes, expected: bytes) -> bool:
    """Whether a request has this reply, and not the end of the connection."""
    caller.writer.write(asked)
    heard = await caller.hears(len(expected))
    assert heard in {expected, b""}
    return bool(heard)


async def test_a_client_of_a_broker_is_cut_off_as_one_of_a_member_is() -> None:
    async with asyncio.timeout(20), brokered() as (links, _, call):
        caller = await call()
        assert await gets(caller, kafka_request(METADATA, 1), kafka_reply(1))
        assert links.connections() == [Ends(Kind.CLIENT, "kafka-9092")]
        assert links.impose(Cut(CLIENTS)) == 1
        assert await caller.is_cut()
        again = await call()
        assert not await gets(again, kafka_request(METADATA, 1), kafka_reply(1))
        links.lift()
        assert await gets(await call(), kafka_request(METADATA, 1), kafka_reply(1))


async def test_a_broker_did_what_a_lost_reply_would_have_confirmed() -> None:
    async with asyncio.timeout(20), brokered() as (links, broker, call):
        caller = await call()
        links.impose(Loss(Reply.ENQUEUE))
        assert await gets(caller, kafka_request(FETCH, 1), fetched(1, b""))
        assert not await gets(caller, kafka_request(PRODUCE, 2), produced(2, 0))
        assert len(broker.records) == 1
        links.impose(Loss(Reply.DEQUEUE))
        assert not await gets(await call(), kafka_request(FETCH, 3), fetched(3, *broker.records))
        caller = await call()
        assert await gets(caller, kafka_request(FETCH, 4), fetched(4, b""))
        assert not await gets(caller, kafka_request(COMMIT, 5), committed(5, 0))
        assert broker.asked[-1] == (COMMIT, 5)
        assert links.counts.lost == {Reply.ENQUEUE: 1, Reply.DEQUEUE: 2}


# -- who opened it ------------------------------------------------------------------------------------------------


async def test_a_member_is_known_once_it_has_introduced_itself() -> None:
    async with linked() as net:
        caller = await net.talks(b"HZC", TWO)
        assert net.links.connections() == [Ends(Kind.PEER, TWO)]
        said = net.introduction(TWO, THREE)
        for part in (said[:30], said[30:], b"one" * 1000):
            assert await caller.says(part) == part
        assert net.links.connections() == [Ends(Kind.PEER, TWO, THREE)]


async def test_who_never_says_who_it_is_stays_a_stranger() -> None:
    async with linked() as net:
        caller = await net.talks(b"HZC", TWO)
        for part in (bytes(2000), net.introduction(TWO, THREE)):
            assert await caller.says(part) == part
        assert net.links.connections() == [Ends(Kind.PEER, TWO)]


# -- the process --------------------------------------------------------------------------------------------------


async def test_the_process_does_what_its_parent_asks_for() -> None:
    async with linked() as net:
        way = detour(ONE)
        net.ways[ONE] = way
        async with listening(way, net.member.serve), proxying([way]) as proxy:
            await answers(way.address)
            first = await net.talks()
            assert await proxy.connections() == [Ends(Kind.CLIENT, ONE)]
            assert await proxy.impose(Cut(CLIENTS)) == 1
            assert await first.is_cut()
            await proxy.lift()
            silent = await net.talks(b"GET")
            assert await proxy.impose(Silence(to(ONE))) == 1
            silent.writer.write(b"later")
            assert await silent.is_silent()
            await proxy.lift()
            assert await silent.hears(5) == b"later"
            await proxy.impose(Slowness(delay=0.1, jitter=0, rate=1 << 20, seed=1))
            began = time.monotonic()
            assert await silent.says(b"slow") == b"slow"
            assert time.monotonic() - began >= 0.2
            await proxy.lift()
            await proxy.impose(Loss(Reply.STORE, where=to(TWO)))
            caller = await net.talks()
            assert await caller.asks(PUT_IF_ABSENT, 1) == reply(PUT_IF_ABSENT + 1, 1)
            await proxy.impose(Loss(Reply.STORE, 1, 0.5, to(ONE)))
            assert await caller.asks(PUT_IF_ABSENT, 2) == b""
            await proxy.lift()
            assert await (await net.talks()).asks(PUT_IF_ABSENT, 3) == reply(PUT_IF_ABSENT + 1, 3)
            counts = await proxy.counts()
            assert (counts.cut, counts.refused, counts.held, counts.delayed) == (1, 0, 1, 8)
            assert counts.lost == {Reply.STORE: 1}
            assert await proxy.failure() == ""
        assert not await listens(way.address)


async def test_the_end_of_the_process_is_noticed() -> None:
    async with linked() as net:
        way = detour(ONE)
        async with listening(way, net.member.serve), proxying([way]) as proxy:
            watching = asyncio.create_task(proxy.watch())
            psutil.Process(proxy.pid).kill()
            with pytest.raises(MachineError, match="the proxy between the processes ended by itself, with status -9"):
                await watching
            assert await proxy.failure() == "the proxy between the processes ended during 'counts'"
            with pytest.raises(MachineError, match="ended during 'lift'"):
                await proxy.lift()


async def test_an_answer_that_comes_too_late_is_not_taken_for_the_next() -> None:
    async with asyncio.timeout(60), child("microq.chaos.proxy", "the proxy", "[]") as started:
        assert await started.ask("connections") == []
        process = psutil.Process(started.pid)
        assert " ".join(process.cmdline()).strip() == "microq links"
        process.suspend()
        with pytest.raises(MachineError, match=r"the proxy did not answer 'connections' within 0\.1 s"):
            await started.ask("connections", within=0.1)
        process.resume()
        assert (await started.ask("counts"))["held"] == 0


async def test_the_process_says_which_address_it_cannot_have() -> None:
    async with linked() as net:
        taken, late = net.ways[ONE], detour("hazelcast-4")
        with pytest.raises(RemoteError, match=f"the link to {ONE} cannot listen on {taken.address}"):
            async with proxying([taken]):
                pytest.fail("it was taken")
        # Free at the start and taken when the target listens: nothing but the end of the process tells it.
        async with proxying([late]) as proxy:
            squatter = await asyncio.start_server(net.member.serve, late.address.host, late.address.port)
            async with listening(late, net.member.serve):
                with pytest.raises(RemoteError, match=f"the link to hazelcast-4 cannot listen on {late.address}"):
                    await proxy.watch()
            squatter.close()


def test_the_process_ends_with_its_parent() -> None:
    script = (
        "import asyncio\n"
        "from microq.chaos.proxy import proxying\n"
        "async def main():\n"
        "    async with proxying([]) as proxy:\n"
        "        print(proxy.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        proxy = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    psutil.wait_procs([proxy], timeout=20)
    assert not proxy.is_running() or proxy.status() == psutil.STATUS_ZOMBIE


async def test_a_proxy_that_gets_no_processor_says_for_how_long() -> None:
    async with open_links([]) as links:
        await asyncio.sleep(0.2)
        time.sleep(0.5)  # noqa: ASYNC251 - what it measures
        await asyncio.sleep(0.2)
        assert links.counts.stalled >= 0.3
