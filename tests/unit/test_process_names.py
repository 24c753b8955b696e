"""The name under which `ps` and `top` show an executed program."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil

from microq.supervisor.process import executing


async def executed(program: Path, log_file: Path) -> tuple[str, list[str]]:
    """Execute a program under the name of its log file; return the name and the command line that the kernel has."""
    child = await executing(os.environ, named=True)([str(program), "60"], log_file)
    try:
        process = psutil.Process(child.pid)
        return process.name(), process.cmdline()
    finally:
        child.kill()
        await child.wait()


async def test_a_program_is_shown_under_the_name_of_its_log(tmp_path: Path) -> None:
    sleep = Path(shutil.which("sleep") or "")
    assert await executed(sleep, tmp_path / "hazelcast-5701.log") == ("hazelcast-5701", ["hazelcast-5701", "60"])
    assert [file.name for file in tmp_path.iterdir()] == ["hazelcast-5701.log"]


async def test_a_script_keeps_its_own_name(tmp_path: Path) -> None:
    script = tmp_path / "java"
    script.write_text("#!/bin/sh\nread -r line\n", encoding="utf-8")
    script.chmod(0o755)
    child = await executing(os.environ, named=True)([str(script)], tmp_path / "hazelcast-5701.log")
    assert await child.wait() == 1  # its standard input is empty
    assert not (tmp_path / "hazelcast-5701.log").read_text()
