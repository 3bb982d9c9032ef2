"""Settings of the deployment. Only this module reads the environment."""

import os
from dataclasses import dataclass
from datetime import timedelta

from billing.domain.deployment import Deployment
from billing.domain.errors import ConfigurationMissing
from billing.domain.subscriptions import AccessPolicy

RATE_LIMIT_MAX = 20_000
"""Largest rate limit. An item of `billing.api.rate_limit` then has at most 320 KB; DynamoDB permits 400 KB."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Validation of session tokens.

    Attributes:
        audience: Required audience; None for any.
        jwks_url: Address of the issuer's public keys; None if there are only shared secrets.
        secret_id: Secret with the shared secrets; empty if there is none.
        account_claim: Name of the claim with the account id, or dotted path to a nested one.
        role_claim: Name of the claim with the user's role, or dotted path. If None, every user may manage billing.
        billing_roles: Roles that may manage billing.
    """

    issuer: str
    audience: str | None
    jwks_url: str | None
    secret_id: str
    account_claim: str
    role_claim: str | None
    billing_roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Delivery of outbound events.

    Attributes:
        delivery_queue_url: FIFO queue of attempts that may start now.
        retry_queue_url: Queue of attempts that are due within 15 minutes.
        dead_letters_url: Queue of outbox items that cannot be dispatched.
        event_bus: Name or ARN of an EventBridge bus that also receives the events; None for none.
        allows_loopback: True if endpoints may have http URLs on this machine. For local development only.
    """

    delivery_queue_url: str
    retry_queue_url: str
    dead_letters_url: str
    event_bus: str | None
    allows_loopback: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """Parameters of the template.

    Attributes:
        stripe_secret_id: Name of the secret in Secrets Manager. Its value is not part of the settings.
        stripe_api_base: Address of a server with Stripe's API; None for Stripe.
        deployment: Identity of the deployment in Stripe, and its mode.
        access_policy: Statuses of subscriptions that grant access.
        rate_limit_per_minute: Requests of one user or key in a minute.
        rate_limit_per_hour: Requests of all users of an account in an hour, and of all its secret keys.
        session: Validation of session tokens; None if none are accepted.
        webhooks: Delivery of outbound events.
    """

    table_name: str
    stripe_secret_id: str
    stripe_api_base: str | None
    deployment: Deployment
    allowed_origins: tuple[str, ...]
    access_policy: AccessPolicy
    allow_promotion_codes: bool
    rate_limit_per_minute: int
    rate_limit_per_hour: int
    session: SessionSettings | None
    webhooks: WebhookSettings
    reconcile_queue_url: str = ""

    @property
    def livemode(self) -> bool:
        """True for Stripe's live mode, False for test mode."""
        return self.deployment.livemode


def load_settings() -> Settings:
    """Return the settings from the environment.

    Raises:
        ConfigurationMissing: A required variable is not set. The message names it.
    """
    return Settings(
        table_name=_required("TABLE_NAME"),
        stripe_secret_id=os.environ.get("STRIPE_SECRET_ID", ""),
        stripe_api_base=os.environ.get("STRIPE_API_BASE") or None,
        deployment=Deployment(
            id=_required("DEPLOYMENT_ID"),
            livemode=os.environ.get("STRIPE_MODE", "test") == "live",
            links_by_client_reference=os.environ.get("LINK_BY_CLIENT_REFERENCE", "false") == "true",
        ),
        allowed_origins=tuple(origin.strip().rstrip("/") for origin in _required("ALLOWED_ORIGINS").split(",")),
        access_policy=AccessPolicy(
            past_due_grace=timedelta(days=int(os.environ.get("PAST_DUE_GRACE_DAYS", "14"))),
            pause_collection_grants=os.environ.get("PAUSE_COLLECTION_GRANTS", "true") == "true",
        ),
        rate_limit_per_minute=_rate_limit("RATE_LIMIT_PER_MINUTE", 100),
        rate_limit_per_hour=_rate_limit("RATE_LIMIT_PER_HOUR", 1000),
        allow_promotion_codes=os.environ.get("ALLOW_PROMOTION_CODES", "false") == "true",
        session=_session_settings(),
        webhooks=WebhookSettings(
            delivery_queue_url=os.environ.get("DELIVERY_QUEUE_URL", ""),
            retry_queue_url=os.environ.get("RETRY_QUEUE_URL", ""),
            dead_letters_url=os.environ.get("DISPATCH_DEAD_LETTERS_URL", ""),
            event_bus=os.environ.get("OUTBOUND_EVENT_BUS") or None,
            allows_loopback=os.environ.get("ALLOW_LOOPBACK_WEBHOOKS", "false") == "true",
        ),
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
        billing_roles=frozenset(role.strip() for role in os.environ.get("PAYING_ROLES", "").split(",")) - {""},
    )


def _rate_limit(name: str, default: int) -> int:
    """Return a limit from 1 to RATE_LIMIT_MAX. The template permits no others."""
    return min(max(1, int(os.environ.get(name, default))), RATE_LIMIT_MAX)


def _required(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise ConfigurationMissing(f"{name} is not set")
    return value
