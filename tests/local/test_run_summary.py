"""Text that `make run` prints."""

from pathlib import Path

from local.environment import LocalEnvironment
from local.run import summary

CREDENTIALS = {"secret_key": "sk_test_1", "publishable_key": "pk_test_1", "session_token": "token"}


def test_summary_names_the_command_that_prints_outbound_events_with_its_environment() -> None:
    directory = Path.cwd() / ".local"
    environment = LocalEnvironment(
        directory, "http://127.0.0.1:8000", "http://127.0.0.1:8001", "whsec_1", {"acme": CREDENTIALS}, {}, {}
    )
    [line] = [line for line in summary(environment).splitlines() if "webhooks listen" in line]
    assert line.strip() == "set -a; . .local/run.env; set +a; .venv/bin/billing webhooks listen"
