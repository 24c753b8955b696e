"""What a supervising process does with signals."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

SUPERVISOR = """
import asyncio, os, signal, sys
from microq.supervisor import supervisor
async def main():
    heard = []
    with supervisor._signals(lambda: heard.append("end")):
        os.kill(os.getpid(), int(sys.argv[1]))
        await asyncio.sleep(0.1)
    print(*heard)
asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("ignored", [False, True])
def test_signal_ignored_at_start_ends_no_system(number: signal.Signals, *, ignored: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SUPERVISOR, str(int(number))],
        preexec_fn=lambda: signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ([] if ignored else ["end"])
