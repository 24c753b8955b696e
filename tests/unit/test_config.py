"""The configuration: where values come from, and one clear line for each thing that can be wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from microq.config import Address, Config, load, without_secrets
from microq.errors import ConfigError

ORIGINAL = """\
[service_ips]
messages-service = ["127.0.0.1:5001", "127.0.0.1:5002"]
logging-service = ["127.0.0.1:5003", "127.0.0.1:5004", "127.0.0.1:5005"]

[hazelcast]
hazelcast-cluster-name = "microservice"
hazelcast-clients = ["127.0.0.1:5701", "127.0.0.1:5702", "127.0.0.1:5703"]
"""


def written(folder: Path, text: str | bytes, *sets: str, **environ: str) -> Config:
    path = folder / "config.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(path, sets, environ)


def complaint(folder: Path, text: str | bytes, *sets: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        written(folder, text, *sets, **environ)
    line = str(caught.value)
    assert line.isprintable(), "an error is one line"
    assert caught.value.exit_code == 2
    return line


def test_the_original_file_is_read_as_it_stands(tmp_path: Path) -> None:
    config = written(tmp_path, ORIGINAL)
    assert [a.port for a in config.service_ips.messages_service] == [5001, 5002]
    assert [a.port for a in config.hazelcast.hazelcast_clients] == [5701, 5702, 5703]
    assert config.hazelcast.hazelcast_cluster_name == "microservice"
    assert config.service_ips.facade_service == Address("127.0.0.1", 5000)
    assert config.project == tmp_path


def test_the_file_of_this_repository_holds_the_defaults() -> None:
    shipped = Path(__file__).parents[2] / "config.toml"
    config = load(shipped, environ={})
    assert config == Config(str(shipped), shipped.parent)


def test_commented_keys_of_the_shipped_file_state_the_defaults(tmp_path: Path) -> None:
    shipped = (Path(__file__).parents[2] / "config.toml").read_text(encoding="utf-8")
    uncommented = "\n".join(line.removeprefix("# ") for line in shipped.splitlines())
    config = written(tmp_path, uncommented)
    assert config == Config(config.source, tmp_path)


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(environ={})
    assert config == Config("the defaults", tmp_path)


def test_the_file_in_this_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text("[queue]\nmax-size = 7\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert load(environ={}).queue.max_size == 7


def test_a_variable_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    path.write_text("[queue]\nmax-size = 8\n", encoding="utf-8")
    assert load(environ={"MICROQ_CONFIG": str(path)}).queue.max_size == 8


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    assert written(tmp_path, b"\xef\xbb\xbf" + ORIGINAL.encode()).queue == Config("", Path()).queue


def test_tabs_and_windows_lines_are_no_error(tmp_path: Path) -> None:
    text = '[queue]\r\n\tmax-size\t=\t9\t# items\r\n\tname = "jobs"\r\n'
    assert written(tmp_path, text).queue.max_size == 9


def test_an_address_with_spaces_or_a_tab_around_it_is_read(tmp_path: Path) -> None:
    config = written(tmp_path, '[service_ips]\nfacade-service = " 127.0.0.1:5000\t"\n')
    assert str(config.service_ips.facade_service) == "127.0.0.1:5000"


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert written(tmp_path, "").hazelcast.partition_count == 13


@pytest.mark.parametrize(
    ("table", "key", "value", "problem"),
    [
        ("service_ips", "messages-service", '"127.0.0.1:5001"', "list of addresses"),
        ("service_ips", "messages-service", "[]", "list of addresses"),
        ("service_ips", "messages-service", "[5001]", "an address is text"),
        ("service_ips", "messages-service", '["5001"]', "is not an address"),
        ("service_ips", "logging-service", '["127.0.0.1"]', "is not an address"),
        ("service_ips", "logging-service", '[":5003"]', "is not an address"),
        ("service_ips", "logging-service", '["http://127.0.0.1:5003"]', "is not an address"),
        ("service_ips", "logging-service", '["[::1]"]', 'IPv4 only; write the address as "127.0.0.1:5001"'),
        ("service_ips", "logging-service", '["[::1]:5703"]', 'IPv4 only; write the address as "127.0.0.1:5703"'),
        ("service_ips", "facade-service", '"my-laptop:5000"', "not a name"),
        ("service_ips", "facade-service", '"127.0.0.256:5000"', "not a name"),
        ("service_ips", "logging-service", '["127.0.0. 1:5003"]', "is not an address"),
        ("service_ips", "logging-service", '["a\\nb:5003"]', "is not an address"),
        ("service_ips", "facade-service", '"127.0.0.1:0"', "from 1 to 65535"),
        ("service_ips", "facade-service", '"127.0.0.1:65536"', "from 1 to 65535"),
        ("service_ips", "facade-service", '"127.0.0.1:http"', "from 1 to 65535"),
        ("service_ips", "facade-service", '"127.0.0.1:-1"', "from 1 to 65535"),
        ("service_ips", "facade-service", '"127.0.0.1:\\u0665\\u0660"', "from 1 to 65535"),
        ("service_ips", "config-service", "5006", "an address is text"),
        ("hazelcast", "hazelcast-clients", "{}", "list of addresses"),
        ("hazelcast", "hazelcast-cluster-name", "7", "text in one line"),
        ("hazelcast", "hazelcast-cluster-name", '" "', "text in one line"),
        ("hazelcast", "hazelcast-cluster-name", '"a\\nb"', "text in one line"),
        ("hazelcast", "hazelcast-cluster-name", '"\\u001b[31m"', "text in one line"),
        ("hazelcast", "managed", '"yes"', "true or false"),
        ("hazelcast", "managed", "1", "true or false"),
        ("hazelcast", "heap", '"m"', "a size"),
        ("hazelcast", "heap", '"256"', "a size"),
        ("hazelcast", "heap", '"256 MB"', "a size"),
        ("hazelcast", "heap", "256", 'must be a size such as "256m" or "1g", not 256'),
        ("hazelcast", "partition-count", "0", "from 1 to 271"),
        ("hazelcast", "partition-count", "272", "from 1 to 271"),
        ("hazelcast", "heartbeat-timeout", "1", "from 2 to 300"),
        ("queue", "backend", '"rabbit"', "one of hazelcast"),
        ("queue", "backend", "[]", "one of hazelcast"),
        ("queue", "name", '""', "text in one line"),
        ("queue", "max-size", "0", "whole number"),
        ("queue", "max-size", "-1", "whole number"),
        ("queue", "max-size", "1.5", "whole number"),
        ("queue", "max-size", "true", "whole number"),
        ("queue", "max-size", '"10"', "whole number"),
        ("queue", "max-size", "2147483648", "whole number"),
        ("queue", "max-size", "1979-05-27", "whole number"),
        ("queue", "backup-count", "7", "from 0 to 6"),
        ("queue", "name", '"q *"', "must be a name of letters"),
        ("queue", "name", '"default"', "must be a name of letters"),
        ("hazelcast", "environment", '"A=1"', "must be a list of variables"),
        ("hazelcast", "environment", '["A"]', "write it as"),
        ("kafka", "environment", '["=1"]', "write it as"),
        ("kafka", "environment", '["A B=1"]', "write it as"),
        ("kafka", "environment", "[1]", "text in one line"),
        ("limits", "max-body", "1", "whole number"),
        ("limits", "header-timeout", "0", "from 1 to 3600"),
        ("limits", "read-timeout", "0.5", "whole number"),
        ("limits", "max-connections", "7", "from 8 to 100000"),
        ("limits", "max-held", "0", "from 1 to"),
        ("facade", "workers", "0", "from 1 to 64"),
        ("facade", "workers", "65", "from 1 to 64"),
        ("facade", "workers", '"two"', "whole number"),
        ("logs", "format", '"xml"', "one of text, json"),
        ("tracing", "endpoint", '"127.0.0.1:4318"', "must be a URL"),
        ("tracing", "endpoint", '"file:///tmp/x"', "must be a URL"),
        ("tracing", "endpoint", '"http://"', "must be a URL"),
        ("tracing", "endpoint", '"http://a b"', "must be a URL"),
        ("tracing", "endpoint", "4318", "text in one line"),
    ],
)
def test_a_wrong_value_names_file_table_and_key(tmp_path: Path, table: str, key: str, value: str, problem: str) -> None:
    line = complaint(tmp_path, f"[{table}]\n{key} = {value}\n")
    assert line.startswith(f"{tmp_path / 'config.toml'}: [{table}] {key}: ")
    assert problem in line


def test_an_unknown_key_names_itself_and_the_known_ones(tmp_path: Path) -> None:
    line = complaint(tmp_path, "[queue]\nmax_size = 3\n")
    assert "config.toml: [queue] max_size: is not a key" in line
    assert "max-size" in line


def test_an_unknown_table_names_itself_and_the_known_ones(tmp_path: Path) -> None:
    line = complaint(tmp_path, "[service-ips]\n")
    assert "config.toml: [service-ips]: is not a table" in line
    assert "service_ips" in line


def test_a_key_outside_any_table_is_named(tmp_path: Path) -> None:
    assert "[max-size]: is not a table" in complaint(tmp_path, "max-size = 3\n")


def test_a_table_that_is_a_value_is_named(tmp_path: Path) -> None:
    assert "queue: must be a table; write [queue]" in complaint(tmp_path, "queue = 3\n")
    assert "queue: must be a table; write [queue]" in complaint(tmp_path, "[[queue]]\n")


def test_a_key_with_a_line_break_cannot_break_the_line(tmp_path: Path) -> None:
    assert r"a\nb" in complaint(tmp_path, '[queue]\n"a\\nb" = 3\n')
    assert r"\x1b[31m" in complaint(tmp_path, '["\\u001b[31m"]\n')


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[queue\n", "is not TOML"),
        ("[queue]\nmax-size = \n", "is not TOML"),
        ("[queue]\nmax-size = 1\nmax-size = 2\n", "is not TOML"),
        ("[queue]\nmax-size = " + "9" * 5000 + "\n", "is not TOML"),
        ("[queue]\nmax-size = " + "[" * 5000 + "\n", "is not TOML"),
        (b"\xff\xfe[\x00q\x00", "UTF-8"),
        ('[queue]\nname = "Straße"\n'.encode("latin-1"), "UTF-8"),
    ],
)
def test_what_is_no_toml_names_the_file(tmp_path: Path, text: str | bytes, problem: str) -> None:
    line = complaint(tmp_path, text)
    assert line.startswith(f"{tmp_path / 'config.toml'}: ")
    assert problem in line


def test_a_syntax_error_says_where(tmp_path: Path) -> None:
    assert "line 2" in complaint(tmp_path, "[queue]\nmax-size == 3\n")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: there is no such file"):
        load(tmp_path / "absent.toml", environ={})


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, environ={})


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ('[service_ips]\nmessages-service = ["127.0.0.1:5001", "127.0.0.1:5001"]\n', "127.0.0.1:5001"),
        ('[service_ips]\nmessages-service = ["127.0.0.1:5003"]\n', "127.0.0.1:5003"),
        ('[hazelcast]\nhazelcast-clients = ["127.0.0.1:5000"]\n', "127.0.0.1:5000"),
        ('[service_ips]\nconfig-service = "127.0.0.1:05000"\n', "127.0.0.1:5000"),
    ],
)
def test_an_address_listed_twice_names_both_places(tmp_path: Path, text: str, address: str) -> None:
    line = complaint(tmp_path, text)
    assert f"{address} is listed already, in " in line


def test_the_same_port_on_another_host_is_fine(tmp_path: Path) -> None:
    config = written(tmp_path, '[service_ips]\nmessages-service = ["10.0.0.1:5001", "10.0.0.2:5001"]\n')
    assert len(config.service_ips.messages_service) == 2


def test_a_variable_beats_the_file(tmp_path: Path) -> None:
    assert written(tmp_path, "[queue]\nmax-size = 1\n", MICROQ_QUEUE_MAX_SIZE="2").queue.max_size == 2


def test_a_set_beats_a_variable(tmp_path: Path) -> None:
    config = written(tmp_path, "[queue]\nmax-size = 1\n", "queue.max-size=3", MICROQ_QUEUE_MAX_SIZE="2")
    assert config.queue.max_size == 3


def test_text_needs_no_second_quotes_in_a_shell(tmp_path: Path) -> None:
    assert written(tmp_path, "", "queue.name=jobs").queue.name == "jobs"
    assert written(tmp_path, "", MICROQ_HAZELCAST_HEAP="1g").hazelcast.heap == "1g"
    assert written(tmp_path, "", 'queue.name="jobs"').queue.name == "jobs"


def test_a_list_is_set_as_in_the_file(tmp_path: Path) -> None:
    config = written(tmp_path, "", 'service_ips.messages-service=["127.0.0.1:6001"]')
    assert config.service_ips.messages_service == (Address("127.0.0.1", 6001),)


def test_a_wrong_variable_is_blamed_and_not_the_file(tmp_path: Path) -> None:
    line = complaint(tmp_path, "[queue]\nmax-size = 1\n", MICROQ_QUEUE_MAX_SIZE="many")
    assert line.startswith("MICROQ_QUEUE_MAX_SIZE: [queue] max-size: must be a whole number")


def test_a_wrong_set_is_blamed_and_not_the_file(tmp_path: Path) -> None:
    line = complaint(tmp_path, "[queue]\nmax-size = 1\n", "queue.max-size=many")
    assert line.startswith("--set: [queue] max-size: must be a whole number")
    assert complaint(tmp_path, "", "queue.size=3").startswith("--set: [queue] size: is not a key")
    assert "whole number" in complaint(tmp_path, "", "queue.max-size=" + "9" * 5000)


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("messages", "write it as"),
        ("", "write it as"),
        ("apples=3", "cannot be set"),
        ("queue=3", "cannot be set"),
        ("queue.=3", "cannot be set"),
        ("queues.max-size=3", "cannot be set"),
        ("messages=", "whole number from 1 to 20"),
        ("messages=0", "whole number from 1 to 20"),
        ("messages=-1", "whole number from 1 to 20"),
        ("messages=21", "whole number from 1 to 20"),
        ("messages=two", "whole number from 1 to 20"),
        ("messages=²", "whole number from 1 to 20"),
        ("messages=" + "9" * 5000, "whole number from 1 to 20"),
    ],
)
def test_a_set_that_means_nothing_is_named(tmp_path: Path, setting: str, problem: str) -> None:
    line = complaint(tmp_path, "", setting)
    assert line.startswith("--set: ")
    assert problem in line


def test_a_greater_count_adds_free_ports(tmp_path: Path) -> None:
    config = written(tmp_path, ORIGINAL, "messages=4")
    # 5003 to 5006 are taken by others.
    assert [a.port for a in config.service_ips.messages_service] == [5001, 5002, 5007, 5008]


def test_a_smaller_count_keeps_the_first(tmp_path: Path) -> None:
    config = written(tmp_path, ORIGINAL, "messages=1", "logging=2", "members=1")
    assert [a.port for a in config.service_ips.messages_service] == [5001]
    assert [a.port for a in config.service_ips.logging_service] == [5003, 5004]
    assert [a.port for a in config.hazelcast.hazelcast_clients] == [5701]


def test_a_count_comes_after_the_addresses_whatever_the_order(tmp_path: Path) -> None:
    config = written(tmp_path, "", "messages=2", 'service_ips.messages-service=["127.0.0.1:6001"]')
    assert [a.port for a in config.service_ips.messages_service] == [6001, 6002]


def test_ports_that_run_out_are_an_error(tmp_path: Path) -> None:
    assert "65535" in complaint(tmp_path, '[service_ips]\nmessages-service = ["127.0.0.1:65535"]\n', "messages=2")


def test_what_is_written_for_the_children_reads_back_the_same(tmp_path: Path) -> None:
    text = (
        '[queue]\nmax-size = 5\n[hazelcast]\nhazelcast-cluster-name = "q \\"1\\" ä"\nmanaged = false\n'
        "[limits]\nmax-body = 2048\n"
    )
    before = written(tmp_path, text, "messages=3", MICROQ_QUEUE_BACKUP_COUNT="1")
    child = tmp_path / "run.toml"
    child.write_text(before.to_toml(), encoding="utf-8")
    after = load(child, environ={})
    for table in ("service_ips", "hazelcast", "queue", "limits"):
        assert getattr(after, table) == getattr(before, table)
    assert before.source in before.to_toml()


def test_addresses_are_ordered_by_host_then_by_number() -> None:
    assert Address("127.0.0.1", 999) < Address("127.0.0.1", 5001)
    assert Address("127.0.0.1", 5001).url == "http://127.0.0.1:5001"


@pytest.mark.parametrize("table", ["hazelcast", "kafka"])
def test_managed_server_needs_numeric_address_others_do_not(tmp_path: Path, table: str) -> None:
    key = {"hazelcast": "hazelcast-clients", "kafka": "kafka-brokers"}[table]
    line = complaint(tmp_path, f'[{table}]\n{key} = ["my-laptop:7000"]\n')
    assert f"{key}: my-laptop:7000: a process of microq needs an IPv4 address" in line
    line = complaint(tmp_path, f'[{table}]\n{key} = ["0.0.0.0:7000"]\n')
    assert "0.0.0.0:7000 means every address of this machine" in line
    config = written(tmp_path, f'[{table}]\nmanaged = false\n{key} = ["my-laptop:7000"]\n')
    assert str(getattr(config.tables[table], key.replace("-", "_"))[0]) == "my-laptop:7000"


def test_localhost_is_the_address_that_it_means(tmp_path: Path) -> None:
    config = written(tmp_path, '[service_ips]\nmessages-service = ["localhost:7001", "LOCALHOST:7002"]\n')
    assert [str(address) for address in config.service_ips.messages_service] == ["127.0.0.1:7001", "127.0.0.1:7002"]
    line = complaint(tmp_path, '[service_ips]\nmessages-service = ["localhost:7001", "127.0.0.1:7001"]\n')
    assert "127.0.0.1:7001 is listed already" in line


def test_a_port_on_every_address_leaves_none_for_another(tmp_path: Path) -> None:
    line = complaint(tmp_path, '[service_ips]\nfacade-service = "0.0.0.0:5001"\n')
    assert "takes the port of" in line


def test_the_lowest_address_is_the_lowest_number() -> None:
    written_down = ["zoo:1", "127.0.0.10:5701", "10.0.0.1:9", "127.0.0.2:5701", "abc:2", "127.0.0.2:571", "9.9.9.9:1"]
    assert [str(address) for address in sorted(map(Address.parse, written_down))] == [
        "9.9.9.9:1",
        "10.0.0.1:9",
        "127.0.0.2:571",
        "127.0.0.2:5701",
        "127.0.0.10:5701",
        "abc:2",
        "zoo:1",
    ]


def test_what_is_not_set_is_what_the_heap_carries(tmp_path: Path) -> None:
    small = written(tmp_path, '[hazelcast]\nheap = "128m"\n')
    large = written(tmp_path, '[hazelcast]\nheap = "1g"\n')
    assert small.limits.max_held < 200_000 < large.limits.max_held
    assert small.queue.max_size < 100_000 == large.queue.max_size
    assert not small.misfits
    assert not large.misfits


def test_what_the_heap_does_not_carry_is_said(tmp_path: Path) -> None:
    config = written(tmp_path, "[limits]\nmax-held = 1000000\n[queue]\nmax-size = 300000\n")
    assert [line.partition(": ")[0] for line in config.misfits] == [
        "[limits] max-held = 1000000",
        "[queue] max-size = 300000",
    ]
    assert all('heap = "256m" carries about' in line for line in config.misfits)
    assert not written(tmp_path, "[hazelcast]\nmanaged = false\n[limits]\nmax-held = 1000000\n").misfits


def test_a_heap_in_which_no_message_fits_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'\[limits\] max-body: one message of 1048576 .* set heap to "31m" or more'):
        written(tmp_path, '[hazelcast]\nheap = "24m"\n')
    written(tmp_path, '[hazelcast]\nheap = "31m"\n')
    with pytest.raises(ConfigError, match="max-body"):
        written(tmp_path, "[limits]\nmax-body = 1000000000\n")
    written(tmp_path, "[hazelcast]\nmanaged = false\n[limits]\nmax-body = 1000000000\n")


def test_shown_configuration_hides_server_variables() -> None:
    sets = [f'{table}.environment=["PASSWORD=top secret = \\"1\\"", "OTHER=top"]' for table in ("hazelcast", "kafka")]
    config = load(sets=sets, environ={})
    assert "top secret" in config.to_toml()
    shown = without_secrets(config.to_toml())
    assert "top secret" not in shown
    assert shown.count('environment = ["PASSWORD=...", "OTHER=..."]') == 2
    plain = load(environ={}).to_toml()
    assert without_secrets(plain) == plain
