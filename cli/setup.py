"""`billing setup`: make Stripe and the deployment know each other. Running it again changes nothing."""

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from billing.adapters.secrets import STRIPE_KEY
from cli.changes import Change
from cli.deployment import Deployment, find_deployment
from cli.failures import refuse
from cli.options import DEFAULT_STACK, AsJson, Region, Stack
from cli.output import Output, columns, reporting

WebhookUrl = Annotated[
    str | None,
    typer.Option(
        "--webhook-url",
        envvar="BILLING_WEBHOOK_URL",
        metavar="URL",
        help="Where Stripe sends events. (default: the stack's WebhookUrl)",
    ),
]
NoWebhookEndpoint = Annotated[
    bool,
    typer.Option(
        "--no-webhook-endpoint",
        help="Register no endpoint, as with `stripe listen`: the signing secret is STRIPE_WEBHOOK_SECRET, or made up.",
    ),
]
RotateWebhookSecret = Annotated[
    bool,
    typer.Option(
        "--rotate-webhook-secret",
        help="Give the webhook endpoint another signing secret; both count until setup is run again.",
    ),
]


def setup(
    stack: Stack = DEFAULT_STACK,
    region: Region = None,
    webhook_url: WebhookUrl = None,
    *,
    no_webhook_endpoint: NoWebhookEndpoint = False,
    rotate_webhook_secret: RotateWebhookSecret = False,
    as_json: AsJson = False,
) -> None:
    """Create or update products, prices, portal and webhook endpoint in Stripe, and store the keys in AWS.

    The Stripe key is taken from STRIPE_API_KEY, else from the deployment, else asked for. STRIPE_API_BASE is the
    address of another Stripe. Run it after every deployment that changed catalog.toml or the stripe library.
    """
    with reporting(as_json=as_json) as output:
        if rotate_webhook_secret and no_webhook_endpoint:
            refuse("rotation_without_endpoint", "Without an endpoint there is no secret of Stripe's to rotate.")
        deployment = find_deployment(stack, region)
        stored = deployment.load_secret(deployment.stripe_secret_arn)
        api_key = stripe_key(stored, deployment)
        url = None if no_webhook_endpoint else webhook_url or deployment.webhook_url
        with output.working("Setting up Stripe"):
            from cli.stripe_setup import set_up  # noqa: PLC0415 - imports stripe, for which no other command should wait

            changes = set_up(deployment, stored, api_key, url, rotates=rotate_webhook_secret)
        _report(output, deployment, changes)


def stripe_key(stored: Mapping[str, Any], deployment: Deployment) -> str:
    """The Stripe key to work with. Raises CommandFailed for one that does not fit the deployment."""
    key = os.environ.get("STRIPE_API_KEY") or stored.get("api_key") or _asked_for()
    form = STRIPE_KEY.fullmatch(key)
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


def _report(output: Output, deployment: Deployment, changes: list[Change]) -> None:
    warnings = [change.warning for change in changes if change.warning]
    facts = [{name: value for name, value in asdict(change).items() if name != "warning"} for change in changes]
    shown = columns([(change.outcome, change.kind, change.name, change.id) for change in changes])
    output.result({"stack": deployment.stack_name, "changes": facts, "warnings": warnings}, shown)
    for warning in warnings:
        output.note(f"Note: {warning}")
