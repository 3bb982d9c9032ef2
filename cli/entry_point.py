"""Entry point of the installed script `billing`."""

import sys


def run() -> None:
    """Run `billing`. Ctrl-C ends it without a traceback, also during its imports, which take about a second."""
    try:
        from cli.main import app  # noqa: PLC0415 - imported inside the `try`

        app()
    except KeyboardInterrupt:
        sys.exit(130)
