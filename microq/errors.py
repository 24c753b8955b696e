r"""Every error microq raises on purpose; callers catch a branch, never `Exception`.

MicroqError
+-- UsageError                 the user asked for something that cannot be          exit 2
|   +-- ConfigError            a file, table or key of the configuration
|   +-- UnknownNameError       no process, group or port of that name
|   +-- AlreadyRunningError    a system runs in this folder already
+-- UnknownMessageError        no line of a run is about this message               exit 1
+-- NotRunningError            no system to talk to, or it answers nothing          exit 3
+-- MachineError               this machine lacks something                         exit 4
|   +-- JavaMissingError       no Java of 17 or later
|   +-- JarMissingError        a jar is neither cached nor to be had
|   +-- ExtraMissingError      a library that only this configuration needs
|   +-- PortTakenError         somebody else listens on our port
|   +-- ExitedEarlyError       a child ended before it was ready
+-- DeadlineError              something did not happen in time                     exit 5
|   +-- StartTimeoutError      a child did not become ready
+-- QueueError
|   +-- QueueFullError         rejected: certainly not in the queue
|   +-- QueueAwayError         rejected: no member to ask
|   +-- QueueUncertainError    indeterminate: the message may be in or not
+-- StoreError
|   +-- StoreAwayError         rejected: no member to ask
|   +-- StoreUncertainError    indeterminate
+-- MessageError               not a message of ours
"""

from __future__ import annotations


class MicroqError(Exception):
    """The root: an error with a text for people, a code for machines and an exit code."""

    code: str = "error"
    exit_code: int = 1


class UsageError(MicroqError):
    """The command or its arguments ask for something that cannot be."""

    code = "usage"
    exit_code = 2


class ConfigError(UsageError):
    """A configuration is wrong; `source`, `table` and `key` say where."""

    code = "config"

    def __init__(self, source: str, where: str, problem: str) -> None:
        self.source, self.where, self.problem = source, where, problem
        line = f"{source}: {where}: {problem}" if where else f"{source}: {problem}"
        # A key may hold a line break or worse; an error stays one line.
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line))


class UnknownNameError(UsageError):
    """No process, group or port has this name; `known` lists those that exist."""

    code = "unknown-name"

    def __init__(self, name: str, known: list[str]) -> None:
        self.name, self.known = name, known
        super().__init__(f"nothing here is called {name!r}; there are {', '.join(known)}")


class AlreadyRunningError(UsageError):
    """A system already runs in this folder; `pid` is its supervisor's."""

    code = "already-running"

    def __init__(self, pid: int, folder: str) -> None:
        self.pid, self.folder = pid, folder
        super().__init__(
            f"a system already runs here (supervisor pid {pid}, {folder}); "
            "`microq status` shows it, `microq down` ends it"
        )


class UnknownMessageError(MicroqError):
    """Nothing is known of a message."""

    code = "unknown-message"


class NotRunningError(MicroqError):
    """There is no system to talk to."""

    code = "not-running"
    exit_code = 3


class MachineError(MicroqError):
    """This machine lacks something that microq needs; the text says how to get it."""

    code = "environment"
    exit_code = 4


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
    """A jar is not cached and cannot be downloaded."""

    code = "jar-missing"

    def __init__(self, coordinate: str, path: str, reason: str) -> None:
        self.coordinate, self.path, self.reason = coordinate, path, reason
        super().__init__(
            f"{coordinate} is not here and could not be downloaded ({reason}). With a network run `microq fetch`; "
            f"without one put the file at {path}"
        )


class ExtraMissingError(MachineError):
    """A library that only some configurations need is not installed; `extra` is the one of microq that brings it."""

    code = "extra-missing"

    def __init__(self, library: str, need: str, extra: str) -> None:
        self.library, self.need, self.extra = library, need, extra
        super().__init__(f"{need} needs {library}, which is not installed: pip install 'microq[{extra}]'")


class PortTakenError(MachineError):
    """Another process listens where one of ours must."""

    code = "port-taken"

    def __init__(self, name: str, address: str, holder: str, remedy: str) -> None:
        self.name, self.address, self.holder, self.remedy = name, address, holder, remedy
        super().__init__(f"{name} needs {address}, which is taken by {holder}; {remedy}")


class ExitedEarlyError(MachineError):
    """A child ended before it was ready; `tail` holds its last log lines."""

    code = "exited-early"

    def __init__(self, name: str, exit_code: int, tail: list[str]) -> None:
        self.name, self.status, self.tail = name, exit_code, tail
        lines = "".join(f"\n  {line}" for line in tail)
        super().__init__(f"{name} ended with status {exit_code} before it was ready; its last lines:{lines}")


class DeadlineError(MicroqError):
    """Something did not happen in the time it was given."""

    code = "deadline"
    exit_code = 5


class StartTimeoutError(DeadlineError):
    """A child was not ready in `seconds`; `tail` holds its last log lines."""

    code = "start-timeout"

    def __init__(self, name: str, seconds: float, tail: list[str]) -> None:
        self.name, self.seconds, self.tail = name, seconds, tail
        lines = "".join(f"\n  {line}" for line in tail)
        super().__init__(f"{name} was not ready after {seconds:g} s; its last lines:{lines}")


class QueueError(MicroqError):
    """The queue did not take or give a message."""

    code = "queue"


class QueueFullError(QueueError):
    """Rejected: the queue is full and the message is certainly not in it."""

    code = "queue-full"


class QueueAwayError(QueueError):
    """Rejected: the cluster cannot be reached and was sent nothing."""

    code = "queue-away"


class QueueUncertainError(QueueError):
    """Indeterminate: the message may be in the queue or not."""

    code = "queue-uncertain"


class StoreError(MicroqError):
    """A map in the cluster did not answer as it should."""

    code = "store"


class StoreAwayError(StoreError):
    """Rejected: the cluster cannot be reached and was sent nothing."""

    code = "store-away"


class StoreUncertainError(StoreError):
    """Indeterminate: the entry may have been written or not."""

    code = "store-uncertain"


class MessageError(MicroqError):
    """What came is no message of ours; the text says what is wrong with it."""

    code = "message"


class RemoteError(MicroqError):
    """An error that another process of ours met; it keeps its code and exit code."""

    def __init__(self, code: str, exit_code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.exit_code = code, exit_code
