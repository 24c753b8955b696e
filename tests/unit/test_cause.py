"""Why a child failed, from what it logged."""

from __future__ import annotations

import json

import pytest

from microq.supervisor.cause import cause_of

JVM = """2026-11-28T13:36:18.166 INFO    hazelcast-5701   Starting
2026-11-28T13:36:18.170 SEVERE  hazelcast-5701   Node creation failed
com.hazelcast.core.HazelcastException: could not start
\tat com.hazelcast.instance.impl.Node.<init>(Node.java:1)
\tat java.base/java.lang.Thread.run(Thread.java:2)
Caused by: java.net.BindException: Cannot assign requested address
\tat java.base/sun.nio.ch.Net.bind0(Native Method)
\t... 12 more
"""

PYTHON = """2026-11-28T13:36:18.170 ERROR   facade-5000      it ends
Traceback (most recent call last):
  File "a.py", line 6, in <module>
    main()
    ^^^^^^
ValueError: the disk is on fire
"""

GROUP = """  + Exception Group Traceback (most recent call last):
  |   File "a.py", line 6, in <module>
  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "a.py", line 1, in f
    | OSError: [Errno 28] No space left on device
    +------------------------------------
"""

JSON = json.dumps(
    {
        "at": "2026-11-28T13:36:18.170+00:00",
        "level": "ERROR",
        "process": "facade-5000",
        "message": "it ends",
        "traceback": "Traceback (most recent call last):\n  File \"a.py\"\nKeyError: 'x'",
    }
)


REFUSED = """Invalid maximum heap size: -Xmx9z
Error: Could not create the Java Virtual Machine.
Error: A fatal exception has occurred. Program will exit.
"""


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (JVM, "; its last error: java.net.BindException: Cannot assign requested address"),
        (PYTHON, "; its last error: ValueError: the disk is on fire"),
        (GROUP, "; its last error: OSError: [Errno 28] No space left on device"),
        (JSON, "; its last error: KeyError: 'x'"),
        ("1\nTerminating due to java.lang.OutOfMemoryError: Java heap space", "; its last error: java.lang.OutOfMemor"),
        ("a\nmicroq: no cluster answered", "; its last error: no cluster answered"),
        ("Error occurred during initialization of VM\nToo small maximum heap\n", ": Too small maximum heap"),
        (
            REFUSED,
            ": Invalid maximum heap size: -Xmx9z",
        ),
        ("one\ntwo\nthree\nfour\n", "; its last lines:\n  two\n  three\n  four"),
        ("2026-11-28T13:36:18.170 SEVERE  kafka-9091       disk \x1b[31mfull", "; its last error: disk \\x1b[31mfull"),
        ("", ""),
    ],
)
def test_the_cause_is_the_line_of_the_error_without_its_stack(log: str, why: str) -> None:
    found = cause_of(log)
    assert found.startswith(why)
    assert "\tat " not in found
    assert 'File "' not in found
