"""Tests of docs/reference/cli.md and docs/reference/errors.md against the code."""

import ast
import re

from cli.stripe_connection import ERROR_OF_TYPE
from local.stack import ROOT
from tests.cli.support import registered_commands

COMMANDS_PAGE = ROOT / "docs/reference/cli.md"
ERRORS_PAGE = ROOT / "docs/reference/errors.md"


def first_cells(page: str) -> list[list[str]]:
    """Return the code spans in the first cell of each table row."""
    return [re.findall(r"`([^`]+)`", row.split("|")[1]) for row in page.splitlines() if row.startswith("| `")]


def documented_commands() -> set[tuple[str, ...]]:
    """Return the commands of the page. A row names one command, and more commands of its group by their last word."""
    commands = set()
    for command, *siblings in first_cells(COMMANDS_PAGE.read_text()):
        program, *words = command.split()
        if program == "billing":
            commands |= {tuple(words), *((*words[:-1], sibling) for sibling in siblings)}
    return commands


def raised_codes() -> set[str]:
    """Return the codes of all errors that the command creates."""
    calls = [
        node
        for path in (ROOT / "cli").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "CommandFailed"
    ]
    literals = [call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)]
    return {str(code) for code in literals} | {code for _, code, _ in ERROR_OF_TYPE}


def test_reference_page_lists_every_command() -> None:
    assert documented_commands() == set(registered_commands())


def test_errors_page_lists_every_error_code() -> None:
    assert {code for [code, *_] in first_cells(ERRORS_PAGE.read_text())} == raised_codes()
