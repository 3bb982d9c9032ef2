"""How this deployment is set up: the only reader of the environment, on first use and never at import."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

from billing.aws import client
from billing.domain.errors import ConfigurationMissing

SECRETS_AGE_SECONDS_MAX = 300


@dataclass(frozen=True, slots=True)
class Settings:
    """The template's parameters. `stripe_secret_id` names the secret in Secrets Manager; its value is not here."""

    table_name: str
    stripe_secret_id: str
    stripe_api_base: str | None
    livemode: bool
    allowed_origins: tuple[str, ...]
    past_due_grace: timedelta
    allow_promotion_codes: bool
    rate_limit_per_minute: int
    rate_limit_per_hour: int


@dataclass(frozen=True, slots=True)
class StripeSecrets:
    """What `billing setup` stored: the API key, and one webhook signing secret or two during a rotation.

    `portal_configuration` is the id of the portal configuration that it made; None is the Stripe account's default.
    """

    api_key: str
    webhook_secrets: tuple[str, ...]
    portal_configuration: str | None = None

    def __repr__(self) -> str:
        """Never the secrets: a value like this ends up in logs and tracebacks."""
        return f"StripeSecrets({len(self.webhook_secrets)} webhook secrets)"


@cache
def load_settings() -> Settings:
    """The settings of this process. Raises ConfigurationMissing naming the variable."""
    return Settings(
        table_name=_required("TABLE_NAME"),
        stripe_secret_id=os.environ.get("STRIPE_SECRET_ID", ""),
        stripe_api_base=os.environ.get("STRIPE_API_BASE") or None,
        livemode=os.environ.get("STRIPE_MODE", "test") == "live",
        allowed_origins=tuple(origin.strip().rstrip("/") for origin in _required("ALLOWED_ORIGINS").split(",")),
        past_due_grace=timedelta(days=int(os.environ.get("PAST_DUE_GRACE_DAYS", "14"))),
        rate_limit_per_minute=int(os.environ.get("RATE_LIMIT_PER_MINUTE", "100")),
        rate_limit_per_hour=int(os.environ.get("RATE_LIMIT_PER_HOUR", "1000")),
        allow_promotion_codes=os.environ.get("ALLOW_PROMOTION_CODES", "false") == "true",
    )


def load_stripe_secrets() -> StripeSecrets:
    """The secrets, at most five minutes old, so that a rotation needs no deployment. Raises ConfigurationMissing."""
    return _stripe_secrets(load_settings().stripe_secret_id, int(time.monotonic() // SECRETS_AGE_SECONDS_MAX))


@cache
def _stripe_secrets(secret_id: str, _age: int) -> StripeSecrets:
    if not secret_id:
        raise ConfigurationMissing("STRIPE_SECRET_ID is not set")
    answer = client("secretsmanager").get_secret_value(SecretId=secret_id)
    try:
        stored = json.loads(answer["SecretString"])
    except ValueError:
        stored = None
    if not isinstance(stored, dict):
        raise ConfigurationMissing("The Stripe secret holds no JSON object: run `billing setup`")
    return read_stripe_secrets(stored)


def read_stripe_secrets(value: Mapping[str, object]) -> StripeSecrets:
    """The secrets out of the stored JSON. Raises ConfigurationMissing for what `billing setup` has not stored yet."""
    api_key, webhook_secrets = value.get("api_key"), value.get("webhook_secrets")
    if not isinstance(api_key, str) or not api_key:
        raise ConfigurationMissing("The Stripe secret holds no api_key: run `billing setup`")
    if not isinstance(webhook_secrets, list) or not webhook_secrets or not all(webhook_secrets):
        raise ConfigurationMissing("The Stripe secret holds no webhook_secrets: run `billing setup`")
    portal_configuration = value.get("portal_configuration")
    return StripeSecrets(
        api_key,
        tuple(str(secret) for secret in webhook_secrets),
        str(portal_configuration) if portal_configuration else None,
    )


def _required(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise ConfigurationMissing(f"{name} is not set")
    return value
