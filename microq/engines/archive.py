"""The class-data archive: what one start of a server has loaded, mapped into memory by the next.

It takes a second off a start that needs 2.4 s without. From Java 25 on it is an ahead-of-time cache (JEP 514), made
with the agent in place; before that a dynamic archive (JEP 350), which a JVM writes only without an agent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from microq.engines.jars import Jar, cache_folder
from microq.engines.java import Java

_ONE_STEP_CACHE = 25
"""The first release that makes an ahead-of-time cache in one step."""


@dataclass(frozen=True, slots=True)
class Archive:
    """The archive for one Java, and the jars and flags with which it starts a server."""

    java: Java
    jars: tuple[Jar, ...]
    flags_of_server: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Where it is kept: another Java or another jar has another file."""
        parts = [str(self.java.path.resolve()), self.java.version, *(jar.sha256 for jar in self.jars)]
        key = hashlib.sha256("\n".join([*parts, *self.flags_of_server]).encode()).hexdigest()[:12]
        suffix = "aot" if self._ahead_of_time else "jsa"
        return cache_folder() / f"classes-{self.java.feature}-{key}.{suffix}"

    @property
    def _ahead_of_time(self) -> bool:
        return self.java.feature >= _ONE_STEP_CACHE

    def flags(self) -> list[str]:
        """Return the flags that use the archive; none while it is not there."""
        if not self.path.exists():
            return []
        return [f"-XX:{'AOTCache' if self._ahead_of_time else 'SharedArchiveFile'}={self.path}"]

    def training_argv(self, command: Sequence[str], output: Path) -> list[str]:
        """Return a server's `command` changed so that it writes the archive to `output` when it ends."""
        java, *rest = command
        if self._ahead_of_time:
            return [java, f"-XX:AOTCacheOutput={output}", *rest]
        return [
            java,
            f"-XX:ArchiveClassesAtExit={output}",
            *(a for a in rest if not a.startswith("-javaagent:")),
        ]
