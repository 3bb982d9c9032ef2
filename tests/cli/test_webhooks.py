"""Tests of `billing webhooks` for endpoints: create, list, update, rotate, delete and test."""

import json
import os
import pty
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from billing.domain.outbound_events import ACCOUNT_EVENT_TYPES
from billing.domain.webhook_endpoints import ENDPOINTS_MAX, DisabledReason
from tests.cli.support import DeployedStack, RunBilling, json_error, json_output, table_items
from tests.cli.webhook_support import NOW, PUBLIC_URL, webhooks_of
from tests.wire import Answer, Wire

pytestmark = pytest.mark.engine

BILLING = Path(sys.executable).parent / "billing"


def create(run: RunBilling, *words: str) -> str:
    """Create an endpoint and return its id."""
    return str(json_output(run("webhooks", "create", PUBLIC_URL, *words, "--json"))["id"])


# --- create -----------------------------------------------------------------------------------------------------------


def test_create_stores_endpoint_of_the_deployment_for_all_events(run_billing: RunBilling, stack: DeployedStack) -> None:
    created = json_output(run_billing("webhooks", "create", PUBLIC_URL, "--description", "Ledger", "--json"))
    [stored] = webhooks_of(stack).load_endpoints(None).endpoints
    assert created == {
        "id": stored.id,
        "account_id": None,
        "url": PUBLIC_URL,
        "events": ["*"],
        "description": "Ledger",
        "enabled": True,
        "disabled_reason": None,
        "disabled_at": None,
        "created": created["created"],
        "secret": stored.secrets[0].value,
        "warning": None,
    }
    assert Webhook(created["secret"])


def test_create_prints_only_the_secret_on_stdout(run_billing: RunBilling, stack: DeployedStack) -> None:
    """For `SECRET=$(billing webhooks create URL)`."""
    result = run_billing("webhooks", "create", PUBLIC_URL)
    [stored] = webhooks_of(stack).load_endpoints(None).endpoints
    assert result.stdout == f"{stored.secrets[0].value}\n"
    assert stored.id in result.stderr


def test_create_with_account_stores_endpoint_of_that_account(run_billing: RunBilling, stack: DeployedStack) -> None:
    run_billing("accounts", "create", "acme")
    endpoint_id = create(run_billing, "--account", "acme", "--event", "invoice.paid")
    [stored] = webhooks_of(stack).load_endpoints("acme").endpoints
    assert (stored.id, stored.events) == (endpoint_id, ("invoice.paid",))
    assert webhooks_of(stack).load_endpoints(None).endpoints == ()
    assert json_output(run_billing("webhooks", "list", "--json"))["endpoints"] == []
    [listed] = json_output(run_billing("webhooks", "list", "--account", "acme", "--json"))["endpoints"]
    assert (listed["id"], listed["account_id"]) == (endpoint_id, "acme")


def test_create_with_unresolvable_name_warns(run_billing: RunBilling, stack: DeployedStack) -> None:
    result = run_billing("webhooks", "create", "https://hooks.example.invalid/x")
    assert result.exit_code == 0
    assert "does not resolve" in result.stderr
    assert len(webhooks_of(stack).load_endpoints(None).endpoints) == 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://8.8.8.8/hooks", "must use https"),
        ("https://10.0.0.1/hooks", "private"),
        ("http://127.0.0.1:3000/hooks", "must use https"),
        ("hooks", "must be absolute"),
    ],
)
def test_create_with_url_that_is_not_public_fails(
    run_billing: RunBilling, stack: DeployedStack, url: str, reason: str
) -> None:
    error = json_error(run_billing("webhooks", "create", url, "--json"))
    assert error["code"] == "webhook_url_refused"
    assert reason in error["message"]
    assert webhooks_of(stack).load_endpoints(None).endpoints == ()


def test_create_beyond_the_maximum_fails(run_billing: RunBilling) -> None:
    for _ in range(ENDPOINTS_MAX):
        create(run_billing)
    error = json_error(run_billing("webhooks", "create", PUBLIC_URL, "--json"))
    assert error["code"] == "webhook_refused"
    assert "Delete one first" in error["message"]


@pytest.mark.parametrize(
    "words", [("--event", "invoice.paied"), ("--description", "x" * 501), ("--description", "a\nb"), ("--account", "")]
)
def test_create_with_invalid_option_is_a_usage_error(run_billing: RunBilling, words: tuple[str, ...]) -> None:
    result = run_billing("webhooks", "create", PUBLIC_URL, *words)
    assert (result.exit_code, result.stdout) == (2, "")


def test_create_for_account_with_event_of_the_deployment_fails(run_billing: RunBilling) -> None:
    run_billing("accounts", "create", "acme")
    words = ("--account", "acme", "--event", "webhook_endpoint.disabled", "--json")
    error = json_error(run_billing("webhooks", "create", PUBLIC_URL, *words))
    assert error["code"] == "webhook_refused"
    assert all(each in error["message"] for each in ACCOUNT_EVENT_TYPES)


# --- list and update --------------------------------------------------------------------------------------------------


def test_list_without_endpoints_names_the_command_that_creates_one(run_billing: RunBilling) -> None:
    run_billing("accounts", "create", "acme")
    assert "billing webhooks create URL" in run_billing("webhooks", "list").stdout
    assert "create URL --account acme" in run_billing("webhooks", "list", "--account", "acme").stdout


def test_update_replaces_only_the_given_values(run_billing: RunBilling, stack: DeployedStack) -> None:
    endpoint_id = create(run_billing, "--description", "Ledger")
    [before] = webhooks_of(stack).load_endpoints(None).endpoints
    words = ("--event", "invoice.paid", "--event", "subscription.created")
    updated = json_output(run_billing("webhooks", "update", endpoint_id, *words, "--json"))
    assert updated["events"] == ["subscription.created", "invoice.paid"]
    assert (updated["url"], updated["description"], updated["enabled"]) == (PUBLIC_URL, "Ledger", True)
    moved = json_output(run_billing("webhooks", "update", endpoint_id, "--url", "https://1.1.1.1/new", "--json"))
    assert (moved["url"], moved["events"]) == ("https://1.1.1.1/new", updated["events"])
    cleared = json_output(run_billing("webhooks", "update", endpoint_id, "--description", "", "--json"))
    assert (cleared["url"], cleared["description"]) == ("https://1.1.1.1/new", "")
    [after] = webhooks_of(stack).load_endpoints(None).endpoints
    assert after.secrets == before.secrets


def test_update_disables_and_enables_an_endpoint(run_billing: RunBilling) -> None:
    endpoint_id = create(run_billing)
    disabled = json_output(run_billing("webhooks", "update", endpoint_id, "--disable", "--json"))
    assert (disabled["enabled"], disabled["disabled_reason"]) == (False, "request")
    assert "disabled (request, " in run_billing("webhooks", "list").stdout
    result = run_billing("webhooks", "update", endpoint_id, "--enable")
    assert f"billing webhooks replay {endpoint_id} --since" in result.stderr
    assert "disabled" not in run_billing("webhooks", "list").stdout


def test_list_shows_why_an_endpoint_was_disabled(run_billing: RunBilling, stack: DeployedStack) -> None:
    create(run_billing)
    stored = webhooks_of(stack).load_endpoints(None)
    webhooks_of(stack).save_endpoints(stored.put(stored.endpoints[0].disable(DisabledReason.FAILING, NOW)))
    [listed] = json_output(run_billing("webhooks", "list", "--json"))["endpoints"]
    assert (listed["enabled"], listed["disabled_reason"]) == (False, "failing")


def test_list_shows_no_control_characters_of_a_description(run_billing: RunBilling, stack: DeployedStack) -> None:
    """Users of an account write descriptions with the API."""
    create(run_billing)
    stored = webhooks_of(stack).load_endpoints(None)
    webhooks_of(stack).save_endpoints(stored.put(replace(stored.endpoints[0], description="a\x1b[2Jb")))
    text = run_billing("webhooks", "list").stdout
    assert "a\N{REPLACEMENT CHARACTER}[2Jb" in text
    assert "\x1b" not in text


def test_update_without_change_is_a_usage_error(run_billing: RunBilling) -> None:
    result = run_billing("webhooks", "update", "whe_1", "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--enable" in result.stderr


def test_update_with_url_that_is_not_public_changes_nothing(run_billing: RunBilling, stack: DeployedStack) -> None:
    endpoint_id = create(run_billing)
    before = table_items(stack)
    error = json_error(run_billing("webhooks", "update", endpoint_id, "--url", "https://127.0.0.1/x", "--json"))
    assert error["code"] == "webhook_url_refused"
    assert table_items(stack) == before


# --- rotate and secrets -----------------------------------------------------------------------------------------------


def test_rotate_prints_a_new_secret_that_signs_beside_the_old_one(
    run_billing: RunBilling, stack: DeployedStack
) -> None:
    created = json_output(run_billing("webhooks", "create", PUBLIC_URL, "--json"))
    result = run_billing("webhooks", "rotate", created["id"])
    new = result.stdout.removesuffix("\n")
    [stored] = webhooks_of(stack).load_endpoints(None).endpoints
    assert stored.secrets_at(NOW) == (new, created["secret"])
    assert new != created["secret"]
    rotated = json_output(run_billing("webhooks", "rotate", created["id"], "--json"))
    assert rotated["secret"] not in {new, created["secret"]}


def test_secrets_appear_only_in_the_output_of_create_and_rotate(run_on_loopback: RunBilling, wire: Wire) -> None:
    created = json_output(run_on_loopback("webhooks", "create", f"{wire.url}/hooks", "--json"))
    rotated = json_output(run_on_loopback("webhooks", "rotate", created["id"], "--json"))
    endpoint_id = created["id"]
    for words in (
        ("list",),
        ("update", endpoint_id, "--description", "x"),
        ("update", endpoint_id, "--disable"),
        ("update", endpoint_id, "--enable"),
        ("test", endpoint_id),
        ("deliveries", endpoint_id),
        ("replay", endpoint_id, "--since", "1h"),
        ("delete", endpoint_id, "--yes"),
    ):
        for suffix in ((), ("--json",)):
            result = run_on_loopback("webhooks", *words, *suffix)
            output = result.stdout + result.stderr
            assert "whsec_" not in output
            assert created["secret"].removeprefix("whsec_") not in output
            assert rotated["secret"].removeprefix("whsec_") not in output


# --- delete -----------------------------------------------------------------------------------------------------------


def test_delete_with_yes_removes_the_endpoint(run_billing: RunBilling, stack: DeployedStack) -> None:
    kept, deleted = create(run_billing), create(run_billing)
    assert json_output(run_billing("webhooks", "delete", deleted, "--yes", "--json"))["id"] == deleted
    assert [each.id for each in webhooks_of(stack).load_endpoints(None).endpoints] == [kept]


def test_delete_without_terminal_needs_yes(run_billing: RunBilling, stack: DeployedStack) -> None:
    endpoint_id = create(run_billing)
    error = json_error(run_billing("webhooks", "delete", endpoint_id, "--json", typed="y\n"))
    assert error["code"] == "confirmation_missing"
    assert "--yes" in error["message"]
    assert len(webhooks_of(stack).load_endpoints(None).endpoints) == 1


@pytest.mark.parametrize(("answer", "exit_code", "left"), [("y", 0, 0), ("n", 1, 1)])
def test_delete_on_a_terminal_asks(
    run_billing: RunBilling, stack: DeployedStack, answer: str, exit_code: int, left: int
) -> None:
    endpoint_id = create(run_billing)
    controller, terminal = pty.openpty()
    with closing(os.fdopen(controller, "wb", buffering=0)) as keyboard, closing(os.fdopen(terminal, "rb")) as stdin:
        keyboard.write(f"{answer}\n".encode())
        done = subprocess.run(  # noqa: S603 - our own command
            [BILLING, "webhooks", "delete", endpoint_id], stdin=stdin, capture_output=True, text=True, check=False
        )
    assert done.returncode == exit_code, done.stderr
    assert f"Delete {endpoint_id} ({PUBLIC_URL})?" in done.stderr
    assert len(webhooks_of(stack).load_endpoints(None).endpoints) == left


# --- test -------------------------------------------------------------------------------------------------------------


def test_test_event_is_signed_and_its_response_is_printed(run_on_loopback: RunBilling, wire: Wire) -> None:
    created = json_output(run_on_loopback("webhooks", "create", f"{wire.url}/hooks", "--json"))
    wire.answer(Answer(202, b"queued\nmore"))
    sent = json_output(run_on_loopback("webhooks", "test", created["id"], "--json"))
    assert (sent["status_code"], sent["error"], sent["response"]) == (202, None, "queued")
    assert isinstance(sent["latency_ms"], int)
    event = Webhook(created["secret"]).verify(wire.only.body, dict(wire.only.headers))
    assert (event["type"], event["account_id"]) == ("webhook_endpoint.test", None)
    wire.answer(Answer(200, b"fine"))
    text = run_on_loopback("webhooks", "test", created["id"]).stdout
    assert text.startswith("HTTP 200 in ")
    assert text.endswith(" ms\nfine\n")


def test_test_event_that_is_rejected_exits_3_without_control_characters(
    run_on_loopback: RunBilling, wire: Wire
) -> None:
    """A response could otherwise send escape sequences to the operator's terminal."""
    created = json_output(run_on_loopback("webhooks", "create", f"{wire.url}/hooks", "--json"))
    wire.answer(Answer(500, b"\x1b]0;title\x07oops" + b"x" * 3000))
    result = run_on_loopback("webhooks", "test", created["id"])
    assert result.exit_code == 3
    assert "HTTP 500" in result.stdout
    assert "oops" in result.stdout
    assert "\x1b" not in result.stdout
    assert "\x07" not in result.stdout
    assert len(result.stdout) < 300


def test_test_event_to_unreachable_endpoint_exits_3_with_the_reason(run_on_loopback: RunBilling) -> None:
    created = json_output(run_on_loopback("webhooks", "create", "http://127.0.0.1:1025/hooks", "--json"))
    sent = json_output(run_on_loopback("webhooks", "test", created["id"], "--json"), exit_code=3)
    assert (sent["status_code"], sent["error"], sent["response"]) == (None, "connection_refused", None)
    assert "refused the connection" in run_on_loopback("webhooks", "test", created["id"]).stdout


# --- unknown endpoints and accounts -----------------------------------------------------------------------------------

COMMANDS_OF_AN_ENDPOINT = [
    ("update", "whe_1", "--enable"),
    ("rotate", "whe_1"),
    ("delete", "whe_1", "--yes"),
    ("test", "whe_1"),
    ("deliveries", "whe_1"),
    ("deliveries", "bus"),
    ("replay", "whe_1", "--since", "1h"),
]


def test_unknown_endpoint_fails_with_the_command_that_lists_them(run_billing: RunBilling) -> None:
    for words in COMMANDS_OF_AN_ENDPOINT:
        error = json_error(run_billing("webhooks", *words, "--json"))
        assert error["code"] == "webhook_endpoint_not_found", words
        assert "`billing webhooks list`" in error["message"]


def test_endpoint_of_another_owner_is_not_found(run_billing: RunBilling) -> None:
    run_billing("accounts", "create", "acme")
    endpoint_id = create(run_billing)
    for command, named, *options in COMMANDS_OF_AN_ENDPOINT:
        words = (command, named.replace("whe_1", endpoint_id), *options, "--account", "acme", "--json")
        error = json_error(run_billing("webhooks", *words))
        assert error["code"] == "webhook_endpoint_not_found", words
        assert "`billing webhooks list --account acme`" in error["message"]


def test_webhooks_of_unknown_account_fail(run_billing: RunBilling) -> None:
    for words in (("create", PUBLIC_URL), ("list",), *COMMANDS_OF_AN_ENDPOINT, ("redeliver", "dlv_1_2")):
        error = json_error(run_billing("webhooks", *words, "--account", "nobody", "--json"))
        assert error["code"] == "account_not_found", words


def test_json_output_of_create_is_one_object(run_billing: RunBilling) -> None:
    result = run_billing("webhooks", "create", PUBLIC_URL, "--json")
    assert json.loads(result.stdout)["url"] == PUBLIC_URL
    assert result.stderr == ""
