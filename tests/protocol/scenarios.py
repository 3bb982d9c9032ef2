"""Small stories, each of which leaves open what protocols get wrong: the order, the clocks, who fails and when."""

from collections.abc import Callable
from dataclasses import replace

from billing.domain.accounts import OpenCheckout, Profile
from billing.domain.subscriptions import Subscription
from tests.protocol import model
from tests.protocol.model import Json
from tests.protocol.stripe_model import Stripe
from tests.protocol.world import Action, Scenario, World

DRIFTS = (-model.CLOCK_SKEW_SECONDS, model.CLOCK_SKEW_SECONDS)
"""The slowest and the fastest of Stripe's clocks: what comes between tells nothing more."""


# --- What can happen --------------------------------------------------------------------------------------------------


def at_stripe(label: str, act: Callable[[Stripe, float], Stripe]) -> Action:
    """An action by which Stripe becomes another, with events that are stamped."""
    return Action(label, lambda world, drift: replace(world, stripe=act(world.stripe, drift)), stamps=True)


def subscribes(subscription_id: str = "sub_1", status: str = "active", *, trial: bool = False) -> Action:
    """A subscription to pro begins."""

    def act(stripe: Stripe, drift: float) -> Stripe:
        source = model.subscription(subscription_id, "cus_1", status, stripe.time)
        source |= {"trial_end": int(stripe.time) + 86_400} if trial else {}
        return stripe.put(source, "customer.subscription.created", drift)

    return at_stripe(f"{subscription_id} begins as {status}", act)


def becomes(status: str, subscription_id: str = "sub_1") -> Action:
    """A subscription goes on to another status."""

    def act(stripe: Stripe, drift: float) -> Stripe:
        source = stripe.now(subscription_id).source | {"status": status}
        if status == "canceled":
            return stripe.put(source | {"ended_at": int(stripe.time)}, "customer.subscription.deleted", drift)
        return stripe.put(source, "customer.subscription.updated", drift)

    return at_stripe(f"{subscription_id} becomes {status}", act)


def changes(plan: str = "pro", quantity: int = 1, subscription_id: str = "sub_1") -> Action:
    """A subscription changes its plan or quantity."""

    def act(stripe: Stripe, drift: float) -> Stripe:
        items = model.items(f"{plan}_monthly", quantity, model.START)
        source = stripe.now(subscription_id).source | {"items": items}
        return stripe.put(source, "customer.subscription.updated", drift)

    return at_stripe(f"{subscription_id} changes to {plan} x{quantity}", act)


def fails_to_pay(attempt: int = 1, invoice_id: str = "in_1") -> Action:
    """A payment of sub_1's invoice fails."""

    def act(stripe: Stripe, drift: float) -> Stripe:
        source = model.invoice(invoice_id, stripe.now("sub_1").source, model.START) | {"attempt_count": attempt}
        return stripe.put(source, "invoice.payment_failed", drift)

    return at_stripe(f"attempt {attempt} to pay {invoice_id} fails", act)


def pays(invoice_id: str = "in_1") -> Action:
    """An invoice is paid."""

    def act(stripe: Stripe, drift: float) -> Stripe:
        source = stripe.now(invoice_id).source | {"status": "paid", "amount_paid": 1900, "amount_remaining": 0}
        return stripe.put(source, "invoice.paid", drift)

    return at_stripe(f"{invoice_id} is paid", act)


def completes_checkout() -> Action:
    """A Checkout Session ends in sub_1; its event carries nothing of it but the id."""

    def act(stripe: Stripe, drift: float) -> Stripe:
        source: Json = {"id": "cs_1", "mode": "subscription", "customer": "cus_1", "subscription": "sub_1"}
        return stripe.emit(source | {"metadata": {"account_id": "acme"}}, "checkout.session.completed", drift)

    return at_stripe("the checkout of sub_1 completes", act)


def expires_checkout() -> Action:
    """Nobody paid at a Checkout Session."""

    def act(stripe: Stripe, drift: float) -> Stripe:
        source: Json = {"id": "cs_1", "mode": "subscription", "customer": "cus_1", "metadata": {"account_id": "acme"}}
        return stripe.emit(source, "checkout.session.expired", drift)

    return at_stripe("a checkout expires", act)


def deletes_customer() -> Action:
    """The customer is deleted, and every subscription with it."""

    def act(stripe: Stripe, drift: float) -> Stripe:
        for state in [past[-1] for past in stripe.pasts.values()]:
            if isinstance(state.content, Subscription) and not state.content.has_ended:
                source = state.source | {"status": "canceled", "ended_at": int(stripe.time)}
                stripe = stripe.put(source, "customer.subscription.deleted", drift)
        source = {"id": "cus_1", "metadata": {"account_id": "acme"}}
        return replace(stripe.emit(source, "customer.deleted", drift), customers=())

    return at_stripe("cus_1 is deleted", act)


def vanishes(object_id: str) -> Action:
    """An object is deleted without an event: asking for it answers 404."""
    action = at_stripe(f"{object_id} is deleted", lambda stripe, _drift: stripe.forget(object_id))
    return replace(action, stamps=False)


def waits(seconds: float) -> Action:
    """Time passes."""

    def act(world: World, _drift: float) -> World:
        return replace(world, stripe=replace(world.stripe, time=world.stripe.time + seconds))

    return Action(f"{seconds:g} s pass", act, seconds=seconds)


def account_appears() -> Action:
    """A credential names the account for the first time."""

    def act(world: World, _drift: float) -> World:
        profiles = world.table.profiles.having({"acme": Profile("acme", version=1)})
        return replace(world, table=replace(world.table, profiles=profiles))

    return Action("acme appears", act)


# --- Stories ----------------------------------------------------------------------------------------------------------

WITHOUT_CUSTOMER = Profile("acme", version=1)
AT_CHECKOUT = Profile("acme", version=1, customer_id="cus_1", open_checkout=OpenCheckout("cs_1", "order"))

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "one-second",
            "Three events of one second, stamped by clocks that differ, in any order and two at a time.",
            script=(subscribes(status="incomplete"), becomes("active"), changes("team")),
            drifts=DRIFTS,
        ),
        Scenario(
            "around-the-skew",
            "Changes as far apart as the skew allowance, so that stamps stand in any order and at its very edges.",
            given=(subscribes(),),
            script=(changes("team"), waits(4), changes("team", 2), waits(2)),
            drifts=DRIFTS,
        ),
        Scenario(
            "slow-fetch",
            "A fetch that takes longer than the skew allowance, while a newer event arrives.",
            given=(subscribes(), waits(20)),
            script=(completes_checkout(), changes("team"), waits(8), changes("team", 2), changes("team", 3)),
        ),
        Scenario(
            "failing-fetches",
            "Two fetches fail, and Stripe delivers again.",
            given=(subscribes(),),
            script=(changes("team"), changes("team", 2), completes_checkout()),
            failures=2,
        ),
        Scenario(
            "crashes",
            "Two workers die, before any of their calls or before they answer.",
            given=(subscribes(),),
            script=(changes("team"), changes("team", 2), becomes("canceled")),
            crashes=2,
        ),
        Scenario(
            "delivered-twice",
            "Three workers, and two deliveries more than there are events.",
            script=(subscribes(), changes("team")),
            workers=3,
            repeats=2,
        ),
        Scenario(
            "there-and-back",
            "An object becomes again what it was: equal content is not the same state.",
            given=(subscribes(), waits(20)),
            script=(changes("team"), changes("pro"), changes("team")),
        ),
        Scenario(
            "late",
            "Events that are delivered more than ten minutes after they were made.",
            script=(subscribes(), waits(20), changes("team"), waits(700), changes("team", 2), waits(700)),
        ),
        Scenario(
            "gone",
            "Stripe loses the object while its events are delivered.",
            given=(subscribes(),),
            script=(changes("team"), changes("team", 2), vanishes("sub_1")),
            repeats=1,
            workers=3,
        ),
        Scenario(
            "two-subscriptions",
            "A customer moves from one subscription to another, within a second.",
            given=(subscribes(),),
            script=(subscribes("sub_2", "incomplete"), becomes("active", "sub_2"), becomes("canceled")),
            crashes=1,
            workers=3,
        ),
        Scenario(
            "checkout",
            "A trial begins at a checkout, whose own event names the subscription without carrying it.",
            profile=AT_CHECKOUT,
            script=(subscribes(status="incomplete", trial=True), becomes("trialing"), completes_checkout()),
            failures=1,
            workers=3,
        ),
        Scenario(
            "two-facts",
            "The account itself remembers two things, which two events tell at once.",
            profile=AT_CHECKOUT,
            script=(subscribes(trial=True), expires_checkout()),
        ),
        Scenario(
            "dunning",
            "A payment fails and is made up for: events of an invoice that also name its subscription.",
            given=(subscribes(),),
            script=(becomes("past_due"), fails_to_pay(), pays(), becomes("active")),
        ),
        Scenario(
            "invoice-without-subscription",
            "An invoice fails twice and is paid, in a second, while its subscription is gone: open events come again.",
            given=(subscribes(),),
            script=(vanishes("sub_1"), fails_to_pay(1), fails_to_pay(2), pays()),
            repeats=1,
        ),
        Scenario(
            "customer-deleted",
            "A customer with two subscriptions is deleted, just after one of them changed.",
            given=(subscribes(), subscribes("sub_2")),
            script=(changes("team"), deletes_customer()),
        ),
        Scenario(
            "end-forgotten",
            "A subscription ends, and Stripe has forgotten it when the event comes.",
            given=(subscribes(),),
            script=(becomes("canceled"), waits(700), vanishes("sub_1")),
            failures=1,
            repeats=1,
        ),
        Scenario(
            "forgotten-with-its-customer",
            "Stripe loses two subscriptions, of which one had ended, and then their customer is deleted.",
            given=(subscribes(), subscribes("sub_2")),
            script=(becomes("canceled"), vanishes("sub_1"), vanishes("sub_2"), waits(700), deletes_customer()),
            repeats=1,
        ),
        Scenario(
            "late-account",
            "Events of an account that appears only later: left open, and replayed.",
            profile=None,
            script=(subscribes(), changes("team"), account_appears()),
            repeats=1,
            workers=3,
        ),
        Scenario(
            "grace-of-late-account",
            "An account appears only when its subscription is past due: older events are fetched, which shows it.",
            profile=None,
            script=(subscribes(), waits(700), becomes("past_due"), account_appears()),
            workers=3,
        ),
        Scenario(
            "late-account-of-gone-customer",
            "Events of a customer that is deleted before its account appears.",
            profile=None,
            script=(subscribes(), deletes_customer(), account_appears()),
            workers=3,
        ),
        Scenario(
            "first-customer",
            "Two events at once make the first link of an account and its customer; reads are of no one moment.",
            profile=WITHOUT_CUSTOMER,
            script=(subscribes(), changes("team")),
            is_torn=True,
        ),
        Scenario(
            "customer-come-and-gone",
            "An account's first customer is deleted at once; reads are of no one moment.",
            profile=WITHOUT_CUSTOMER,
            script=(subscribes(), deletes_customer()),
            is_torn=True,
            workers=3,
        ),
        Scenario(
            "skew-and-slow-fetches",
            "Three changes around the skew allowance, with clocks that differ and fetches that take their time.",
            given=(subscribes(),),
            script=(changes("team"), waits(4), changes("team", 2), waits(2), changes("team", 3)),
            drifts=DRIFTS,
            is_large=True,
        ),
        Scenario(
            "there-and-back-slowly",
            "An object becomes again what it was, while fetches take their time and clocks differ.",
            given=(subscribes(),),
            script=(changes("team"), waits(3), changes("pro"), waits(3), changes("team")),
            drifts=DRIFTS,
            is_large=True,
        ),
        Scenario(
            "everything",
            "Three workers, a crash, a fetch that fails, a second delivery, and a fetch that takes its time.",
            script=(subscribes(status="incomplete"), changes("team"), waits(6), becomes("active")),
            workers=3,
            crashes=1,
            failures=1,
            repeats=1,
            is_large=True,
        ),
    )
}
