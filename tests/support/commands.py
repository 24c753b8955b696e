"""What tests share of commands: a wrong input's one line, runs until they are interrupted, ends with who started."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil
from support.project import Project, environment

from microq.config import Address
from microq.fleet import SERVERS
from microq.supervisor.records import alive

Done = subprocess.CompletedProcess[str]


def complaint(result: Done, code: int) -> str:
    """The one line that a wrong input gets."""
    assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("microq: "), result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert not result.stdout, result.stdout
    return result.stderr


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ends_with_its_starter(code: str) -> None:
    """Kill a Python that runs this code: the child whose pid it prints must end as well."""
    starter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert starter.stdout
    child = psutil.Process(int(starter.stdout.readline()))
    starter.send_signal(signal.SIGKILL)
    starter.wait(10)
    starter.stdout.close()
    psutil.wait_procs([child], timeout=10)
    assert not alive(child)


def ask(address: Address, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    """Send one request to a service; return the status and the decoded body."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=20)
    try:
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def asked(project: Project, *words: str) -> Any:
    """Run a command that must end well; return what it prints as JSON."""
    done = project.microq(*words, "--json")
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout)


def observed(project: Project, tells: Callable[[Any], bool] = bool, seconds: float = 60) -> Any:
    """Return the first status in which all that is up has answered, and that `tells` what the test needs to know.

    One that is busy for a moment answers late, and what it would have told is unknown in that one status.
    """
    deadline = time.monotonic() + seconds
    while not (answered(view := asked(project, "status")) and tells(view)):
        assert time.monotonic() < deadline, view
    return view


def answered(view: Any) -> bool:
    """Whether all that is up has answered in a status."""
    ready = [process for process in view["processes"] if process["state"] == "ready"]
    servers = {process["name"] for process in ready if process["role"] in SERVERS}
    figures = {each["name"] for each in (*view["members"], *view["brokers"])}
    silent = any(process["silent"] for process in ready)
    queue = view["queue"] or {"size": None, "pending": None}
    counted = None not in (queue["size"], queue["pending"])
    counted = counted or not any(process["role"] == "facade" for process in ready)
    return servers <= figures and counted and not silent


def forget_unsent(system: Project) -> None:
    """Take out of the log what was written there alone, past the facade; then nothing is pending.

    The facade is restarted: it may have noticed such entries, and would look for them for a minute.
    """
    ips = system.config.service_ips
    logged = ask(ips.logging_service[0], "GET", "/log?full=true")[1]
    observed(system, lambda view: view["queue"]["size"] == 0)
    arrived = {each["uuid"] for a in ips.messages_service for each in ask(a, "GET", "/messages?full=true")[1]}
    for entry in logged:
        if entry["uuid"] not in arrived:
            query = urlencode({"uuid": entry["uuid"], "at": repr(entry["at"])})
            assert ask(ips.logging_service[0], "DELETE", f"/log?{query}")[0] in {200, 409}
    assert system.microq("restart", "facade").returncode == 0
    observed(system, lambda view: view["queue"]["pending"] == 0)


def told(project: Project, *words: str) -> Any:
    """Break the system, which must end well; return what the command prints."""
    return asked(project, "chaos", *words)


def accounted_for(found: dict[str, Any], sent: int) -> None:
    """Nothing is missing; on a busy machine, and at the kill, a send may stay indeterminate."""
    open_ends = found["rejected"] + found["indeterminate"]
    assert found["attempted"] == found["acknowledged"] + open_ends
    assert max(1, sent - open_ends) <= found["acknowledged"] <= sent
    assert found["stored"] == found["acknowledged"] + len(found["recovered"])
    assert found["logged"] >= found["stored"]
    assert [found[name] for name in ("lost", "unlogged", "unexpected", "duplicated")] == [[]] * 4
    assert sum(found["by_consumer"].values()) == found["stored"]


HOMEWORK = (
    *("queue", "logging", "uuid", "typing", "hazelcast", "json", "random", "asyncio", "aiohttp", "typer", "rich"),
    *("message", "config", "dataclasses", "string", "socket", "select", "signal", "time_", "email", "calendar", "copy"),
)
"""Names that files of a homework have, and modules that microq imports."""


def homework(folder: Path) -> Path:
    """A folder whose files, imported, leave a mark; return where the marks would be."""
    marks = folder / "marks"
    marks.mkdir()
    for number, name in enumerate(HOMEWORK):
        body = f"open({str(marks / name)!r}, 'w').close()\nraise SystemExit('{name} is the homework')\n"
        if number % 2:
            (folder / f"{name}.py").write_text(body, encoding="utf-8")
        else:
            (folder / name).mkdir()
            (folder / name / "__init__.py").write_text(body, encoding="utf-8")
    return marks


class Command:
    """A command that runs; what it says is read from files, so that it never waits for us."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.process, self._out, self._err = process, out, err

    @property
    def out(self) -> str:
        return self._out.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        return self._err.read_text(encoding="utf-8")

    def says(self, text: str, seconds: float = 90) -> None:
        until(lambda: text in self.out or text in self.err or self.process.poll() is not None, seconds)
        assert text in self.out + self.err, (self.process.poll(), self.out, self.err)

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        self.process.send_signal(number)

    def ended(self, seconds: float = 90) -> int:
        return self.process.wait(seconds)


@contextmanager
def command(project: Project, *words: str, folder: Path | None = None) -> Iterator[Command]:
    """Run `microq` as in a terminal of its own, and kill it if the test does not end it.

    What it says is kept in `folder`, else beside the configuration.
    """
    out, err = ((folder or project.folder) / name for name in ("stdout.txt", "stderr.txt"))
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "microq", *words],
            cwd=project.folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
    with process:
        try:
            yield Command(process, out, err)
        finally:
            if process.poll() is None:
                process.kill()


def listening(project: Project) -> set[int]:
    """The configured ports on which somebody listens."""
    config = project.config
    ips = config.service_ips
    ports = {
        address.port
        for address in (
            *config.hazelcast.hazelcast_clients,
            *ips.messages_service,
            *ips.logging_service,
            ips.facade_service,
            ips.config_service,
        )
    }
    listed = psutil.net_connections("inet")
    return {c.laddr.port for c in listed if c.laddr and c.status == psutil.CONN_LISTEN} & ports


def pids(processes: Sequence[psutil.Process]) -> set[int]:
    return {process.pid for process in processes}
