"""What must hold, whatever happens: sentences of docs/explanation/verification.md that a state or a step can break.

Each promise is a function that tells how it is broken.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from billing.domain.invoices import Invoice
from billing.domain.outbound_events import outbound_data
from billing.domain.subscriptions import Subscription
from billing.stripe_events.event_types import Outcome, Snapshot
from billing.stripe_events.ordering import OLD, Sighting
from tests.protocol.model import CLOCK_SKEW_SECONDS
from tests.protocol.stripe_model import describe, facts, second
from tests.protocol.table_model import Told
from tests.protocol.world import FUNCTION_SECONDS_MAX, World

CLOCK_ERROR_SECONDS = CLOCK_SKEW_SECONDS + 1
"""How far a stamp is from the true time: a clock's drift, and the fraction of a second that is dropped."""

type Row = Sighting[Snapshot]
type Broken = Iterator[str]


# --- Of every commit, by the rows it writes ---------------------------------------------------------------------------


def content_was_stripes(_before: Row | None, row: Row, world: World) -> Broken:
    """A row holds what Stripe's object was at some time: nothing is granted that no state of Stripe's justified."""
    if not world.stripe.places(row.content):
        yield f"Stripe never had: {describe(row)}"


def content_never_goes_back(before: Row | None, row: Row, world: World) -> Broken:
    """A commit never replaces newer content by older."""
    places = world.stripe.places(row.content)
    if before and places and max(places) < min(world.stripe.places(before.content)):
        yield f"{describe(before)} came after {describe(row)}"


def interval_only_moves_forward(before: Row | None, row: Row, _world: World) -> Broken:
    """Neither end of a row's interval moves back, and its versions are counted one by one."""
    if row.seen_from > row.seen_to:
        yield f"ends before it begins: {describe(row)}"
    if before and (row.seen_from < before.seen_from or row.seen_to < before.seen_to):
        yield f"{describe(before)} became {describe(row)}"
    if row.version != (before.version if before else 0) + 1:
        yield f"not the next version: {describe(row)}"


def interval_is_true(_before: Row | None, row: Row, world: World) -> Broken:
    """A row's content was Stripe's state within its interval, as far as clocks can tell."""
    begin = row.seen_from.timestamp() - CLOCK_ERROR_SECONDS
    end = row.seen_to.timestamp() + CLOCK_ERROR_SECONDS
    past = world.stripe.pasts[row.content.id]
    spans = [
        (past[place].since, world.stripe.until(row.content.id, place)) for place in world.stripe.places(row.content)
    ]
    if spans and not any(since <= end and begin <= until for since, until in spans):
        yield f"not Stripe's state at that time: {describe(row)}"


def grace_does_not_begin_early(_before: Row | None, row: Row, world: World) -> Broken:
    """Nobody's grace period begins before Stripe's subscription was past due, as far as clocks can tell."""
    since = row.content.past_due_since if isinstance(row.content, Subscription) else None
    begins = [
        state.since
        for state in world.stripe.pasts[row.content.id]
        if isinstance(state.content, Subscription) and state.content.status == "past_due"
    ]
    if since and not any(begin - CLOCK_ERROR_SECONDS <= since.timestamp() for begin in begins):
        yield f"past due since {second(since.timestamp())}: {describe(row)}"


def news_is_not_old(before: Row | None, row: Row, world: World) -> Broken:
    """What a commit brings had not ended more than ten minutes ago."""
    ended = max((world.stripe.until(row.content.id, place) for place in world.stripe.places(row.content)), default=0)
    is_news = before is None or facts(before.content) != facts(row.content)
    if is_news and ended < world.stripe.time - OLD.total_seconds() - FUNCTION_SECONDS_MAX:
        yield f"ended {world.stripe.time - ended:g} seconds ago: {describe(row)}"


# --- Of every state of the table --------------------------------------------------------------------------------------


def no_final_marker_without_its_effect(world: World) -> Broken:
    """An event with a final outcome is included in every row that it is about."""
    for event in world.stripe.events:
        outcome = world.table.markers.get(event.id)
        if outcome is None or not outcome.is_final:
            continue
        for object_id, place in event.tells:
            row = world.table.rows.get(object_id)
            if row is None or max(world.stripe.places(row.content), default=place) < place:
                yield f"{event.id} is {outcome}, and the row is {describe(row)}"


def outbox_tells_each_difference_once(world: World) -> Broken:
    """Who hears all that is told, in the order of its keys, knows what the rows say, and heard nothing twice."""
    ids = Counter(told.id for told in world.table.outbox)
    yield from (f"two outbox rows have the id {key}" for key, count in ids.items() if count > 1)
    outbox = sorted(world.table.outbox, key=lambda told: (told.second, told.id))
    for row in world.table.rows.values():
        told = [each for each in outbox if each.subject == row.content.id]
        if any(first.data == second.data for first, second in pairwise(told)):
            yield f"told the same twice of {describe(row)}"
        if not _is_told_of(row.content, Counter(each.type for each in told)) or _is_outdated(row.content, told):
            yield f"told {', '.join(each.type for each in told) or 'nothing'} of {describe(row)}"


def _is_told_of(content: Snapshot, kinds: Counter[str]) -> bool:
    """An invoice's payment once; a subscription's beginning once, if it was seen while it lived, and then its end."""
    if isinstance(content, Invoice):
        return kinds["invoice.paid"] == (content.status == "paid")
    created = kinds["subscription.created"]
    must_be_told = content.has_started and not content.has_ended
    return must_be_told <= created <= 1 and kinds["subscription.canceled"] == (created and content.has_ended)


def _is_outdated(content: Snapshot, told: Sequence[Told]) -> bool:
    is_living = isinstance(content, Subscription) and not content.has_ended
    return is_living and bool(told) and told[-1].data != outbound_data(content)


# --- Of the end -------------------------------------------------------------------------------------------------------


def rows_end_as_stripe_has_them(world: World) -> Broken:
    """Every row is as Stripe's object is, and ended where it had ended before Stripe lost it."""
    for object_id, (*states, last) in world.stripe.pasts.items():
        row = world.table.rows.get(object_id)
        lost = states[-1].content if states else None
        if last.content and (row is None or facts(row.content) != last.content):
            yield f"the row is {describe(row)}, Stripe has {describe(last.content)}"
        elif not last.content and lost and lost.has_ended and (row is None or not row.content.has_ended):
            yield f"the row is {describe(row)}, Stripe's last word {describe(lost)}"


def every_event_is_settled(world: World) -> Broken:
    """Every event has a final outcome, or else Stripe lost an object."""
    is_lost = any(past[-1].content is None for past in world.stripe.pasts.values())
    for event in world.stripe.events:
        outcome = world.table.markers.get(event.id)
        if outcome is None or not (outcome.is_final or (is_lost and outcome is Outcome.MISSING)):
            yield f"{event.id} is {outcome}"


def account_ends_right(world: World) -> Broken:
    """Its customer is the one that Stripe has, its trial is used if there was one, and no ended checkout is open."""
    [profile] = world.table.profiles.values()
    customer = next(iter(world.stripe.customers), None)
    if profile.customer_id != customer:
        yield f"its customer is {profile.customer_id}, Stripe has {customer}"
    contents = [row.content for row in world.table.rows.values()]
    if not profile.trial_used and any(isinstance(each, Subscription) and each.trial_end for each in contents):
        yield "its trial counts as not used"
    ended = {event.source["id"] for event in world.stripe.events if event.type.startswith("checkout.session.")}
    if profile.open_checkout and profile.open_checkout.session_id in ended:
        yield "its ended checkout counts as open"


# ----------------------------------------------------------------------------------------------------------------------

OF_ROWS = (
    content_was_stripes,
    content_never_goes_back,
    interval_only_moves_forward,
    interval_is_true,
    grace_does_not_begin_early,
    news_is_not_old,
)
OF_STATES = (no_final_marker_without_its_effect, outbox_tells_each_difference_once)
OF_ENDS = (rows_end_as_stripe_has_them, every_event_is_settled, account_ends_right)


def final_outcome_stays(before: World, after: World) -> Broken:
    """What an operator reads of an event stays true."""
    for event_id, outcome in before.table.markers.items():
        if outcome.is_final and after.table.markers[event_id] is not outcome:
            yield f"{event_id} was {outcome}, is {after.table.markers[event_id]}"


def broken(before: World, after: World) -> list[tuple[str, str]]:
    """The promises that a step broke, by name, each with how."""
    found: list[tuple[Callable[..., Broken], Broken]] = []
    if after.table is not before.table:
        found.append((final_outcome_stays, final_outcome_stays(before, after)))
        rows = before.table.rows
        for key, row in after.table.rows.items():
            if row is not rows.get(key):
                found += [(promise, promise(rows.get(key), row, after)) for promise in OF_ROWS]
        found += [(promise, promise(after)) for promise in OF_STATES]
    if after.is_over:
        found += [(promise, promise(after)) for promise in OF_ENDS]
    return [(promise.__name__, how) for promise, hows in found for how in hows]
