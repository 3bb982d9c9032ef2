"""Tests of `billing sessions`, with the check of session tokens that the functions use."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from billing.adapters.secrets import read_session_secrets
from billing.api.session_tokens import SessionTokens
from billing.domain.credentials import Credential, CredentialKind
from billing.domain.errors import Unauthenticated
from billing.settings import SessionSettings
from tests.cli.support import DeployedStack, RunBilling, json_error, json_output

pytestmark = pytest.mark.engine

FIRST, SECOND, THIRD = ("1" * 32, "2" * 32, "3" * 32)
NOW = datetime.now(UTC)
ROLES = frozenset({"owner"})


@pytest.fixture
def stack(deploy: Callable[..., DeployedStack]) -> DeployedStack:
    """Stack that accepts session tokens, without a shared secret."""
    return deploy(
        SessionIssuer="https://login.example.com",
        SessionAudience="billing",
        SessionAccountClaim="org.id",
        SessionRoleClaim="role",
    )


def session_tokens(stack: DeployedStack) -> SessionTokens:
    """Return the check of session tokens of the stack's functions."""
    settings = SessionSettings("https://login.example.com", "billing", None, "", "org.id", "role", ROLES)
    return SessionTokens(settings, lambda: read_session_secrets(stack.session_secret()), None)


def test_add_secret_stores_the_newest_first_and_keeps_the_previous(
    run_billing: RunBilling, stack: DeployedStack
) -> None:
    kept = []
    for secret in (FIRST, SECOND, SECOND, THIRD):
        json_output(run_billing("sessions", "add-secret", "--json", typed=f"{secret}\n"))
        kept.append(stack.session_secret()["shared_secrets"])
    assert kept == [[FIRST], [SECOND, FIRST], [SECOND, FIRST], [THIRD, SECOND]]


def test_drop_previous_keeps_only_the_newest_secret(run_billing: RunBilling, stack: DeployedStack) -> None:
    for secret in (FIRST, SECOND):
        run_billing("sessions", "add-secret", typed=secret)
    assert json_output(run_billing("sessions", "drop-previous", "--json"))["shared_secrets"] == 1
    assert stack.session_secret() == {"shared_secrets": [SECOND]}
    assert json_output(run_billing("sessions", "drop-previous", "--json"))["shared_secrets"] == 1


def test_drop_previous_without_secret_stores_nothing(run_billing: RunBilling, stack: DeployedStack) -> None:
    assert "no shared secret" in run_billing("sessions", "drop-previous").stdout
    assert stack.session_secret() == {}


@pytest.mark.parametrize("words", [("add-secret",), ("add-secret", "--json"), ("drop-previous",)])
def test_output_contains_no_secret(run_billing: RunBilling, words: tuple[str, ...]) -> None:
    run_billing("sessions", "add-secret", typed=FIRST)
    result = run_billing("sessions", *words, typed=SECOND)
    assert result.exit_code == 0
    for secret in (FIRST, SECOND):
        assert secret not in result.stdout + result.stderr


@pytest.mark.parametrize("typed", ["", "\n", "short", "x" * 31 + "\n"])
def test_add_secret_rejects_fewer_than_32_bytes(run_billing: RunBilling, stack: DeployedStack, typed: str) -> None:
    error = json_error(run_billing("sessions", "add-secret", "--json", typed=typed))
    assert error["code"] == "session_secret_short"
    assert "32" in error["message"]
    assert stack.session_secret() == {}


def test_add_secret_without_issuer_prints_a_note(
    run_billing: RunBilling, deploy: Callable[..., DeployedStack], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILLING_STACK", deploy().name)
    assert "SessionIssuer" in run_billing("sessions", "add-secret", typed=FIRST).stderr


@pytest.mark.parametrize(
    ("role", "can_manage_billing"), [((), False), (("--role", "owner"), True), (("--role", "guest"), False)]
)
def test_signed_token_is_accepted_until_it_expires(
    run_billing: RunBilling,
    stack: DeployedStack,
    role: tuple[str, ...],
    can_manage_billing: bool,  # noqa: FBT001 - a case
) -> None:
    run_billing("sessions", "add-secret", typed=FIRST)
    signed = json_output(
        run_billing("sessions", "token", "acme", "--user", "user_1", *role, "--expires-in", "24", "--json")
    )
    tokens = session_tokens(stack)
    expected = Credential(CredentialKind.SESSION_TOKEN, "acme", "user:user_1", can_manage_billing)
    assert tokens.check(signed["token"], NOW) == expected
    assert tokens.check(signed["token"], NOW + timedelta(hours=23)) == expected
    with pytest.raises(Unauthenticated):
        tokens.check(signed["token"], NOW + timedelta(hours=25))


def test_token_prints_only_the_token_on_stdout(run_billing: RunBilling, stack: DeployedStack) -> None:
    """For `TOKEN=$(billing sessions token acme --user user_1)`."""
    run_billing("sessions", "add-secret", typed=FIRST)
    result = run_billing("sessions", "token", "acme", "--user", "user_1", COLUMNS="10")
    assert session_tokens(stack).check(result.stdout.removesuffix("\n"), NOW).account_id == "acme"


def test_token_stays_valid_after_drop_previous(run_billing: RunBilling, stack: DeployedStack) -> None:
    """It is signed with the newest secret."""
    for secret in (FIRST, SECOND):
        run_billing("sessions", "add-secret", typed=secret)
    signed = run_billing("sessions", "token", "acme", "--user", "user_1").stdout.strip()
    run_billing("sessions", "drop-previous")
    assert session_tokens(stack).check(signed, NOW).subject == "user:user_1"


@pytest.mark.parametrize(
    ("parameters", "words", "code"),
    [
        ({"StripeMode": "live", "SessionIssuer": "https://login.example.com"}, (), "sessions_live"),
        ({}, (), "sessions_off"),
        ({"SessionIssuer": "https://login.example.com"}, ("--role", "owner"), "sessions_no_role"),
        ({"SessionIssuer": "https://login.example.com"}, (), "session_secret_missing"),
    ],
)
def test_token_fails_if_the_stack_would_not_accept_it(
    run_billing: RunBilling,
    deploy: Callable[..., DeployedStack],
    monkeypatch: pytest.MonkeyPatch,
    parameters: dict[str, str],
    words: tuple[str, ...],
    code: str,
) -> None:
    monkeypatch.setenv("BILLING_STACK", deploy(**parameters).name)
    assert json_error(run_billing("sessions", "token", "acme", "--user", "user_1", *words, "--json"))["code"] == code


def test_add_secret_keeps_an_unreadable_secret(run_billing: RunBilling, stack: DeployedStack) -> None:
    for text in ('{"shared_secrets": "x"}', '{"shared_secrets": ["short"]}', "[]"):
        stack.write_session_secret(text)
        error = json_error(run_billing("sessions", "add-secret", "--json", typed=FIRST))
        assert error["code"] in {"session_secret_unreadable", "secret_unreadable"}
        assert json.dumps(stack.session_secret()) == text


@pytest.mark.parametrize("user", ["", "u" * 256, "tab\t", "é"])
def test_token_with_invalid_user_id_is_a_usage_error(run_billing: RunBilling, user: str) -> None:
    assert run_billing("sessions", "token", "acme", "--user", user).exit_code == 2
