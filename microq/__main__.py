"""`microq`, and `python -m microq`."""

from __future__ import annotations

from microq.cli import app


def main() -> None:
    """Run the command line."""
    app(prog_name="microq")


if __name__ == "__main__":
    main()
