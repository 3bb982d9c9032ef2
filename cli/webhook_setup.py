"""Webhook endpoint of a stack and its signing secret.

An endpoint is replaced or rotated in these steps, so that no event is rejected:

1. Create another endpoint that gets no events yet.
2. Store the signing secrets of both endpoints.
3. Wait until the functions have loaded them, then register the events of the new endpoint.
4. Delete the previous endpoint.

If a run is interrupted, the next run continues. The stored secret names the endpoint of setup, its signing secret and
the secrets that it replaced. An endpoint has the deployment's id in its metadata as soon as it gets events. While two
endpoints exist, both get the same events, and the second delivery of an event is a duplicate.

If the address changes, the endpoint of setup gets the new one and keeps its signing secret.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import sleep
from typing import Any

import stripe

from billing.adapters.secrets import SECRETS_REREAD_SECONDS_MIN
from billing.stripe_events import objects
from billing.stripe_events.event_types import EVENT_PARSERS
from cli.errors import CommandFailed
from cli.own_metadata import OwnMetadata
from cli.setup_report import SetupChange, SetupOutcome, includes

NEVER_SENT: Any = "account.application.authorized"
"""Stripe sends this event to Connect applications only. An endpoint needs at least one event."""
ENDPOINT_NOTE = "webhook_endpoint"
"""Key in the stored secret: id and signing secret of the endpoint of setup, and the secrets that it replaced."""
PROPAGATION_SECONDS = 2 * SECRETS_REREAD_SECONDS_MIN
"""Time until every function finds a new secret: a reread limit, and a margin for Secrets Manager."""
TWO_SECRETS = "Both signing secrets are valid now. Run `billing setup` again in a few minutes to drop the older secret."


@dataclass(frozen=True, slots=True)
class WebhookEndpoints:
    """Endpoints at the stack's address, and the endpoint of setup if it is elsewhere.

    Attributes:
        own: Endpoint whose signing secret is stored.
        active_ids: Ids of endpoints that get events.
        former_deployment_id: Another deployment that one of the endpoints names.
    """

    found: tuple[stripe.WebhookEndpoint, ...]
    own: stripe.WebhookEndpoint | None
    active_ids: frozenset[str]
    former_deployment_id: str | None = None

    @property
    def is_being_replaced(self) -> bool:
        """True if a run was interrupted after it created `own` to replace another endpoint."""
        return self.own is not None and (self.own.id not in self.active_ids or len(self.active_ids) > 1)

    @property
    def replacement_reason(self) -> str | None:
        """Reason why the present endpoint cannot be used; None if it can be used or does not exist."""
        if self.own and self.own.api_version != stripe.api_version:
            return (
                f"The webhook endpoint had API version {self.own.api_version}. "
                f"It was replaced by one with {stripe.api_version}."
            )
        if self.found and not self.own:
            return (
                "The webhook endpoint was replaced, because its signing secret was not stored. "
                "Stripe shows a signing secret only once."
            )
        return None

    @property
    def warning(self) -> str | None:
        """Notes for the operator; None if there are none."""
        former = self.former_deployment_id
        renamed = former and (
            f"The webhook endpoint named the deployment {former}. Objects in Stripe that name it are ignored from now "
            f"on. To keep them, deploy with DeploymentId={former} and run setup again."
        )
        return " ".join(note for note in (self.replacement_reason, renamed) if note) or None


def refuse_shared_deployment(
    client: stripe.StripeClient, own: OwnMetadata, url: str | None, secret: Mapping[str, Any]
) -> None:
    """Raise CommandFailed if an endpoint of another stack has the same deployment id.

    Two such stacks would process each other's customers. An endpoint is this stack's own if it is at its address, or if
    the stored secret names it.
    """
    note = secret.get(ENDPOINT_NOTE)
    for endpoint in client.v1.webhook_endpoints.list({"limit": 100}).auto_paging_iter():
        is_own = endpoint.url == url or (note is not None and endpoint.id == note["id"])
        if own.matches(endpoint.metadata) and not is_own:
            raise CommandFailed(
                "deployment_id_taken",
                f"The webhook endpoint {endpoint.id} at {endpoint.url} has the deployment id {own.deployment_id}, too: "
                "deploy this stack with another DeploymentId, or delete the endpoint in Stripe if nothing uses it.",
            )


def set_up_webhook(
    client: stripe.StripeClient,
    own: OwnMetadata,
    url: str,
    secret: Mapping[str, Any],
    store: Callable[[Mapping[str, Any]], SetupChange],
    *,
    rotate: bool,
) -> list[SetupChange]:
    """Register an endpoint at `url` for the handled events, in the SDK's API version.

    Args:
        client: Client of the Stripe account.
        own: Metadata of the deployment's objects.
        url: Address of the endpoint.
        secret: Content of the secret that is to be stored, with its present signing secrets.
        store: Stores the secret.
        rotate: Replace the endpoint even if it can be used.
    """
    endpoints = find_endpoints(client, own, url, secret)
    endpoint = endpoints.own
    secret = secret if endpoints.is_being_replaced else _without_replaced_secrets(secret)
    if endpoint is None or endpoints.replacement_reason or (rotate and not endpoints.is_being_replaced):
        endpoint = _create_inactive_endpoint(client, url)
        secret = _with_secret_of(endpoint, secret)
    stored = store(secret)
    others = [each for each in endpoints.found if each.id != endpoint.id]
    if endpoint.id not in endpoints.active_ids and len(secret["webhook_secrets"]) > 1:
        sleep(PROPAGATION_SECONDS)
    outcome = _activate(client, own, endpoint, url, is_new=endpoint is not endpoints.own, replaces=bool(others))
    for other in others:
        client.v1.webhook_endpoints.delete(other.id)
    two_secrets = TWO_SECRETS if secret.get(ENDPOINT_NOTE, {}).get("replaced") else None
    return [
        SetupChange("webhook endpoint", url, endpoint.id, outcome, endpoints.warning),
        replace(stored, warning=two_secrets),
    ]


def find_endpoints(
    client: stripe.StripeClient, own: OwnMetadata, url: str, secret: Mapping[str, Any]
) -> WebhookEndpoints:
    """Return the stack's endpoints. Signing secrets without an endpoint note belong to the active endpoint."""
    note = secret.get(ENDPOINT_NOTE)
    listed = client.v1.webhook_endpoints.list({"limit": 100}).auto_paging_iter()
    found = tuple(endpoint for endpoint in listed if endpoint.url == url or (note and endpoint.id == note["id"]))
    former = {_named_deployment(each) for each in found} - {None, own.deployment_id}
    is_active = {each.id: own.matches(each.metadata) or _named_deployment(each) in former for each in found}
    active_ids = frozenset(endpoint_id for endpoint_id, active in is_active.items() if active)
    known = {note["id"]} if note else active_ids if secret.get("webhook_secrets") else frozenset()
    stored = next((each for each in found if each.id in known), None)
    return WebhookEndpoints(found, stored, active_ids, min(filter(None, former), default=None))


def _named_deployment(endpoint: stripe.WebhookEndpoint) -> str | None:
    return objects.deployment_id_of({"metadata": endpoint.metadata.to_dict() if endpoint.metadata else {}})


def _create_inactive_endpoint(client: stripe.StripeClient, url: str) -> stripe.WebhookEndpoint:
    """Create an endpoint that gets no events. Only this response has its signing secret."""
    version: Any = stripe.api_version
    return client.v1.webhook_endpoints.create({"url": url, "enabled_events": [NEVER_SENT], "api_version": version})


def _activate(
    client: stripe.StripeClient,
    own: OwnMetadata,
    endpoint: stripe.WebhookEndpoint,
    url: str,
    *,
    is_new: bool,
    replaces: bool,
) -> SetupOutcome:
    events: Any = sorted(EVENT_PARSERS)
    wanted: Any = {"url": url, "enabled_events": events, "metadata": own.wanted}
    is_active = includes(endpoint.to_dict(), {**wanted, "status": "enabled"})
    if not is_active:
        wanted |= {"metadata": own.update, "disabled": False}
        client.v1.webhook_endpoints.update(endpoint.id, wanted)
    if replaces:
        return "replaced"
    return "created" if is_new else "unchanged" if is_active else "updated"


def _with_secret_of(endpoint: stripe.WebhookEndpoint, secret: Mapping[str, Any]) -> Mapping[str, Any]:
    before = secret.get(ENDPOINT_NOTE, {})
    replaced = [before["secret"], *before["replaced"]] if before else []
    note = {"id": endpoint.id, "secret": endpoint.secret, "replaced": replaced}
    return {**secret, "webhook_secrets": [endpoint.secret, *(secret.get("webhook_secrets") or ())], ENDPOINT_NOTE: note}


def _without_replaced_secrets(secret: Mapping[str, Any]) -> Mapping[str, Any]:
    """Drop the secrets of endpoints that the previous run deleted. Their successor got the same events."""
    note = secret.get(ENDPOINT_NOTE)
    if note is None:
        return secret
    kept = [each for each in secret["webhook_secrets"] if each not in note["replaced"]]
    return {**secret, "webhook_secrets": kept, ENDPOINT_NOTE: {**note, "replaced": []}}
