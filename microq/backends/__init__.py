"""The backends of the queue. A new one needs a folder here and a line in `BACKENDS`.

Another package can add a backend too, by a line of its entry points in the group `GROUP`.
The log and the store do not belong to a backend: these maps are in Hazelcast for every queue, and all logging-services
and messages-services share them. A queue in another backend has servers of its own beside the members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, cast

from microq.errors import UsageError

if TYPE_CHECKING:  # an import cycle: the configuration needs the names, a backend needs the configuration
    from microq.allowance import Allowance
    from microq.backends.base import Backend, MessageQueue, Trait
    from microq.config import Config

BACKENDS = {
    "hazelcast": "microq.backends.hazelcast",
    "kafka": "microq.backends.kafka",
}
"""Name in the configuration -> module, whose `BACKEND` is the `Backend`; it is imported when it is used."""

GROUP = "microq.backends"
"""The group of entry points of other packages: `memory = the_package.module`, as in `BACKENDS`."""

MAP_STORE = "hazelcast"
"""The backend whose servers hold the maps: log and store are in Hazelcast, also when the queue is elsewhere."""

QueueOpener = Callable[["Config", str], AbstractAsyncContextManager["MessageQueue"]]
"""The function by which a service opens its queue; tests pass another one."""


def names() -> list[str]:
    """Return the names of all backends that are installed."""
    return [*BACKENDS, *(name for name in _installed() if name not in BACKENDS)]


def _installed() -> dict[str, str]:
    # Imported here: a search of the installed packages takes longer than `--help`, and is rarely needed.
    from importlib.metadata import entry_points  # noqa: PLC0415

    return {each.name: each.value for each in entry_points(group=GROUP)}


@cache
def backend(name: str) -> Backend:
    """Return the backend with a name; raises `UsageError` if there is none."""
    if name in BACKENDS:
        return cast("Backend", import_module(BACKENDS[name]).BACKEND)
    module = _installed().get(name)
    if module is None:
        raise UsageError(f"{name} is not a backend of the queue; the backends are {', '.join(names())}")
    try:
        found: Backend = import_module(module).BACKEND
    except (ImportError, AttributeError) as error:
        raise UsageError(f"the backend {name} cannot be loaded from {module}: {error}") from error
    if found.name != name or not name.isalnum():  # processes are called after it, as in memory-9191
        raise UsageError(
            f"the backend {name} of {module} must have this name, of letters and digits, and it has {found.name}"
        )
    return found


@cache
def described(name: str) -> Backend:
    """Return the backend that a record names; if this version has none of that name, one with general words."""
    try:
        return backend(name)
    except UsageError:
        from microq.backends.base import unknown  # noqa: PLC0415 - it imports this package

        return unknown(name)


def with_traits(traits: Iterable[Trait]) -> list[str]:
    """Return the names of the backends that have all of these traits."""
    return [name for name in BACKENDS if backend(name).traits.issuperset(traits)]


def open_queue(config: Config, name: str, bound: Allowance | None = None) -> AbstractAsyncContextManager[MessageQueue]:
    """Open the configured queue as the client `name`.

    If the backend does not enforce `max-size`, the processes that share a `bound` enforce it together.
    """
    return backend(config.queue.backend).open_queue(config, name, bound)


async def put_raw(config: Config, items: Sequence[str]) -> None:
    """Put texts into the configured queue as they are, for a fault. Raises as `MessageQueue.put` does."""
    await backend(config.queue.backend).put_raw(config, items)
