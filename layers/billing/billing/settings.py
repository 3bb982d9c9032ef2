"""How this deployment is set up: the only reader of the environment, on first use and never at import."""

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

from billing.adapters.aws import client
from billing.domain.errors import ConfigurationMissing

SECRETS_AGE_SECONDS_MAX = 300
SECRETS_REREAD_SECONDS_MIN = 5
"""How soon a process may ask again for secrets that did not fit: whoever sends it nonsense costs no more than that."""
SHARED_SECRET_BYTES_MIN = 32
"""A key of HS256 is at least as long as its hash: RFC 7518, 3.2."""
STRIPE_KEY = re.compile(r"[rs]k_(test|live)_\S+")
"""A secret or restricted key of Stripe's, and the mode that it names: https://docs.stripe.com/keys."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What a session token must say, and where. `audience` None is any; `role_claim` None lets every user pay.

    `account_claim` and `role_claim` are names of claims, or dotted paths into nested ones.
    """

    issuer: str
    audience: str | None
    jwks_url: str | None
    secret_id: str
    account_claim: str
    role_claim: str | None
    paying_roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class Settings:
    """The template's parameters. `stripe_secret_id` names the secret in Secrets Manager; its value is not here.

    Without `session` no session token counts.
    """

    table_name: str
    stripe_secret_id: str
    stripe_api_base: str | None
    livemode: bool
    allowed_origins: tuple[str, ...]
    past_due_grace: timedelta
    allow_promotion_codes: bool
    rate_limit_per_minute: int
    rate_limit_per_hour: int
    session: SessionSettings | None
    reconcile_queue_url: str = ""


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
        session=_session_settings(),
        reconcile_queue_url=os.environ.get("RECONCILE_QUEUE_URL", ""),
    )


def _session_settings() -> SessionSettings | None:
    issuer = os.environ.get("SESSION_ISSUER")
    if not issuer:
        return None
    return SessionSettings(
        issuer=issuer,
        audience=os.environ.get("SESSION_AUDIENCE") or None,
        jwks_url=os.environ.get("SESSION_JWKS_URL") or None,
        secret_id=os.environ.get("SESSION_SECRET_ID", ""),
        account_claim=os.environ.get("SESSION_ACCOUNT_CLAIM") or "account_id",
        role_claim=os.environ.get("SESSION_ROLE_CLAIM") or None,
        paying_roles=frozenset(role.strip() for role in os.environ.get("PAYING_ROLES", "").split(",")) - {""},
    )


def load_stripe_secrets(age_seconds_max: int = SECRETS_AGE_SECONDS_MAX) -> StripeSecrets:
    """The secrets, at most so old, so that a rotation needs no deployment.

    Raises ConfigurationMissing, also for a key of the other mode: with it no event would have its effect.
    """
    return _stripe_secrets(load_settings().stripe_secret_id).read(age_seconds_max)


@dataclass(slots=True)
class _KeptSecrets:
    """The secrets as they were last read, by this process's monotonic clock."""

    secret_id: str
    found: StripeSecrets | None = None
    read_at: float = 0.0

    def read(self, age_seconds_max: int) -> StripeSecrets:
        now = time.monotonic()
        if self.found is None or now - self.read_at >= age_seconds_max:
            self.found, self.read_at = _find_stripe_secrets(self.secret_id), now
        return self.found


@cache
def _stripe_secrets(secret_id: str) -> _KeptSecrets:
    return _KeptSecrets(secret_id)


def _find_stripe_secrets(secret_id: str) -> StripeSecrets:
    if not secret_id:
        raise ConfigurationMissing("STRIPE_SECRET_ID is not set")
    stored = _read_secret(secret_id)
    if stored is None:
        raise ConfigurationMissing("The Stripe secret holds no JSON object: run `billing setup`")
    secrets = read_stripe_secrets(stored)
    _refuse_key_of_other_mode(secrets.api_key, "live" if load_settings().livemode else "test")
    return secrets


def _refuse_key_of_other_mode(api_key: str, mode: str) -> None:
    named = STRIPE_KEY.match(api_key)
    if named and named[1] != mode:
        raise ConfigurationMissing(
            f"The stored Stripe key is of {named[1]} mode, and STRIPE_MODE is {mode}: "
            f"run `billing setup` with a {mode} key, or deploy with StripeMode={named[1]}"
        )


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


def load_session_secrets() -> tuple[str, ...]:
    """What session tokens may be signed with, HS256: at most five minutes old, and none where none is stored.

    Raises ConfigurationMissing.
    """
    session = load_settings().session
    if session is None or not session.secret_id:
        return ()
    return _session_secrets(session.secret_id, int(time.monotonic() // SECRETS_AGE_SECONDS_MAX))


@cache
def _session_secrets(secret_id: str, _age: int) -> tuple[str, ...]:
    return read_session_secrets(_read_secret(secret_id))


def read_session_secrets(value: Mapping[str, object] | None) -> tuple[str, ...]:
    """The shared secrets out of the stored JSON, newest first. Raises ConfigurationMissing for what is none."""
    found = None if value is None else value.get("shared_secrets", [])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ConfigurationMissing('The session secret holds something else than {"shared_secrets": ["…"]}')
    if any(len(secret.encode()) < SHARED_SECRET_BYTES_MIN for secret in found):
        raise ConfigurationMissing(f"A shared secret has less than {SHARED_SECRET_BYTES_MIN} bytes")
    return tuple(found)


def _read_secret(secret_id: str) -> Mapping[str, object] | None:
    """The JSON object that a secret holds; None where it holds something else."""
    answer = client("secretsmanager").get_secret_value(SecretId=secret_id)
    try:
        stored = json.loads(answer["SecretString"])
    except ValueError:
        return None
    return stored if isinstance(stored, dict) else None


def _required(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise ConfigurationMissing(f"{name} is not set")
    return value
