"""The servers on the screen of a watcher: what each holds of the queue, the owner starred, and each partition."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from microq.figures import BrokerFigures, MemberFigures, PartitionView
from microq.fleet import ProcessView, Role, Snapshot
from microq.views.cells import NOTHING, UNKNOWN, duration, mebibytes, state_text, table
from microq.views.queue import starred

Columns = list[tuple[str, str]]
"""What a server is shown with: the head of the column, and the text, for one server."""


def servers_tables(view: Snapshot, *, wide: bool) -> tuple[list[RenderableType], int]:
    """Return a table for each kind of server, and the rows that they take together."""
    parts: list[RenderableType] = []
    rows = 0
    for role in (Role.KAFKA, Role.HAZELCAST):
        servers = view.having(role)
        if not servers:
            continue
        if rows and wide:
            parts.append(Text(""))
            rows += 1
        parts.append(_table(view, role, servers, wide=wide))
        rows += len(servers) + 1
    if view.partitions:
        lines = list(map(_partition, view.partitions))
        if wide:
            parts.insert(1, Text("\n".join(f"partition {line} wait" for line in lines)))
        else:
            parts.insert(1, Text("  ".join(lines), no_wrap=True, overflow="ellipsis"))
        rows += len(lines) if wide else 1
    return parts, rows


def _table(view: Snapshot, role: Role, servers: tuple[ProcessView, ...], *, wide: bool) -> RenderableType:
    heads = [head for head, _ in _columns(view, servers[0], wide=wide)]
    title = "BROKER" if role is Role.KAFKA else "MEMBER"
    rows = table(title, "STATE", *heads, numbers=heads)
    for process in servers:
        cells = [cell for _, cell in _columns(view, process, wide=wide)]
        rows.add_row(starred(view, process.name), state_text(process.state), *cells)
    return rows


def _columns(view: Snapshot, process: ProcessView, *, wide: bool) -> Columns:
    uptime = view.taken_at - process.started_at if process.started_at else None
    common = [("UP", duration(uptime)), ("MEMORY", mebibytes(process.rss))]
    figures = next((each for each in view.figures if each.name == process.name), None)
    held = [
        ("ITEMS", _number(figures.items if figures else None)),
        ("BACKUPS", _number(figures.backups if figures else None)),
    ]
    if process.role is Role.KAFKA:
        leads = figures.leads if isinstance(figures, BrokerFigures) else None
        return [*common, ("LEADS", UNKNOWN if leads is None else ", ".join(map(str, leads)) or NOTHING), *held]
    member = figures if isinstance(figures, MemberFigures) else None
    log = [
        ("LOG", _number(member.log_entries if member else None)),
        ("COPIES", _number(member.log_backups if member else None)),
    ]
    if view.queue_role is Role.KAFKA:  # they keep the maps only
        return [*common, *log]
    oldest = [("OLDEST", duration(member.oldest) if member else UNKNOWN)] if wide else []
    return [*common, *held, *oldest, *log]


def _partition(partition: PartitionView) -> str:
    """Return a partition in a few letters: number, leader, copies in sync, what waits."""
    leader = f"★ {partition.leader}" if partition.leader else "nobody leads"
    return f"{partition.number} {leader} {len(partition.in_sync)}/{partition.replicas}: {_number(partition.waiting)}"


def _number(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number:,}"
