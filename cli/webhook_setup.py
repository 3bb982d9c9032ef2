"""The webhook endpoint of a stack, and its signing secret: made, replaced and rotated without an event being refused.

    another endpoint, which gets no event yet → both secrets stored → it gets its events → the one before is deleted

Where that was interrupted, Stripe and the stored secret tell, and the next run goes on there: beside the secrets it is
noted which endpoint signs with which of them and which ones it replaced, and an endpoint carries the stack's name once
it gets events. While there are two, both are sent the same events, and the second delivery of an event is a duplicate.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import sleep
from typing import Any

import stripe

from billing.adapters.secrets import SECRETS_REREAD_SECONDS_MIN
from billing.stripe_events.event_types import EVENT_PARSERS
from cli.changes import Change, Outcome, includes
from cli.stripe_account import STACK, is_of_stack

NEVER_SENT: Any = "account.application.authorized"
"""An event that only the applications of Stripe Connect are sent, never an endpoint of the account's own."""
NOTE = "webhook_endpoint"
"""In the stored secret, of the endpoint that setup made: its id, its secret, and the secrets that this replaced."""
PROPAGATION_SECONDS = 2 * SECRETS_REREAD_SECONDS_MIN
"""Until every function finds a stored secret: one that read before asks anew, and Secrets Manager takes a moment."""
TWO_SECRETS = "Two signing secrets count now. Run `billing setup` again in a few minutes to drop the older one."


@dataclass(frozen=True, slots=True)
class Webhooks:
    """The endpoints at the stack's address. `own` is the one whose secret is stored.

    `opened` are the ids of those that get events.
    """

    found: tuple[stripe.WebhookEndpoint, ...]
    own: stripe.WebhookEndpoint | None
    opened: frozenset[str]

    @property
    def is_being_replaced(self) -> bool:
        """Whether `own` was on its way to take another's place when a run was interrupted."""
        return self.own is not None and (self.own.id not in self.opened or len(self.opened) > 1)

    @property
    def why_another(self) -> str | None:
        """Why the endpoint that is there can't be used; None if it can, or there is none."""
        if self.own and self.own.api_version != stripe.api_version:
            return (
                f"The endpoint spoke API version {self.own.api_version}, so it was made anew for {stripe.api_version}."
            )
        if self.found and not self.own:
            return "The endpoint's signing secret is not stored here, so it was made anew: Stripe tells it only once."
        return None


def set_up_webhook(
    client: stripe.StripeClient,
    stack_name: str,
    url: str,
    secret: Mapping[str, Any],
    repository: Callable[[Mapping[str, Any]], Change],
    *,
    rotates: bool,
) -> list[Change]:
    """Let Stripe send the events that we read to `url`, in the API version that the SDK was made for.

    `secret` is what is to be stored with its webhook secrets as they are now; `store` stores it. `rotates` makes
    another endpoint also where the one that is there would do.
    """
    webhooks = find_webhooks(client, stack_name, url, secret)
    endpoint = webhooks.own
    secret = secret if webhooks.is_being_replaced else _without_replaced_secrets(secret)
    if endpoint is None or webhooks.why_another or (rotates and not webhooks.is_being_replaced):
        endpoint = _make_webhook(client, url)
        secret = _with_secret_of(endpoint, secret)
    stored = repository(secret)
    others = [each for each in webhooks.found if each.id != endpoint.id]
    if endpoint.id not in webhooks.opened and len(secret["webhook_secrets"]) > 1:
        sleep(PROPAGATION_SECONDS)
    outcome = _open_webhook(client, stack_name, endpoint, is_new=endpoint is not webhooks.own, replaces=bool(others))
    for other in others:
        client.v1.webhook_endpoints.delete(other.id)
    two = TWO_SECRETS if secret.get(NOTE, {}).get("replaced") else None
    return [Change("webhook endpoint", url, endpoint.id, outcome, webhooks.why_another), replace(stored, warning=two)]


def find_webhooks(client: stripe.StripeClient, stack_name: str, url: str, secret: Mapping[str, Any]) -> Webhooks:
    """What Stripe has at `url`. Secrets that were stored without a note are of the endpoint with events."""
    listed = client.v1.webhook_endpoints.list({"limit": 100}).auto_paging_iter()
    found = tuple(endpoint for endpoint in listed if endpoint.url == url)
    opened = frozenset(each.id for each in found if is_of_stack(each.metadata, stack_name))
    noted = secret.get(NOTE)
    known = {noted["id"]} if noted else opened if secret.get("webhook_secrets") else frozenset()
    return Webhooks(found, next((each for each in found if each.id in known), None), opened)


def _make_webhook(client: stripe.StripeClient, url: str) -> stripe.WebhookEndpoint:
    """An endpoint with its signing secret, which Stripe tells this once; it gets no event yet."""
    version: Any = stripe.api_version
    return client.v1.webhook_endpoints.create({"url": url, "enabled_events": [NEVER_SENT], "api_version": version})


def _open_webhook(
    client: stripe.StripeClient, stack_name: str, endpoint: stripe.WebhookEndpoint, *, is_new: bool, replaces: bool
) -> Outcome:
    events: Any = sorted(EVENT_PARSERS)
    wanted: Any = {"enabled_events": events, "metadata": {STACK: stack_name}}
    is_open = includes(endpoint.to_dict(), {**wanted, "status": "enabled"})
    if not is_open:
        wanted["disabled"] = False
        client.v1.webhook_endpoints.update(endpoint.id, wanted)
    if replaces:
        return "replaced"
    return "created" if is_new else "unchanged" if is_open else "updated"


def _with_secret_of(endpoint: stripe.WebhookEndpoint, secret: Mapping[str, Any]) -> Mapping[str, Any]:
    before = secret.get(NOTE, {})
    replaced = [before["secret"], *before["replaced"]] if before else []
    note = {"id": endpoint.id, "secret": endpoint.secret, "replaced": replaced}
    return {**secret, "webhook_secrets": [endpoint.secret, *(secret.get("webhook_secrets") or ())], NOTE: note}


def _without_replaced_secrets(secret: Mapping[str, Any]) -> Mapping[str, Any]:
    """Their endpoints were deleted by the run before; whatever they were sent, their successor was sent too."""
    note = secret.get(NOTE)
    if note is None:
        return secret
    kept = [each for each in secret["webhook_secrets"] if each not in note["replaced"]]
    return {**secret, "webhook_secrets": kept, NOTE: {**note, "replaced": []}}
