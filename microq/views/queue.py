"""Where the queue's messages and their copies are, for the terminal: member by member, or partition by partition."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from microq.cues import cues
from microq.figures import BrokerFigures, MemberFigures, PartitionView, QueueView
from microq.fleet import Role, Snapshot
from microq.views.cells import NOTHING, UNKNOWN, duration, mebibytes, state_text, table


def queue(view: Snapshot) -> RenderableType:
    """Return the queue's copies, server by server and partition by partition, the owners starred."""
    taken = max((figures.taken_at for figures in view.servers), default=None)
    age = f"collected {view.taken_at - taken:.1f} s ago" if taken else "no server answers"
    head = queue_line(view.queue) if view.queue else "owner and size are unknown"
    letters = [letters_line(view.queue)] if view.queue else []
    if not view.managed:
        where = "the servers run elsewhere; where the copies are cannot be seen from here"
        return Group(Text(f"{head}   {where}"), *letters)
    tables = (
        [_partitions(view), Text(""), brokers_table(view)] if view.queue_role is Role.KAFKA else [_of_members(view)]
    )
    parts: list[RenderableType] = [Text(f"{head}   {age}"), *letters, *tables]
    return Group(*parts, *cue_lines(cues(view, {})))


def cue_lines(found: Sequence[str]) -> list[Text]:
    """Return what whoever looks has to know, a line each."""
    return [Text(f"! {cue}", style="yellow") for cue in found]


def _of_members(view: Snapshot) -> RenderableType:
    rows = table(
        "MEMBER",
        "STATE",
        "ITEMS",
        "BACKUPS",
        "OLDEST",
        "OFFERS",
        "POLLS",
        "REJECTED",
        numbers=("ITEMS", "BACKUPS", "OLDEST", "OFFERS", "POLLS", "REJECTED"),
    )
    for process in view.having(Role.HAZELCAST):
        figures = _figures(view, process.name)
        row: list[RenderableType] = [starred(view, process.name), state_text(process.state)]
        if figures is None:
            rows.add_row(*row, *([UNKNOWN] * 6), style="dim")
            continue
        numbers = (figures.offers, figures.polls, figures.rejected)
        rows.add_row(
            *row,
            f"{figures.items:,}",
            f"{figures.backups:,}",
            duration(figures.oldest),
            *(f"{number:,}" for number in numbers),
        )
    return rows


def _partitions(view: Snapshot) -> RenderableType:
    rows = table("PARTITION", "LEADER", "IN SYNC", "WAITING", numbers=("PARTITION", "WAITING"), shrinks="IN SYNC")
    for partition in view.partitions:
        rows.add_row(
            str(partition.number),
            Text(f"★ {partition.leader}") if partition.leader else Text("nobody", style="bold red"),
            _in_sync(partition),
            UNKNOWN if partition.waiting is None else f"{partition.waiting:,}",
        )
    return rows


def _in_sync(partition: PartitionView) -> Text:
    count = len(partition.in_sync)
    line = f"{count} of {partition.replicas}: {', '.join(partition.in_sync)}"
    return Text(line, style="" if count == partition.replicas else "yellow")


def brokers_table(view: Snapshot) -> RenderableType:
    """Return what each broker leads and follows, with the messages that wait there."""
    rows = table("BROKER", "STATE", "LEADS", "ITEMS", "BACKUPS", numbers=("ITEMS", "BACKUPS"))
    for process in view.having(Role.KAFKA):
        row: list[RenderableType] = [starred(view, process.name), state_text(process.state)]
        figures = _broker(view, process.name)
        if figures is None:
            rows.add_row(*row, *([UNKNOWN] * 3), style="dim")
            continue
        leads = ", ".join(map(str, figures.leads)) or NOTHING
        rows.add_row(*row, leads, f"{figures.items:,}", f"{figures.backups:,}")
    return rows


def _broker(view: Snapshot, name: str) -> BrokerFigures | None:
    return next((figures for figures in view.brokers if figures.name == name), None)


def members_table(view: Snapshot) -> RenderableType:
    """Return what each member of Hazelcast holds of the queue and of the log."""
    rows = table(
        "MEMBER",
        "ITEMS",
        "BACKUPS",
        "LOG OWNED",
        "LOG BACKUPS",
        "PARTITIONS",
        "HEAP",
        numbers=("ITEMS", "BACKUPS", "LOG OWNED", "LOG BACKUPS", "PARTITIONS", "HEAP"),
    )
    for process in view.having(Role.HAZELCAST):
        figures = _figures(view, process.name)
        if figures is None:
            rows.add_row(starred(view, process.name), *([UNKNOWN] * 6), style="dim")
            continue
        rows.add_row(
            starred(view, process.name),
            f"{figures.items:,}",
            f"{figures.backups:,}",
            f"{figures.log_entries:,}",
            f"{figures.log_backups:,}",
            str(figures.partitions),
            f"{figures.heap_used >> 20}/{mebibytes(figures.heap_max)}",
        )
    return rows


def _figures(view: Snapshot, name: str) -> MemberFigures | None:
    return next((figures for figures in view.members if figures.name == name), None)


def starred(view: Snapshot, name: str) -> str:
    """Return the name of a server, with a star if it owns the queue or leads a partition."""
    return f"★ {name}" if name in view.owners else f"  {name}"


def queue_line(queue: QueueView) -> str:
    """Return the queue in one line: its copies, and how full it is."""
    size = UNKNOWN if queue.size is None else f"{queue.size:,}"
    copies = f"{queue.backup_count} backup{'s' if queue.backup_count != 1 else ''}"
    return f"{queue.name}   {copies}   {size} of {queue.max_size:,} items"


def letters_line(queue: QueueView) -> Text:
    """Return the counts of what the queue did not deliver at once."""
    pending, redelivered, dead = (
        UNKNOWN if count is None else f"{count:,}" for count in (queue.pending, queue.redelivered, queue.dead)
    )
    return Text(f"{pending} pending   {redelivered} redelivered   {dead} dead")
