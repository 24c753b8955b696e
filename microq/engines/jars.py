"""The jars: pinned by version and digest, cached per user, downloaded through jgo."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from microq.errors import JarMissingError, MachineError

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Told a file's name and size in bytes, gives a function to tell the bytes that came in."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One file of a Maven repository, and the SHA-256 it must have."""

    coordinate: str
    filename: str
    sha256: str


HAZELCAST = Jar(
    "com.hazelcast:hazelcast:5.7.0",
    "hazelcast-5.7.0.jar",
    "241ec66cea8491787f68c3336f069ac463877af50bdb7676cd9d538f1940dc33",
)
JOLOKIA = Jar(
    "org.jolokia:jolokia-agent-jvm:jar:javaagent:2.2.9",
    "jolokia-agent-jvm-2.2.9-javaagent.jar",
    "f5c4b31eeeb602888346ce7b545a885cb7caf932eff3b1b630e93cc720483429",
)
ALL = (HAZELCAST, JOLOKIA)

SIDE_BY_SIDE = 8
"""Jars that are looked at, or downloaded, at the same time."""


def cache_folder() -> Path:
    """Return where downloads are kept: `MICROQ_CACHE`, else the user's cache folder."""
    chosen = os.environ.get("MICROQ_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "microq"


def state(jar: Jar) -> str:
    """Return `cached`, `damaged` or `missing`."""
    path = cache_folder() / jar.filename
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        raise MachineError(f"{path} cannot be read: {error.strerror}") from error
    return "cached" if digest == jar.sha256 else "damaged"


def provide(jar: Jar, progress: Progress | None = None) -> Path:
    """Return the path of a jar that is whole, downloading it if need be.

    A damaged file in the cache is replaced. Raises `JarMissingError` if it cannot be had.
    """
    path = cache_folder() / jar.filename
    found = state(jar)
    if found == "cached":
        return path
    reason = "the cached file is damaged; " if found == "damaged" else ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            fresh = _download(jar, Path(folder), progress)
            if hashlib.sha256(fresh.read_bytes()).hexdigest() != jar.sha256:
                raise JarMissingError(jar.coordinate, str(path), f"{reason}what came has another digest")
            fresh.replace(path)
    except OSError as error:
        raise JarMissingError(jar.coordinate, str(path), f"{reason}{error.strerror or type(error).__name__}") from error
    return path


def provide_all(wanted: Sequence[Jar], progress: Progress | None = None) -> tuple[Path, ...]:
    """Return the paths of several jars, downloading side by side what is missing; raises as `provide` does."""
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        return tuple(pool.map(lambda jar: provide(jar, progress), wanted))


def _download(jar: Jar, folder: Path, progress: Progress | None) -> Path:
    # Imported here: with everything cached nobody needs it.
    import requests  # noqa: PLC0415
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415

    resolver = PythonResolver(progress_callback=progress)
    context = MavenContext(resolver=resolver, repo_cache=folder)
    try:
        fetched = context.create_dependency(jar.coordinate).artifact.resolve()
    except (requests.RequestException, RuntimeError) as error:
        raise JarMissingError(jar.coordinate, str(cache_folder() / jar.filename), _short(error)) from error
    copy = folder / "whole.jar"
    shutil.copyfile(fetched, copy)
    return copy


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: no connection" if "Connection" in type(error).__name__ else type(error).__name__
