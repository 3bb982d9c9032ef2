"""`billing sessions`: what the operator stores is what the functions check tokens with."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from billing.adapters.secrets import read_session_secrets
from billing.api.session_tokens import SessionTokens
from billing.domain.credentials import Credential, CredentialKind
from billing.domain.errors import Unauthenticated
from billing.settings import SessionSettings
from tests.cli.conftest import Billing, Stack, answer, refusal

pytestmark = pytest.mark.engine

FIRST, SECOND, THIRD = ("1" * 32, "2" * 32, "3" * 32)
NOW = datetime.now(UTC)
ROLES = frozenset({"owner"})


@pytest.fixture
def stack(deploy: Callable[..., Stack]) -> Stack:
    """A stack that takes session tokens, and has no secret yet."""
    return deploy(
        SessionIssuer="https://login.example.com",
        SessionAudience="billing",
        SessionAccountClaim="org.id",
        SessionRoleClaim="role",
    )


def session_tokens(stack: Stack) -> SessionTokens:
    """What a function of the stack takes for a session token."""
    settings = SessionSettings("https://login.example.com", "billing", None, "", "org.id", "role", ROLES)
    return SessionTokens(settings, lambda: read_session_secrets(stack.session_secret()), None)


def test_the_newest_secret_comes_first_and_the_one_before_stays(billing: Billing, stack: Stack) -> None:
    """While tokens of the old secret are in use both count; a third takes the oldest's place."""
    kept = []
    for secret in (FIRST, SECOND, SECOND, THIRD):
        answer(billing("sessions", "add-secret", "--json", typed=f"{secret}\n"))
        kept.append(stack.session_secret()["shared_secrets"])
    assert kept == [[FIRST], [SECOND, FIRST], [SECOND, FIRST], [THIRD, SECOND]]


def test_a_rotation_is_ended(billing: Billing, stack: Stack) -> None:
    """Afterwards the old secret's tokens do not count; ending it once more changes nothing."""
    for secret in (FIRST, SECOND):
        billing("sessions", "add-secret", typed=secret)
    assert answer(billing("sessions", "drop-previous", "--json"))["shared_secrets"] == 1
    assert stack.session_secret() == {"shared_secrets": [SECOND]}
    assert answer(billing("sessions", "drop-previous", "--json"))["shared_secrets"] == 1


def test_without_a_secret_there_is_none_to_drop(billing: Billing, stack: Stack) -> None:
    """It says so, and stores nothing."""
    assert "no shared secret" in billing("sessions", "drop-previous").stdout
    assert stack.session_secret() == {}


@pytest.mark.parametrize("words", [("add-secret",), ("add-secret", "--json"), ("drop-previous",)])
def test_no_secret_is_shown(billing: Billing, words: tuple[str, ...]) -> None:
    """What was typed is not in what is printed."""
    billing("sessions", "add-secret", typed=FIRST)
    result = billing("sessions", *words, typed=SECOND)
    assert result.exit_code == 0
    for secret in (FIRST, SECOND):
        assert secret not in result.stdout + result.stderr


@pytest.mark.parametrize("typed", ["", "\n", "short", "x" * 31 + "\n"])
def test_a_short_secret_is_refused(billing: Billing, stack: Stack, typed: str) -> None:
    """HS256 with less than 32 bytes can be guessed: nothing is stored, and the reason does not show the secret."""
    error = refusal(billing("sessions", "add-secret", "--json", typed=typed))
    assert error["code"] == "session_secret_short"
    assert "32" in error["message"]
    assert stack.session_secret() == {}


def test_without_an_issuer_the_operator_is_told(
    billing: Billing, deploy: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret alone lets nobody in."""
    monkeypatch.setenv("BILLING_STACK", deploy().name)
    assert "SessionIssuer" in billing("sessions", "add-secret", typed=FIRST).stderr


@pytest.mark.parametrize(
    ("role", "can_manage_billing"), [((), False), (("--role", "owner"), True), (("--role", "guest"), False)]
)
def test_a_development_token_counts(
    billing: Billing,
    stack: Stack,
    role: tuple[str, ...],
    can_manage_billing: bool,  # noqa: FBT001 - a case
) -> None:
    """What is signed here is what the functions take: for the account, the user, the role, until it expires."""
    billing("sessions", "add-secret", typed=FIRST)
    signed = answer(billing("sessions", "token", "acme", "--user", "user_1", *role, "--expires-in", "24", "--json"))
    tokens = session_tokens(stack)
    expected = Credential(CredentialKind.SESSION_TOKEN, "acme", "user:user_1", can_manage_billing)
    assert tokens.check(signed["token"], NOW) == expected
    assert tokens.check(signed["token"], NOW + timedelta(hours=23)) == expected
    with pytest.raises(Unauthenticated):
        tokens.check(signed["token"], NOW + timedelta(hours=25))


def test_a_token_alone_is_on_stdout(billing: Billing, stack: Stack) -> None:
    """`TOKEN=$(billing sessions token acme --user user_1)` takes the token and nothing else."""
    billing("sessions", "add-secret", typed=FIRST)
    result = billing("sessions", "token", "acme", "--user", "user_1", COLUMNS="10")
    assert session_tokens(stack).check(result.stdout.removesuffix("\n"), NOW).account_id == "acme"


def test_tokens_are_signed_with_the_newest_secret(billing: Billing, stack: Stack) -> None:
    """They still count when the rotation is ended."""
    for secret in (FIRST, SECOND):
        billing("sessions", "add-secret", typed=secret)
    signed = billing("sessions", "token", "acme", "--user", "user_1").stdout.strip()
    billing("sessions", "drop-previous")
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
def test_where_no_token_can_be_signed(
    billing: Billing,
    deploy: Callable[..., Stack],
    monkeypatch: pytest.MonkeyPatch,
    parameters: dict[str, str],
    words: tuple[str, ...],
    code: str,
) -> None:
    """Never on a live stack; elsewhere what is missing is named."""
    monkeypatch.setenv("BILLING_STACK", deploy(**parameters).name)
    assert refusal(billing("sessions", "token", "acme", "--user", "user_1", *words, "--json"))["code"] == code


def test_what_somebody_stored_by_hand_is_told(billing: Billing, stack: Stack) -> None:
    """A secret that cannot be read is not overwritten."""
    for text in ('{"shared_secrets": "x"}', '{"shared_secrets": ["short"]}', "[]"):
        stack.write_session_secret(text)
        error = refusal(billing("sessions", "add-secret", "--json", typed=FIRST))
        assert error["code"] in {"session_secret_unreadable", "secret_unreadable"}
        assert json.dumps(stack.session_secret()) == text


@pytest.mark.parametrize("user", ["", "u" * 256, "tab\t", "é"])
def test_a_user_is_one_that_the_functions_take(billing: Billing, user: str) -> None:
    """A wrong user id is a usage error, not a token that never counts."""
    assert billing("sessions", "token", "acme", "--user", user).exit_code == 2
