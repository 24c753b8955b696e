"""The Python interpreters that microq runs in and starts: import path, standard streams, and names for `ps`.

The current folder belongs to the user: its `queue.py` would replace the standard library's. Until that folder is
removed from the path, this module may import only modules that every Python has loaded already.
"""

import codecs
import io
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

PYTHON_M = (sys.executable, "-P", "-m")
"""The start of a command line that runs a module of microq; `-P` keeps the current folder off the path."""

_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""The folder that microq itself is imported from."""

_SIGNS = {
    "★": "*",
    "●": "o",
    "○": "-",
    "‖": "=",
    "✗": "x",
    "✓": "+",
    "…": "...",
    "–": "-",
    "—": "-",
    "×": "x",
    "█": "#",
}
"""Replacements for signs that the terminal's encoding lacks; any other letter becomes an escape."""


def leave_current_folder() -> None:
    """Import nothing from the current folder from now on, nor from a relative folder of `PYTHONPATH`."""
    try:
        here = os.getcwd()
    except OSError:
        return  # the folder was removed, so it contains nothing
    relative = (entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if not os.path.isabs(entry))
    left_out = {here, *map(os.path.abspath, relative)}
    # A folder after the standard library hides nothing of it, and microq may be installed there.
    end = sys.path.index(os.path.dirname(os.__file__))
    sys.path[:end] = [entry for entry in sys.path[:end] if os.path.abspath(entry) not in left_out]


def environment(environ: "Mapping[str, str]" = os.environ) -> dict[str, str]:
    """Return `environ` for a Python that microq starts: no imports from the current folder, output in UTF-8."""
    given = environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [entry for entry in given if os.path.isabs(entry) and (entry == _HOME or not _is_current(entry))]
    ours = {"PYTHONSAFEPATH": "1", "PYTHONUTF8": "1", "PYTHONPATH": os.pathsep.join(kept)}
    return {name: value for name, value in {**environ, **ours}.items() if name != "PYTHONIOENCODING"}


def _is_current(folder: str) -> bool:
    try:
        return os.path.samefile(folder, ".")
    except OSError:
        return False


class _Hearsay(io.TextIOWrapper):
    """A stream of progress messages: what cannot be written is dropped, and the work continues."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            pass


def show_as(title: str, name: str = "") -> None:
    """Make `ps`, `top` and `pgrep` show this process as `title`, and as `name` where they show one short word.

    The title replaces the command line, and is cut off at its length.
    """
    os.environ["SPT_NOENV"] = "1"  # else the title overwrites the environment, which has the marks of a child
    import setproctitle  # noqa: PLC0415 - nothing may be imported here before the current folder is left

    setproctitle.setproctitle(title)
    if name:
        setproctitle.setthreadtitle(name)


def mend_streams() -> None:
    """Open the standard streams that were closed at the start, and let no letter be an encoding error."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number, which is that of the closed stream
    codecs.register_error("microq", _transcribed)
    out = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process lives
    sys.stdout = out
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="microq")
    progress = sys.stderr.buffer if sys.stderr else open(2, "wb", closefd=False)  # noqa: SIM115 - the same
    encoding = sys.stderr.encoding if sys.stderr else "utf-8"
    sys.stderr = _Hearsay(progress, encoding=encoding, errors="microq", line_buffering=True)


def _transcribed(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wanted = error.object[error.start : error.end]
    return "".join(_SIGNS.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in wanted), error.end


def finish_output() -> None:
    """Flush standard output; what cannot be written is dropped silently."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):  # or it was closed
        drop_output()


def drop_output() -> None:
    """Discard what is still to be written to standard output: its reader is gone, or the disk is full."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
