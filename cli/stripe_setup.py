"""Steps of `billing setup`: first the objects in Stripe, then the secret with the keys."""

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from billing.adapters.stripe_gateway import connect
from billing.catalog import load_catalog
from cli.own_metadata import OwnMetadata
from cli.setup_report import SetupChange
from cli.stack import Stack
from cli.stripe_account import sync_catalog, sync_portals
from cli.stripe_connection import api_base, map_stripe_errors
from cli.webhook_setup import ENDPOINT_NOTE, refuse_shared_deployment, set_up_webhook

GIVEN_SECRETS_MAX = 2
"""The operator's secret and the one before it, which signs events that are still being delivered."""
EVENTS_REJECTED = (
    "No signing secret is known, so a random one was stored, and every event will be rejected. "
    "Run this command again with STRIPE_WEBHOOK_SECRET."
)


def set_up(
    stack: Stack, stored: Mapping[str, Any], api_key: str, url: str | None, *, rotate: bool = False
) -> list[SetupChange]:
    """Update Stripe and the secret to match the catalog and the stack.

    Args:
        stack: Stack to set up.
        stored: Present content of its secret.
        api_key: Stripe API key to use and to store.
        url: Address of the webhook endpoint; None to register no endpoint.
        rotate: Replace the endpoint, which gives it another signing secret.

    Raises:
        CommandFailed: Stripe failed or rejected a request, or another stack has the same deployment id.
    """
    own = OwnMetadata(stack.deployment.id, stack.name)
    client = connect(api_key, api_base(stack))
    catalog = load_catalog()
    with map_stripe_errors():
        refuse_shared_deployment(client, own, url, stored)
        changes, prices = sync_catalog(client, own, catalog)
        portals = sync_portals(client, own, catalog, prices)
        secret = {**stored, "api_key": api_key, **_portal_configurations(portals)}
        changes += portals.values()
        if url is None:
            return [*changes, _store_without_endpoint(stack, stored, secret)]
        store = partial(_store, stack, stored)
        return [*changes, *set_up_webhook(client, own, url, secret, store, rotate=rotate)]


def _portal_configurations(portals: Mapping[str, SetupChange]) -> dict[str, Any]:
    """Return the part of the secret that names the portal configurations."""
    ids = {name: change.id for name, change in portals.items()}
    return {"portal_configuration": next(iter(ids.values())), "portal_configurations": ids}


def _store_without_endpoint(stack: Stack, stored: Mapping[str, Any], secret: Mapping[str, Any]) -> SetupChange:
    """Store STRIPE_WEBHOOK_SECRET, else keep the stored signing secret, else store a random one."""
    given = os.environ.get("STRIPE_WEBHOOK_SECRET") or None
    if given or stored.get("webhook_secrets"):
        return _store(stack, stored, _with_webhook_secret(secret, given))
    random = f"whsec_{secrets.token_hex(32)}"
    return replace(_store(stack, stored, _with_webhook_secret(secret, random)), warning=EVENTS_REJECTED)


def _with_webhook_secret(secret: Mapping[str, Any], webhook_secret: str | None) -> dict[str, Any]:
    """Add the operator's signing secret before the previous one. Secrets of the endpoint of setup are kept."""
    known: Sequence[str] = secret.get("webhook_secrets") or ()
    if webhook_secret is None or webhook_secret in known:
        return dict(secret)
    note = secret.get(ENDPOINT_NOTE, {"secret": None, "replaced": []})
    own = [each for each in known if each in (note["secret"], *note["replaced"])]
    given = [webhook_secret, *(each for each in known if each not in own)][:GIVEN_SECRETS_MAX]
    return {**secret, "webhook_secrets": [*given, *own]}


def _store(stack: Stack, stored: Mapping[str, Any], secret: Mapping[str, Any]) -> SetupChange:
    arn = stack.stripe_secret_arn
    if secret == stored:
        return SetupChange("secret", "Stripe keys", arn, "unchanged")
    stack.save_secret(arn, secret)
    return SetupChange("secret", "Stripe keys", arn, "updated" if stored else "created")
