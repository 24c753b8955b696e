"""An allowance counts once for all processes that share it."""

from __future__ import annotations

import os

import pytest

from microq.allowance import Allowance


def test_what_is_left_is_taken_and_no_more() -> None:
    allowance = Allowance(10)
    assert [allowance.take(6), allowance.take(6), allowance.take(4), allowance.take(1)] == [True, False, True, False]
    allowance.give_back(5)
    assert (allowance.left, allowance.taken, allowance.done) == (5, 5, 0)
    allowance.allow(3)
    assert (allowance.left, allowance.take(0)) == (-2, False)
    allowance.allow_more(2)
    assert allowance.left == -2
    allowance.allow_more(7)
    allowance.finish(2)
    assert (allowance.left, allowance.done) == (2, 2)


@pytest.mark.parametrize("most", [100, 1001])
def test_processes_take_it_together(most: int) -> None:
    allowance, counts = Allowance(most), []
    for _ in range(4):
        read, write = os.pipe()
        if not os.fork():
            os.write(write, str(sum(allowance.take(1) for _ in range(most))).encode())
            os._exit(0)
        os.close(write)
        counts.append(read)
    taken = []
    for read in counts:
        taken.append(int(os.read(read, 10)))
        os.close(read)
        os.wait()
    assert (sum(taken), allowance.taken, allowance.left) == (most, most, 0)
