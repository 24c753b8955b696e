"""The dialogue that follows a connection, by what is spoken over it."""

from __future__ import annotations

from microq.chaos.wire import Dialogue, Kind, Reply
from microq.chaos.wire_hazelcast import Calls
from microq.chaos.wire_kafka import Exchanges


class Turns:
    """HTTP, one request at a time over a connection, as every client of ours does it."""

    def __init__(self) -> None:
        self._asking = self._changes = False

    def asked(self, data: bytes) -> None:
        """See `Dialogue.asked`."""
        if not self._asking:
            self._asking, self._changes = True, data.startswith((b"POST", b"DELETE"))

    def answered(self, data: bytes) -> tuple[bytes, list[tuple[int, Reply]]]:
        """See `Dialogue.answered`."""
        first, self._asking = self._asking, False
        return data, [(0, Reply.HTTP)] if first and self._changes else []


def dialogue_of(kind: Kind) -> Dialogue | None:
    """Return what follows a connection of a kind; nothing follows what members say to each other."""
    match kind:
        case Kind.CLIENT:
            return Calls()
        case Kind.KAFKA:
            return Exchanges()
        case Kind.HTTP:
            return Turns()
        case Kind.MEMBER:
            return None
