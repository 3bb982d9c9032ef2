"""Amazon EventBridge's envelope around Stripe's events (https://docs.stripe.com/event-destinations/eventbridge).

There is no signature in it. What says that an event is Stripe's is the partner event bus, on which nobody else can put
one: PutEvents refuses sources that begin with `aws.`. So the source is held against the name that only Stripe has.
"""

from collections.abc import Mapping

from billing.domain.errors import EventUnidentified

SOURCE_PREFIX = "aws.partner/stripe.com/"


def stripe_event(envelope: object) -> Mapping[str, object]:
    """The Event object in an envelope. Raises EventUnidentified for what Stripe cannot have sent."""
    if not isinstance(envelope, Mapping):
        raise EventUnidentified("The message is not a JSON object")
    source, detail = envelope.get("source"), envelope.get("detail")
    if not isinstance(source, str) or not source.startswith(SOURCE_PREFIX):
        raise EventUnidentified("The message does not come from Stripe's partner event source")
    if not isinstance(detail, Mapping) or detail.get("type") != envelope.get("detail-type"):
        raise EventUnidentified("The message holds no event of the type that it announces")
    return detail
