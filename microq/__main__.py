"""The entry point of `microq` and of `python -m microq`."""

from microq import interpreter

interpreter.leave_current_folder()  # before any import that the folder's files could replace

from microq.cli import app  # noqa: E402 - see above


def main() -> None:
    """Run the command line."""
    interpreter.mend_streams()
    try:
        app(prog_name="microq")
    finally:
        interpreter.finish_output()


if __name__ == "__main__":
    main()
