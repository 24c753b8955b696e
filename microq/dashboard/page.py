"""What a server of the dashboard shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from microq.config import Config
from microq.dashboard.actions import Actions
from microq.dashboard.recorder import Recorder
from microq.trails import Trails

if TYPE_CHECKING:  # it brings the judge, and a running system has nothing to replay
    from microq.dashboard.recording import Recording


@dataclass(slots=True)
class Page:
    """A system that runs, with the actions on it, or a finished run; `run` is its folder."""

    config: Config
    run: Path
    source: Recorder | Recording
    actions: Actions | None = None
    token: str = ""
    logs: Path = field(init=False)
    """The folder of the run that has the logs."""
    messages: Trails = field(init=False)
    """The newest messages, which are read on from where they were read to."""

    def __post_init__(self) -> None:
        self.logs = self.source.folder
        self.messages = Trails(self.logs)


PAGE = web.AppKey("page", Page)
