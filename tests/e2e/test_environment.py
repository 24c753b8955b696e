"""A real system started with somebody else's environment around it: none of it reaches the servers."""

from __future__ import annotations

import json

import psutil
from support.project import Project, small

from microq.fleet import SERVERS

FOREIGN = {
    "HZ_CLUSTERNAME": "dev",
    "HZ_NETWORK_PORT_PORT": "1",
    "HZ_QUEUE_MESSAGES-QUEUE_BACKUPCOUNT": "0",
    "KAFKA_OPTS": "-XX:NoSuchFlag",
    "JAVA_TOOL_OPTIONS": "-XX:NoSuchFlag",
    "_JAVA_OPTIONS": "-XX:NoSuchFlag",
    "JDK_JAVA_OPTIONS": "-XX:NoSuchFlag",
    "CLASSPATH": "/nowhere",
    "LOG4J_CONFIGURATION_FILE": "/nowhere",
    "http_proxy": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
}
"""Each of them changes a server, or prevents its start, if the server sees it."""


@small
def test_servers_start_whatever_the_environment_says(project: Project, kafka_engine: None) -> None:
    started = project.microq("up", "-d", "--queue", "kafka", "--set", "brokers=1", environ=FOREIGN)
    assert started.returncode == 0, started.stderr
    status = json.loads(project.microq("status", "--json").stdout)
    servers = [each for each in status["processes"] if each["role"] in SERVERS]
    assert [each["state"] for each in servers] == ["ready"] * 2
    for server in servers:
        assert not FOREIGN.keys() & psutil.Process(server["pid"]).environ().keys()
    assert project.microq("down").returncode == 0
