r"""The errors that microq raises, and the exit codes of its commands. Callers catch a branch, never `Exception`.

MicroqError
+-- UsageError                 the user asked for something impossible              USAGE
|   +-- ConfigError            a file, table or key of the configuration
|   +-- UnknownNameError       no process, group or port of that name
|   +-- AlreadyRunningError    a system runs in this folder already
+-- UnknownMessageError        a run has no record of this message                  FAILED
+-- NotRunningError            no system is up, or it does not answer               UNKNOWN
+-- UnknownServerError         it is unknown which server has a role                UNKNOWN
+-- MachineError               this machine lacks something                         MACHINE
|   +-- JavaMissingError       no Java of 17 or later
|   +-- JarMissingError        a jar is not cached and cannot be downloaded
|   +-- ExtraMissingError      a library that this configuration needs is missing
|   +-- PortTakenError         another process listens on a port that microq needs
|   +-- ExitedEarlyError       a child ended before it was ready
+-- DeadlineError              something did not happen in time                     DEADLINE
|   +-- StartTimeoutError      a child did not become ready
+-- QueueError
|   +-- QueueFullError         rejected: certainly not in the queue
|   +-- QueueUnavailableError         rejected: no member to ask
|   +-- QueueIndeterminateError    indeterminate: the message may be in or not
+-- StoreError
|   +-- StoreUnavailableError         rejected: no member to ask
|   +-- StoreIndeterminateError    indeterminate
+-- MessageError               not a microq message
+-- UnreadableError            an answer does not have what the wire says           UNKNOWN
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Self


class ExitCode(IntEnum):
    """The exit code of a command; `meaning` is its text in `microq help exit-codes`."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        """Make a code with its meaning."""
        made = int.__new__(cls, code)
        made._value_, made.meaning = code, meaning
        return made

    FINE = 0, "fine"
    FAILED = (
        1,
        "the check failed: a message was lost, duplicated or missing, a send failed, or a step does not hold",
    )
    USAGE = 2, "usage or configuration"
    UNKNOWN = 3, "the verdict is unknown, or no system is up"
    MACHINE = 4, "this machine lacks something: Java, a jar, a port, disk space"
    DEADLINE = 5, "a deadline passed"
    INTERRUPTED = 130, "interrupted with Ctrl-C"

    @classmethod
    def of_verdicts(cls, verdicts: Iterable[str]) -> Self:
        """Return the exit code of some runs: FAILED if one failed, UNKNOWN if one is unknown or there is none."""
        found = set(verdicts)
        if "fail" in found:
            return cls.FAILED
        return cls.FINE if found == {"pass"} else cls.UNKNOWN


class MicroqError(Exception):
    """The root of the tree: an error has a text for people, a code for programs and an exit code."""

    code: str = "error"
    exit_code: int = ExitCode.FAILED


class UsageError(MicroqError):
    """The command or its arguments ask for something impossible."""

    code = "usage"
    exit_code = ExitCode.USAGE


class ConfigError(UsageError):
    """A configuration is wrong; `source`, `table` and `key` say where."""

    code = "config"

    def __init__(self, source: str, where: str, problem: str) -> None:
        self.source, self.where, self.problem = source, where, problem
        line = f"{source}: {where}: {problem}" if where else f"{source}: {problem}"
        # A key may contain a line break or control characters; an error is one line.
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line))


class UnknownNameError(UsageError):
    """No process, group or port has this name; `known` lists those that exist."""

    code = "unknown-name"

    def __init__(self, name: str, known: list[str]) -> None:
        self.name, self.known = name, known
        super().__init__(f"nothing here is called {name!r}; the names are {', '.join(known)}")


class AlreadyRunningError(UsageError):
    """A system already runs in this folder under this name (empty: unnamed); `pid` is its supervisor's."""

    code = "already-running"

    def __init__(self, pid: int, folder: str, name: str = "") -> None:
        self.pid, self.folder, self.name = pid, folder, name
        called, option = (f" called {name}", f" --name {name}") if name else ("", "")
        super().__init__(
            f"a system{called} already runs here (supervisor pid {pid}, {folder}); `microq status{option}` shows it, "
            f"`microq down{option}` ends it, `microq up --name NAME` starts another one beside it"
        )


class UnknownMessageError(MicroqError):
    """A run has no record of a message."""

    code = "unknown-message"


class NotRunningError(MicroqError):
    """No system is up, or it does not answer."""

    code = "not-running"
    exit_code = ExitCode.UNKNOWN


class UnknownServerError(MicroqError):
    """A server was named by its role, such as owner, and it is unknown which one has that role."""

    code = "unknown-server"
    exit_code = ExitCode.UNKNOWN


def reason(error: Exception) -> str:
    """Return what an error says for people: of the machine's its words and its file, without its number."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.strerror}: {error.filename}" if error.filename else error.strerror


class MachineError(MicroqError):
    """This machine lacks something that microq needs; the text says how to provide it."""

    code = "environment"
    exit_code = ExitCode.MACHINE


class JavaMissingError(MachineError):
    """No Java of 17 or later was found; `looked` says where."""

    code = "java-missing"

    def __init__(self, looked: list[str]) -> None:
        self.looked = looked
        super().__init__(
            f"no Java 17 or later ({'; '.join(looked)}). Any of these helps: pip install 'microq[jre]' | "
            "sudo apt install openjdk-17-jre-headless | brew install openjdk@21 | export JAVA_HOME=/path/to/jdk"
        )


class JarMissingError(MachineError):
    """A jar is not cached, or `damaged` there, and cannot be downloaded."""

    code = "jar-missing"

    def __init__(self, coordinate: str, path: str, reason: str, *, damaged: bool = False) -> None:
        self.coordinate, self.path, self.reason, self.damaged = coordinate, path, reason, damaged
        found = f"{path} is damaged, and {coordinate}" if damaged else f"{coordinate} is not here and"
        super().__init__(
            f"{found} could not be downloaded ({reason}). With a network run `microq fetch`; "
            f"without one put the {'whole file there' if damaged else f'file at {path}'}"
        )


class ExtraMissingError(MachineError):
    """A library that only some configurations need is not installed; the `extra` of microq installs it."""

    code = "extra-missing"

    def __init__(self, library: str, need: str, extra: str) -> None:
        self.library, self.need, self.extra = library, need, extra
        super().__init__(f"{need} needs {library}, which is not installed: pip install 'microq[{extra}]'")


def _more(name: str) -> str:
    return f"`microq logs {name}` shows all that it logged"


class PortTakenError(MachineError):
    """Another process listens on an address that microq needs."""

    code = "port-taken"

    def __init__(self, name: str, address: str, holder: str, remedy: str) -> None:
        self.name, self.address, self.holder, self.remedy = name, address, holder, remedy
        super().__init__(f"{name} needs {address}, which is taken by {holder}; {remedy}")


class ExitedEarlyError(MachineError):
    """A child ended before it was ready; `why` is the reason from its log."""

    code = "exited-early"

    def __init__(self, name: str, exit_code: int, why: str) -> None:
        self.name, self.status, self.why = name, exit_code, why
        super().__init__(f"{name} ended with status {exit_code} before it was ready{why}\n{_more(name)}")


class DeadlineError(MicroqError):
    """Something did not happen before its deadline."""

    code = "deadline"
    exit_code = ExitCode.DEADLINE


class StartTimeoutError(DeadlineError):
    """A child was not ready in `seconds`; `why` is the reason from its log."""

    code = "start-timeout"

    def __init__(self, name: str, seconds: float, why: str) -> None:
        self.name, self.seconds, self.why = name, seconds, why
        super().__init__(f"{name} was not ready after {seconds:g} s{why}\n{_more(name)}")


class QueueError(MicroqError):
    """The queue did not accept or deliver a message."""

    code = "queue"


class QueueFullError(QueueError):
    """Rejected: the queue is full and the message is certainly not in it."""

    code = "queue-full"


class QueueUnavailableError(QueueError):
    """Rejected: the cluster cannot be reached, and nothing was sent."""

    code = "queue-unavailable"


class QueueIndeterminateError(QueueError):
    """Indeterminate: the message may be in the queue or not."""

    code = "queue-indeterminate"


class StoreError(MicroqError):
    """A call of a map in the cluster failed."""

    code = "store"


class StoreUnavailableError(StoreError):
    """Rejected: the cluster cannot be reached, and nothing was sent."""

    code = "store-unavailable"


class StoreIndeterminateError(StoreError):
    """Indeterminate: the entry may have been written or not."""

    code = "store-indeterminate"


class MessageError(MicroqError):
    """The input is not a microq message; the text says what is wrong with it."""

    code = "message"


class UnreadableError(MicroqError):
    """The texts of messages cannot be found in an answer; says what was expected and what came."""

    code = "unreadable"
    exit_code = ExitCode.UNKNOWN


class RemoteError(MicroqError):
    """An error of another microq process; it keeps its code and exit code."""

    def __init__(self, code: str, exit_code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.exit_code = code, exit_code
