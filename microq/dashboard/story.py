"""What happened: the newest events, and the scenario that runs or ran last."""

from __future__ import annotations

from collections import deque
from typing import Any

from microq.fleet import Event, Topic

NEWEST = 500
"""Events that the page gets when it opens."""

ENDS = frozenset({"verdict", "failed"})
"""Kinds of event with which a scenario is over."""


class Story:
    """The newest events, and those of one scenario."""

    def __init__(self) -> None:
        self.events: deque[dict[str, Any]] = deque(maxlen=NEWEST)
        self._scenario: list[dict[str, Any]] = []

    def hear(self, event: Event) -> dict[str, Any]:
        """Take one more event in, and return it as JSON has it."""
        body = event.to_json()
        self.events.append(body)
        if event.topic is Topic.SCENARIO:
            if not self._scenario or self._scenario[0]["name"] != event.name:
                self._scenario = []
            self._scenario.append(body)
        return body

    @property
    def under_way(self) -> bool:
        """Whether a scenario runs."""
        return bool(self._scenario) and self._scenario[-1]["kind"] not in ENDS

    def scenario(self) -> dict[str, Any] | None:
        """Return the scenario that runs, or ran last, as the page gets it."""
        if not self._scenario:
            return None
        return {"name": self._scenario[0]["name"], "running": self.under_way, "events": self._scenario}
