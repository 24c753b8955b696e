"""Plug the third backend in, as a package that is installed beside microq does: by one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

LINE = "memory = support.memory_backend"

TESTS = Path(__file__).parents[1]


@contextmanager
def plugged_in(folder: Path, line: str = LINE) -> Iterator[dict[str, str]]:
    """Have the backend in this process, and yield what has it in others; `folder` is where packages are installed."""
    package = folder / "microq_memory-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: microq-memory\nVersion: 1\n", encoding="utf-8")
    (package / "entry_points.txt").write_text(f"[microq.backends]\n{line}\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield {"PYTHONPATH": os.pathsep.join([str(folder), str(TESTS)])}
