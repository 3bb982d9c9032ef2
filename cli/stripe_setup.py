"""What `billing setup` does, in its order: Stripe's objects first, then the secret that says how to reach them."""

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from billing.adapters.stripe_gateway import connect
from billing.catalog import load_catalog
from cli.changes import Change
from cli.deployment import Deployment
from cli.stripe_account import explained, sync_catalog, sync_portal
from cli.webhook_setup import NOTE, set_up_webhook

GIVEN_SECRETS_MAX = 2  # the new one, and the one before while what it signed is on its way
MADE_UP = (
    "The signing secret was made up, so no event will be accepted until you run this again with STRIPE_WEBHOOK_SECRET."
)


def set_up(
    deployment: Deployment, stored: Mapping[str, Any], api_key: str, url: str | None, *, rotates: bool = False
) -> list[Change]:
    """Bring Stripe and the secret to what the catalog and the stack want. Raises CommandFailed.

    `stored` is what the secret holds now; `url` is where Stripe sends events, None to register no endpoint. `rotates`
    gives the endpoint another signing secret.
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
        repository = partial(_store, deployment, stored)
        return [*changes, *set_up_webhook(client, deployment.stack_name, url, secret, repository, rotates=rotates)]


def _store_without_endpoint(deployment: Deployment, stored: Mapping[str, Any], secret: Mapping[str, Any]) -> Change:
    """The signing secret is the operator's, else the stored one, else a random one that nobody else knows."""
    given = os.environ.get("STRIPE_WEBHOOK_SECRET") or None
    if given or stored.get("webhook_secrets"):
        return _store(deployment, stored, _with_webhook_secret(secret, given))
    made_up = f"whsec_{secrets.token_hex(32)}"
    return replace(_store(deployment, stored, _with_webhook_secret(secret, made_up)), warning=MADE_UP)


def _with_webhook_secret(secret: Mapping[str, Any], webhook_secret: str | None) -> dict[str, Any]:
    """The operator's secret before the one that was given last; those of the endpoint that setup made stay."""
    known: Sequence[str] = secret.get("webhook_secrets") or ()
    if webhook_secret is None or webhook_secret in known:
        return dict(secret)
    note = secret.get(NOTE, {"secret": None, "replaced": []})
    own = [each for each in known if each in (note["secret"], *note["replaced"])]
    given = [webhook_secret, *(each for each in known if each not in own)][:GIVEN_SECRETS_MAX]
    return {**secret, "webhook_secrets": [*given, *own]}


def _store(deployment: Deployment, stored: Mapping[str, Any], secret: Mapping[str, Any]) -> Change:
    arn = deployment.stripe_secret_arn
    if secret == stored:
        return Change("secret", "Stripe keys", arn, "unchanged")
    deployment.save_secret(arn, secret)
    return Change("secret", "Stripe keys", arn, "updated" if stored else "created")
