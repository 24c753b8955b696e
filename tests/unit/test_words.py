"""Words: those that select a server of the queue by its role, and those that no text may have."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from support.snapshots import SYSTEM, TOPIC

from microq.errors import UnknownServerError
from microq.fleet import ProcessState, Snapshot


def without(system: Snapshot, *names: str) -> Snapshot:
    listed = (replace(p, state=ProcessState.EXITED) if p.name in names else p for p in system.processes)
    return replace(system, processes=tuple(listed))


def test_the_lowest_is_the_lowest_that_is_up() -> None:
    assert SYSTEM.server("lowest").name == "hazelcast-5702"
    assert TOPIC.server("lowest").name == "kafka-9091"


def test_an_address_is_compared_as_a_number() -> None:
    addresses = {"hazelcast-5702": "127.0.0.10:5702", "hazelcast-5703": "127.0.0.2:5703"}
    listed = tuple(replace(p, address=addresses.get(p.name, p.address)) for p in SYSTEM.processes)
    assert replace(SYSTEM, processes=listed).server("lowest").name == "hazelcast-5703"


@pytest.mark.parametrize("word", ["owner", "leader"])
def test_owner_and_leader_are_one_word_for_both_queues(word: str) -> None:
    assert SYSTEM.server(word).name == "hazelcast-5702"
    assert TOPIC.server(word).name == TOPIC.owner


@pytest.mark.parametrize("word", ["owner", "leader"])
def test_unknown_server_is_refused_with_the_reason(word: str) -> None:
    unknown = replace(SYSTEM, queue=None)
    with pytest.raises(UnknownServerError, match=f"the {word} is unknown now: no server reports it"):
        unknown.server(word)
    with pytest.raises(UnknownServerError, match="facade-5000 reports it, and is not ready") as caught:
        without(unknown, "facade-5000").server(word)
    assert caught.value.exit_code == 3


def test_an_owner_that_is_gone_is_none() -> None:
    with pytest.raises(UnknownServerError):
        without(SYSTEM, "hazelcast-5702").server("owner")


def test_no_server_at_all_is_said() -> None:
    with pytest.raises(UnknownServerError, match="no server of the queue is up"):
        without(SYSTEM, "hazelcast-5702", "hazelcast-5703").server("lowest")


ROOT = Path(__file__).parents[2]
BANNED = {
    r"\bnobody\b|\bsomebody\b|\bwhoever\b": "name the client, process, server or user; or say that it is unknown",
    r"\buncertain": "indeterminate",
    r'"""See [`\w]': "say what it does",
    r"\b_told\b|\btold = ": "say what the name holds",
    r"\ball the same\b": "but",
    r"\bunder way\b|(?<!max)_under_way": "in flight, of a message; in progress, of what a program does",
    r"\b(un|not )?reachable\b": "can or cannot be reached",
    r"\bwhichever\b|\banybody\b|\beverybody\b": "any, each, or the noun itself",
    r"\bin vain\b|\bcannot be had\b": "say what does not happen",
    r"\bnot there\b": "is down, does not answer, or is missing",
}
"""What no reader in a second language should have to guess -> what to write."""

LONGEST_NAME = 60
"""Characters of the name of a test: subject, condition, result."""


@cache
def texts() -> dict[str, str]:
    package = ROOT / "microq"
    files = [*package.rglob("*.py"), *package.rglob("*.md"), *package.rglob("*.js"), *package.rglob("*.html")]
    files += [ROOT / "README.md", ROOT / "config.toml"]
    return {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in files}


@pytest.mark.parametrize("banned", BANNED)
def test_no_text_has_a_banned_word(banned: str) -> None:
    pattern = re.compile(banned, re.IGNORECASE)
    found = [f"{name}: {hit[0]}" for name, text in texts().items() for hit in [pattern.search(text)] if hit]
    assert found == [], f"write instead: {BANNED[banned]}"


@pytest.mark.parametrize("banned", BANNED)
def test_each_banned_word_is_found(banned: str) -> None:
    assert re.search(
        banned,
        'nobody uncertain """See `Other`.""" _told = all the same, not there, unreachable, under way, '
        "whichever, in vain, who owns",
        re.IGNORECASE,
    )


def test_names_of_tests_fit_into_60_characters() -> None:
    files = {file: file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py")}
    names = [f"{file.name}: {name}" for file, text in files.items() for name in re.findall(r"def (test_\w+)", text)]
    assert [name for name in names if len(name.partition(": ")[2]) > LONGEST_NAME] == []
