"""`send` and `read` on the shared system, also while a logging-service dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.commands import Done, ask, command, complaint, until
from support.project import Project, environment


def shown(system: Project) -> tuple[list[str], list[str]]:
    """Both unions of a read that has met every messages-service, of which each GET asks one at random."""
    places = {str(address) for address in system.config.service_ips.messages_service}
    met: list[Any] = []

    def all_met() -> bool:
        met.append(json.loads(system.microq("read", "-n", "12", "--json").stdout))
        return places <= {got["messages_service"] for got in met[-1]["reads"]}

    until(all_met)
    return met[-1]["logs"], met[-1]["messages"]


def arrived(system: Project, texts: list[str]) -> None:
    until(lambda: set(texts) <= set(shown(system)[1]))
    logs, messages = shown(system)
    for text in texts:
        assert (logs.count(text), messages.count(text)) == (1, 1)


def piped(system: Project, data: bytes, *words: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    line = [sys.executable, "-m", "microq", "send", "-", *words]
    return subprocess.run(
        line, cwd=system.folder, env={**environment(), **more}, input=data, capture_output=True, timeout=90, check=False
    )


def summary(result: Done) -> dict[str, Any]:
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_send_says_what_became_of_each(system: Project) -> None:
    result = system.microq("send", "10", "--prefix", "plain")
    assert result.returncode == 0
    assert result.stdout.startswith("Sent 10: 10 acknowledged, 0 rejected, 0 indeterminate")
    assert "`microq read`" in result.stderr
    arrived(system, [f"plain{number}" for number in range(1, 11)])


def test_send_as_json(system: Project) -> None:
    found = summary(system.microq("send", "10", "--json"))
    assert (found["sent"], found["acknowledged"], found["rejected"], found["indeterminate"]) == (10, 10, 0, 0)
    assert sum(found["by_logger"].values()) == 10
    assert (found["failures"], found["rate"] > 0) == ([], True)


def test_send_one_text(system: Project) -> None:
    text = 'a "text", with \\ and ünïcödé 🐟'
    assert summary(system.microq("send", "--text", text, "--json"))["acknowledged"] == 1
    arrived(system, [text])


def test_send_the_lines_of_a_pipe(system: Project) -> None:
    result = piped(system, "first line\r\n\nzweite Zeile ü\nlast, without an end".encode(), "--json")
    assert (result.returncode, json.loads(result.stdout)["acknowledged"]) == (0, 3)
    arrived(system, ["first line", "zweite Zeile ü", "last, without an end"])


def test_send_of_an_empty_pipe(system: Project) -> None:
    assert summary(system.microq("send", "-", "--json"))["sent"] == 0


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_line_that_is_no_text_is_refused_and_the_others_go(locale: str, system: Project) -> None:
    result = piped(system, b"good before\n\xff\xfe\ngood after\n", "--json", LC_ALL=locale)
    found = json.loads(result.stdout)
    assert (result.returncode, found["acknowledged"], found["rejected"]) == (1, 2, 1)
    assert result.stderr == b"rejected '??': not UTF-8 text\n"


def test_lines_of_a_file_are_sent(system: Project) -> None:
    file = system.folder / "lines.txt"
    file.write_text("".join(f"from a file {number}\n" for number in range(50)), encoding="utf-8")
    with file.open("rb") as lines:
        result = subprocess.run(
            [sys.executable, "-m", "microq", "send", "-", "--json"],
            cwd=system.folder,
            env=environment(),
            stdin=lines,
            capture_output=True,
            text=True,
            check=False,
        )
    assert summary(result)["acknowledged"] == 50


def test_a_closed_input_is_said(system: Project) -> None:
    line = ["sh", "-c", 'exec "$0" -m microq send - <&-', sys.executable]
    result = subprocess.run(
        line, cwd=system.folder, env=environment(), capture_output=True, text=True, timeout=30, check=False
    )
    assert "standard input is closed" in complaint(result, 2)


def test_each_line_of_a_slow_pipe_is_sent_as_it_comes(system: Project) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "microq", "send", "-"],
        cwd=system.folder,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as sending:
        assert sending.stdin is not None
        sending.stdin.write(b"typed slowly\n")
        sending.stdin.flush()
        until(lambda: "typed slowly" in shown(system)[1])
        sending.stdin.close()
        assert sending.wait(60) == 0


def test_read_shows_both_sets_and_who_answered(system: Project) -> None:
    system.microq("send", "3", "--prefix", "both")
    result = system.microq("read", "-n", "2")
    assert result.returncode == 0
    assert "GET 1" in result.stdout
    assert "GET 2" in result.stdout
    assert "Union of 2" in result.stdout


def test_read_as_json(system: Project) -> None:
    ips = system.config.service_ips
    read: list[Any] = []

    def told() -> bool:
        """Whether each GET found two services that were not too busy to answer, or to renew their leases."""
        read.append(json.loads(system.microq("read", "-n", "3", "--json").stdout))
        answered = all(got["logging_service"] and got["messages_service"] for got in read[-1]["reads"])
        return answered and not read[-1]["hidden"]

    until(told)
    assert set(read[-1]) == {"reads", "logs", "messages", "hidden"}
    assert len(read[-1]["reads"]) == 3
    for got in read[-1]["reads"]:
        assert got["logging_service"] in map(str, ips.logging_service)
        assert got["messages_service"] in map(str, ips.messages_service)


def test_read_without_consumers_shows_the_logs_and_says_so(system: Project) -> None:
    system.microq("send", "--text", "before the stop")
    try:
        assert system.microq("stop", "messages").returncode == 0
        result = system.microq("read", "-n", "1", "--json")
        data = json.loads(result.stdout)
        assert (result.returncode, data["messages"], "before the stop" in data["logs"]) == (0, [], True)
        people = system.microq("read", "-n", "1")
        assert all(str(address) in people.stderr for address in system.config.service_ips.messages_service)
    finally:
        assert system.microq("start", "messages").returncode == 0
    assert "before the stop" in shown(system)[1]


def test_traffic_without_loggers_is_refused_whole(system: Project) -> None:
    try:
        assert system.microq("stop", "logging").returncode == 0
        sent = system.microq("send", "2", "--prefix", "unloggable", "--json")
        found = json.loads(sent.stdout)
        assert (sent.returncode, found["rejected"], len(found["failures"])) == (1, 2, 2)
        assert sent.stderr.count("rejected 'unloggable") == 2
        assert system.microq("read", "-n", "1").returncode == 0
        system.microq("stop", "messages")
        assert complaint_of_read(system)
    finally:
        assert system.microq("start", "all").returncode == 0
    assert not [text for text in (*shown(system)[0], *shown(system)[1]) if text.startswith("unloggable")]


def complaint_of_read(system: Project) -> bool:
    result = system.microq("read", "-n", "1", "--json")
    return result.returncode == 3 and "neither a logging-service nor a messages-service" in result.stderr


def test_traffic_without_the_facade_is_no_system(system: Project) -> None:
    try:
        assert system.microq("stop", "facade").returncode == 0
        for words in ("send 2", "read"):
            assert str(system.config.service_ips.facade_service) in complaint(system.microq(*words.split()), 3)
    finally:
        assert system.microq("start", "facade").returncode == 0


MANY = 1500
"""Messages that take seconds: on a busy machine too some are not sent when the service is killed."""


@pytest.mark.parametrize("victim", [0, 1])
def test_a_logging_service_killed_under_load_loses_nothing(victim: int, system: Project) -> None:
    name = f"logging-{system.config.service_ips.logging_service[victim].port}"
    prefix = f"under-load-{victim}-"
    status = json.loads(system.microq("status", "--json").stdout)
    (pid,) = [process["pid"] for process in status["processes"] if process["name"] == name]
    (log,) = Path(status["folder"], "logs").glob("facade-*.log")
    try:
        with command(system, "send", str(MANY), "--prefix", prefix, "-c", "4", "--json") as sending:
            until(lambda: f'"{prefix}50"' in log.read_text(encoding="utf-8"))
            os.kill(pid, signal.SIGKILL)
            assert sending.process.poll() is None, "it was over before the kill"
            assert sending.ended() in (0, 1)
            found = json.loads(sending.out)
        after = json.loads(system.microq("status", "--json").stdout)
        (gone,) = [process for process in after["processes"] if process["name"] == name]
        assert (gone["state"], gone["exit_status"]) == ("exited", -9)
    finally:
        assert system.microq("start", name).returncode == 0
    assert found["sent"] == MANY
    assert set(found["by_logger"]) - {name}
    failed = {failure["text"] for failure in found["failures"]}
    acknowledged = {f"{prefix}{number}" for number in range(1, MANY + 1)} - failed
    assert len(acknowledged) == found["acknowledged"]
    arrived(system, sorted(acknowledged))


EVIL = "\x1b[31mred\x9b2J\u202egnp\x07\x00 a\n2026-11-24T10:00:00.000 INFO    forged"


def test_no_message_can_colour_a_terminal_or_forge_a_line(system: Project) -> None:
    body = json.dumps({"msg": EVIL}).encode()
    assert ask(system.config.service_ips.facade_service, "POST", "/facade", body)[0] == 200
    arrived(system, [EVIL])
    said = system.microq("send", "-", "--json", stdin="\x1b[31mred\x9b2J\u202e\n")
    assert summary(said)["acknowledged"] == 1
    for words in ("read -n 8", "read -n 8 --json", "logs -n 9999", "logs -n 9999 --raw", "queue", "status"):
        shown = system.microq(*words.split()).stdout
        assert all(line.replace("\t", "").isprintable() for line in shown.split("\n")), words
    assert not [
        line
        for line in system.microq("logs", "-n", "9999", "--raw").stdout.splitlines()
        if "INFO    forged" in line[20:45]
    ]


def test_a_part_of_both_sets_can_be_read(system: Project) -> None:
    summary(system.microq("send", "3", "--prefix", "part-", "--json"))
    arrived(system, ["part-1", "part-2", "part-3"])
    one = json.loads(system.microq("read", "-n", "20", "--limit", "1", "--json").stdout)
    assert len(one["logs"]) == 1
    assert 1 <= len(one["messages"]) <= len(system.config.service_ips.messages_service)
    later = json.loads(system.microq("read", "-n", "1", "--after", "4e9", "--json").stdout)
    assert (later["logs"], later["messages"]) == ([], [])
    assert system.microq("read", "--limit", "10001").returncode == 2


def test_what_arrived_is_counted_by_instance(system: Project) -> None:
    summary(system.microq("send", "20", "--prefix", "checked-", "--json"))
    found = json.loads(system.microq("read", "--check", "--json").stdout)
    names = [f"messages-{address.port}" for address in sorted(system.config.service_ips.messages_service)]
    assert (list(found["by"]), found["away"], found["twice"]) == (names, [], [])
    assert sum(found["by"].values()) == found["arrived"]
    assert not [each for each in found["missing"] if each["msg"].startswith("checked-")]
    shown = system.microq("read", "--check")
    assert shown.stdout.startswith(f"{found['arrived']} of {found['logged']} arrived: {names[0]} ")
    assert "leave out --limit" in complaint(system.microq("read", "--check", "--limit", "5"), 2)


def test_send_with_consumers_off_says_what_waits(system: Project) -> None:
    try:
        assert system.microq("stop", "messages").returncode == 0
        sent = system.microq("send", "3", "--prefix", "waits-")
        assert sent.returncode == 0
        assert "No messages-service is up: 3 wait in the queue." in sent.stderr
        assert "`microq queue`" in sent.stderr
        assert "`microq start messages`" in sent.stderr
        checked = system.microq("read", "--check")
        assert checked.returncode == 3
        assert "the queue holds 3" in checked.stdout
    finally:
        assert system.microq("start", "messages").returncode == 0
    assert summary(system.microq("send", "1", "--json"))["waiting"] is None
