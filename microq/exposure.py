"""Who can reach what listens: no service asks for a password, so anything beyond this machine is worth a word."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from microq.values import Address


def warning(listeners: Iterable[tuple[str, Address]]) -> str:
    """Return the one line that says which of these (name, address) others can reach; empty if none."""
    exposed = [f"{name} ({address})" for name, address in listeners if not _is_loopback(address.host)]
    if not exposed:
        return ""
    return (
        f"Warning: other machines may reach {', '.join(exposed)}, and there is no authentication: "
        "whoever can connect can read, send and delete messages."
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # Any other name may mean another address tomorrow.
        return host == "localhost"
