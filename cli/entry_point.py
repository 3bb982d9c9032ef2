"""Where the installed script begins."""

import sys


def run() -> None:
    """Run `billing`. Importing what it needs takes a second, in which Ctrl-C is as silent as later."""
    try:
        from cli.main import app  # noqa: PLC0415 - see above

        app()
    except KeyboardInterrupt:
        sys.exit(130)
