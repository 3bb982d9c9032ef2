"""Composition root: clients, caches and services of one deployment.

Functions take everything from `app`. Importing this module creates nothing. Properties are created on first use and
kept; methods such as `checkout()` create a service for each call. Imports inside a property cost a cold start
tens of milliseconds and are needed by few requests. They stand here and nowhere else.
"""

from collections.abc import Callable
from functools import cache, cached_property
from typing import TYPE_CHECKING

from billing.adapters import aws
from billing.adapters.dynamodb import Table
from billing.adapters.repository import Repository
from billing.adapters.secrets import CachedSecret, StripeSecrets, parse_stripe_secrets, read_session_secrets
from billing.api.authentication import Authenticator
from billing.api.declaration import OperationDeclaration
from billing.api.http import LambdaHandler
from billing.api.pipeline import ApiRequest, OperationHandler, operation
from billing.api.rate_limit import RateLimiter
from billing.api.session_tokens import SessionTokens, VerifySignature
from billing.catalog import load_catalog
from billing.domain.errors import ConfigurationMissing
from billing.domain.plans import Catalog
from billing.settings import Settings, load_settings
from billing.telemetry import logger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from billing.adapters.stripe_gateway import StripeGateway
    from billing.adapters.usage_repository import UsageRepository
    from billing.adapters.webhook_repository import WebhookRepository
    from billing.adapters.webhook_sender import WebhookSender
    from billing.api.idempotency import Replayable
    from billing.api.jwks import Jwks
    from billing.services.checkout import Checkout
    from billing.services.delivery_batch import DeliveryBatch
    from billing.services.delivery_schedule import DeliverySchedule
    from billing.services.event_dispatch import EventDispatcher
    from billing.services.event_processor import EventProcessor
    from billing.services.portal import Portal
    from billing.services.reconciliation_job import ReconciliationJob
    from billing.services.webhook_delivery import WebhookDelivery
    from billing.services.webhook_endpoints import WebhookEndpointService
    from billing.services.webhook_queue import DeliveryQueues
    from billing.services.webhook_redelivery import WebhookRedelivery


class Application:
    """The clients and services of one process."""

    # --- Settings and data --------------------------------------------------------------------------------------------

    @cached_property
    def settings(self) -> Settings:
        """Settings from the environment. Raises ConfigurationMissing."""
        return load_settings()

    @cached_property
    def catalog(self) -> Catalog:
        """Plans, prices and metrics."""
        return load_catalog()

    @cached_property
    def table(self) -> Table:
        """The DynamoDB table."""
        return Table(aws.client("dynamodb"), self.settings.table_name)

    @cached_property
    def repository(self) -> Repository:
        """Accounts, keys, invoices and processed events."""
        return Repository(self.table)

    @cached_property
    def usage(self) -> "UsageRepository":
        """Counters, gauges and measurements."""
        from billing.adapters.usage_repository import UsageRepository  # noqa: PLC0415 - two functions use it

        return UsageRepository(self.table)

    # --- Stripe -------------------------------------------------------------------------------------------------------

    @cached_property
    def stripe_secrets(self) -> CachedSecret[StripeSecrets]:
        """The Stripe API key and webhook secrets. Raises ConfigurationMissing."""
        if not self.settings.stripe_secret_id:
            raise ConfigurationMissing("STRIPE_SECRET_ID is not set")
        mode = "live" if self.settings.livemode else "test"
        return CachedSecret(
            lambda: aws.client("secretsmanager"),
            self.settings.stripe_secret_id,
            lambda stored: parse_stripe_secrets(stored, mode),
        )

    @property
    def stripe_gateway(self) -> "StripeGateway":
        """Stripe, connected again if another API key is stored."""
        from billing.adapters.stripe_gateway import StripeGateway, connect  # noqa: PLC0415 - imports stripe

        secrets = self.stripe_secrets.get()
        if secrets not in self._gateways:
            client = connect(secrets.api_key, self.settings.stripe_api_base)
            self._gateways.clear()
            self._gateways[secrets] = StripeGateway(client, secrets.portal_configuration)
        return self._gateways[secrets]

    @cached_property
    def _gateways(self) -> "dict[StripeSecrets, StripeGateway]":
        return {}

    def event_processor(self) -> "EventProcessor":
        """Processor of Stripe events. Raises ConfigurationMissing, also for an API key of the other mode."""
        from billing.services.event_processor import EventProcessor  # noqa: PLC0415 - two functions use it

        # With a wrong STRIPE_MODE every event would be recorded as out of scope; the key reveals it.
        self.stripe_secrets.get()
        return EventProcessor.connect(
            self.repository, self.catalog, lambda: self.stripe_gateway, self.settings.deployment
        )

    def checkout(self) -> "Checkout":
        """Service that opens Checkout Sessions."""
        from billing.services.checkout import Checkout  # noqa: PLC0415 - imports stripe

        settings = self.settings
        return Checkout(
            self.repository,
            self.stripe_gateway,
            self.catalog,
            settings.deployment,
            self.event_processor(),
            settings.access_policy,
            settings.allow_promotion_codes,
        )

    def portal(self) -> "Portal":
        """Service that opens billing portal sessions."""
        from billing.services.portal import Portal  # noqa: PLC0415 - imports stripe

        return Portal(self.repository, self.stripe_gateway)

    def reconciliation_job(self) -> "ReconciliationJob":
        """Scheduled reconciliation with its own, rate-limited connection to Stripe."""
        from billing.adapters.reconciliation_checkpoint import CheckpointRepository  # noqa: PLC0415 - one function
        from billing.adapters.sqs import Queue  # noqa: PLC0415 - one function uses it
        from billing.adapters.stripe_gateway import rate_limited_gateway  # noqa: PLC0415 - imports stripe
        from billing.services.reconciler import Reconciler  # noqa: PLC0415 - imports stripe
        from billing.services.reconciliation_job import ReconciliationJob  # noqa: PLC0415 - imports stripe

        gateway = rate_limited_gateway(self.stripe_secrets.get().api_key, self.settings.stripe_api_base)
        reconciler = Reconciler(self.repository, gateway, self.catalog, self.settings.deployment)
        queue = Queue(aws.client("sqs"), self.settings.reconcile_queue_url)
        return ReconciliationJob(CheckpointRepository(self.table), reconciler, queue)

    # --- Outbound events ----------------------------------------------------------------------------------------------

    @cached_property
    def webhook_repository(self) -> "WebhookRepository":
        """Webhook endpoints and deliveries."""
        from billing.adapters.webhook_repository import WebhookRepository  # noqa: PLC0415 - functions of webhooks

        return WebhookRepository(self.table)

    @cached_property
    def webhook_sender(self) -> "WebhookSender":
        """Sender of requests to webhook endpoints."""
        from billing.adapters.webhook_sender import WebhookSender  # noqa: PLC0415 - functions of webhooks

        return WebhookSender(allows_loopback=self.settings.webhooks.allows_loopback)

    @cached_property
    def delivery_queues(self) -> "DeliveryQueues":
        """Queues of delivery attempts. Raises ConfigurationMissing."""
        from billing.adapters.sqs import Queue  # noqa: PLC0415 - functions of webhooks
        from billing.services.webhook_queue import DeliveryQueues  # noqa: PLC0415 - functions of webhooks

        webhooks = self.settings.webhooks
        if not webhooks.delivery_queue_url or not webhooks.retry_queue_url:
            raise ConfigurationMissing("DELIVERY_QUEUE_URL and RETRY_QUEUE_URL are not set")
        sqs = aws.client("sqs")
        return DeliveryQueues(Queue(sqs, webhooks.delivery_queue_url), Queue(sqs, webhooks.retry_queue_url))

    def event_dispatcher(self) -> "EventDispatcher":
        """Dispatcher of outbound events to their endpoints."""
        from billing.adapters.sqs import Queue  # noqa: PLC0415 - functions of webhooks
        from billing.services.event_dispatch import EventDispatcher  # noqa: PLC0415 - functions of webhooks

        webhooks = self.settings.webhooks
        return EventDispatcher(
            self.webhook_repository,
            self.delivery_queues,
            Queue(aws.client("sqs"), webhooks.dead_letters_url),
            has_event_bus=webhooks.event_bus is not None,
        )

    def webhook_delivery(self) -> "WebhookDelivery":
        """Sender of events to endpoints and to the EventBridge bus."""
        from billing.adapters.event_bus import EventBus  # noqa: PLC0415 - functions of webhooks
        from billing.services.webhook_delivery import WebhookDelivery  # noqa: PLC0415 - functions of webhooks

        bus = EventBus(lambda: aws.client("events"), self.settings.webhooks.event_bus or "")
        return WebhookDelivery(self.webhook_repository, self.delivery_queues, self.webhook_sender.send, bus.send)

    def delivery_batch(self) -> "DeliveryBatch":
        """Attempts of a batch of messages."""
        from billing.services.delivery_batch import DeliveryBatch  # noqa: PLC0415 - functions of webhooks

        return DeliveryBatch(self.webhook_delivery().attempt, self.delivery_queues.delivery_queue)

    def delivery_schedule(self) -> "DeliverySchedule":
        """Requests of attempts that are due."""
        from billing.services.delivery_schedule import DeliverySchedule  # noqa: PLC0415 - functions of webhooks

        return DeliverySchedule(self.webhook_repository, self.delivery_queues)

    def webhook_endpoints(self, account_id: str | None) -> "WebhookEndpointService":
        """Webhook endpoints of an account, or those of the deployment for None."""
        from billing.services.webhook_endpoints import WebhookEndpointService  # noqa: PLC0415 - functions of webhooks

        return WebhookEndpointService(self.webhook_repository, self.webhook_sender, account_id)

    def webhook_redelivery(self, account_id: str | None) -> "WebhookRedelivery":
        """Redelivery to the endpoints of an account, or to those of the deployment for None."""
        from billing.services.webhook_redelivery import WebhookRedelivery  # noqa: PLC0415 - functions of webhooks

        return WebhookRedelivery(self.webhook_repository, self.delivery_queues, account_id)

    # --- API ----------------------------------------------------------------------------------------------------------

    @cached_property
    def session_tokens(self) -> SessionTokens | None:
        """Checker of session tokens; None if no issuer is configured."""
        session = self.settings.session
        if session is None:
            return None
        secrets = CachedSecret(lambda: aws.client("secretsmanager"), session.secret_id, read_session_secrets)
        shared_secrets: Callable[[], tuple[str, ...]] = secrets.get if session.secret_id else tuple
        verify_by_jwks = _jwks_verifier(session.jwks_url) if session.jwks_url else None
        return SessionTokens(session, shared_secrets, verify_by_jwks)

    @cached_property
    def authenticator(self) -> Authenticator:
        """Checker of API keys and session tokens."""
        return Authenticator(self.repository, self.session_tokens, self.settings.livemode)

    @cached_property
    def rate_limiter(self) -> RateLimiter:
        """Limiter of requests per user, key and account."""
        return RateLimiter(self.table, self.settings.rate_limit_per_minute, self.settings.rate_limit_per_hour)

    def run_idempotent(self, request: ApiRequest, compute: Callable[[], str], context: "LambdaContext") -> "Replayable":
        """Run `compute` once for the request's idempotency key, and return the first result for repeated requests."""
        from billing.api.idempotency import IdempotentRequest, run_idempotent  # noqa: PLC0415 - imports boto3

        key, content = request.idempotency_key or "", repr(request.input)
        idempotent = IdempotentRequest(request.account_id, request.target, key, content)
        return run_idempotent(idempotent, compute, self.table, context)

    def operation(
        self, declaration: OperationDeclaration, *, loads_account: bool = False
    ) -> Callable[[OperationHandler], LambdaHandler]:
        """Decorate the handler of an API operation. See `billing.api.pipeline.operation`."""
        return operation(self, declaration, loads_account=loads_account)

    def reset(self) -> None:
        """Discard every client, cache and setting, as in a new process."""
        self.__dict__.clear()
        aws.reset()
        logger().clear_state()


def _jwks_verifier(url: str) -> VerifySignature:
    """Return a verifier that imports PyJWT and fetches the keys on first use."""

    @cache
    def jwks() -> "Jwks":
        from billing.api.jwks import Jwks  # noqa: PLC0415 - imports cryptography

        return Jwks(url)

    return lambda algorithm, key_id, message, signature: jwks().verify(algorithm, key_id, message, signature)


app = Application()
