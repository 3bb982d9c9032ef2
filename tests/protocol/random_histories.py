"""Long random histories of an account's objects. They have too many states for the model checker."""

import random

from billing.domain.accounts import Profile
from tests.protocol import model
from tests.protocol.actions import (
    completes_checkout,
    creates_account,
    deletes_customer,
    deletes_object,
    pays,
    releases,
    schedules,
    stripe_action,
    waits,
)
from tests.protocol.model import Json
from tests.protocol.scenarios import CLOCK_ERROR, WITHOUT_CUSTOMER
from tests.protocol.transition_system import Action, Scenario

PROFILES = (Profile("acme", version=1, customer_id="cus_1"), WITHOUT_CUSTOMER, None)
CLOCK_OFFSETS = tuple(range(-model.CLOCK_SKEW_SECONDS, model.CLOCK_SKEW_SECONDS + 1))

type Offsets = tuple[float, ...]


def random_history(choice: random.Random) -> Scenario:
    """Return a history of one or two subscriptions and their invoices, with random faults."""
    profile = choice.choice(PROFILES)
    script = _script(choice)
    if profile is None:
        script.insert(choice.randrange(len(script) + 1), creates_account())
    clock_offsets, date_offsets, worker_offsets = _clocks(choice, sum(action.seconds for action in script))
    return Scenario(
        "random history",
        "Random actions and faults.",
        script=tuple(script),
        profile=profile,
        workers=4,
        clock_offsets=clock_offsets,
        date_offsets=date_offsets,
        worker_offsets=worker_offsets,
        crashes=choice.randrange(4),
        fetch_failures=choice.randrange(4),
        redeliveries=choice.randrange(6),
        has_torn_reads=choice.random() < 0.5,
    )


def _clocks(choice: random.Random, seconds: float) -> tuple[Offsets, Offsets, Offsets]:
    """Return the offsets of the clocks of events, responses and workers. In most histories some of them are wrong.

    Args:
        choice: Source of randomness.
        seconds: Length of the history. A timestamp is ahead only if its event is delivered before that time.
    """
    right, wrong = CLOCK_OFFSETS, tuple(choice.sample(range(-CLOCK_ERROR, CLOCK_ERROR + 1), 3))
    match choice.choice(["right", "ahead", "behind", "dates", "workers"]):
        case "ahead" if seconds < CLOCK_ERROR - 2 * model.CLOCK_SKEW_SECONDS:
            return (*right, CLOCK_ERROR), right, (0,)
        case "behind":
            error = choice.randrange(CLOCK_ERROR)
            return tuple(offset - error for offset in right), choice.choice([right, wrong]), (0,)
        case "dates":
            return right, wrong, (0,)
        case "workers":
            return right, right, (0, *wrong)
    return right, right, (0,)


def _script(choice: random.Random) -> list[Action]:
    """Combine the actions of the random Stripe in `model` with rarer ones."""
    stripe = model.Stripe(choice)
    subscription_ids = [f"sub_{number}" for number in range(1, choice.randint(2, 3))]
    for subscription_id in subscription_ids:
        stripe.subscribe(subscription_id)
    script = _actions_since(stripe, 0)
    for _ in range(choice.randint(3, 12)):
        began, event_count = stripe.time, len(stripe.events)
        match choice.choices(["change", "wait", "schedule", "pay", "checkout", "delete"], [12, 10, 3, 2, 2, 1])[0]:
            case "change" if subscription_ids:
                stripe.change(choice.choice(subscription_ids))
                script += _actions_since(stripe, event_count)
            case "wait":
                stripe.wait()
                script.append(waits(stripe.time - began))
            case "schedule":
                script.append(choice.choice((schedules("team", choice.randint(1, 3)), releases())))
            case "pay" if invoices := [key for key, each in stripe.objects.items() if each["status"] == "open"]:
                script.append(pays(choice.choice(invoices)))
            case "checkout":
                script.append(completes_checkout())
            case "delete" if subscription_ids:
                script.append(deletes_object(subscription_ids.pop()))
    if choice.random() < 0.2:
        script.append(deletes_customer())
    return script


def _actions_since(stripe: model.Stripe, event_count: int) -> list[Action]:
    """Return the actions that emit the events after the first `event_count`."""
    return [_emits(event["type"], event["data"]["object"]) for event in stripe.events[event_count:]]


def _emits(event_type: str, source: Json) -> Action:
    label = f"{source['id']} is {source['status']}"
    return stripe_action(label, lambda stripe, clock_offset: stripe.put(source, event_type, clock_offset))
