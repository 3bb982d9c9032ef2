"""Amazon EventBridge envelope of Stripe's events (https://docs.stripe.com/event-destinations/eventbridge).

The envelope has no signature. Its source proves its origin: it is the partner event source of Stripe, and PutEvents
rejects every source that begins with `aws.`.
"""

from collections.abc import Mapping

from billing.domain.errors import EventUnidentified

SOURCE_PREFIX = "aws.partner/stripe.com/"


def stripe_event(envelope: object) -> Mapping[str, object]:
    """Return the Event object in an EventBridge envelope.

    Raises:
        EventUnidentified: The envelope cannot be from Stripe.
    """
    if not isinstance(envelope, Mapping):
        raise EventUnidentified("The message is not a JSON object")
    source, detail = envelope.get("source"), envelope.get("detail")
    if not isinstance(source, str) or not source.startswith(SOURCE_PREFIX):
        raise EventUnidentified("The source of the message is not Stripe's partner event source")
    if not isinstance(detail, Mapping) or detail.get("type") != envelope.get("detail-type"):
        raise EventUnidentified("The message contains no event of its detail-type")
    return detail
