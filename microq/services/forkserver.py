"""`python -m microq.services.forkserver`: imports the modules of the services once, and forks a service for each order.

A service needs 0.3 s of processor time to start; nine tenths of it are imports. An order is a line of JSON on standard
input, `{"argv": [...], "log": path, "folder": path}`. The answer is a line `{"pid": n}`, and when that service ends, a
line `{"ended": pid, "status": n}`. The server ends when its input ends; the services continue.
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
from typing import Any

from microq import interpreter
from microq.fleet import SERVICES
from microq.services import module_of
from microq.services.__main__ import main

LATER = ("uvloop", "microq.backends.hazelcast.queue")
"""Modules that services import late and that all of them need."""

_CHUNK = 1 << 16


def serve() -> list[str] | None:
    """Carry out orders until the input ends, then return None; in a forked process return the `argv` of its order."""
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
    """Fork; return True in the child, which first waits until its parent has reported it."""
    mine, its = socket.socketpair()
    with mine, its:
        pid = os.fork()
        if not pid:
            mine.close()
            _become(order, files)
            its.send(b"!")
            if not its.recv(1):
                sys.exit(1)  # the parent is gone, and nothing would end this process
            return True
        its.close()
        mine.recv(1)
        _say(pid=pid)
        with contextlib.suppress(BrokenPipeError):  # it may have ended already
            mine.send(b"!")
        return False


def _become(order: dict[str, Any], inherited: tuple[int, ...]) -> None:
    """Become independent of the server: a session, a log and a folder of its own, no signal handlers and no files."""
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
    """Import the modules of the services, and exempt them from garbage collection: then their memory stays shared."""
    for role in SERVICES:
        module_of(role)
    for module in LATER:
        import_module(module)
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    interpreter.show_as("microq fork server")
    prepare()
    words = serve()
    if words is not None:
        sys.argv[1:] = words
        sys.exit(main())
