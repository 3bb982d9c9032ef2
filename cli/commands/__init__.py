"""Commands of `billing`, one module each.

To add a command, write its module here, register it in `cli.main`, test it in `tests/cli`, and add its row to
docs/reference/cli.md. Tests run every registered command with --help and with an unknown stack.
"""
