"""Where the charts' JavaScript library is: in the Python package `plotly`, of which nothing else is used."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from microq.errors import MachineError

SCRIPT = "package_data/plotly.min.js"


def script() -> Path:
    """Return the file of plotly.js; raises `MachineError` if the package has none.

    The package is not imported: it takes a second, and would draw what the page draws.
    """
    spec = find_spec("plotly")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        if (file := Path(folder) / SCRIPT).is_file():
            return file
    raise MachineError("plotly.js is not here; `pip install --force-reinstall plotly` brings it")
