"""Pictures of the views as text, to look into."""

from __future__ import annotations

import io
import re

from rich.console import Console, RenderableType


def text(picture: RenderableType, width: int = 160) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, legacy_windows=False).print(picture)
    lines = out.getvalue().splitlines()
    assert all(len(line.rstrip()) <= width for line in lines)
    return "\n".join(line.rstrip() for line in lines)


def words(line: str) -> list[str]:
    """The cells of a line, which are two or more blanks apart."""
    return re.split(r"\s{2,}", line.strip())


def line_with(picture: str, word: str) -> str:
    return next(line for line in picture.splitlines() if word in line)
