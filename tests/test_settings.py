"""The deployment's settings and secrets: read once, complete or refused by name, and never printed."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from moto import mock_aws

from billing import settings
from billing.adapters import aws
from billing.domain.errors import ConfigurationMissing
from billing.settings import StripeSecrets, load_settings, load_stripe_secrets, read_stripe_secrets

STORED = {"api_key": "sk_test_stored", "webhook_secrets": ["whsec_new", "whsec_old"]}


class SecretsManager:
    """Secrets Manager with one secret, and how often it was asked."""

    def __init__(self, value: object) -> None:
        self.value = value
        self.calls: list[str] = []

    def get_secret_value(self, **request: Any) -> dict[str, str]:
        self.calls.append(request["SecretId"])
        return {"SecretString": json.dumps(self.value)}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The least that a function of the template has, and a process that has read none of it."""
    monkeypatch.setenv("TABLE_NAME", "billing")
    monkeypatch.setenv("ALLOWED_ORIGINS", "https://app.example.com")
    _forget()
    yield monkeypatch
    _forget()


def _forget() -> None:
    load_settings.cache_clear()
    settings._stripe_secrets.cache_clear()


def _forget_clients() -> None:
    caches: tuple[Any, ...] = (aws.session, aws.client)
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def secrets_manager(environment: pytest.MonkeyPatch) -> SecretsManager:
    """A secret as `billing setup` stores it."""
    environment.setenv("STRIPE_SECRET_ID", "arn:secret")
    stored = SecretsManager(STORED)
    environment.setattr(settings, "client", lambda _service: stored)
    return stored


def test_defaults_are_the_careful_ones() -> None:
    """What a template parameter does not say: Stripe itself, test mode, 14 days of grace, no promotion codes."""
    found = load_settings()
    assert (found.stripe_api_base, found.livemode, found.allow_promotion_codes) == (None, False, False)
    assert found.past_due_grace == timedelta(days=14)


def test_every_parameter_counts(environment: pytest.MonkeyPatch) -> None:
    """Each of the template's variables reaches the setting it is for."""
    for name, value in {
        "STRIPE_SECRET_ID": "arn:secret",
        "STRIPE_API_BASE": "http://127.0.0.1:8001",
        "STRIPE_MODE": "live",
        "ALLOWED_ORIGINS": "https://app.example.com/, https://www.example.com",
        "PAST_DUE_GRACE_DAYS": "3",
        "ALLOW_PROMOTION_CODES": "true",
        "RATE_LIMIT_PER_MINUTE": "7",
        "RATE_LIMIT_PER_HOUR": "70",
    }.items():
        environment.setenv(name, value)
    assert load_settings() == settings.Settings(
        table_name="billing",
        stripe_secret_id="arn:secret",
        stripe_api_base="http://127.0.0.1:8001",
        livemode=True,
        allowed_origins=("https://app.example.com", "https://www.example.com"),
        past_due_grace=timedelta(days=3),
        allow_promotion_codes=True,
        rate_limit_per_minute=7,
        rate_limit_per_hour=70,
        session=None,
    )


@pytest.mark.parametrize("name", ["TABLE_NAME", "ALLOWED_ORIGINS"])
@pytest.mark.parametrize("value", [None, ""])
def test_what_is_missing_is_named(environment: pytest.MonkeyPatch, name: str, value: str | None) -> None:
    """A deployment without a table or origins refuses to work and says which variable it lacks."""
    if value is None:
        environment.delenv(name)
    else:
        environment.setenv(name, value)
    with pytest.raises(ConfigurationMissing, match=name):
        load_settings()


def test_secrets_come_from_secrets_manager(secrets_manager: SecretsManager) -> None:
    """The API key and both webhook secrets are those stored, fetched once and then remembered."""
    assert load_stripe_secrets() == StripeSecrets("sk_test_stored", ("whsec_new", "whsec_old"))
    assert load_stripe_secrets() is load_stripe_secrets()
    assert secrets_manager.calls == ["arn:secret"]


@pytest.mark.parametrize("stored", ["{}", "[]", "null", '"text"', "not JSON"])
def test_what_is_stored_by_hand_is_told_to_the_operator(environment: pytest.MonkeyPatch, stored: str) -> None:
    """Through a real client: a secret that `billing setup` did not write names the command that will."""
    _forget_clients()
    with mock_aws():
        client = aws.client("secretsmanager")
        environment.setenv("STRIPE_SECRET_ID", client.create_secret(Name="stripe", SecretString=stored)["ARN"])
        with pytest.raises(ConfigurationMissing, match="billing setup"):
            load_stripe_secrets()
    _forget_clients()


def test_a_rotation_is_seen_within_five_minutes(
    secrets_manager: SecretsManager, environment: pytest.MonkeyPatch
) -> None:
    """A secret that was changed counts after five minutes at most, without a deployment."""
    clock = [1000.0]
    environment.setattr("billing.settings.time.monotonic", lambda: clock[0])
    load_stripe_secrets()
    secrets_manager.value = STORED | {"webhook_secrets": ["whsec_newest"]}
    clock[0] += 300
    assert load_stripe_secrets().webhook_secrets == ("whsec_newest",)


def test_secrets_that_do_not_fit_are_read_anew_and_not_too_often(
    secrets_manager: SecretsManager, environment: pytest.MonkeyPatch
) -> None:
    """What is asked for younger is read again at once, every few seconds at most, and is what everybody has then."""
    clock = [1000.0]
    environment.setattr("billing.settings.time.monotonic", lambda: clock[0])
    load_stripe_secrets()
    secrets_manager.value = STORED | {"webhook_secrets": ["whsec_newest"]}
    clock[0] += settings.SECRETS_REREAD_SECONDS_MIN
    for _ in range(3):
        assert load_stripe_secrets(settings.SECRETS_REREAD_SECONDS_MIN).webhook_secrets == ("whsec_newest",)
    assert load_stripe_secrets().webhook_secrets == ("whsec_newest",)
    assert len(secrets_manager.calls) == 2


def test_without_a_secret_there_is_nothing_to_work_with() -> None:
    """A function that was given no secret says so instead of asking AWS for nothing."""
    with pytest.raises(ConfigurationMissing, match="STRIPE_SECRET_ID"):
        load_stripe_secrets()


@pytest.mark.parametrize(
    ("change", "lacks"),
    [
        ({"api_key": None}, "api_key"),
        ({"api_key": ""}, "api_key"),
        ({"api_key": 5}, "api_key"),
        ({"webhook_secrets": None}, "webhook_secrets"),
        ({"webhook_secrets": []}, "webhook_secrets"),
        ({"webhook_secrets": [""]}, "webhook_secrets"),
        ({"webhook_secrets": ["whsec_new", None]}, "webhook_secrets"),
        ({"webhook_secrets": "whsec_new"}, "webhook_secrets"),
    ],
)
def test_an_incomplete_secret_is_refused(change: dict[str, object], lacks: str) -> None:
    """A secret that `billing setup` has not filled is refused by the name of what it lacks."""
    with pytest.raises(ConfigurationMissing, match=f"{lacks}: run `billing setup`"):
        read_stripe_secrets(STORED | change)


@pytest.mark.parametrize(
    ("api_key", "mode"),
    [("sk_test_stored", "live"), ("rk_test_stored", "live"), ("sk_live_stored", "test"), ("rk_live_stored", "test")],
)
def test_a_key_of_the_other_mode_is_refused(
    secrets_manager: SecretsManager, environment: pytest.MonkeyPatch, api_key: str, mode: str
) -> None:
    """Both modes are named, and the key is not; once the right one is stored, it counts at once."""
    environment.setenv("STRIPE_MODE", mode)
    secrets_manager.value = STORED | {"api_key": api_key}
    named = api_key.split("_")[1]
    with pytest.raises(ConfigurationMissing) as refused:
        load_stripe_secrets()
    assert str(refused.value) == (
        f"The stored Stripe key is of {named} mode, and STRIPE_MODE is {mode}: "
        f"run `billing setup` with a {mode} key, or deploy with StripeMode={named}"
    )
    right = api_key.replace(named, mode)
    secrets_manager.value = STORED | {"api_key": right}
    assert load_stripe_secrets().api_key == right


@pytest.mark.parametrize("mode", ["test", "live"])
@pytest.mark.parametrize("api_key", ["sk_org_stored", "sk_org_live_stored", "mysk_live_stored", "stored"])
def test_a_key_that_names_no_mode_counts_in_both(
    secrets_manager: SecretsManager, environment: pytest.MonkeyPatch, api_key: str, mode: str
) -> None:
    """An organization's key, or one of another Stripe: what it is for, only Stripe knows."""
    environment.setenv("STRIPE_MODE", mode)
    secrets_manager.value = STORED | {"api_key": api_key}
    assert load_stripe_secrets().api_key == api_key


def test_secrets_are_never_printed() -> None:
    """Neither repr nor str of the secrets holds one: values like this end up in logs and tracebacks."""
    secrets = read_stripe_secrets(STORED)
    for text in (repr(secrets), str(secrets), f"{secrets}", repr([secrets])):
        assert "sk_test" not in text
        assert "whsec" not in text
