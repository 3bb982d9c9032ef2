"""`billing setup`: make Stripe and the deployment know each other. Running it again changes nothing."""

import os
import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from billing.catalog import load_catalog
from cli.changes import Change
from cli.deployment import Deployment, find_deployment
from cli.failures import refuse
from cli.options import DEFAULT_STACK, AsJson, Region, Stack
from cli.output import Output, columns, reporting

if TYPE_CHECKING:
    import stripe

SECRET_KEY = re.compile(r"(?:sk|rk)_(test|live)_\S+")
WEBHOOK_SECRETS_MAX = 2  # the new one, and the one before while what it signed is on its way

WebhookUrl = Annotated[
    str | None,
    typer.Option("--webhook-url", metavar="URL", help="Where Stripe sends events. (default: the stack's WebhookUrl)"),
]
NoWebhookEndpoint = Annotated[
    bool,
    typer.Option(
        "--no-webhook-endpoint",
        help="Register no endpoint, as with `stripe listen`: the signing secret is STRIPE_WEBHOOK_SECRET, or made up.",
    ),
]


def setup(
    stack: Stack = DEFAULT_STACK,
    region: Region = None,
    webhook_url: WebhookUrl = None,
    *,
    no_webhook_endpoint: NoWebhookEndpoint = False,
    as_json: AsJson = False,
) -> None:
    """Create or update products, prices, portal and webhook endpoint in Stripe, and store the keys in AWS.

    The Stripe key is taken from STRIPE_API_KEY, else from the deployment, else asked for. STRIPE_API_BASE is the
    address of another Stripe. Run it after every deployment that changed catalog.toml or the stripe library.
    """
    with reporting(as_json=as_json) as output:
        deployment = find_deployment(stack, region)
        stored = deployment.load_secret()
        api_key = _api_key(stored, deployment)
        url = None if no_webhook_endpoint else webhook_url or deployment.webhook_url
        with output.working("Setting up Stripe"):
            changes = _set_up(deployment, stored, api_key, url)
        _report(output, deployment, changes)


def _api_key(stored: Mapping[str, Any], deployment: Deployment) -> str:
    """The Stripe key to work with and to store. Raises CommandFailed for one that does not fit the deployment."""
    key = os.environ.get("STRIPE_API_KEY") or stored.get("api_key") or _asked_for()
    form = SECRET_KEY.fullmatch(key)
    if form is None:
        refuse("stripe_key", "The Stripe key must be a secret key (sk_test_…, sk_live_…) or a restricted one (rk_…).")
    mode = "live" if deployment.livemode else "test"
    if form[1] != mode:
        refuse(
            "stripe_mode",
            f"This is a key of Stripe's {form[1]} mode, and {deployment.stack_name} serves {mode} mode: "
            f"use a {mode} key, or deploy with StripeMode={form[1]}.",
        )
    return key


def _asked_for() -> str:
    if not sys.stdin.isatty():
        refuse("stripe_key_missing", "No Stripe key is set: put it into the environment as STRIPE_API_KEY.")
    return str(typer.prompt("Stripe secret key", hide_input=True, err=True))


def _set_up(deployment: Deployment, stored: Mapping[str, Any], api_key: str, url: str | None) -> list[Change]:
    from billing.payments import connect  # noqa: PLC0415 - imports stripe, which the other commands need not wait for
    from cli import stripe_account  # noqa: PLC0415

    client = connect(api_key, os.environ.get("STRIPE_API_BASE") or deployment.stripe_api_base)
    catalog = load_catalog()
    with stripe_account.explained():
        changes, prices = stripe_account.sync_catalog(client, catalog)
        portal = stripe_account.sync_portal(client, deployment.stack_name, catalog, prices)
        secret = {**stored, "api_key": api_key, "portal_configuration": portal.id}
        changes.append(portal)
        if url is None:
            return [*changes, _store(deployment, stored, _with_given_webhook_secret(secret))]
        return [*changes, *_set_up_webhook(client, deployment, stored, secret, url)]


def _set_up_webhook(
    client: "stripe.StripeClient",
    deployment: Deployment,
    stored: Mapping[str, Any],
    secret: Mapping[str, Any],
    url: str,
) -> list[Change]:
    """Endpoint first, then its secret, then whatever the endpoint replaces goes: no event is without a receiver."""
    from cli import stripe_account  # noqa: PLC0415 - as above

    registration = stripe_account.register_webhook(
        client, deployment.stack_name, url, secret_is_stored=bool(stored.get("webhook_secrets"))
    )
    change = _store(deployment, stored, _with_webhook_secret(secret, registration.secret))
    stripe_account.confirm_webhook(client, deployment.stack_name, registration)
    return [registration.change, change]


def _with_given_webhook_secret(secret: Mapping[str, Any]) -> dict[str, Any]:
    """The operator's signing secret; without one that is stored already, or a random one that nobody else knows."""
    made_up = None if secret.get("webhook_secrets") else f"whsec_{secrets.token_hex(32)}"
    return _with_webhook_secret(secret, os.environ.get("STRIPE_WEBHOOK_SECRET") or made_up)


def _with_webhook_secret(secret: Mapping[str, Any], webhook_secret: str | None) -> dict[str, Any]:
    known: Sequence[str] = secret.get("webhook_secrets") or ()
    if webhook_secret is None or webhook_secret in known:
        return dict(secret)
    return {**secret, "webhook_secrets": [webhook_secret, *known][:WEBHOOK_SECRETS_MAX]}


def _store(deployment: Deployment, stored: Mapping[str, Any], secret: Mapping[str, Any]) -> Change:
    arn = deployment.stripe_secret_arn
    if secret == stored:
        return Change("secret", "Stripe keys", arn, "unchanged")
    deployment.save_secret(secret)
    return Change("secret", "Stripe keys", arn, "updated" if stored else "created")


def _report(output: Output, deployment: Deployment, changes: list[Change]) -> None:
    warnings = [change.warning for change in changes if change.warning]
    facts = [{name: value for name, value in asdict(change).items() if name != "warning"} for change in changes]
    shown = columns([(change.outcome, change.kind, change.name, change.id) for change in changes])
    output.result({"stack": deployment.stack_name, "changes": facts, "warnings": warnings}, shown)
    for warning in warnings:
        output.note(f"Note: {warning}")
