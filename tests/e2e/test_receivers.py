"""Commands and receivers of docs/guides/receive-events.md and of the TypeScript client's README, as printed."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from local.environment import LocalEnvironment
from local.ports import free_port, is_listening
from local.stack import ROOT
from tests.e2e.support import CLIENT, AccountClient, StripeClient, eventually, run_command

pytestmark = pytest.mark.stack

PAGE = (ROOT / "docs/guides/receive-events.md").read_text()
README = (CLIENT / "README.md").read_text()
PRINTED_PORT = "9000"
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

# Calls the function POST of a module with a request; prints the status of the response.
CALL_POST = """
import { POST } from "./readme.mjs";
const [headers, body] = JSON.parse(process.argv[2]);
const response = await POST(new Request("https://example.com/", { method: "POST", headers, body }));
console.log(response.status);
"""


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


PRELUDE, CREATE, CHECKOUT, SEND_TEST, ENABLE, LIST, REPLAY, REDELIVER, ROTATE = blocks(PAGE, "sh")


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs commands of the page for one account.

    Attributes:
        folder: Working directory with `.local/run.json`.
        port: Port to use in place of the printed one.
    """

    folder: Path
    port: int

    def run(self, *commands: str, **variables: str) -> str:
        """Run commands in one shell after the prelude. Returns what they print."""
        script = "".join((PRELUDE, *commands)).replace(PRINTED_PORT, str(self.port))
        return run_command(self.folder, "/bin/bash", "-euc", script, **variables)

    def request(self, command: str, **variables: str) -> Any:
        """Run a command that prints a JSON object, and return that."""
        return json.loads(self.run(command, **variables))


@dataclass(frozen=True, slots=True)
class Receiver:
    """A receiver that runs."""

    shell: Shell
    endpoint_id: str
    secret: str
    output: Path

    @property
    def events(self) -> dict[str, str]:
        """The object's id of each printed event by type."""
        lines = [line.split(" ") for line in self.output.read_text().splitlines()]
        return {line[0]: line[1] for line in lines if len(line) == 2}


@contextmanager
def running_receiver(folder: Path, account_folder: Path, name: str, *command: str) -> Iterator[Receiver]:
    """Create an endpoint as the page does, and run a receiver for it."""
    shell = Shell(account_folder, free_port())
    printed = shell.run(CREATE, 'printf "%s\\n" "$ENDPOINT" "$WEBHOOK_SECRET" "$PORT"')
    endpoint_id, secret, port = printed.splitlines()
    output = account_folder / f"{name}.out"
    with output.open("w") as stdout:
        process = subprocess.Popen(  # noqa: S603 - our own page
            command, cwd=folder, env={**os.environ, "WEBHOOK_SECRET": secret, "PORT": port}, stdout=stdout
        )
    try:
        eventually(lambda: is_listening(shell.port), bool)
        yield Receiver(shell, endpoint_id, secret, output)
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def account_folder(environment: LocalEnvironment, account: AccountClient, tmp_path: Path) -> Path:
    """A folder in which the page's commands find a new account."""
    key = account.http.headers["Authorization"].removeprefix("Bearer ")
    run = {"api_url": environment.api_url, "accounts": {"globex": {"secret_key": key}}}
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local/run.json").write_text(json.dumps(run))
    return tmp_path


def test_receivers_of_the_page_receive_verified_events(
    account_folder: Path, client_folder: Path, account: AccountClient, stripe_client: StripeClient
) -> None:
    [python], [typescript] = blocks(PAGE, "python"), blocks(PAGE, "ts")
    (account_folder / "receiver.py").write_text(python)
    (client_folder / "receiver.mjs").write_text(typescript)
    with (
        running_receiver(account_folder, account_folder, "python", sys.executable, "receiver.py") as first,
        running_receiver(client_folder, account_folder, "node", "node", "receiver.mjs") as second,
    ):
        first.shell.run(CHECKOUT)
        assert stripe_client.control("delivery/drain", deadline_seconds=60)["idle"]
        [customer] = stripe_client.customers_of(account.account_id)
        [subscription] = stripe_client.get("/v1/subscriptions", customer=customer["id"])["data"]
        received = eventually(
            lambda: (first.events, second.events),
            lambda found: all({"subscription.created", "invoice.paid"} <= events.keys() for events in found),
        )
        assert [events["subscription.created"] for events in received] == [subscription["id"]] * 2
        check_commands(first)


def check_commands(receiver: Receiver) -> None:
    """Run the page's other commands about an endpoint that has received two events."""
    shell, variables = receiver.shell, {"ENDPOINT": receiver.endpoint_id}
    tested = shell.request(SEND_TEST, **variables)
    assert (tested["delivered"], tested["status_code"]) == (True, 204)
    assert receiver.events["webhook_endpoint.test"] == receiver.endpoint_id
    assert shell.request(ENABLE, **variables)["enabled"] is True
    deliveries = eventually(
        lambda: shell.request(LIST, **variables)["deliveries"],
        lambda found: {each["status"] for each in found} == {"delivered"},
    )
    assert {each["event_type"] for each in deliveries} == receiver.events.keys() - {"webhook_endpoint.test"}
    assert shell.request(REPLAY, **variables) == {"requested": 0, "next_cursor": None}
    assert shell.request(REDELIVER, **variables)["status"] == "pending"
    rotated = shell.request(ROTATE, **variables)
    assert rotated["secret"] != receiver.secret
    # The receiver has the previous secret.
    assert shell.request(SEND_TEST, **variables)["delivered"]


def test_typescript_receivers_compile_and_check_signatures(client_folder: Path) -> None:
    (client_folder / "page.mts").write_text(blocks(PAGE, "ts")[0])
    [readme] = (block for block in blocks(README, "ts") if "verifyWebhook" in block)
    (client_folder / "readme.mts").write_text(readme)
    compiler = str(CLIENT / "node_modules/typescript/bin/tsc")
    types = ("--types", "node", "--typeRoots", str(CLIENT / "node_modules/@types"))
    options = ("--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck", *types)
    run_command(client_folder, "node", compiler, *options, "page.mts", "readme.mts")
    (client_folder / "call.mjs").write_text(CALL_POST)

    now = datetime.now(UTC)
    body = json.dumps({"type": "subscription.canceled", "account_id": "acme", "data": {"object": {"plan": "pro"}}})
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("msg_1", now, body),
    }
    for text, expected in ((body, "acme had pro\n204\n"), (body.replace("acme", "evil"), "400\n")):
        request = json.dumps([headers, text])
        assert run_command(client_folder, "node", "call.mjs", request, WEBHOOK_SECRET=SECRET) == expected
