"""The folders of runs: private to one user, on a disk with room for logs, with the effective configuration."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from microq.config import Config, load
from microq.errors import MachineError, UsageError

CONFIG_FILE = "config.toml"
"""The file with the effective values, in the folder of a run."""

LEAST_FREE = 50 << 20
"""Bytes that must be free on the disk of the run folder, for logs and histories."""


def own_folder(folder: Path) -> None:
    """Make a folder that only this user may enter; raises `MachineError` if it belongs to another user."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid():
        raise MachineError(f"{folder} belongs to another user, so its content cannot be trusted; remove it")
    if found.st_mode & 0o077:
        folder.chmod(0o700)


def new_run(config: Config, what: str) -> Path:
    """Make the folder of a new run, readable by this user only, and return it."""
    stamp = time.strftime("%Y-%m-%dT%H-%M-%S")
    runs = config.folder / "runs"
    try:
        config.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        runs.mkdir(mode=0o700, exist_ok=True)
        for number in range(1000):
            folder = runs / (f"{stamp}-{what}" if not number else f"{stamp}-{what}-{number}")
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
                return folder
    except OSError as error:
        raise MachineError(f"cannot make a run folder in {runs}: {error.strerror}") from error
    raise MachineError(f"{runs} has too many runs that began in this second")


@contextlib.contextmanager
def only_scenario(config: Config) -> Iterator[None]:
    """Hold the lock of scenarios; raises `UsageError` if another one runs, `MachineError` without a folder.

    Each of two scenarios would count the messages and faults of the other as its own.
    """
    with contextlib.ExitStack() as stack:
        try:
            config.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = stack.enter_context((config.folder / "scenario.lock").open("a"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another scenario runs in {config.title}; wait until it ends, or end it") from error
        except OSError as error:
            raise MachineError(f"cannot write in {config.folder}: {error.strerror}") from error
        yield


def prepare(config: Config, folder: Path) -> Path:
    """Write the effective values into a run's folder and return the file; raises `MachineError` if the disk is full."""
    file = folder / CONFIG_FILE
    try:
        (folder / "logs").mkdir(mode=0o700, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < LEAST_FREE:
            raise MachineError(f"only {free >> 20} MiB are free for {folder}; {LEAST_FREE >> 20} are needed")
        file.write_text(config.to_toml(), encoding="utf-8")
    except OSError as error:
        raise MachineError(f"cannot write in {folder}: {error.strerror}") from error
    return file


def config_of(folder: Path, project: Path, name: str = "", sets: Iterable[str] = ()) -> Config:
    """Return the configuration of a run from its folder, for the system `name` of `project`.

    `sets` override its values, as in `config.load`.
    """
    return replace(load(folder / CONFIG_FILE, sets, environ={}), project=project, name=name)
