"""Long, random, legal lives of an account's objects: too much to explore, so one way through each is walked."""

import random

from billing.domain.accounts import Profile
from tests.protocol import model
from tests.protocol.model import Json
from tests.protocol.scenarios import (
    WITHOUT_CUSTOMER,
    account_appears,
    at_stripe,
    completes_checkout,
    deletes_customer,
    pays,
    vanishes,
    waits,
)
from tests.protocol.world import Action, Scenario

ACCOUNTS = (Profile("acme", version=1, customer_id="cus_1"), WITHOUT_CUSTOMER, None)
DRIFTS = tuple(range(-model.CLOCK_SKEW_SECONDS, model.CLOCK_SKEW_SECONDS + 1))


def random_life(choice: random.Random) -> Scenario:
    """One or two subscriptions and their invoices, with all that may go wrong."""
    profile = choice.choice(ACCOUNTS)
    script = _script(choice)
    if profile is None:
        script.insert(choice.randrange(len(script) + 1), account_appears())
    return Scenario(
        "random life",
        "Whatever happens.",
        script=tuple(script),
        profile=profile,
        workers=4,
        drifts=DRIFTS,
        crashes=choice.randrange(4),
        failures=choice.randrange(4),
        repeats=choice.randrange(6),
        is_torn=choice.random() < 0.5,
    )


def _script(choice: random.Random) -> list[Action]:
    """What the lively Stripe of `model` does, and what only happens now and then."""
    stripe = model.Stripe(choice)
    living = [f"sub_{number}" for number in range(1, choice.randint(2, 3))]
    for subscription_id in living:
        stripe.subscribe(subscription_id)
    script = _report_discrepancy(stripe, 0)
    for _ in range(choice.randint(3, 12)):
        began, told = stripe.time, len(stripe.events)
        match choice.choices(["change", "wait", "pay", "checkout", "vanish"], [12, 10, 2, 2, 1])[0]:
            case "change" if living:
                stripe.change(choice.choice(living))
                script += _report_discrepancy(stripe, told)
            case "wait":
                stripe.wait()
                script.append(waits(stripe.time - began))
            case "pay" if invoices := [key for key, each in stripe.objects.items() if each["status"] == "open"]:
                script.append(pays(choice.choice(invoices)))
            case "checkout":
                script.append(completes_checkout())
            case "vanish" if living:
                script.append(vanishes(living.pop()))
    if choice.random() < 0.2:
        script.append(deletes_customer())
    return script


def _report_discrepancy(stripe: model.Stripe, told: int) -> list[Action]:
    """What Stripe's events tell since there were `told`, as actions of a script."""
    return [_happens(event["type"], event["data"]["object"]) for event in stripe.events[told:]]


def _happens(event_type: str, source: Json) -> Action:
    return at_stripe(
        f"{source['id']} is {source['status']}", lambda stripe, drift: stripe.put(source, event_type, drift)
    )
