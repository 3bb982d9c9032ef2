"""Every curl of docs/reference/api.md, run as it stands against the local world: the answers are those of the page."""

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


def agrees(shown: Any, answered: Any) -> bool:
    """Whether an answer is as the page shows it; an ellipsis in a string stands for anything."""
    if isinstance(shown, dict) and isinstance(answered, dict):
        return list(shown) == list(answered) and all(agrees(shown[name], answered[name]) for name in shown)
    if isinstance(shown, list) and isinstance(answered, list):
        return len(shown) == len(answered) and all(map(agrees, shown, answered))
    if isinstance(shown, str) and isinstance(answered, str) and "…" in shown:
        return re.fullmatch(".+".join(map(re.escape, shown.split("…"))), answered) is not None
    return shown == answered and type(shown) is type(answered)


def answers(prelude: str, commands: list[str], folder: Path) -> list[Any]:
    """What each command prints, in one shell."""
    script = prelude + "".join(f"printf '{SEPARATOR}'\n{command}" for command in commands)
    done = subprocess.run(  # noqa: S603 - the page's own commands
        ["/bin/bash", "-euc", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=True,
    )
    return [json.loads(printed) for printed in done.stdout.split(SEPARATOR)[1:]]


def test_every_answer_is_the_pages(world: LocalEnvironment, tmp_path: Path) -> None:
    """One after the other, as a reader would type them."""
    (tmp_path / ".local").symlink_to(world.state_dir)
    page = (ROOT / "docs/reference/api.md").read_text()
    (_, prelude), *blocks = BLOCK.findall(page)
    commands, shown = [text for _, text in blocks[::2]], [json.loads(text) for _, text in blocks[1::2]]
    answered = answers(prelude, commands, tmp_path)
    differences = [
        f"{command}{json.dumps(answer, indent=2)}"
        for command, wanted, answer in zip(commands, shown, answered, strict=True)
        if not agrees(wanted, answer)
    ]
    assert differences == []
