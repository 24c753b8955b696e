"""The registry of backends: those that come with microq, and those that other packages bring."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.plug import plugged_in

from microq.backends import BACKENDS, backend, described, names
from microq.config import Address, load
from microq.errors import ConfigError, UsageError

IN_MEMORY = ["queue.backend=memory"]


def test_each_backend_is_called_as_its_line_says() -> None:
    assert [backend(name).name for name in BACKENDS] == [*BACKENDS] == names()


def test_unknown_backend_is_refused_and_has_plain_words() -> None:
    with pytest.raises(UsageError, match="rabbit is not a backend of the queue; the backends are hazelcast, kafka"):
        backend("rabbit")
    assert (described("rabbit").words.product, described("rabbit").traits) == ("rabbit", frozenset())


def test_a_backend_of_another_package_is_configured_as_ours_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[queue\] backend: must be one of hazelcast, kafka, not 'memory'"):
        load(None, IN_MEMORY, environ={})
    with plugged_in(tmp_path):
        assert names() == [*BACKENDS, "memory"]
        config = load(None, [*IN_MEMORY, 'memory.memory-nodes=["127.0.0.1:7001"]', "nodes=2"], environ={})
        assert config.servers == (Address("127.0.0.1", 7001), Address("127.0.0.1", 7002))
        assert config.managed
        written = tmp_path / "config.toml"
        written.write_text(config.to_toml(), encoding="utf-8")
        assert load(written, environ={}).backends == config.backends
        around = {"MICROQ_QUEUE_BACKEND": "memory", "MICROQ_MEMORY_MANAGED": "false"}
        assert not load(None, environ=around).managed
        assert "memory" not in load(None, environ={}).backends, "nobody asks for it"
        with pytest.raises(ConfigError, match=r"\[queue\] backend: must be one of hazelcast, kafka, memory, not 'x'"):
            load(None, ["queue.backend=x"], environ={})


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("broken = support.nothing", "the backend broken cannot be loaded from support.nothing: No module named"),
        ("broken = support.plug", "the backend broken cannot be loaded from support.plug: module"),
        ("broken = support.memory_backend", "must have this name, of letters and digits, and it has memory"),
    ],
)
def test_a_line_that_leads_to_no_backend_is_told(tmp_path: Path, line: str, says: str) -> None:
    with plugged_in(tmp_path, line), pytest.raises(UsageError, match=says):
        backend("broken")
