"""`python -m microq.services.forkserver`: has imported what every service needs, and forks into one for each order.

Of the 0.3 s of processor time that a service needs to start, nine tenths are imports. A line of JSON on standard input
is an order, `{"argv": [...], "log": path, "folder": path}`; it is answered with a line `{"pid": n}`, and the end of
that service is told with `{"ended": pid, "status": n}`. The server ends with its input; the services do not.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from microq.services import ROLES
from microq.services.__main__ import main

LATER = ("uvloop", "microq.queues.hazelcast")
"""What services import only when they need it, and all of them do."""

_CHUNK = 1 << 16


def serve() -> list[str] | None:
    """Carry orders out until the input ends; return None then, and in each forked process the words of its order."""
    heard, signals = os.pipe()
    os.set_blocking(heard, False)
    os.set_blocking(signals, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(signals, warn_on_full_buffer=False)
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(heard, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if heard in ready:
                os.read(heard, _CHUNK)
                _reap()
            if 0 not in ready:
                continue
            if not (chunk := os.read(0, _CHUNK)):
                return None
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                order = json.loads(line)
                if _fork(order, (heard, signals, selector.fileno())):
                    return list(order["argv"])


def _fork(order: dict[str, Any], files: tuple[int, ...]) -> bool:
    """Return whether this is the forked process, which waits until its parent told that there is one."""
    mine, its = socket.socketpair()
    with mine, its:
        pid = os.fork()
        if not pid:
            mine.close()
            _become(order, files)
            its.send(b"!")
            if not its.recv(1):
                sys.exit(1)  # nobody knows of this process
            return True
        its.close()
        mine.recv(1)
        _say(pid=pid)
        with contextlib.suppress(BrokenPipeError):  # it may have ended already
            mine.send(b"!")
        return False


def _become(order: dict[str, Any], inherited: tuple[int, ...]) -> None:
    """Be as if started by itself: a session, a log, a folder, no signals and files of the server's."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    for file in (log, nothing, *inherited):
        os.close(file)
    os.chdir(order["folder"])
    # All of them have the server's command line; this is what Linux's `ps` and `top` tell them apart by.
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(Path(order["log"]).stem[:15])


def _reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _say(ended=pid, status=os.waitstatus_to_exitcode(status))


def _say(**words: int) -> None:
    os.write(1, json.dumps(words).encode() + b"\n")


def prepare() -> None:
    """Import what the services import, and keep it where it is: what nobody writes is shared by all of them."""
    for module in (*ROLES.values(), *LATER):
        import_module(module)
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    prepare()
    words = serve()
    if words is not None:
        sys.argv[1:] = words
        sys.exit(main())
