"""A pickled item, wherever it is planted in the cluster, executes nothing in any process of ours."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hazelcast
from support.commands import ask, until
from support.project import Project

from microq.store import names

KEY = "under-a-known-id"


class Bomb:
    """Pickled by the plain client; whoever unpickles it makes the folder `canary`."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.canary),)


@contextmanager
def planted(system: Project, bomb: Bomb) -> Iterator[None]:
    """Have it in the queue and in every map: as a value, as a key, and under an id that is sent afterwards."""
    config = system.config
    client = hazelcast.HazelcastClient(
        cluster_name=config.hazelcast.hazelcast_cluster_name,
        cluster_members=[str(address) for address in config.hazelcast.hazelcast_clients],
    )
    try:
        maps = [client.get_map(name).blocking() for name in names("messages-queue")]
        for each in maps:
            each.set("bystander", bomb)
            each.set(KEY, bomb)
            each.set(bomb, bomb)
        assert client.get_queue(config.queue.name).blocking().offer(bomb)
        yield
        for each in maps:
            each.delete("bystander")  # `remove` would return the value, and so unpickle it here
            each.delete(bomb)
    finally:
        client.shutdown()
        system.microq("dead", "drop", "all")


def read_everything(system: Project) -> None:
    """Go every way on which something is read from the cluster."""
    ips = system.config.service_ips
    for address in ips.logging_service:
        assert ask(address, "GET", "/log?full=true")[0] == 200
    for address in ips.messages_service:
        assert ask(address, "GET", "/messages?full=true")[0] == 200
    assert ask(ips.facade_service, "GET", "/facade?full=true")[0] == 200
    assert ask(ips.facade_service, "GET", "/queue")[0] == 200
    for words in ("read -n 3", "queue", "queue --json", "status", "status --json", "logs -n 500"):
        done = system.microq(*words.split())
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


def shown(system: Project, text: str) -> bool:
    data = json.loads(system.microq("read", "-n", "8", "--json").stdout)
    assert text in data["logs"]
    return text in data["messages"]


def send(system: Project, text: str, key: str) -> None:
    body = json.dumps({"msg": text, "uuid": key}).encode()
    status, answer = ask(system.config.service_ips.facade_service, "POST", "/facade", body)
    assert (status, answer["status"]) == (200, "success"), answer


def test_a_pickled_item_runs_nothing_and_stops_nothing(system: Project, tmp_path: Path) -> None:
    bomb = Bomb(tmp_path / "canary")
    with planted(system, bomb):
        read_everything(system)
        send(system, "in the place of the bomb", KEY)
        until(lambda: shown(system, "in the place of the bomb"))
        # At its start a messages-service reads its whole map back into memory.
        assert system.microq("restart", "messages", "logging").returncode == 0
        send(system, "after the restart", "another-id")
        until(lambda: shown(system, "after the restart"))
        until(lambda: shown(system, "in the place of the bomb"))  # each GET asks one messages-service at random
        read_everything(system)
    given_up = ("logs", "messages", "-n", "99999", "--grep", "an item of type -120, not text")
    until(lambda: bool(system.microq(*given_up).stdout))
    assert system.microq(*given_up).stdout.count("\n") == 1
    assert "Traceback" not in system.microq("logs", "-n", "5000", "--raw").stdout
    assert not bomb.canary.exists()
    # The canary does sing: the same bytes, unpickled on purpose.
    words = [sys.executable, "-c", "import pickle, sys; pickle.loads(sys.stdin.buffer.read())"]
    subprocess.run(words, input=pickle.dumps(bomb, 0), timeout=30, check=True)
    assert bomb.canary.exists()
