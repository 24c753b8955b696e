"""An event loop in virtual time, which runs several processes; which of them runs next is drawn from a seed.

Time does not pass while anything can run; then it jumps to the next timer. The callbacks of one process run in the
order that asyncio promises; the order of those of different processes is random. Nothing depends on addresses, hash
seeds or real clocks, so a seed always gives the same schedule.
"""

from __future__ import annotations

import asyncio
import itertools
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

WALL = 1_800_000_000.0
"""The wall time at which a run begins, in seconds since the epoch."""

MOST_STEPS = 400_000
"""Callbacks of a run after which it is stopped: something loops without waiting."""

_PROCESS: ContextVar[Process] = ContextVar("process")


class StuckError(Exception):
    """A run does not end, or a process of it does not."""


class Handle(asyncio.TimerHandle):
    """A callback that runs in its context, at a time or as soon as its process can run."""

    __slots__ = ("process",)

    def __init__(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> None:
        self._when, self._callback, self._args = when, callback, args
        self._context = copy_context() if context is None else context
        self._cancelled = False
        self.process = self._context[_PROCESS]

    def cancel(self) -> None:
        self._cancelled = True


class Task(asyncio.Task[T]):
    """A task whose hash is its number: the order of a set of tasks does not depend on addresses."""

    number: int

    def __new__(cls, *_args: Any, **_options: Any) -> Task[T]:
        made = super().__new__(cls)
        made.number = next(_numbers)
        return made

    def __hash__(self) -> int:
        return self.number

    __eq__ = object.__eq__


_numbers = itertools.count()


class Process:
    """A process: its callbacks run one after another, unless it is paused; after a crash nothing of it runs again."""

    def __init__(self, loop: Loop, name: str) -> None:
        self.loop, self.name = loop, name
        self.alive, self.paused = True, False
        self.ready: deque[Handle] = deque()
        self.context = copy_context()
        self.context.run(_PROCESS.set, self)
        self.at_end: list[Callable[[], None]] = []
        """Called once when the process has ended."""
        self._tasks: list[Task[Any]] = []

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> Task[T]:
        """Run a coroutine as a task of this process."""
        return self.loop.create_task(coroutine, context=self.context.copy())

    def note(self, task: Task[Any]) -> None:
        """Remember a task, to end it with the process."""
        if len(self._tasks) > 64:
            self._tasks = [each for each in self._tasks if not each.done()]
        self._tasks.append(task)

    def pause(self) -> None:
        """Run nothing until `resume`, as after SIGSTOP."""
        self.paused = True
        self.loop.look_at(self)

    def resume(self) -> None:
        self.paused = False
        self.loop.look_at(self)

    def crash(self) -> None:
        """End as after SIGKILL: what is sent from now on reaches nobody. Not from a task of this loop.

        Its tasks are cancelled and unwound at once, only to leave nothing suspended: what they call is refused.
        """
        if not self.alive:
            return
        self.alive = self.paused = False
        self.loop.look_at(self)
        for _ in range(10):
            left = [each for each in self._tasks if not each.done()]
            if not left:
                break
            for each in left:
                each.cancel()
            while self.ready:
                self.loop.run_one(self.ready.popleft())
        else:
            raise StuckError(f"{self.name} does not end: {left}")
        for end in self.at_end:
            end()


def current() -> Process:
    """Return the process that runs now."""
    return _PROCESS.get()


class Loop(asyncio.AbstractEventLoop):
    """The event loop; `world` is the process of everything that is part of no real process."""

    def __init__(self, seed: int) -> None:
        self._random = Random(f"loop {seed}").random
        self._now = 0.0
        self._ready: list[Process] = []
        self._timers: list[tuple[float, int, Handle]] = []
        self._count = itertools.count()
        self.steps = 0
        self.stopped = False
        self.world = Process(self, "world")

    # -- what asyncio asks of a loop ----------------------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]  # no task factory, no eager start
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> Task[T]:
        task: Task[T] = Task(coro, loop=self, name=name, context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # a crash destroys it
        process = _PROCESS.get() if context is None else context[_PROCESS]
        process.note(task)
        return task

    def call_soon(  # type: ignore[override]  # without asyncio's type variables
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(self._now, callback, args, context)
        self._queue(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(when, callback, args, context)
        heappush(self._timers, (when, next(self._count), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: a cancelled timer is skipped when its time comes."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Do nothing: a service would log it; what ends a process is seen by whoever started it."""

    # -- processes and time -------------------------------------------------------------------------------------------

    def in_world(self, delay: float, callback: Callable[..., object], *args: Any) -> Handle:
        """Call something after a delay, outside all processes."""
        return self.call_at(self._now + delay, callback, *args, context=self.world.context)

    def look_at(self, process: Process) -> None:
        """Note whether a process can run now."""
        can = bool(process.ready) and process.alive and not process.paused
        listed = process in self._ready
        if can and not listed:
            self._ready.append(process)
        elif listed and not can:
            self._ready.remove(process)

    def _queue(self, handle: Handle) -> None:
        process = handle.process
        if not process.ready and process.alive and not process.paused:
            self._ready.append(process)
        process.ready.append(handle)

    def run_one(self, handle: Handle) -> None:
        """Run a callback that was taken from its process."""
        if not handle._cancelled:
            self.steps += 1
            handle._context.run(handle._callback, *handle._args)

    def run_until_stopped(self, end: float) -> None:
        """Run until `stopped` is set, until the time is `end`, or until nothing is left to run."""
        events._set_running_loop(self)
        try:
            while not self.stopped and self._advance(end):
                ready = self._ready
                place = int(self._random() * len(ready))
                process = ready[place]
                handle = process.ready.popleft()
                if not process.ready:
                    ready[place] = ready[-1]
                    ready.pop()
                self.run_one(handle)
                if self.steps > MOST_STEPS:
                    raise StuckError(f"more than {MOST_STEPS} callbacks until {self._now:.3f} s")
        finally:
            events._set_running_loop(None)

    def _advance(self, end: float) -> bool:
        """Let time pass until something can run; return whether something can before `end`."""
        timers = self._timers
        while not self._ready:
            while timers and timers[0][2]._cancelled:
                heappop(timers)
            if not timers or timers[0][0] > end:
                return False
            self._now = max(self._now, timers[0][0])
            while timers and timers[0][0] <= self._now:
                handle = heappop(timers)[2]
                if handle.process.alive and not handle._cancelled:
                    self._queue(handle)
        return True

    def close(self) -> None:
        """End everything that is left of a run."""
        events._set_running_loop(self)
        try:
            self.world.crash()
        finally:
            events._set_running_loop(None)
