"""The user's own configuration of the members: its values hold, and what a run adds has a line each."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from microq.backends import MAP_STORE, backend
from microq.backends.hazelcast.server import Agent, Member, write_files
from microq.backends.hazelcast.template import UNBOUNDED
from microq.config import Address, Config, load
from microq.errors import ConfigError

FILE = """\
<?xml version="1.0" encoding="UTF-8"?>
<hazelcast xmlns="http://www.hazelcast.com/schema/config">
  <cluster-name>lab4</cluster-name>
  <properties>
    <property name="hazelcast.phone.home.enabled">true</property>
    <property name="hazelcast.partition.count">7</property>
  </properties>
  <network>
    <port auto-increment="true" port-count="100">5701</port>
    <join><multicast enabled="true"/></join>
    <interfaces enabled="true"><interface>10.0.0.*</interface></interfaces>
  </network>
  <queue name="lab-*"><backup-count>2</backup-count><max-size>10</max-size></queue>
  <queue name="lab-queue"><max-size>500</max-size></queue>
  <map name="logs"><backup-count>1</backup-count></map>
</hazelcast>
"""

TABLE = '[hazelcast]\nconfig = "hazelcast.xml"\n[queue]\nname = "lab-queue"\n'


def loaded(folder: Path, text: str = TABLE, file: str = FILE, *sets: str) -> Config:
    (folder / "hazelcast.xml").write_text(file, encoding="utf-8")
    (folder / "config.toml").write_text(text, encoding="utf-8")
    return load(folder / "config.toml", sets, environ={})


def written(folder: Path, config: Config, hidden: Address | None = None) -> ET.Element:
    """The file of the first member, as it is started with."""
    listed = config.hazelcast.hazelcast_clients
    member = Member("hazelcast-5701", listed[0], folder, Agent(1, "secret"), hidden, own=True)
    write_files(config, member, listed)
    assert member.config_file.name == "hazelcast-5701.xml"
    return ET.fromstring(member.config_file.read_text(encoding="utf-8"))  # noqa: S314 - it was just written


def text(root: ET.Element, path: str) -> list[str | None]:
    inner = "/".join(f"{{http://www.hazelcast.com/schema/config}}{name}" for name in path.split("/"))
    return [each.text for each in root.findall(inner)]


def test_values_of_the_file_hold(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    assert config.hazelcast.hazelcast_cluster_name == "lab4"
    assert (config.hazelcast.partition_count, config.hazelcast.heartbeat_timeout) == (7, 60)
    assert (config.queue.backup_count, config.queue.max_size) == (1, 500)
    by_pattern = loaded(tmp_path, TABLE.replace("lab-queue", "lab-other"))
    assert (by_pattern.queue.backup_count, by_pattern.queue.max_size) == (2, 10)
    other = loaded(tmp_path, TABLE.replace("lab-queue", "other"))
    assert (other.queue.backup_count, other.queue.max_size) == (1, UNBOUNDED)


def test_given_values_win_over_the_file(tmp_path: Path) -> None:
    config = loaded(tmp_path, TABLE, FILE, "queue.backup-count=0", "hazelcast.partition-count=13")
    assert (config.queue.backup_count, config.queue.max_size, config.hazelcast.partition_count) == (0, 500, 13)
    root = written(tmp_path, config)
    assert "0" in text(root, "queue/backup-count")
    lines = backend(MAP_STORE).additions(config)
    assert "lab-queue: backup-count = 0" in lines
    assert "hazelcast.partition.count = 13 (it was 7)" in lines


def test_run_reads_its_configuration_back_the_same(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    child = tmp_path / "run" / "config.toml"
    child.parent.mkdir()
    child.write_text(config.to_toml(), encoding="utf-8")
    again = load(child, environ={})
    assert (again.hazelcast, again.queue) == (config.hazelcast, config.queue)


def test_member_gets_its_address_and_the_others(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    root = written(tmp_path, config)
    assert text(root, "instance-name") == ["hazelcast-5701"]
    assert text(root, "network/port") == ["5701"]
    assert text(root, "network/join/tcp-ip/member") == [f"127.0.0.1:{port}" for port in (5701, 5702, 5703)]
    assert text(root, "network/interfaces") == []
    assert len(text(root, "network/join")) == 1
    assert text(root, "map/backup-count") == ["1"]
    assert text(root, "queue/max-size") == ["10", "500"]
    behind = written(tmp_path, config, Address("127.0.0.1", 7001))
    assert text(behind, "network/port") == ["7001"]
    assert text(behind, "network/public-address") == ["127.0.0.1:5701"]


def test_each_addition_has_a_line(tmp_path: Path) -> None:
    lines = backend(MAP_STORE).additions(loaded(tmp_path))
    for line in (
        "instance-name = hazelcast-5701",
        "hazelcast.jmx = true",
        "hazelcast.socket.bind.any = false",
        "hazelcast.phone.home.enabled = false (it was true)",
        "<join> of the file is not used",
        "<interfaces> of the file is not used",
        "join over TCP: 127.0.0.1:5701, 127.0.0.1:5702, 127.0.0.1:5703; no multicast",
        "the Jolokia agent, on 127.0.0.1, tells its figures",
    ):
        assert line in lines
    assert not [line for line in lines if line.startswith(("cluster-name", "port", "lab-queue", "hazelcast.partition"))]
    assert "fail.on.indeterminate.state = true; without it" in lines[-1]


def test_file_without_a_namespace_is_completed_too(tmp_path: Path) -> None:
    config = loaded(tmp_path, TABLE, "<hazelcast/>")
    assert config.hazelcast.hazelcast_cluster_name == "dev"
    root = written(tmp_path, config)
    assert root.tag == "hazelcast"
    assert [each.text for each in root.findall("network/port")] == ["5701"]


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("cluster-name: dev\n", "is not XML: .*; a configuration in YAML must be written in XML"),
        ("<config/>", "must have the root <hazelcast>, not <config>"),
        ("<hazelcast><advanced-network enabled='true'/></hazelcast>", "has <advanced-network>"),
        (
            "<hazelcast><queue name='lab-queue'><backup-count>many</backup-count></queue></hazelcast>",
            "backup-count must be a whole number, not 'many'",
        ),
    ],
)
def test_file_that_cannot_be_used_is_named(tmp_path: Path, file: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=rf"hazelcast\.xml.*{problem}"):
        loaded(tmp_path, TABLE, file)


def test_file_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[hazelcast]\nconfig = "none.xml"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"none\.xml.*cannot be read"):
        load(tmp_path / "config.toml", environ={})
