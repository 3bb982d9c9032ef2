"""Stripe secrets from Secrets Manager: stored in memory, refreshed, complete or rejected, and never printed."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from billing.adapters import aws
from billing.adapters.secrets import (
    SECRETS_AGE_SECONDS_MAX,
    SECRETS_OUTAGE_SECONDS_MAX,
    SECRETS_REREAD_SECONDS_MIN,
    StripeSecrets,
    read_stripe_secrets,
)
from billing.bootstrap import app
from billing.domain.errors import ConfigurationMissing, SecretsUnavailable

STORED = {"api_key": "sk_test_stored", "webhook_secrets": ["whsec_new", "whsec_old"]}


class SecretsManager:
    """Secrets Manager with one secret. It records its calls, and raises `error` if one is set."""

    def __init__(self, value: object) -> None:
        self.value = value
        self.error: Exception | None = None
        self.calls: list[str] = []

    def get_secret_value(self, **request: Any) -> dict[str, str]:
        self.calls.append(request["SecretId"])
        if self.error:
            raise self.error
        return {"SecretString": json.dumps(self.value)}


def client_error(code: str) -> ClientError:
    """Return an error as botocore raises it."""
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "GetSecretValue")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Set only the variables that every function has, in a process that has read none of them."""
    monkeypatch.setenv("TABLE_NAME", "billing")
    monkeypatch.setenv("DEPLOYMENT_ID", "billing-test")
    monkeypatch.setenv("ALLOWED_ORIGINS", "https://app.example.com")
    app.reset()
    yield monkeypatch
    app.reset()


@pytest.fixture
def secrets_manager(environment: pytest.MonkeyPatch) -> SecretsManager:
    """A secret as `billing setup` stores it."""
    environment.setenv("STRIPE_SECRET_ID", "arn:secret")
    stored = SecretsManager(STORED)
    environment.setattr(aws, "client", lambda _service: stored)
    return stored


@pytest.fixture
def clock(environment: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock of this process, moved by hand."""
    clock = [1000.0]
    environment.setattr("billing.adapters.secrets.time.monotonic", lambda: clock[0])
    return clock


TEMPORARY = [
    client_error("ThrottlingException"),
    client_error("InternalServiceError"),
    EndpointConnectionError(endpoint_url="x"),
]


@pytest.mark.parametrize("error", TEMPORARY, ids=["throttled", "failing", "unreachable"])
def test_failed_refresh_uses_stored_secret_for_an_hour(
    secrets_manager: SecretsManager, clock: list[float], error: Exception
) -> None:
    app.stripe_secrets.get()
    secrets_manager.error = error
    clock[0] += SECRETS_AGE_SECONDS_MAX
    assert app.stripe_secrets.get().api_key == "sk_test_stored"
    clock[0] = 1000.0 + SECRETS_OUTAGE_SECONDS_MAX
    with pytest.raises(SecretsUnavailable):
        app.stripe_secrets.get()
    secrets_manager.error = None
    assert app.stripe_secrets.get().api_key == "sk_test_stored"


def test_failed_refresh_is_retried_after_five_seconds(secrets_manager: SecretsManager, clock: list[float]) -> None:
    app.stripe_secrets.get()
    secrets_manager.error = client_error("ThrottlingException")
    clock[0] += SECRETS_AGE_SECONDS_MAX
    for _ in range(3):
        app.stripe_secrets.get()
    assert len(secrets_manager.calls) == 2
    clock[0] += SECRETS_REREAD_SECONDS_MIN
    secrets_manager.error = None
    secrets_manager.value = STORED | {"webhook_secrets": ["whsec_newest"]}
    assert app.stripe_secrets.get().webhook_secrets == ("whsec_newest",)


@pytest.mark.parametrize("error", TEMPORARY, ids=["throttled", "failing", "unreachable"])
def test_first_read_that_fails_raises_secrets_unavailable(secrets_manager: SecretsManager, error: Exception) -> None:
    secrets_manager.error = error
    with pytest.raises(SecretsUnavailable):
        app.stripe_secrets.get()


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException"])
def test_secret_that_may_not_be_read_raises_configuration_missing(
    secrets_manager: SecretsManager, clock: list[float], code: str
) -> None:
    """A definite answer is no outage: the stored value is not used."""
    app.stripe_secrets.get()
    secrets_manager.error = client_error(code)
    clock[0] += SECRETS_AGE_SECONDS_MAX
    with pytest.raises(ConfigurationMissing, match=code):
        app.stripe_secrets.get()


def test_secret_is_read_once_and_stored_in_memory(secrets_manager: SecretsManager) -> None:
    assert app.stripe_secrets.get() == StripeSecrets("sk_test_stored", ("whsec_new", "whsec_old"))
    assert app.stripe_secrets.get() is app.stripe_secrets.get()
    assert secrets_manager.calls == ["arn:secret"]


@pytest.mark.parametrize("stored", ["{}", "[]", "null", '"text"', "not JSON"])
def test_secret_that_setup_did_not_write_raises_configuration_missing(
    environment: pytest.MonkeyPatch, stored: str
) -> None:
    """The message names `billing setup`. The client is a real one."""
    aws.reset()
    with mock_aws():
        client = aws.client("secretsmanager")
        environment.setenv("STRIPE_SECRET_ID", client.create_secret(Name="stripe", SecretString=stored)["ARN"])
        with pytest.raises(ConfigurationMissing, match="billing setup"):
            app.stripe_secrets.get()
    aws.reset()


def test_changed_secret_is_used_after_five_minutes(secrets_manager: SecretsManager, clock: list[float]) -> None:
    app.stripe_secrets.get()
    secrets_manager.value = STORED | {"webhook_secrets": ["whsec_newest"]}
    clock[0] += 300
    assert app.stripe_secrets.get().webhook_secrets == ("whsec_newest",)


def test_younger_secret_is_read_at_most_every_five_seconds(secrets_manager: SecretsManager, clock: list[float]) -> None:
    """The webhook asks for a younger secret if a signature does not match. Later calls get the same secret."""
    app.stripe_secrets.get()
    secrets_manager.value = STORED | {"webhook_secrets": ["whsec_newest"]}
    clock[0] += SECRETS_REREAD_SECONDS_MIN
    for _ in range(3):
        assert app.stripe_secrets.get(SECRETS_REREAD_SECONDS_MIN).webhook_secrets == ("whsec_newest",)
    assert app.stripe_secrets.get().webhook_secrets == ("whsec_newest",)
    assert len(secrets_manager.calls) == 2


def test_missing_secret_id_raises_configuration_missing() -> None:
    with pytest.raises(ConfigurationMissing, match="STRIPE_SECRET_ID"):
        app.stripe_secrets.get()


@pytest.mark.parametrize(
    ("change", "missing"),
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
def test_incomplete_secret_raises_configuration_missing_with_the_missing_value(
    change: dict[str, object], missing: str
) -> None:
    with pytest.raises(ConfigurationMissing, match=f"{missing}: run `billing setup`"):
        read_stripe_secrets(STORED | change)


@pytest.mark.parametrize(
    ("api_key", "mode"),
    [("sk_test_stored", "live"), ("rk_test_stored", "live"), ("sk_live_stored", "test"), ("rk_live_stored", "test")],
)
def test_api_key_of_the_other_mode_raises_configuration_missing(
    secrets_manager: SecretsManager, environment: pytest.MonkeyPatch, api_key: str, mode: str
) -> None:
    """The message names both modes, but not the key. A valid key is used as soon as it is stored."""
    environment.setenv("STRIPE_MODE", mode)
    secrets_manager.value = STORED | {"api_key": api_key}
    named = api_key.split("_")[1]
    with pytest.raises(ConfigurationMissing) as raised:
        app.stripe_secrets.get()
    assert str(raised.value) == (
        f"The stored Stripe key is of {named} mode, and STRIPE_MODE is {mode}: "
        f"run `billing setup` with a {mode} key, or deploy with StripeMode={named}"
    )
    valid = api_key.replace(named, mode)
    secrets_manager.value = STORED | {"api_key": valid}
    assert app.stripe_secrets.get().api_key == valid


@pytest.mark.parametrize("mode", ["test", "live"])
@pytest.mark.parametrize("api_key", ["sk_org_stored", "sk_org_live_stored", "mysk_live_stored", "stored"])
def test_api_key_without_a_mode_is_accepted_in_both_modes(
    secrets_manager: SecretsManager, environment: pytest.MonkeyPatch, api_key: str, mode: str
) -> None:
    """The mode of an organization's key, or of a key of another server, is not in its name."""
    environment.setenv("STRIPE_MODE", mode)
    secrets_manager.value = STORED | {"api_key": api_key}
    assert app.stripe_secrets.get().api_key == api_key


def test_repr_and_str_contain_no_secret() -> None:
    """They end up in logs and tracebacks."""
    secrets = read_stripe_secrets(STORED)
    for text in (repr(secrets), str(secrets), f"{secrets}", repr([secrets])):
        assert "sk_test" not in text
        assert "whsec" not in text
