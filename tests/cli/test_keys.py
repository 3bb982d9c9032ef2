"""`billing keys`, from the first request that a key authenticates to the first that it does not."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from billing.api.authentication import Authenticator, digest_of
from billing.domain.credentials import CredentialKind
from billing.domain.errors import Unauthenticated
from tests.cli.conftest import Billing, Stack, answer, refusal

pytestmark = pytest.mark.engine

NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("kind", "means"),
    [
        ((), CredentialKind.SECRET_KEY),
        (("--kind", "secret"), CredentialKind.SECRET_KEY),
        (("--kind", "publishable"), CredentialKind.PUBLISHABLE_KEY),
    ],
)
def test_a_key_works_until_it_is_revoked(
    billing: Billing, stack: Stack, kind: tuple[str, ...], means: CredentialKind
) -> None:
    """What was printed authenticates its account; after the revocation no function that starts takes it."""
    billing("accounts", "create", "acme")
    created = answer(billing("keys", "create", "acme", *kind, "--json"))
    credential = Authenticator(stack.repository()).authenticate(f"Bearer {created['key']}", NOW)
    assert (credential.kind, credential.account_id) == (means, "acme")
    revoked = answer(billing("keys", "revoke", "acme", created["id"], "--json"))
    assert revoked["revoked"]
    with pytest.raises(Unauthenticated):
        Authenticator(stack.repository()).authenticate(f"Bearer {created['key']}", NOW)


def test_a_key_alone_is_on_stdout(billing: Billing, stack: Stack) -> None:
    """`KEY=$(billing keys create acme)` takes the key and nothing else."""
    billing("accounts", "create", "acme")
    result = billing("keys", "create", "acme", COLUMNS="10")
    record = stack.repository().find_key(digest_of(result.stdout.removesuffix("\n")))
    assert record is not None
    assert record.account_id == "acme"
    assert record.id in result.stderr


def test_a_key_is_listed_without_being_shown(billing: Billing) -> None:
    """Enough to recognise a key by, with its kind, never the key; revoked ones stay listed."""
    billing("accounts", "create", "acme")
    assert answer(billing("keys", "list", "acme", "--json")) == {"keys": []}
    kinds = ("secret", "publishable")
    keys = [answer(billing("keys", "create", "acme", "--kind", kind, "--json")) for kind in kinds]
    billing("keys", "revoke", "acme", keys[0]["id"])
    listed = {each["id"]: each for each in answer(billing("keys", "list", "acme", "--json"))["keys"]}
    assert {key["id"]: key["key"][-4:] for key in keys} == {each: listed[each]["last_characters"] for each in listed}
    assert [listed[key["id"]]["kind"] for key in keys] == ["secret", "publishable"]
    assert listed[keys[0]["id"]]["revoked"]
    assert listed[keys[1]["id"]]["revoked"] is None
    text = billing("keys", "list", "acme").stdout
    assert all(key["id"] in text and key["key"] not in text for key in keys)


def test_the_mode_shows_in_the_key(
    billing: Billing, deploy: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A live stack gives live keys."""
    monkeypatch.setenv("BILLING_STACK", deploy(StripeMode="live").name)
    billing("accounts", "create", "acme")
    for kind, prefix in (("secret", "sk_live_"), ("publishable", "pk_live_")):
        assert billing("keys", "create", "acme", "--kind", kind).stdout.startswith(prefix)


def test_revoking_says_that_it_is_not_at_once(billing: Billing) -> None:
    """Functions remember a key for a minute, and the operator should know; revoking once more changes nothing."""
    billing("accounts", "create", "acme")
    key_id = answer(billing("keys", "create", "acme", "--json"))["id"]
    assert "60 s" in billing("keys", "revoke", "acme", key_id).stderr
    first = answer(billing("keys", "list", "acme", "--json"))["keys"][0]["revoked"]
    assert answer(billing("keys", "revoke", "acme", key_id, "--json"))["revoked"] == first


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("create", "nobody"), "account_not_found"),
        (("list", "nobody"), "account_not_found"),
        (("revoke", "nobody", "key_1"), "key_not_found"),
    ],
)
def test_keys_of_nobody_are_refused(billing: Billing, words: tuple[str, ...], code: str) -> None:
    """A key belongs to an account that somebody created."""
    assert refusal(billing("keys", *words, "--json"))["code"] == code


def test_an_account_cannot_revoke_anothers_key(billing: Billing) -> None:
    """The key id counts with its account only."""
    for account_id in ("acme", "globex"):
        billing("accounts", "create", account_id)
    key_id = answer(billing("keys", "create", "acme", "--json"))["id"]
    assert refusal(billing("keys", "revoke", "globex", key_id, "--json"))["code"] == "key_not_found"
    assert answer(billing("keys", "list", "acme", "--json"))["keys"][0]["revoked"] is None
