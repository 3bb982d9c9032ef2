"""Owner of webhook endpoints: the deployment, whose endpoints receive the events of all accounts, or one account."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from billing.domain.errors import ObjectUnknown, RequestInvalid
from billing.domain.webhook_deliveries import BUS_ID
from billing.domain.webhook_endpoints import ALL_EVENTS, WebhookEndpoint
from billing.services.webhook_endpoints import WebhookEndpointService
from billing.services.webhook_redelivery import WebhookRedelivery
from cli.errors import CommandFailed
from cli.stack import Stack, load_existing_account


@dataclass(frozen=True, slots=True)
class WebhookOwner:
    """Owner of webhook endpoints.

    Attributes:
        account_id: Account; None for the deployment.
    """

    stack: Stack
    account_id: str | None

    @classmethod
    def load(cls, stack: Stack, account_id: str | None) -> "WebhookOwner":
        """Return the owner. Raises CommandFailed if the account does not exist."""
        if account_id is not None:
            load_existing_account(stack.repository(), account_id)
        return cls(stack, account_id)

    @property
    def option(self) -> str:
        """Option that selects the owner, for commands in messages."""
        return f" --account {self.account_id}" if self.account_id else ""

    def endpoints(self) -> WebhookEndpointService:
        """Return the service that manages the endpoints."""
        return WebhookEndpointService(self.stack.webhook_repository(), self.stack.webhook_sender(), self.account_id)

    def redelivery(self) -> WebhookRedelivery:
        """Return the service that sends events again."""
        return WebhookRedelivery(self.stack.webhook_repository(), self.stack.delivery_queues(), self.account_id)

    def find_endpoint(self, endpoint_id: str) -> WebhookEndpoint:
        """Return an endpoint. `bus` is the EventBridge bus of the deployment. Raises CommandFailed."""
        if endpoint_id == BUS_ID and self.account_id is None and self.stack.outbound_event_bus:
            url, created = self.stack.outbound_event_bus, datetime.min.replace(tzinfo=UTC)
            return WebhookEndpoint(BUS_ID, url, (ALL_EVENTS,), "EventBridge bus", created, secrets=())
        with self.map_refusals(endpoint_id):
            return self.endpoints().find(endpoint_id)

    def find_enabled_endpoint(self, endpoint_id: str) -> WebhookEndpoint:
        """Return an endpoint that is enabled. Raises CommandFailed."""
        endpoint = self.find_endpoint(endpoint_id)
        if not endpoint.enabled:
            raise CommandFailed(
                "webhook_endpoint_disabled",
                f"The webhook endpoint {endpoint_id} is disabled: "
                f"enable it with `billing webhooks update {endpoint_id} --enable{self.option}`.",
            )
        return endpoint

    @contextmanager
    def map_refusals(self, endpoint_id: str = "") -> Iterator[None]:
        """Map the refusals of the services to errors of the command. Raises CommandFailed."""
        try:
            yield
        except ObjectUnknown as error:
            owner = f"The account {self.account_id}" if self.account_id else "The deployment"
            hint = "" if self.account_id else ", or use --account for an endpoint of an account"
            raise CommandFailed(
                "webhook_endpoint_not_found",
                f"{owner} has no webhook endpoint {endpoint_id}: see `billing webhooks list{self.option}`{hint}.",
            ) from error
        except RequestInvalid as error:
            [problem] = error.problems
            if problem.path == "url":
                raise CommandFailed(
                    "webhook_url_refused", f"The URL {problem.message}: use the public https URL of a server."
                ) from error
            raise CommandFailed("webhook_refused", str(error)) from error
