"""What `billing setup` does, in its order: Stripe's objects first, then the secret that says how to reach them."""

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import stripe

from billing.catalog import load_catalog
from billing.payments import connect
from cli.changes import Change
from cli.deployment import Deployment
from cli.stripe_account import confirm_webhook, explained, register_webhook, sync_catalog, sync_portal

WEBHOOK_SECRETS_MAX = 2  # the new one, and the one before while what it signed is on its way
MADE_UP = (
    "The signing secret was made up, so no event will be accepted until you run this again with STRIPE_WEBHOOK_SECRET."
)


def set_up(deployment: Deployment, stored: Mapping[str, Any], api_key: str, url: str | None) -> list[Change]:
    """Bring Stripe and the secret to what the catalog and the stack want. Raises CommandFailed.

    `stored` is what the secret holds now; `url` is where Stripe sends events, None to register no endpoint.
    """
    client = connect(api_key, os.environ.get("STRIPE_API_BASE") or deployment.stripe_api_base)
    catalog = load_catalog()
    with explained():
        changes, prices = sync_catalog(client, catalog)
        portal = sync_portal(client, deployment.stack_name, catalog, prices)
        secret = {**stored, "api_key": api_key, "portal_configuration": portal.id}
        changes.append(portal)
        if url is None:
            return [*changes, _store_without_endpoint(deployment, stored, secret)]
        return [*changes, *_set_up_webhook(client, deployment, stored, secret, url)]


def _set_up_webhook(
    client: stripe.StripeClient,
    deployment: Deployment,
    stored: Mapping[str, Any],
    secret: Mapping[str, Any],
    url: str,
) -> list[Change]:
    """Endpoint first, then its secret, then whatever the endpoint replaces goes: no event is without a receiver."""
    registration = register_webhook(
        client, deployment.stack_name, url, secret_is_stored=bool(stored.get("webhook_secrets"))
    )
    change = _store(deployment, stored, _with_webhook_secret(secret, registration.secret))
    confirm_webhook(client, deployment.stack_name, registration)
    return [registration.change, change]


def _store_without_endpoint(deployment: Deployment, stored: Mapping[str, Any], secret: Mapping[str, Any]) -> Change:
    """The signing secret is the operator's, else the stored one, else a random one that nobody else knows."""
    given = os.environ.get("STRIPE_WEBHOOK_SECRET") or None
    if given or stored.get("webhook_secrets"):
        return _store(deployment, stored, _with_webhook_secret(secret, given))
    made_up = f"whsec_{secrets.token_hex(32)}"
    return replace(_store(deployment, stored, _with_webhook_secret(secret, made_up)), warning=MADE_UP)


def _with_webhook_secret(secret: Mapping[str, Any], webhook_secret: str | None) -> dict[str, Any]:
    known: Sequence[str] = secret.get("webhook_secrets") or ()
    if webhook_secret is None or webhook_secret in known:
        return dict(secret)
    return {**secret, "webhook_secrets": [webhook_secret, *known][:WEBHOOK_SECRETS_MAX]}


def _store(deployment: Deployment, stored: Mapping[str, Any], secret: Mapping[str, Any]) -> Change:
    arn = deployment.stripe_secret_arn
    if secret == stored:
        return Change("secret", "Stripe keys", arn, "unchanged")
    deployment.save_secret(arn, secret)
    return Change("secret", "Stripe keys", arn, "updated" if stored else "created")
