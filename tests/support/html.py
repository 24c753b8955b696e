"""Pages of HTML, to look into."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any


class Reader(HTMLParser):
    """Reads a page as a browser does: its elements, its ids, its words, and the data of its charts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.data = ""
        self._words: list[str] = []
        self._within = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        self.tags.append(tag)
        self.ids += [str(facts["id"])] if "id" in facts else []
        self._within = f"{tag} {facts.get('id', '')}".strip() if tag in {"script", "style"} else ""

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 - the name is HTMLParser's
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "script script-figures":
            self.data += data
        elif not self._within:
            self._words.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self._words).split())

    @property
    def figures(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.data)
        return found
