"""All curl commands of docs/reference/api.md, run against the local environment and compared with the page."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from local.environment import LocalEnvironment
from local.stack import ROOT
from tests.e2e.support import DEADLINE_SECONDS

pytestmark = pytest.mark.stack

SEPARATOR = "=== next ==="
BLOCK = re.compile(r"^```(sh|json)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def matches(documented: Any, actual: Any) -> bool:
    """Return True if a response equals the documented one. An ellipsis in a string matches any text."""
    if isinstance(documented, dict) and isinstance(actual, dict):
        return list(documented) == list(actual) and all(matches(documented[name], actual[name]) for name in documented)
    if isinstance(documented, list) and isinstance(actual, list):
        return len(documented) == len(actual) and all(map(matches, documented, actual))
    if isinstance(documented, str) and isinstance(actual, str) and "…" in documented:
        return re.fullmatch(".+".join(map(re.escape, documented.split("…"))), actual) is not None
    return documented == actual and type(documented) is type(actual)


def run_commands(prelude: str, commands: list[str], folder: Path) -> list[Any]:
    """Run the commands in one shell. Returns the JSON output of each."""
    script = prelude + "".join(f"printf '{SEPARATOR}'\n{command}" for command in commands)
    done = subprocess.run(  # noqa: S603 - commands of our own page
        ["/bin/bash", "-euc", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=True,
    )
    return [json.loads(printed) for printed in done.stdout.split(SEPARATOR)[1:]]


def test_api_page_commands_return_documented_responses(environment: LocalEnvironment, tmp_path: Path) -> None:
    (tmp_path / ".local").symlink_to(environment.state_dir)
    page = (ROOT / "docs/reference/api.md").read_text()
    (_, prelude), *blocks = BLOCK.findall(page)
    commands, documented = [text for _, text in blocks[::2]], [json.loads(text) for _, text in blocks[1::2]]
    actual = run_commands(prelude, commands, tmp_path)
    differences = [
        f"{command}{json.dumps(response, indent=2)}"
        for command, expected, response in zip(commands, documented, actual, strict=True)
        if not matches(expected, response)
    ]
    assert differences == []
