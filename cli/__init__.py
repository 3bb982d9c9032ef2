"""`billing`: the operator's command."""

import sys


def main() -> None:
    """Run the command. Importing what it needs takes a second, in which Ctrl-C is as silent as later."""
    try:
        from cli.main import app  # noqa: PLC0415 - see above

        app()
    except KeyboardInterrupt:
        sys.exit(130)
