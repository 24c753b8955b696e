"""The tests themselves have what they need around them, whoever starts them."""

from __future__ import annotations

import subprocess
import sys

IGNORED = """
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
import conftest
print(subprocess.check_output([sys.executable, "-c",
    "import signal; print(*[signal.getsignal(n) is signal.SIG_IGN for n in (2, 1, 15)])"], text=True))
"""


def test_children_of_tests_receive_ignored_signals() -> None:
    path = next(entry for entry in sys.path if entry.endswith("tests"))
    words = [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r})\n{IGNORED}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "False", "False"]
