"""A run's folder, written as the services and the supervisor write it."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from microq import timeline
from microq.fleet import Event, Snapshot
from microq.log import Acknowledged, Line, LogEvent, Received, Stored, Took, escaped, quoted

BEGAN = 1_790_000_000.0


class Run:
    """A run that writes its logs; times are seconds since it began."""

    def __init__(self, folder: Path, form: Callable[[Line], str] = str) -> None:
        self.folder, self._form = folder, form
        (folder / "logs").mkdir(parents=True, exist_ok=True)

    def says(self, name: str, at: float, event: LogEvent | str) -> None:
        self.write(name, [(at, str(event))])

    def write(self, name: str, lines: Iterable[tuple[float, str]]) -> None:
        with (self.folder / "logs" / f"{name}.log").open("a", encoding="utf-8") as file:
            file.writelines(self._form(Line(BEGAN + at, "INFO", name, escaped(text))) + "\n" for at, text in lines)

    def acknowledges(self, message_id: str, text: str, at: float, took: float = 3.1) -> None:
        self.says("facade-5000", at, Acknowledged(message_id, quoted(text), "logging-5004", took))

    def stores(self, message_id: str, text: str, at: float) -> None:
        self.says("logging-5004", at, Stored(message_id, quoted(text)))

    def takes(self, at: float, *ids: str, name: str = "messages-5001") -> None:
        self.says(name, at, Took.of(ids))

    def receives(self, message_id: str, text: str, at: float, name: str = "messages-5001") -> None:
        self.says(name, at, Received(message_id, quoted(text)))

    def carries(self, message_id: str, text: str, at: float, after: float = 0.01) -> None:
        """The whole way of a message, which is acknowledged at `at` and received so much later."""
        self.stores(message_id, text, at - 0.001)
        self.acknowledges(message_id, text, at)
        self.takes(at + after - 0.002, message_id)
        self.receives(message_id, text, at + after)

    def lives(self, *seen: Snapshot | Event) -> None:
        """Append to the timeline; times are seconds since the run began."""
        writer = timeline.Writer(self.folder)
        for each in seen:
            if isinstance(each, Snapshot):
                writer.look(dataclasses.replace(each, taken_at=BEGAN + each.taken_at))
            else:
                writer.tell(dataclasses.replace(each, at=BEGAN + each.at))
        writer.close()


def as_json(line: Line) -> str:
    """A line as the services write it with logs in JSON."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(line.at))
    fields = {
        "at": f"{stamp}.{round(line.at * 1000) % 1000:03d}{time.strftime('%z', time.localtime(line.at))}",
        "level": line.level,
        "process": line.name,
        "message": line.text,
    }
    return json.dumps(fields, ensure_ascii=False)
