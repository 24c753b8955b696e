"""What a server of the dashboard shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from microq.config import Config
from microq.dashboard.actions import Actions
from microq.dashboard.recorder import Recorder
from microq.dashboard.recording import Recording


@dataclass(slots=True)
class Page:
    """A system that runs, with the actions on it, or a finished run; `run` is its folder."""

    config: Config
    run: Path
    source: Recorder | Recording
    actions: Actions | None = None
    token: str = ""

    @property
    def logs(self) -> Path:
        """The folder of the run that has the logs."""
        return self.source.folder if isinstance(self.source, Recording) else self.run


PAGE = web.AppKey("page", Page)
