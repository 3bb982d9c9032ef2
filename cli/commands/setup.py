"""`billing setup`: create what a stack needs in Stripe, and store the keys in AWS."""

from dataclasses import asdict
from typing import Annotated

import typer

from cli.errors import CommandFailed
from cli.options import DEFAULT_STACK, AsJson, Region, StackName
from cli.output import Output, columns, command_output
from cli.setup_report import SetupChange
from cli.stack import find_stack
from cli.stripe_key import choose_stripe_key

WebhookUrl = Annotated[
    str | None,
    typer.Option(
        "--webhook-url",
        envvar="BILLING_WEBHOOK_URL",
        metavar="URL",
        help="Address of the webhook endpoint. [default: the stack's WebhookUrl]",
    ),
]
NoWebhookEndpoint = Annotated[
    bool,
    typer.Option(
        "--no-webhook-endpoint",
        help="Register no endpoint, for example with `stripe listen`. Store STRIPE_WEBHOOK_SECRET as signing secret, "
        "or a random one.",
    ),
]
RotateWebhookSecret = Annotated[
    bool,
    typer.Option(
        "--rotate-webhook-secret",
        help="Replace the signing secret of the webhook endpoint. The old one stays valid until setup runs again.",
    ),
]


def setup(
    stack: StackName = DEFAULT_STACK,
    region: Region = None,
    webhook_url: WebhookUrl = None,
    *,
    no_webhook_endpoint: NoWebhookEndpoint = False,
    rotate_webhook_secret: RotateWebhookSecret = False,
    as_json: AsJson = False,
) -> None:
    """Create or update products, prices, portal and webhook endpoint in Stripe, and store the keys in AWS.

    The Stripe key is STRIPE_API_KEY, else the stored key. Without either, the command prompts for it. STRIPE_API_BASE
    is the address of another Stripe.

    Run it after each deployment that changed catalog.toml or the stripe library. A second run changes nothing.
    """
    with command_output(as_json=as_json) as output:
        if rotate_webhook_secret and no_webhook_endpoint:
            raise CommandFailed(
                "rotation_without_endpoint",
                "Without a webhook endpoint there is no secret to rotate: omit one of "
                "--rotate-webhook-secret and --no-webhook-endpoint.",
            )
        deployed = find_stack(stack, region)
        stored = deployed.load_secret(deployed.stripe_secret_arn)
        api_key = choose_stripe_key(deployed, stored)
        url = None if no_webhook_endpoint else webhook_url or deployed.webhook_url
        with output.working("Setting up Stripe"):
            from cli.stripe_setup import set_up  # noqa: PLC0415 - imports stripe

            changes = set_up(deployed, stored, api_key, url, rotate=rotate_webhook_secret)
        _report(output, deployed.name, changes)


def _report(output: Output, stack_name: str, changes: list[SetupChange]) -> None:
    warnings = [change.warning for change in changes if change.warning]
    data = [{name: value for name, value in asdict(change).items() if name != "warning"} for change in changes]
    text = columns([(change.outcome, change.kind, change.name, change.id) for change in changes])
    output.result({"stack": stack_name, "changes": data, "warnings": warnings}, text)
    for warning in warnings:
        output.note(f"Note: {warning}")
