"""What a messages-service holds: in order, each id once, in pages, within its bound of memory."""

from __future__ import annotations

import math
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest
from support.fakes import ids_of

from microq.message import Message
from microq.services.inbox import MOST_ARRIVALS, PAGE, Inbox, packed, unpacked

PLAIN = "0b5f1c2e-8d4a-4f6b-9c3d-1a2b3c4d5e6f"

ODD = [
    PLAIN.upper(),
    PLAIN.replace("-", ""),
    PLAIN[:-1] + "F",
    PLAIN[:-1] + "g",
    PLAIN[:8] + PLAIN[9:] + "-",
    "-" + PLAIN[:8] + PLAIN[9:],
    "{" + PLAIN[1:-1] + "}",
    PLAIN[:8] + " " + PLAIN[9:],
    PLAIN[:6] + "  " + PLAIN[8:],
    PLAIN.replace("0", "\u0660"),
    PLAIN.replace("0", "\uff10"),
    PLAIN + " ",
    f"urn:uuid:{PLAIN}",
    "----",
    "-" * 36,
    PLAIN[:-2] + "--",
    PLAIN[:8] + "-" * 28,
    "",
    "a",
    "ключ",
    "🦉" * 9,
    "a\0b",
    "\0" * 36,
]
"""Ids that look like a UUID or like nothing, none of them the one that is plain."""


def messages(*ids: str, at: float = 1.0) -> list[Message]:
    return [Message(message_id, f"text of {message_id}", at) for message_id in ids]


def holding(*ids: str) -> Inbox:
    held = Inbox("messages-1")
    held.add(messages(*ids))
    return held


def whole(held: Inbox) -> Iterator[Message]:
    for page in held.pages():
        yield from page.values()


def test_messages_are_held_complete_and_in_order() -> None:
    held, trace = Inbox("messages-1"), "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    one = Message("b", "текст 🦉\n\0" + "x" * 5000, 1.25, "", trace)
    two = Message("a", "", 1.5, "another")
    assert held.add([one, two]) == [True, True]
    assert list(whole(held)) == [
        Message("b", one.text, 1.25, "messages-1", trace),
        Message("a", "", 1.5, "messages-1"),
    ]
    assert len(held) == 2
    assert not Inbox("messages-1")


def test_an_id_is_held_once_also_of_one_batch() -> None:
    held = Inbox("messages-1")
    assert held.add([Message("a", "first"), Message("b", "b"), Message("a", "second")]) == [True, True, False]
    assert held.add([Message("c", "c"), Message("b", "again")]) == [True, False]
    assert [message.text for message in whole(held)] == ["first", "b", "c"]
    assert len(held) == 3


@pytest.mark.parametrize("odd", ODD)
def test_id_in_another_spelling_is_another_id(odd: str) -> None:
    assert packed(PLAIN) == uuid.UUID(PLAIN).bytes
    assert packed(odd) == odd
    assert unpacked(packed(PLAIN)) == PLAIN
    held = holding(PLAIN, odd)
    assert ids_of(held) == [PLAIN, odd]
    assert odd in held
    assert odd not in holding(PLAIN)
    assert PLAIN not in holding(odd)


def test_all_odd_ids_live_side_by_side() -> None:
    held = holding(PLAIN, *ODD)
    assert ids_of(held) == [PLAIN, *ODD]
    assert held.add(messages(PLAIN, *ODD)) == [False] * (1 + len(ODD))


def test_what_is_given_up_is_gone_and_may_come_again_at_the_end() -> None:
    held = holding("a", PLAIN, "c")
    held.discard(1)
    held.discard(1)
    assert (ids_of(held), len(held), PLAIN in held) == (["a", "c"], 2, False)
    assert held.arrivals("another", 0)["ids"] == ["a", "c"]
    assert held.add(messages(PLAIN, "a")) == [True, False]
    assert ids_of(held) == ["a", "c", PLAIN]
    assert held.arrivals(held.epoch, 3)["ids"] == [PLAIN]


@pytest.mark.parametrize("count", [0, 1, PAGE - 1, PAGE, PAGE + 1, 5 * PAGE + 7])
def test_pages_hold_everything_once_and_none_is_large(count: int) -> None:
    ids = [str(n) for n in range(count)]
    held = holding(*ids)
    pages = list(held.pages())
    assert all(0 < len(page) <= PAGE for page in pages)
    assert [place for page in pages for place in page] == list(range(count))
    assert ids_of(held) == ids


def test_a_page_that_was_given_up_is_left_out() -> None:
    held = holding(*(str(n) for n in range(3 * PAGE)))
    for place in range(PAGE, 2 * PAGE):
        held.discard(place)
    assert [len(page) for page in held.pages()] == [PAGE, PAGE]


def test_pages_skip_messages_discarded_meanwhile() -> None:
    held = holding(*(str(n) for n in range(PAGE + 10)))
    pages = held.pages()
    next(pages)
    held.add(messages("later"))
    held.discard(PAGE)
    assert list(next(pages)) == list(range(PAGE + 1, PAGE + 10))
    assert list(pages) == []


TIMES = [1.0, 2.0, 2.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("after", "limit", "wanted"),
    [
        (-math.inf, None, TIMES),
        (-math.inf, 1, [1.0]),
        (-math.inf, 2, [1.0, 2.0, 2.0, 2.0]),
        (-math.inf, 5, TIMES),
        (-math.inf, 6, TIMES),
        (1.0, None, [2.0, 2.0, 2.0, 3.0]),
        (1.5, 1, [2.0, 2.0, 2.0]),
        (2.0, 1, [3.0]),
        (3.0, None, []),
    ],
)
@pytest.mark.parametrize("before", [0, PAGE - 3, 3 * PAGE - 1])
def test_part_is_later_and_keeps_equal_times(after: float, limit: int | None, wanted: list[float], before: int) -> None:
    held = Inbox("messages-1")
    held.add([Message(f"before-{n}", "", 0.5) for n in range(before)])
    held.add([Message(str(n), "", at) for n, at in enumerate(TIMES)])
    found = [m.at for page in held.pages(max(after, 0.5) if before else after, limit) for m in page.values()]
    assert found == wanted


def test_parts_one_after_the_other_show_everything_once() -> None:
    held = Inbox("messages-1")
    held.add([Message(str(n), "", float(n // 7)) for n in range(3 * PAGE)])
    after, found = -math.inf, list[Message]()
    while part := [m for page in held.pages(after, 10) for m in page.values()]:
        found += part
        after = part[-1].at
    assert [message.id for message in found] == [str(n) for n in range(3 * PAGE)]


def test_times_never_fall() -> None:
    held = Inbox("messages-1")
    held.add([Message("a", "", 5.0), Message("b", "", 4.0)])
    held.add([Message("c", "", 3.0), Message("d", "", 6.0)])
    assert [message.at for message in whole(held)] == [5.0, 5.0, 5.0, 6.0]
    assert [m.id for page in held.pages(4.5) for m in page.values()] == ["a", "b", "c", "d"]


def test_restored_messages_are_in_order_and_not_arrivals() -> None:
    held = Inbox("messages-1")
    restored = [Message(str(n), "", float(n)) for n in range(2 * PAGE + 5)]
    held.restore(restored[300:])
    held.restore(restored[:300])
    held.arrange()
    assert ids_of(held) == [message.id for message in restored]
    assert held.arrivals("another", 0) == {"epoch": held.epoch, "next": len(restored), "ids": [], "more": False}
    assert held.add(messages("3", "new", at=1.0)) == [False, True]
    assert held.arrivals("another", 0)["ids"] == ["new"]
    assert [m.id for page in held.pages(restored[-2].at) for m in page.values()] == [restored[-1].id, "new"]
    empty = Inbox("messages-1")
    empty.arrange()
    assert (len(empty), list(empty.pages()), empty.add(messages("a"))) == (0, [], [True])


# -- arrivals ---------------------------------------------------------------------------------------------------------


def test_arrivals_continue_from_place_restart_in_new_epoch() -> None:
    held = holding("a", PLAIN, "c")
    mine = held.epoch
    assert held.arrivals("", 0) == {"epoch": mine, "next": 3, "ids": [], "more": False}
    assert held.arrivals(mine, 1) == {"epoch": mine, "next": 3, "ids": [PLAIN, "c"], "more": False}
    assert held.arrivals(mine, 3)["ids"] == held.arrivals(mine, 99)["ids"] == []
    assert held.arrivals("another", 2) == {"epoch": mine, "next": 3, "ids": ["a", PLAIN, "c"], "more": False}
    assert Inbox("messages-1").epoch != mine


def test_arrivals_come_in_pages() -> None:
    held = holding(*(str(number) for number in range(MOST_ARRIVALS + 1)))
    page = held.arrivals("another", 0)
    assert (len(page["ids"]), page["next"], page["more"]) == (MOST_ARRIVALS, MOST_ARRIVALS, True)
    last = held.arrivals(page["epoch"], page["next"])
    assert (last["ids"], last["more"]) == ([str(MOST_ARRIVALS)], False)


# -- memory -----------------------------------------------------------------------------------------------------------

MEASURE = """
import resource, sys, uuid
from microq.message import Message
from microq.services.inbox import Inbox

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

count, kind = int(sys.argv[1]), sys.argv[2]
held, before = ({} if kind == "objects" else Inbox("messages-5001")), resident()
for number in range(0, count, 32):
    batch = [Message(str(uuid.uuid4()), f"{n:0100d}", float(n), "messages-5001") for n in range(number, number + 32)]
    if kind == "objects":
        held |= {message.id: message for message in batch}
    else:
        held.add(batch)
assert len(held) == count
print((resident() - before) / count)
"""


def measured(count: int, kind: str) -> float:
    """Return the bytes per message of 100 characters by which a process grows that holds so many."""
    return float(subprocess.check_output([sys.executable, "-c", MEASURE, str(count), kind], text=True))


@pytest.mark.parametrize("count", [96_000, 176_000])
def test_a_message_takes_three_times_its_text_at_most(count: int) -> None:
    assert measured(count, "held") <= 300


def test_memory_test_fails_for_messages_held_as_objects() -> None:
    assert measured(96_000, "objects") > 300
