"""The state of a system: processes, servers, the queue and its copies; and all systems of a user."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from microq.caveats import UNKNOWN, backups, caveats, safety
from microq.figures import BrokerFigures, MemberFigures, PartitionView, QueueView
from microq.fleet import RUNNING, Event, ProcessState, ProcessView, Role, Snapshot, SystemView
from microq.hints import pasteable
from microq.terminal.style import NOTHING, duration, mebibytes, number, state_text, table


def starting(states: dict[str, tuple[ProcessState, str]], began: float) -> RenderableType:
    """Return the table of processes that start or stop, from name -> state and detail."""
    rows = table("PROCESS", "STATE")
    for name, (state, detail) in states.items():
        rows.add_row(name, state_text(state, detail))
    return Group(rows, Text(f"{time.monotonic() - began:.1f} s", style="dim"))


def status(view: Snapshot) -> RenderableType:
    """Return the whole state of a system: its processes, servers and queue."""
    rows = table(
        "PROCESS",
        "STATE",
        "PID",
        "ADDRESS",
        "UP",
        "MEMORY",
        "RESTARTS",
        "HELD",
        numbers=("PID", "UP", "MEMORY", "RESTARTS", "HELD"),
        shrinks="ADDRESS",
    )
    for process in view.processes:
        rows.add_row(*_process_row(view, process))
    parts: list[RenderableType] = [rows]
    if view.having(view.map_role):
        parts += [Text(""), members_table(view)]
    if view.map_role is Role.MAPS and view.having(Role.QUEUE):
        parts += [Text(""), brokers_table(view) if view.partitioned else _of_servers(view)]
    parts.append(Text(""))
    safe, sentence = safety(view)
    if safe:
        parts.append(Text(sentence, style="green"))
    if view.queue:
        parts += [Text(queue_line(view, view.queue)), letters_line(view.queue)]
    parts += caveat_lines(caveats(view, {}))
    parts.append(Text(f"run folder {view.folder}", style="dim"))
    return Group(*parts)


def _process_row(view: Snapshot, process: ProcessView) -> list[RenderableType]:
    uptime = view.taken_at - process.started_at if process.started_at else None
    why = "out of memory" if process.out_of_memory else process.exit_status
    detail = f"({why})" if process.state is ProcessState.EXITED else ""
    star = "★ " if process.name in view.owners else ""
    return [
        f"{star}{process.name}",
        state_text(process.state, detail),
        str(process.pid or NOTHING),
        process.address,
        duration(uptime),
        mebibytes(process.rss),
        str(process.restarts),
        NOTHING if process.held is None else f"{process.held:,}",
    ]


def event(happened: Event) -> Text:
    """Return an event as a line."""
    state = ProcessState(happened.kind)
    return Text.assemble(f"{happened.name:<16} ", state_text(state, happened.detail))


def findings_table(rows: Sequence[Sequence[str]]) -> RenderableType:
    """Return the findings of `microq doctor`: what, state, detail, remedy."""
    signs = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "missing": ("✗", "red")}
    lines: list[RenderableType] = []
    for what, state, detail, remedy in rows:
        sign, style = signs[state]
        lines.append(Text.assemble((f"{sign} ", style), (what, "bold"), f": {detail}"))
        if remedy:
            lines.append(Text(f"    {remedy}"))
    return Group(*lines)


# -- all systems of a user ---------------------------------------------------------------------------------------------


def systems(found: Sequence[SystemView], now: float) -> RenderableType:
    """Return a line for each system; `now` is in seconds since the epoch."""
    if not found:
        return Text(pasteable("No system of yours runs on this machine; `microq up` starts one."))
    numbers = ("PROCESSES", "UP")
    rows = table("FOLDER", "NAME", "STATE", "QUEUE", "UP", "PROCESSES", "PAGE", "RUN", numbers=numbers)
    for one in found:
        rows.add_row(
            one.folder,
            one.name or NOTHING,
            Text(one.state, style="green" if one.state == RUNNING else "yellow"),
            one.queue or NOTHING,
            duration(max(0.0, now - one.since)),
            str(one.processes),
            one.page or NOTHING,
            one.run,
        )
    return rows


# -- the queue and its copies ------------------------------------------------------------------------------------------


def queue(view: Snapshot) -> RenderableType:
    """Return the queue's copies, server by server and partition by partition, the owners starred."""
    taken = max((figures.taken_at for figures in view.servers), default=None)
    age = f"collected {view.taken_at - taken:.1f} s ago" if taken else "no server answers"
    head = queue_line(view, view.queue) if view.queue else "owner and size are unknown"
    letters = [letters_line(view.queue)] if view.queue else []
    if not view.managed:
        where = "the servers run elsewhere; their copies cannot be seen from here"
        return Group(Text(f"{head}   {where}"), *letters)
    tables = [_partitions(view), Text(""), brokers_table(view)] if view.partitioned else [_of_servers(view)]
    parts: list[RenderableType] = [Text(f"{head}   {age}"), *letters, *tables]
    return Group(*parts, *caveat_lines(caveats(view, {})))


def caveat_lines(found: Sequence[str]) -> list[Text]:
    """Return the caveats, a line each."""
    return [Text(f"! {caveat}", style="yellow") for caveat in found]


def _of_servers(view: Snapshot) -> RenderableType:
    """Return what each server holds. Its counts of calls are left out: they do not include batches."""
    heads = ("ITEMS", "BACKUPS", "OLDEST")
    rows = table(view.words.server.upper(), "STATE", *heads, numbers=heads)
    for process in view.having(Role.QUEUE):
        figures = next((each for each in view.servers if each.name == process.name), None)
        row: list[RenderableType] = [starred(view, process.name), state_text(process.state)]
        if figures is None:
            rows.add_row(*row, *([UNKNOWN] * len(heads)), style="dim")
            continue
        oldest = figures.oldest if isinstance(figures, MemberFigures) else None
        rows.add_row(*row, number(figures.items), number(figures.backups), duration(oldest))
    return rows


def _partitions(view: Snapshot) -> RenderableType:
    rows = table("PARTITION", "LEADER", "IN SYNC", "WAITING", numbers=("PARTITION", "WAITING"), shrinks="IN SYNC")
    for partition in view.partitions:
        rows.add_row(
            str(partition.number),
            Text(f"★ {partition.leader}") if partition.leader else Text("none", style="bold red"),
            _in_sync(partition),
            number(partition.waiting),
        )
    return rows


def _in_sync(partition: PartitionView) -> Text:
    count = len(partition.in_sync)
    line = f"{count} of {partition.replicas}: {', '.join(partition.in_sync)}"
    return Text(line, style="" if count == partition.replicas else "yellow")


def brokers_table(view: Snapshot) -> RenderableType:
    """Return the partitions that each broker leads and follows, with the waiting messages."""
    rows = table(view.words.server.upper(), "STATE", "LEADS", "ITEMS", "BACKUPS", numbers=("ITEMS", "BACKUPS"))
    for process in view.having(Role.QUEUE):
        row: list[RenderableType] = [starred(view, process.name), state_text(process.state)]
        figures = _broker(view, process.name)
        if figures is None:
            rows.add_row(*row, *([UNKNOWN] * 3), style="dim")
            continue
        leads = ", ".join(map(str, figures.leads)) or NOTHING
        rows.add_row(*row, leads, number(figures.items), number(figures.backups))
    return rows


def _broker(view: Snapshot, name: str) -> BrokerFigures | None:
    return next((figures for figures in view.brokers if figures.name == name), None)


def members_table(view: Snapshot) -> RenderableType:
    """Return the items and log entries of each server that holds the maps."""
    keepers = [process for process in view.processes if process.role is view.map_role]
    rows = table(
        view.words_of(view.map_role).server.upper(),
        "ITEMS",
        "BACKUPS",
        "LOG OWNED",
        "LOG BACKUPS",
        "PARTITIONS",
        "HEAP",
        numbers=("ITEMS", "BACKUPS", "LOG OWNED", "LOG BACKUPS", "PARTITIONS", "HEAP"),
    )
    for process in keepers:
        figures = _figures(view, process.name)
        if figures is None:
            rows.add_row(starred(view, process.name), *([UNKNOWN] * 6), style="dim")
            continue
        rows.add_row(
            starred(view, process.name),
            number(figures.items),
            number(figures.backups),
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


def queue_line(view: Snapshot, queue: QueueView) -> str:
    """Return the queue in one line: its backups and its size."""
    return f"{queue.name}   {backups(view)}   {number(queue.size)} of {queue.max_size:,} items"


def letters_line(queue: QueueView) -> Text:
    """Return the counts of pending, redelivered and dead messages."""
    pending, redelivered, dead = (
        UNKNOWN if count is None else f"{count:,}" for count in (queue.pending, queue.redelivered, queue.dead)
    )
    return Text(f"{pending} pending   {redelivered} redelivered   {dead} dead")


# -- the servers on the screen of a watcher ----------------------------------------------------------------------------

Columns = list[tuple[str, str]]
"""The columns of one server: (head, text)."""


def servers_tables(view: Snapshot, *, wide: bool) -> tuple[list[RenderableType], int]:
    """Return a table for each kind of server, and the number of their rows together."""
    parts: list[RenderableType] = []
    rows = 0
    for role in (Role.QUEUE, Role.MAPS):
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
    title = view.words_of(role).server.upper()
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
        ("ITEMS", number(figures.items if figures else None)),
        ("BACKUPS", number(figures.backups if figures else None)),
    ]
    if process.role is not view.map_role:
        if not view.partitioned:
            return [*common, *held]
        leads = figures.leads if isinstance(figures, BrokerFigures) else None
        return [*common, ("LEADS", UNKNOWN if leads is None else ", ".join(map(str, leads)) or NOTHING), *held]
    member = figures if isinstance(figures, MemberFigures) else None
    log = [
        ("LOG", number(member.log_entries if member else None)),
        ("COPIES", number(member.log_backups if member else None)),
    ]
    if process.role is Role.MAPS:
        return [*common, *log]
    oldest = [("OLDEST", duration(member.oldest) if member else UNKNOWN)] if wide else []
    return [*common, *held, *oldest, *log]


def _partition(partition: PartitionView) -> str:
    """Return a partition in short form: number, leader, in-sync replicas, waiting messages."""
    leader = f"★ {partition.leader}" if partition.leader else "no leader"
    return f"{partition.number} {leader} {len(partition.in_sync)}/{partition.replicas}: {number(partition.waiting)}"
