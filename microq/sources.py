"""Where the values of a configuration come from: a file, variables, `--set`; each value knows its source.

What the tables and keys are is `config`'s to know; here they are names.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microq.errors import ConfigError

DEFAULT_FILE = "config.toml"


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it came, and where from: an error blames the right place."""

    value: Any
    source: str


Tables = dict[str, dict[str, Given]]
"""Table -> key as it is written -> value."""


def read(chosen: Path | None, known: Collection[str]) -> tuple[str, Tables]:
    """Return the name of the source and what it gives: the file `chosen`, else `config.toml` here, else nothing.

    Raises `ConfigError` if the file cannot be read or has a table that is not `known`.
    """
    path = chosen or Path(DEFAULT_FILE)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        tables = tomllib.loads(text)
    except FileNotFoundError as error:
        if chosen is None:
            return "the defaults", {name: {} for name in known}
        raise ConfigError(str(path), "", "there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), "", f"cannot be read as UTF-8 text ({error})") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(str(path), "", f"is not TOML: {error}") from error
    for name, table in tables.items():
        if name not in known:
            raise ConfigError(str(path), f"[{name}]", f"is no table of microq; there are {', '.join(known)}")
        if not isinstance(table, dict):
            raise ConfigError(str(path), name, f"must be a table; write [{name}]")
    return str(path), {name: {k: Given(v, str(path)) for k, v in tables.get(name, {}).items()} for name in known}


def overlay(tables: Tables, fields: Mapping[str, Sequence[str]], environ: Mapping[str, str]) -> None:
    """Let `MICROQ_<TABLE>_<FIELD>` replace what the file gave; `fields` are those of each table."""
    for table, names in fields.items():
        for name in names:
            variable = f"MICROQ_{table}_{name}".upper()
            if variable in environ:
                tables[table][kebab(name)] = Given(_literal(environ[variable]), variable)


def put(tables: Tables, sets: Iterable[str], counts: Collection[str]) -> list[tuple[str, str]]:
    """Let each `table.key=value` replace what there was; return those settings that are one of `counts`.

    Raises `ConfigError` for what is neither.
    """
    counted = []
    for setting in sets:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError("--set", setting, 'write it as "queue.max-size=100" or "messages=3"')
        table, _, key = name.partition(".")
        if name in counts:
            counted.append((name, value))
        elif table in tables and key:
            tables[table][key] = Given(_literal(value), "--set")
        else:
            known = ", ".join([*counts, *(f"{table}.KEY" for table in tables)])
            raise ConfigError("--set", name, f"is nothing to set; there are {known}")
    return counted


def kebab(name: str) -> str:
    """Return a field's name as the key of its table."""
    return name.replace("_", "-")


def _literal(value: str) -> Any:
    """Read a TOML value; what is none is text, so that nobody must quote twice in a shell."""
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        return value
