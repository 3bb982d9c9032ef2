"""docs/guides/eventbridge-bus.md: cfn-lint accepts its templates, and its rules match the events."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from billing.adapters.event_bus import SOURCE
from billing.domain.outbound_events import OutboundEventType
from local.stack import ROOT
from tests.conftest import parse_template

PAGE = (ROOT / "docs/guides/eventbridge-bus.md").read_text()
SNIPPETS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_page_has_three_templates_and_the_source() -> None:
    assert len(SNIPPETS) == 3
    assert f"| `source` | `{SOURCE}` |" in PAGE


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_cfn_lint_accepts_the_template(number: int, tmp_path: Path) -> None:
    template = tmp_path / "template.yaml"
    template.write_text(SNIPPETS[number])
    command = [str(Path(sys.executable).parent / "cfn-lint"), "--regions", "us-east-1", "--", str(template)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own page
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_rule_matches_events_of_the_product(snippet: str) -> None:
    resources: dict[str, Any] = parse_template(snippet)["Resources"]
    for resource in resources.values():
        if resource["Type"] == "AWS::Events::Rule":
            pattern = resource["Properties"]["EventPattern"]
            assert pattern["source"] == [SOURCE]
            assert set(pattern["detail-type"]) <= set(OutboundEventType)
