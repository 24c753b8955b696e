"""What a client speaks with a node, as far as a fault must understand it: a JSON object a line each way."""

from __future__ import annotations

import json
from typing import Any

from microq.backends.base import Reply, Wire

REPLIES = {"put": Reply.ENQUEUE, "take": Reply.DEQUEUE}


class Lines:
    """A client's calls of a node."""

    def __init__(self) -> None:
        self._asked = self._answered = b""
        self._open: dict[int, str] = {}

    def asked(self, data: bytes) -> None:
        """Hear bytes of requests."""
        *lines, self._asked = (self._asked + data).split(b"\n")
        for line in lines:
            said = json.loads(line)
            self._open[said["id"]] = said["call"]

    def answered(self, data: bytes) -> tuple[bytes, list[tuple[int, Reply]]]:
        """Hear bytes of replies; only whole lines are passed on."""
        *lines, self._answered = (self._answered + data).split(b"\n")
        found, at = [], 0
        for line in lines:
            if reply := self._reply(json.loads(line)):
                found.append((at, reply))
            at += len(line) + 1
        return b"".join(line + b"\n" for line in lines), found

    def _reply(self, said: dict[str, Any]) -> Reply | None:
        """Return which reply it is, if what was asked was done."""
        reply = REPLIES.get(self._open.pop(said["id"]))
        return reply if "ok" in said or said.get("items") else None


WIRE = Wire(Lines)
