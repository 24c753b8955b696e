"""Access to the actions of the page: only for requests with the project's token, which is in the page's address."""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Mapping

from microq.config import Config

HEADER = "X-Microq-Token"
"""The header of an action; a page of another origin cannot send it."""


def token_of(config: Config) -> str:
    """Return the token of this project, which is made once and only its user can read; raises `OSError`."""
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
    """Return the address of this system's page, with the token for actions."""
    return f"{config.dashboard.address.url}/?token={token_of(config)}"


def may_act(headers: Mapping[str, str], token: str) -> bool:
    """Return whether the headers of a request contain the token."""
    given = headers.get(HEADER, "")
    return bool(token) and hmac.compare_digest(given.encode(), token.encode())
