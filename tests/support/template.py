"""Run `microq` in a process of its own, without the second that a new interpreter takes to import it.

A template process imports every command once and forks for each run. A run is a real process: its streams, its folder,
its environment, its signals and its exit status are its own. Only the start of the interpreter is left out.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import IO

BEFORE_PYTHON = ("PYTHON", "LC_", "LANG")
"""How the variables begin that an interpreter reads when it starts: a fork of one that runs would not see them."""

WARM = ("--version", "send 0", "status --help", "chaos list", "help")
"""Commands that touch no system, and with which the command line loads what it loads only when it is used."""

PIPE_BYTES = 4096
"""What any pipe takes at once, so that no thread is needed to feed it."""


def fits(environ: Mapping[str, str], stdin: str) -> bool:
    """Return whether a fork would do the same as a new interpreter."""
    early = {key for key in {*environ, *os.environ} if key.startswith(BEFORE_PYTHON)}
    return all(environ.get(key) == _EARLY.get(key) for key in early) and len(stdin.encode()) <= PIPE_BYTES


_EARLY = {key: value for key, value in os.environ.items() if key.startswith(BEFORE_PYTHON)}


class Template:
    """The template process, and what it runs."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **_EARLY},
            )

    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """End the template; what it runs goes on."""
        self._control.close()
        self._process.wait(10)

    def run(
        self, words: Sequence[str], folder: Path, environ: Mapping[str, str], stdin: str, seconds: float
    ) -> subprocess.CompletedProcess[str]:
        """Run `microq` to its end, as `subprocess.run` does; one that takes longer than `seconds` is killed."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            run, pid = self._start(words, folder, environ, stdin, out, err)
            with run, run.makefile("r", encoding="ascii") as answers:
                run.settimeout(seconds)
                code = None
                try:
                    code = int(answers.readline())
                except TimeoutError:
                    raise subprocess.TimeoutExpired(["microq", *words], seconds, _text(out), _text(err)) from None
                finally:
                    if code is None:  # also where the test's own timeout ended the wait
                        os.kill(pid, signal.SIGKILL)
            return subprocess.CompletedProcess(["microq", *words], code, _text(out), _text(err))

    def _start(
        self,
        words: Sequence[str],
        folder: Path,
        environ: Mapping[str, str],
        stdin: str,
        out: IO[bytes],
        err: IO[bytes],
    ) -> tuple[socket.socket, int]:
        run, theirs = socket.socketpair()
        read, write = os.pipe()
        try:
            os.write(write, stdin.encode())
            os.close(write)
            with theirs, self._lock:
                fds = [theirs.fileno(), read, out.fileno(), err.fileno()]
                socket.send_fds(self._control, [b"."], fds)
                asked = {"words": list(words), "folder": str(folder), "environ": dict(environ)}
                run.sendall(json.dumps(asked).encode() + b"\n")
        finally:
            os.close(read)
        pid = b""
        while not pid.endswith(b"\n"):
            more = run.recv(1)
            assert more, "the template process ended"
            pid += more
        return run, int(pid)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode().replace("\r\n", "\n")


# -- in the template process -------------------------------------------------------------------------------------------


@dataclass
class Run:
    """What a forked process is to do."""

    words: list[str]
    folder: str
    environ: dict[str, str]

    def take_over(self, streams: Sequence[int]) -> None:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environ)
        sys.argv = ["microq", *self.words]


def serve(control: socket.socket) -> Run | None:
    """Fork for each run that is asked for, and tell how it ended; return in a forked process, and at the end."""
    running: dict[int, socket.socket] = {}
    woken, wake = socket.socketpair()
    os.set_blocking(wake.fileno(), False)  # which the signal needs
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    with control, woken, wake, selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if woken in ready:
                woken.recv(4096)
                _reap(running)
            if control in ready:
                _, fds, *_ = socket.recv_fds(control, 1, 4)
                if not fds:
                    return None
                caller = socket.socket(fileno=fds[0])
                run = Run(**json.loads(_line(caller)))
                pid = os.fork()
                if not pid:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for each in (caller, *running.values()):
                        each.close()
                    run.take_over(fds[1:])
                    return run
                for stream in fds[1:]:
                    os.close(stream)
                caller.sendall(f"{pid}\n".encode())
                running[pid] = caller


def _line(caller: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        line += caller.recv(65536)
    return line


def _reap(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with running.pop(pid) as caller, contextlib.suppress(BrokenPipeError):
            caller.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def main() -> None:
    """Import everything, then serve; a forked process comes back from that and is `microq`."""
    import microq  # noqa: PLC0415 - not in the tests' own process, which imports this module

    for module in pkgutil.walk_packages(microq.__path__, "microq."):
        if not module.name.endswith(".__main__"):
            import_module(module.name)
    command = import_module("microq.__main__").main
    for words in WARM:
        with contextlib.suppress(SystemExit):
            import_module("microq.cli").app(words.split())
    gc.freeze()  # a collection would write to every page that is shared with the template
    if not serve(socket.socket(fileno=int(sys.argv[1]))):
        return
    code: object = 0
    try:
        command()
    except SystemExit as ended:
        code = ended.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else bool(code))  # to tidy up would write to them as well


if __name__ == "__main__":
    main()
