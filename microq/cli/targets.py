"""What Prometheus is to scrape, as its `file_sd_configs` read it."""

from __future__ import annotations

from typing import Any

from microq.config import Config
from microq.services import ROLES
from microq.system.topology import specs


def targets(config: Config) -> list[dict[str, Any]]:
    """Return every service of a system, up or not, and the supervisor's page, whose series have labels of their own."""
    listed = [
        {"targets": [str(spec.address)], "labels": {"role": spec.role.value, "process": spec.name}}
        for spec in specs(config)
        if spec.role in ROLES
    ]
    page = [{"targets": [str(config.dashboard.address)], "labels": {}}] if config.dashboard.enabled else []
    return [*listed, *page]
