"""The files of servers in Java: jars pinned by digest and cached per user, and class-data archives."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from microq.backends.java import Java
from microq.errors import JarMissingError, MachineError

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Called with a file's name and size in bytes; yields a function that is called with the bytes that arrived."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One file of a Maven repository, and its SHA-256."""

    coordinate: str
    filename: str
    sha256: str


SIDE_BY_SIDE = 8
"""The number of jars that are checked or downloaded at the same time."""


def cache_folder() -> Path:
    """Return the folder of downloads: `MICROQ_CACHE`, else the user's cache folder."""
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
    """Return the path of a jar with the right digest; download it if it is missing or damaged.

    Raises `JarMissingError` if it cannot be downloaded.
    """
    path = cache_folder() / jar.filename
    found = state(jar)
    if found == "cached":
        return path
    damaged = found == "damaged"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            fresh = _download(jar, Path(folder), progress)
            fresh.replace(path)
    except (OSError, _DownloadError) as error:
        # In this order: a network error of the library is an `OSError` too.
        reason = str(error) if isinstance(error, _DownloadError) else error.strerror or type(error).__name__
        raise JarMissingError(jar.coordinate, str(path), reason, damaged=damaged) from error
    return path


class _DownloadError(Exception):
    """A jar could not be downloaded completely."""


def linked(folder: Path, file: Path) -> Path:
    """Make a link to a file in `folder` and return its name: letters of ASCII only.

    A JVM splits its options at commas, colons and equals signs, and without a locale it loses other letters. The user's
    folders may contain all of them, so a server runs in its folder and gets only such names.
    """
    link = folder / "lib" / file.name
    link.parent.mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError):
        link.symlink_to(file.absolute())
    return link.relative_to(folder)


def provide_all(wanted: Sequence[Jar], progress: Progress | None = None) -> tuple[Path, ...]:
    """Return the paths of several jars, and download the missing ones concurrently; raises as `provide` does."""
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        return tuple(pool.map(lambda jar: provide(jar, progress), wanted))


def _download(jar: Jar, folder: Path, progress: Progress | None) -> Path:
    """Download a jar into a folder and return its file; raises `_DownloadError` and `OSError`."""
    # Imported here: it is not needed if everything is cached.
    import requests  # noqa: PLC0415
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415

    resolver = PythonResolver(progress_callback=progress)
    context = MavenContext(resolver=resolver, repo_cache=folder)
    try:
        fetched = context.create_dependency(jar.coordinate).artifact.resolve()
    except (requests.RequestException, RuntimeError) as error:
        raise _DownloadError(_short(error)) from error
    copy = folder / "whole.jar"
    shutil.copyfile(fetched, copy)
    if hashlib.sha256(copy.read_bytes()).hexdigest() != jar.sha256:
        raise _DownloadError("the downloaded file has another digest")
    return copy


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: no connection" if "Connection" in type(error).__name__ else type(error).__name__


_ONE_STEP_CACHE = 25
"""The first Java release that makes an ahead-of-time cache in one step."""


@dataclass(frozen=True, slots=True)
class Archive:
    """The class-data archive: the classes that one start of a server loaded, which the next start maps into memory.

    It shortens a start of 2.4 s by a second. From Java 25 on it is an ahead-of-time cache (JEP 514), made with the
    agent; before that a dynamic archive (JEP 350), which a JVM writes only without an agent. Each Java, each set of
    jars and each set of flags has its own archive.
    """

    java: Java
    jars: tuple[Jar, ...]
    flags_of_server: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Its file: another Java or another jar has another file."""
        parts = [str(self.java.path.resolve()), self.java.version, *(jar.sha256 for jar in self.jars)]
        key = hashlib.sha256("\n".join([*parts, *self.flags_of_server]).encode()).hexdigest()[:12]
        suffix = "aot" if self._ahead_of_time else "jsa"
        return cache_folder() / f"classes-{self.java.feature}-{key}.{suffix}"

    @property
    def _ahead_of_time(self) -> bool:
        return self.java.feature >= _ONE_STEP_CACHE

    @property
    def made(self) -> bool:
        """Whether it exists."""
        return self.path.exists()

    def flags(self, folder: Path) -> list[str]:
        """Return the flags by which a server in `folder` uses the archive; none if it does not exist."""
        if not self.made:
            return []
        return [f"-XX:{'AOTCache' if self._ahead_of_time else 'SharedArchiveFile'}={linked(folder, self.path)}"]

    def training_argv(self, command: Sequence[str], output: Path) -> list[str]:
        """Return a server's `command` with the flags to write the archive to `output` when it ends.

        The output is relative to the folder in which the server runs.
        """
        java, *rest = command
        if self._ahead_of_time:
            return [java, f"-XX:AOTCacheOutput={output}", *rest]
        return [
            java,
            f"-XX:ArchiveClassesAtExit={output}",
            *(a for a in rest if not a.startswith("-javaagent:")),
        ]


@dataclass(frozen=True, slots=True)
class Parts:
    """The files of one backend's servers: the jars, in the order of `Backend.jars`, and the archive."""

    jars: tuple[Path, ...]
    archive: Archive


@dataclass(frozen=True, slots=True)
class Engine:
    """What servers in Java need: the Java runtime, and the parts of each backend by its name."""

    java: Java
    parts: Mapping[str, Parts]

    @property
    def files(self) -> tuple[Path, ...]:
        """The downloaded files."""
        return tuple(jar for parts in self.parts.values() for jar in parts.jars)
