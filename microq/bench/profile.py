"""The profile of a process, by py-spy: a sampling profiler that runs outside the process."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microq.errors import ExtraMissingError, MachineError

RATE = 200
"""Samples per second."""

END_SECONDS = 30.0
"""Seconds until the profile must be written."""


@dataclass(frozen=True, slots=True)
class Spent:
    """A function, and its share of the samples, without the functions that it called."""

    function: str
    where: str
    share: float


def recorder() -> str:
    """Return the path of py-spy: the one installed beside this Python, else the first on the path.

    Raises `ExtraMissingError`.
    """
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise ExtraMissingError("py-spy", "--profile", "profile")
    return found


async def record(pid: int, seconds: float, file: Path) -> None:
    """Profile a process and its children for `seconds`, and write a file in the format of speedscope.

    Raises `MachineError`.
    """
    words = ["record", "--pid", str(pid), "--duration", f"{max(1, round(seconds))}", "--rate", str(RATE)]
    words += ["--format", "speedscope", "--output", str(file), "--subprocesses"]
    process = await asyncio.create_subprocess_exec(
        recorder(),
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # this process handles Ctrl-C
    )
    try:
        async with asyncio.timeout(seconds + END_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError as error:
        raise MachineError(f"py-spy has written nothing after {seconds + END_SECONDS:g} s") from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        raise MachineError(f"py-spy could not look into process {pid}: {_why(said.decode(errors='replace'))}")


def _why(said: str) -> str:
    if "ermission" in said or "ptrace" in said:
        return "this machine forbids it; run it as root, or allow it: sysctl kernel.yama.ptrace_scope=0"
    return said.strip().rpartition("\n")[2] or "it gave no reason"


def hottest(profile: Mapping[str, Any], most: int) -> list[Spent]:
    """Return the functions with the most time of their own, from a profile in the format of speedscope."""
    frames = profile["shared"]["frames"]
    own: Counter[tuple[str, str]] = Counter()
    for thread in profile["profiles"]:
        for stack, weight in zip(thread["samples"], thread["weights"], strict=True):
            if stack:
                frame = frames[stack[-1]]
                folder_and_file = "/".join(Path(frame.get("file") or "").parts[-2:])
                own[frame["name"], folder_and_file] += weight
    total = sum(own.values())
    return [Spent(*function, weight / total) for function, weight in own.most_common(most)]


def read(file: Path) -> dict[str, Any]:
    """Read what `record` wrote."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found
