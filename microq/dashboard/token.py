"""The token that lets a page act, and the page's address with it: known without anything that serves a page."""

from __future__ import annotations

import os
import secrets

from microq.config import Config


def token_of(config: Config) -> str:
    """Return the token of this project, which is made once and readable by its user only; raises `OSError`."""
    config.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = config.folder / "token"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if token := path.read_text(encoding="ascii", errors="replace").strip():
            return token
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
    token = secrets.token_urlsafe(16)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token)
    return token


def address_of(config: Config) -> str:
    """Return the address of the page of the system of this project, with the token that lets it act."""
    return f"{config.dashboard.address.url}/?token={token_of(config)}"
