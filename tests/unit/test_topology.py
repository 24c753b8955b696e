"""The topology: the addresses decide what runs, and words on a command line mean names."""

from __future__ import annotations

import dataclasses
import os
import socket
import sys
from pathlib import Path

import pytest
from support.fakes import PLAIN
from support.project import make_project

from microq.config import Address, Config, ServiceIps, load
from microq.errors import PortTakenError, UnknownNameError, UsageError
from microq.fleet import SERVICES, STAGES, Detour, Role, role_of
from microq.services import place
from microq.settings import EVERYWHERE
from microq.supervisor import ports
from microq.supervisor.topology import (
    child_environment,
    plan_detours,
    select,
    server_environment,
    service_argv,
    specs,
)

EVERYTHING = [
    "hazelcast-5701",
    "hazelcast-5702",
    "hazelcast-5703",
    "config-5006",
    "logging-5003",
    "logging-5004",
    "logging-5005",
    "messages-5001",
    "messages-5002",
    "facade-5000",
]


def names(config: Config) -> list[str]:
    return [spec.name for spec in specs(config)]


def test_the_order_is_that_of_the_start() -> None:
    assert names(PLAIN) == EVERYTHING


def test_three_addresses_are_three_services() -> None:
    ips = ServiceIps(messages_service=tuple(Address("127.0.0.1", port) for port in (6001, 6002, 6003)))
    found = names(dataclasses.replace(PLAIN, service_ips=ips))
    assert [name for name in found if name.startswith("messages")] == [
        "messages-6001",
        "messages-6002",
        "messages-6003",
    ]


def test_a_cluster_that_runs_elsewhere_has_no_process_here() -> None:
    config = PLAIN.with_settings("hazelcast", managed=False)
    assert names(config) == EVERYTHING[3:]


def in_kafka(*, managed: bool = True) -> Config:
    queue = dataclasses.replace(PLAIN.queue, backend="kafka")
    return dataclasses.replace(PLAIN.with_settings("kafka", managed=managed), queue=queue)


BROKERS = ["kafka-9091", "kafka-9092", "kafka-9093"]


def test_brokers_and_members_are_shown_with_kafka() -> None:
    assert names(in_kafka()) == [*EVERYTHING[:3], *BROKERS, *EVERYTHING[3:]]
    assert STAGES[0] == (Role.MAPS, Role.QUEUE)
    assert select(specs(in_kafka()), ["kafka", "5702"]) == ["hazelcast-5702", *BROKERS]


def test_unmanaged_servers_have_no_process() -> None:
    assert names(in_kafka(managed=False)) == EVERYTHING
    assert names(in_kafka().with_settings("hazelcast", managed=False)) == [*BROKERS, *EVERYTHING[3:]]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["all"], EVERYTHING),
        (["messages"], ["messages-5001", "messages-5002"]),
        (["messages-5002"], ["messages-5002"]),
        (["5702"], ["hazelcast-5702"]),
        (["127.0.0.1:5702"], ["hazelcast-5702"]),
        (["facade", "5703", "logging-5003"], ["hazelcast-5703", "logging-5003", "facade-5000"]),
        (["messages", "5001", "messages-5001"], ["messages-5001", "messages-5002"]),
        ([], []),
    ],
)
def test_a_word_is_a_name_a_group_a_port_or_all(words: list[str], meant: list[str]) -> None:
    assert select(specs(PLAIN), words) == meant


@pytest.mark.parametrize("word", ["", "message", "messages-5009", "570", "ALL", "127.0.0.2:5001", "*"])
def test_an_unknown_word_names_itself_and_what_there_is(word: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        select(specs(PLAIN), ["facade", word])
    assert repr(word) in str(caught.value)
    assert {"messages", "hazelcast-5701"} <= set(caught.value.known)


def test_a_service_is_started_with_its_file_and_its_port(tmp_path: Path) -> None:
    facade = next(spec for spec in specs(PLAIN) if spec.role is Role.FACADE)
    argv = service_argv(facade, tmp_path / "config.toml")
    assert argv[:3] == [sys.executable, "-P", "-m"]
    assert argv[-7:] == [
        "facade",
        "--config",
        str(tmp_path / "config.toml"),
        "--host",
        "127.0.0.1",
        "--port",
        "5000",
    ]


HIDDEN = Address("127.0.0.1", 15000)


def test_process_behind_detour_listens_at_hidden_address(tmp_path: Path) -> None:
    detours = [Detour("facade-5000", Address("127.0.0.1", 5000), HIDDEN)]
    found = {spec.name: spec for spec in specs(PLAIN, detours)}
    assert list(found) == EVERYTHING
    facade, config = found["facade-5000"], found["config-5006"]
    assert (facade.address.port, facade.door, config.door) == (5000, HIDDEN, config.address)
    assert service_argv(facade, tmp_path)[-4:] == ["--port", "5000", "--bind", "127.0.0.1:15000"]
    assert "--bind" not in service_argv(config, tmp_path)


def test_every_process_gets_a_detour_through_a_port_of_its_own(tmp_path: Path) -> None:
    config = make_project(tmp_path).config
    detours = plan_detours(config)
    assert [(each.name, each.address) for each in detours] == [(spec.name, spec.address) for spec in specs(config)]
    assert len({each.hidden for each in detours} | {each.address for each in detours}) == 2 * len(detours)


def test_a_detour_from_an_address_in_use_is_an_error(tmp_path: Path) -> None:
    config = make_project(tmp_path).config
    with (
        socket.create_server(("127.0.0.1", config.service_ips.facade_service.port)),
        pytest.raises(PortTakenError, match=f"facade-.*pid {os.getpid()}"),
    ):
        plan_detours(config)


def test_child_has_marks_and_no_settings_from_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROQ_QUEUE_MAX_SIZE", "3")
    monkeypatch.setenv("KEPT", "yes")
    environment = child_environment(load(environ={}), "run-1")
    assert (environment["MICROQ_RUN"], environment["KEPT"]) == ("run-1", "yes")
    assert environment["MICROQ_PROJECT"] == os.fspath(Path.cwd())
    assert "MICROQ_QUEUE_MAX_SIZE" not in environment


FOREIGN = (
    "HZ_CLUSTERNAME",
    "HZ_QUEUE_MESSAGES-QUEUE_BACKUPCOUNT",
    "KAFKA_OPTS",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "CLASSPATH",
    "LOG4J_CONFIGURATION_FILE",
    "http_proxy",
    "HTTPS_PROXY",
    "LD_PRELOAD",
    "MICROQ_QUEUE_NAME",
)
"""What changes how a server works, and may stand in anybody's environment."""


@pytest.mark.parametrize("backend", ["hazelcast", "kafka"])
def test_server_gets_only_configured_environment(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    for name in FOREIGN:
        monkeypatch.setenv(name, "foreign")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    setting = f'{backend}.environment=["JAVA_TOOL_OPTIONS=-Da=b=c", "MINE=1"]'
    config = load(environ={}, sets=[f"queue.backend={backend}", setting])
    found = server_environment(config, Role.QUEUE, "run-1")
    assert found["JAVA_TOOL_OPTIONS"] == "-Da=b=c"
    assert (found["MINE"], found["MICROQ_RUN"], found["LC_ALL"]) == ("1", "run-1", "C.UTF-8")
    assert found["PATH"] == os.environ["PATH"]
    assert not {name for name in FOREIGN if found.get(name) == "foreign"}


SAME_PORTS = [
    'hazelcast.hazelcast-clients=["127.0.0.10:5701", "127.0.0.1:5701", "127.0.0.2:5701"]',
    'service_ips.messages-service=["127.0.0.3:5001", "127.0.0.2:5001", "127.0.0.2:5002"]',
]


def test_names_are_unique_with_repeated_ports() -> None:
    found = specs(load(environ={}, sets=SAME_PORTS))
    names = [spec.name for spec in found]
    assert len(set(names)) == len(names)
    assert names[:3] == ["hazelcast-127.0.0.1-5701", "hazelcast-127.0.0.2-5701", "hazelcast-127.0.0.10-5701"]
    assert [name for name in names if name.startswith("messages")] == [
        "messages-127.0.0.2-5001",
        "messages-127.0.0.2-5002",
        "messages-127.0.0.3-5001",
    ]
    assert "facade-5000" in names
    assert select(found, ["5002"]) == ["messages-127.0.0.2-5002"]
    assert select(found, ["127.0.0.3:5001"]) == ["messages-127.0.0.3-5001"]


def test_a_port_of_several_processes_selects_none_of_them() -> None:
    with pytest.raises(UsageError) as caught:
        select(specs(load(environ={}, sets=SAME_PORTS)), ["facade", "5001"])
    assert str(caught.value) == (
        "several processes have the port 5001: messages-127.0.0.2-5001, messages-127.0.0.3-5001; "
        "give a name, or an address: 127.0.0.2:5001"
    )


def test_a_service_has_one_name_wherever_it_is_asked_for() -> None:
    config = load(environ={}, sets=SAME_PORTS)
    for spec in specs(config):
        if spec.role in SERVICES:
            assert place(spec.role, config, spec.address.port, spec.address.host) == (spec.name, spec.address)
            assert role_of(spec.name) is spec.role


def test_nobody_listens_where_another_host_has_the_same_port(tmp_path: Path) -> None:
    config = make_project(tmp_path).config
    port = config.service_ips.facade_service.port
    with socket.create_server(("127.0.0.2", port)):
        ports.check("facade", config.service_ips.facade_service)
        with pytest.raises(PortTakenError, match=f"pid {os.getpid()}"):
            ports.check("facade", Address("127.0.0.2", port))
        with pytest.raises(PortTakenError, match=f"pid {os.getpid()}"):
            ports.check("facade", Address(EVERYWHERE, port))
