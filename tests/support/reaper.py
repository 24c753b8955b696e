"""Wait until the process that runs tests is gone, however it ends; then kill what still runs in their folder.

A system in the background has a session of its own, so it outlives tests that are interrupted or killed.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import psutil

ATTEMPTS = 5
"""How often it is looked: what was starting another process at the first look has started it at the next."""

SECONDS = 10.0
"""How long what was killed may take to be gone."""


class Reaper:
    """The process that waits for the end of this one."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__], stdin=subprocess.PIPE, text=True, start_new_session=True
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def watch(self, folder: str) -> None:
        """Name the folder of all tests."""
        assert self._process.stdin
        self._process.stdin.write(folder)
        self._process.stdin.flush()

    def close(self) -> None:
        """Kill what still runs, and return when it is gone."""
        self._process.communicate(timeout=ATTEMPTS * SECONDS + SECONDS)


def running_below(folder: str) -> Iterator[psutil.Process]:
    """Yield the processes whose working folder, project or a word of whose command is below a folder."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            words = [process.cwd(), process.environ().get("MICROQ_PROJECT", ""), *process.cmdline()]
            if any(word.startswith(f"{folder}/") for word in words):
                yield process


def main() -> None:
    """Read to the end of standard input, which comes when nobody has its other end any more."""
    callers = psutil.Process().parents()  # a user may have told them of a file there
    folder = sys.stdin.read()
    for _ in range(ATTEMPTS if folder else 0):
        found = [process for process in running_below(folder) if process not in callers]
        if not found:
            return
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, timeout=SECONDS)


if __name__ == "__main__":
    main()
