"""Several processes that are one service: they share its port, and end together.

The kernel spreads the connections over the listeners of one port (SO_REUSEPORT); each worker has one of them. Whoever
is asked for figures answers for all, see `Health`. Their parent takes no requests, it only waits: for signals, and for
the end of a worker, which takes the connections of its clients with it and must not pass unnoticed.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence

from microq.errors import MachineError, MicroqError
from microq.services.health import Health

log = logging.getLogger(__name__)

ENDS = frozenset({signal.SIGINT, signal.SIGTERM})

_STARTED = signal.SIGUSR1
"""By this a worker tells its parent that it can take requests."""

_HEARD = ENDS | {_STARTED, signal.SIGCHLD}

Work = Callable[[socket.socket, Callable[[], None], int], None]
"""What a worker does: it serves on a socket, calls the function once it can, and ends when told, or when the pipe ends
that the number names."""


def check() -> None:
    """Raise `MachineError` where the kernel does not spread connections over the listeners of a port."""
    if sys.platform != "linux":
        raise MachineError("[facade] workers: several processes can share a port on Linux only; leave it at 1")


def share(health: Health, listeners: Sequence[socket.socket], work: Work, ready: str, seconds: float) -> None:
    """Be the parent of one worker for each listener; return when they have ended because that was asked for.

    To be called before there is a loop or a thread. The line `ready` is logged once all workers can take requests.
    They have `seconds` to end. Raises `MicroqError` if one of them ended by itself, after all the others, or had to be
    killed.
    """
    # Until there is somebody to hear them: none may be lost, or end a worker that only begins.
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    started = functools.partial(os.kill, os.getpid(), _STARTED)
    # Only the parent holds the other end, and the kernel closes it however the parent ends.
    leash, held = os.pipe()
    pids: dict[int, int] = {}
    for worker, listener in enumerate(listeners):
        pid = os.fork()
        if not pid:
            os.close(held)
            # What belongs to another worker would stay open with this one.
            for other in listeners:
                if other is not listener:
                    other.close()
            health.become(worker)
            work(listener, started, leash)
            sys.exit()
        pids[pid] = worker
    for listener in listeners:
        listener.close()
    _watch(health, pids, ready, seconds)


def _watch(health: Health, pids: dict[int, int], ready: str, seconds: float) -> None:
    """Wait until no worker is left; `pids` are their process ids, with their numbers."""
    deadline: float | None = None
    failure: MicroqError | None = None
    said = ending = False
    while pids:
        heard = _hear(deadline)
        asked = heard in ENDS  # by a signal to the whole group, perhaps, of which a worker has ended already
        for pid, status in _ended(pids):
            worker = pids.pop(pid)
            if not (ending or asked):
                failure = MicroqError(f"worker {worker + 1} of {health.workers} (pid {pid}) ended {_how(status)}")
                failure.exit_code = max(status, 1)
                log.error("%s; the others end with it", failure)
        if heard == _STARTED and health.started and not said:
            said = True
            log.info("%s", ready)
        if heard is None:
            failure = MicroqError(f"{len(pids)} workers did not end in {seconds:g} s, and were killed")
            _tell(pids, signal.SIGKILL)
            deadline = None
        elif not ending and (failure or asked):
            ending, deadline = True, time.monotonic() + seconds
            _tell(pids, signal.SIGTERM)
    if failure:
        raise failure


def _hear(deadline: float | None) -> int | None:
    """Wait for a signal and return it; None if the deadline passed."""
    if deadline is None:
        return signal.sigwait(_HEARD)
    heard = signal.sigtimedwait(_HEARD, max(0.0, deadline - time.monotonic()))
    return heard.si_signo if heard else None


def _ended(pids: Iterable[int]) -> list[tuple[int, int]]:
    """Return the workers that ended since the last look, with their exit status, negative for a signal's number."""
    looked = [os.waitpid(pid, os.WNOHANG) for pid in pids]
    return [(pid, os.waitstatus_to_exitcode(status)) for pid, status in looked if pid]


def _how(status: int) -> str:
    return f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"


def _tell(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)  # not reaped yet, so it is still theirs
