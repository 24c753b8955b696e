"""`microq chaos` and `microq verify`."""

import typer


def register(app: typer.Typer) -> None:
    """Add."""
