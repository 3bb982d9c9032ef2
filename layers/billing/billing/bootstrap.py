"""Where Stripe's events come in, by whatever way: one processor, on this deployment's table, catalog and Stripe.

Stripe's SDK is imported by the first event that needs it, which few do.
"""

from billing.adapters.repository import open_store
from billing.catalog import load_catalog
from billing.services.event_processor import EventProcessor, Fetched
from billing.settings import load_settings, load_stripe_secrets
from billing.stripe_events.event_types import RelatedObject, Target
from billing.stripe_events.objects import Json


def open_event_processor() -> EventProcessor:
    """The protocol, over what the functions of this deployment work with. Raises ConfigurationMissing."""
    # With the wrong STRIPE_MODE every event would be recorded as the other mode's, for good: the key tells.
    load_stripe_secrets()
    return EventProcessor(open_store(), load_catalog(), _fetch, load_settings().livemode, look_up=_look_up)


def _fetch(target: Target) -> Fetched | None:
    from billing.adapters.stripe_gateway import connect_payments  # noqa: PLC0415 - imports stripe

    return connect_payments().fetch(target, load_catalog())


def _look_up(related: RelatedObject) -> Json | None:
    from billing.adapters.stripe_gateway import connect_payments  # noqa: PLC0415 - imports stripe

    return connect_payments().look_up(related)
