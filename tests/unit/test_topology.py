"""The topology: the addresses decide what runs, and words on a command line mean names."""

from __future__ import annotations

import dataclasses
import os
import socket
import sys
from pathlib import Path

import pytest
from conftest import make_project
from fakes import PLAIN

from microq.config import Address, Config, ServiceIps, load
from microq.errors import PortTakenError, UnknownNameError
from microq.fleet import Detour, Role
from microq.system.topology import STAGES, child_environment, plan_detours, select, service_argv, specs

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
    config = dataclasses.replace(PLAIN, hazelcast=dataclasses.replace(PLAIN.hazelcast, managed=False))
    assert names(config) == EVERYTHING[3:]


def in_kafka(*, managed: bool = True) -> Config:
    queue = dataclasses.replace(PLAIN.queue, backend="kafka")
    return dataclasses.replace(PLAIN, queue=queue, kafka=dataclasses.replace(PLAIN.kafka, managed=managed))


BROKERS = ["kafka-9091", "kafka-9092", "kafka-9093"]


def test_brokers_stand_beside_the_members_where_the_queue_is_in_kafka() -> None:
    assert names(in_kafka()) == [*EVERYTHING[:3], *BROKERS, *EVERYTHING[3:]]
    assert STAGES[0] == (Role.HAZELCAST, Role.KAFKA)
    assert select(specs(in_kafka()), ["kafka", "5702"]) == ["hazelcast-5702", *BROKERS]


def test_brokers_that_run_elsewhere_have_no_process_here_and_members_may_run_elsewhere_alone() -> None:
    assert names(in_kafka(managed=False)) == EVERYTHING
    away = dataclasses.replace(PLAIN.hazelcast, managed=False)
    assert names(dataclasses.replace(in_kafka(), hazelcast=away)) == [*BROKERS, *EVERYTHING[3:]]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["all"], EVERYTHING),
        (["messages"], ["messages-5001", "messages-5002"]),
        (["messages-5002"], ["messages-5002"]),
        (["5702"], ["hazelcast-5702"]),
        (["facade", "5703", "logging-5003"], ["hazelcast-5703", "logging-5003", "facade-5000"]),
        (["messages", "5001", "messages-5001"], ["messages-5001", "messages-5002"]),
        ([], []),
    ],
)
def test_a_word_is_a_name_a_group_a_port_or_all(words: list[str], meant: list[str]) -> None:
    assert select(specs(PLAIN), words) == meant


@pytest.mark.parametrize("word", ["", "message", "messages-5009", "570", "ALL", "127.0.0.1:5001", "*"])
def test_an_unknown_word_names_itself_and_what_there_is(word: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        select(specs(PLAIN), ["facade", word])
    assert repr(word) in str(caught.value)
    assert {"messages", "hazelcast-5701"} <= set(caught.value.known)


def test_a_service_is_started_with_its_file_and_its_port(tmp_path: Path) -> None:
    facade = next(spec for spec in specs(PLAIN) if spec.role is Role.FACADE)
    argv = service_argv(facade, tmp_path / "config.toml")
    assert argv[:2] == [sys.executable, "-m"]
    assert argv[-5:] == ["facade", "--config", str(tmp_path / "config.toml"), "--port", "5000"]


HIDDEN = Address("127.0.0.1", 15000)


def test_with_a_detour_a_process_listens_elsewhere_under_its_name(tmp_path: Path) -> None:
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


def test_a_child_is_marked_and_takes_no_setting_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROQ_QUEUE_MAX_SIZE", "3")
    monkeypatch.setenv("KEPT", "yes")
    environment = child_environment(load(environ={}), "run-1")
    assert (environment["MICROQ_RUN"], environment["KEPT"]) == ("run-1", "yes")
    assert environment["MICROQ_PROJECT"] == os.fspath(Path.cwd())
    assert "MICROQ_QUEUE_MAX_SIZE" not in environment
