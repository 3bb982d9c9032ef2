"""Tests of `billing keys`, with the authentication that the functions use."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from billing.api.authentication import Authenticator, digest_of
from billing.domain.credentials import CredentialKind
from billing.domain.errors import Unauthenticated
from tests.cli.support import DeployedStack, RunBilling, json_error, json_output

pytestmark = pytest.mark.engine

NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("kind", "credential_kind"),
    [
        ((), CredentialKind.SECRET_KEY),
        (("--kind", "secret"), CredentialKind.SECRET_KEY),
        (("--kind", "publishable"), CredentialKind.PUBLISHABLE_KEY),
    ],
)
def test_created_key_authenticates_until_it_is_revoked(
    run_billing: RunBilling, stack: DeployedStack, kind: tuple[str, ...], credential_kind: CredentialKind
) -> None:
    run_billing("accounts", "create", "acme")
    created = json_output(run_billing("keys", "create", "acme", *kind, "--json"))
    credential = Authenticator(stack.repository()).authenticate(f"Bearer {created['key']}", NOW)
    assert (credential.kind, credential.account_id) == (credential_kind, "acme")
    revoked = json_output(run_billing("keys", "revoke", "acme", created["id"], "--json"))
    assert revoked["revoked"]
    with pytest.raises(Unauthenticated):
        Authenticator(stack.repository()).authenticate(f"Bearer {created['key']}", NOW)


def test_create_key_prints_only_the_key_on_stdout(run_billing: RunBilling, stack: DeployedStack) -> None:
    """For `KEY=$(billing keys create acme)`."""
    run_billing("accounts", "create", "acme")
    result = run_billing("keys", "create", "acme", COLUMNS="10")
    record = stack.repository().find_key(digest_of(result.stdout.removesuffix("\n")))
    assert record is not None
    assert record.account_id == "acme"
    assert record.id in result.stderr


def test_list_keys_includes_revoked_keys_and_shows_no_key(run_billing: RunBilling) -> None:
    run_billing("accounts", "create", "acme")
    assert json_output(run_billing("keys", "list", "acme", "--json")) == {"keys": []}
    kinds = ("secret", "publishable")
    keys = [json_output(run_billing("keys", "create", "acme", "--kind", kind, "--json")) for kind in kinds]
    run_billing("keys", "revoke", "acme", keys[0]["id"])
    listed = {each["id"]: each for each in json_output(run_billing("keys", "list", "acme", "--json"))["keys"]}
    assert {key["id"]: key["key"][-4:] for key in keys} == {each: listed[each]["last_characters"] for each in listed}
    assert [listed[key["id"]]["kind"] for key in keys] == ["secret", "publishable"]
    assert listed[keys[0]["id"]]["revoked"]
    assert listed[keys[1]["id"]]["revoked"] is None
    text = run_billing("keys", "list", "acme").stdout
    assert all(key["id"] in text and key["key"] not in text for key in keys)


def test_create_key_on_live_stack_returns_a_live_key(
    run_billing: RunBilling, deploy: Callable[..., DeployedStack], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILLING_STACK", deploy(StripeMode="live").name)
    run_billing("accounts", "create", "acme")
    for kind, prefix in (("secret", "sk_live_"), ("publishable", "pk_live_")):
        assert run_billing("keys", "create", "acme", "--kind", kind).stdout.startswith(prefix)


def test_revoke_key_prints_the_cache_time_and_keeps_the_first_date(run_billing: RunBilling) -> None:
    run_billing("accounts", "create", "acme")
    key_id = json_output(run_billing("keys", "create", "acme", "--json"))["id"]
    assert "60 s" in run_billing("keys", "revoke", "acme", key_id).stderr
    first = json_output(run_billing("keys", "list", "acme", "--json"))["keys"][0]["revoked"]
    assert json_output(run_billing("keys", "revoke", "acme", key_id, "--json"))["revoked"] == first


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("create", "nobody"), "account_not_found"),
        (("list", "nobody"), "account_not_found"),
        (("revoke", "nobody", "key_1"), "key_not_found"),
    ],
)
def test_keys_of_unknown_account_fail(run_billing: RunBilling, words: tuple[str, ...], code: str) -> None:
    assert json_error(run_billing("keys", *words, "--json"))["code"] == code


def test_revoke_key_of_another_account_fails(run_billing: RunBilling) -> None:
    for account_id in ("acme", "globex"):
        run_billing("accounts", "create", account_id)
    key_id = json_output(run_billing("keys", "create", "acme", "--json"))["id"]
    assert json_error(run_billing("keys", "revoke", "globex", key_id, "--json"))["code"] == "key_not_found"
    assert json_output(run_billing("keys", "list", "acme", "--json"))["keys"][0]["revoked"] is None
