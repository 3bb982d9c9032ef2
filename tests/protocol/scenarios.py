"""Small scenarios. Order, clocks, failures and their moments are left open, and the model checker tries them all."""

from collections.abc import Callable
from dataclasses import replace

from billing.domain.accounts import OpenCheckout, Profile
from billing.domain.subscriptions import Subscription
from tests.protocol import model
from tests.protocol.model import Json
from tests.protocol.stripe_model import FrozenDict, Stripe, sent
from tests.protocol.transition_system import Action, Scenario, SystemState

CLOCK_OFFSETS = (-model.CLOCK_SKEW_SECONDS, model.CLOCK_SKEW_SECONDS)
"""Offsets of the slowest and the fastest of Stripe's clocks. Offsets in between lead to no other behavior."""
CLOCK_ERROR = 600
"""Error of a clock that is wrong, in seconds: MAX_CLOCK_ERROR of the rule."""


# --- Actions ----------------------------------------------------------------------------------------------------------


def stripe_action(label: str, act: Callable[[Stripe, float], Stripe]) -> Action:
    """Return an action of Stripe that emits an event."""

    def act_on_state(state: SystemState, clock_offset: float) -> SystemState:
        return replace(state, stripe=act(state.stripe, clock_offset))

    return Action(label, act_on_state, emits_event=True)


def subscribes(
    subscription_id: str = "sub_1",
    status: str = "active",
    *,
    price: str = "pro_monthly",
    trial: bool = False,
    account_id: str = "acme",
) -> Action:
    """Create a subscription. Its metadata names `account_id`."""

    def act(stripe: Stripe, clock_offset: float) -> Stripe:
        source = model.subscription(subscription_id, "cus_1", status, stripe.time)
        source |= {"metadata": {"account_id": account_id}, "items": model.items(price, 1, int(stripe.time))}
        source |= {"trial_end": int(stripe.time) + 86_400} if trial else {}
        return stripe.put(source, "customer.subscription.created", clock_offset)

    return stripe_action(f"{subscription_id} is created as {status}", act)


def becomes(status: str, subscription_id: str = "sub_1") -> Action:
    """Change the status of a subscription."""

    def act(stripe: Stripe, clock_offset: float) -> Stripe:
        source = stripe.current(subscription_id).source | {"status": status}
        if status == "canceled":
            return stripe.put(source | {"ended_at": int(stripe.time)}, "customer.subscription.deleted", clock_offset)
        return stripe.put(source, "customer.subscription.updated", clock_offset)

    return stripe_action(f"{subscription_id} becomes {status}", act)


def changes(plan: str = "pro", quantity: int = 1, subscription_id: str = "sub_1") -> Action:
    """Change the plan or quantity of a subscription."""

    def act(stripe: Stripe, clock_offset: float) -> Stripe:
        items = model.items(f"{plan}_monthly", quantity, model.START)
        source = stripe.current(subscription_id).source | {"items": items}
        return stripe.put(source, "customer.subscription.updated", clock_offset)

    return stripe_action(f"{subscription_id} changes to {plan} x{quantity}", act)


def schedules(plan: str, quantity: int = 1) -> Action:
    """Schedule a change of sub_1 for the end of its period, or change the scheduled change."""

    def act(stripe: Stripe, clock_offset: float) -> Stripe:
        content, before = stripe.current("sub_1").content, stripe.current("sub_1").source
        if content is None or content.has_ended:
            return stripe
        schedule = model.schedule(before, f"{plan}_monthly", quantity)
        stripe = stripe.change(before | {"schedule": schedule})
        if before.get("schedule"):
            return stripe.emit(schedule, "subscription_schedule.updated", clock_offset)
        stripe = stripe.emit(schedule, "subscription_schedule.created", clock_offset)
        return stripe.emit(sent(stripe.current("sub_1").source), "customer.subscription.updated", clock_offset)

    return stripe_action(f"a change of sub_1 to {plan} x{quantity} is scheduled", act)


def begins_phase() -> Action:
    """Let the scheduled change of sub_1 take effect."""

    def act(stripe: Stripe, clock_offset: float) -> Stripe:
        before = stripe.current("sub_1").source
        after = before | {"items": {"data": before["schedule"]["phases"][1]["items"]}}
        schedule = model.schedule(after, None, 1)
        stripe = stripe.put(after | {"schedule": schedule}, "customer.subscription.updated", clock_offset)
        return stripe.emit(schedule, "subscription_schedule.updated", clock_offset)

    return stripe_action("the scheduled change of sub_1 takes effect", act)


def releases() -> Action:
    """Release the schedule of sub_1, if it has one."""

    def act(stripe: Stripe, clock_offset: float) -> Stripe:
        content, before = stripe.current("sub_1").content, stripe.current("sub_1").source
        if content is None or not before.get("schedule"):
            return stripe
        stripe = stripe.put(before | {"schedule": None}, "customer.subscription.updated", clock_offset)
        released = before["schedule"] | {"status": "released", "subscription": None, "released_subscription": "sub_1"}
        return stripe.emit(released, "subscription_schedule.released", clock_offset)

    return stripe_action("the schedule of sub_1 is released", act)


def fails_to_pay(attempt: int = 1, invoice_id: str = "in_1") -> Action:
    """Let a payment of an invoice of sub_1 fail."""

    def act(stripe: Stripe, clock_offset: float) -> Stripe:
        source = model.invoice(invoice_id, stripe.current("sub_1").source, model.START) | {"attempt_count": attempt}
        return stripe.put(source, "invoice.payment_failed", clock_offset)

    return stripe_action(f"payment attempt {attempt} of {invoice_id} fails", act)


def pays(invoice_id: str = "in_1") -> Action:
    """Pay an invoice."""

    def act(stripe: Stripe, clock_offset: float) -> Stripe:
        source = stripe.current(invoice_id).source | {"status": "paid", "amount_paid": 1900, "amount_remaining": 0}
        return stripe.put(source, "invoice.paid", clock_offset)

    return stripe_action(f"{invoice_id} is paid", act)


def completes_checkout() -> Action:
    """Complete a Checkout Session of sub_1. Its event contains only the id of the subscription."""

    def act(stripe: Stripe, clock_offset: float) -> Stripe:
        source: Json = {"id": "cs_1", "mode": "subscription", "customer": "cus_1", "subscription": "sub_1"}
        return stripe.emit(source | {"metadata": {"account_id": "acme"}}, "checkout.session.completed", clock_offset)

    return stripe_action("the Checkout Session of sub_1 is completed", act)


def expires_checkout() -> Action:
    """Let a Checkout Session expire."""

    def act(stripe: Stripe, clock_offset: float) -> Stripe:
        source: Json = {"id": "cs_1", "mode": "subscription", "customer": "cus_1", "metadata": {"account_id": "acme"}}
        return stripe.emit(source, "checkout.session.expired", clock_offset)

    return stripe_action("a Checkout Session expires", act)


def deletes_customer() -> Action:
    """Delete the customer, which cancels its subscriptions."""

    def act(stripe: Stripe, clock_offset: float) -> Stripe:
        for state in [states[-1] for states in stripe.states.values()]:
            if isinstance(state.content, Subscription) and not state.content.has_ended:
                source = state.source | {"status": "canceled", "ended_at": int(stripe.time)}
                stripe = stripe.put(source, "customer.subscription.deleted", clock_offset)
        source = {"id": "cus_1", "metadata": {"account_id": "acme"}}
        return replace(stripe.emit(source, "customer.deleted", clock_offset), customers=())

    return stripe_action("cus_1 is deleted", act)


def deletes_object(object_id: str) -> Action:
    """Delete an object without an event. A request for it returns 404."""
    action = stripe_action(f"{object_id} is deleted", lambda stripe, _clock_offset: stripe.delete(object_id))
    return replace(action, emits_event=False)


def waits(seconds: float) -> Action:
    """Let time pass."""

    def act(state: SystemState, _clock_offset: float) -> SystemState:
        return replace(state, stripe=replace(state.stripe, time=state.stripe.time + seconds))

    return Action(f"{seconds:g} s pass", act, seconds=seconds)


def changes_profile(label: str, change: Callable[[Profile], Profile], *, owner: str | None) -> Action:
    """Let an operator write acme's profile and the link of cus_1 in one transaction; no link if `owner` is None."""

    def act(state: SystemState, _clock_offset: float) -> SystemState:
        profile = change(state.table.profiles["acme"])
        profiles = state.table.profiles.updated({"acme": replace(profile, version=profile.version + 1)})
        owners = FrozenDict({"cus_1": owner} if owner else {})
        return replace(state, table=replace(state.table, profiles=profiles, owners=owners))

    return Action(label, act)


def unlinks_customer() -> Action:
    """Let an operator unlink cus_1. Its rows are deleted afterwards."""

    def change(profile: Profile) -> Profile:
        return profile.without_customer("cus_1", profile.live_subscription_ids)

    return changes_profile("cus_1 is unlinked", change, owner=None)


def deletes_rows() -> Action:
    """Delete the rows of cus_1, the second step of unlinking."""

    def act(state: SystemState, _clock_offset: float) -> SystemState:
        return replace(state, table=replace(state.table, rows=FrozenDict()))

    return Action("the rows of cus_1 are deleted", act)


def confirms_customer() -> Action:
    """Let an operator decide that everything of cus_1 is acme's."""
    return changes_profile(
        "cus_1 is confirmed", lambda profile: profile.with_customer("cus_1", confirmed=True), owner="acme"
    )


def creates_account() -> Action:
    """Create the account."""

    def act(state: SystemState, _clock_offset: float) -> SystemState:
        profiles = state.table.profiles.updated({"acme": Profile("acme", version=1)})
        return replace(state, table=replace(state.table, profiles=profiles))

    return Action("acme is created", act)


# --- Scenarios --------------------------------------------------------------------------------------------------------

WITHOUT_CUSTOMER = Profile("acme", version=1)
AT_CHECKOUT = Profile("acme", version=1, customer_id="cus_1", open_checkout=OpenCheckout("cs_1", "order"))

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "one-second",
            "Three events of one second, with timestamps of different clocks, in any order and two at a time.",
            script=(subscribes(status="incomplete"), becomes("active"), changes("team")),
            clock_offsets=CLOCK_OFFSETS,
        ),
        Scenario(
            "around-the-skew",
            "Changes as far apart as the clock skew, so that timestamps are in any order and exactly at its limits.",
            given=(subscribes(),),
            script=(changes("team"), waits(3), changes("team", 2), waits(2)),
            clock_offsets=CLOCK_OFFSETS,
        ),
        Scenario(
            "slow-fetch",
            "A fetch that takes longer than the clock skew, while a newer event arrives.",
            given=(subscribes(), waits(20)),
            script=(completes_checkout(), changes("team"), waits(8), changes("team", 2), changes("team", 3)),
        ),
        Scenario(
            "failing-fetches",
            "Two fetches fail, and Stripe delivers the events again.",
            given=(subscribes(),),
            script=(changes("team"), changes("team", 2), completes_checkout()),
            fetch_failures=2,
        ),
        Scenario(
            "crashes",
            "Two workers stop, before any of their calls or before they respond.",
            given=(subscribes(),),
            script=(changes("team"), changes("team", 2), becomes("canceled")),
            crashes=2,
        ),
        Scenario(
            "delivered-twice",
            "Three workers, and two deliveries more than events.",
            script=(subscribes(), changes("team")),
            workers=3,
            redeliveries=2,
        ),
        Scenario(
            "there-and-back",
            "An object changes and changes back: equal content is not the same state.",
            given=(subscribes(), waits(20)),
            script=(changes("team"), changes("pro"), changes("team")),
        ),
        Scenario(
            "late",
            "Events that are delivered more than ten minutes after their creation.",
            script=(subscribes(), waits(20), changes("team"), waits(700), changes("team", 2), waits(700)),
        ),
        Scenario(
            "object-deleted",
            "Stripe deletes the object while its events are delivered.",
            given=(subscribes(),),
            script=(changes("team"), changes("team", 2), deletes_object("sub_1")),
            redeliveries=1,
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
            "A trial begins with a checkout, whose event names the subscription without its state.",
            profile=AT_CHECKOUT,
            script=(subscribes(status="incomplete", trial=True), becomes("trialing"), completes_checkout()),
            fetch_failures=1,
            workers=3,
        ),
        Scenario(
            "two-profile-changes",
            "Two events change the profile at the same time.",
            profile=AT_CHECKOUT,
            script=(subscribes(trial=True), expires_checkout()),
        ),
        Scenario(
            "dunning",
            "A payment fails and a later one succeeds: events of an invoice that also name its subscription.",
            given=(subscribes(),),
            script=(becomes("past_due"), fails_to_pay(), pays(), becomes("active")),
        ),
        Scenario(
            "invoice-without-subscription",
            "An invoice of a deleted subscription fails twice and is paid in one second. Open events are redelivered.",
            given=(subscribes(),),
            script=(deletes_object("sub_1"), fails_to_pay(1), fails_to_pay(2), pays()),
            redeliveries=1,
        ),
        Scenario(
            "schedule",
            "A scheduled change is changed, and the subscription changes more than the greatest clock error later.",
            given=(subscribes(), schedules("team")),
            script=(schedules("team", 2), waits(700), becomes("past_due"), schedules("team", 3)),
            workers=3,
        ),
        Scenario(
            "schedule-created-and-released",
            "A change is scheduled and withdrawn within a second.",
            given=(subscribes(),),
            script=(schedules("team"), releases()),
            redeliveries=1,
        ),
        Scenario(
            "schedule-takes-effect",
            "A scheduled change takes effect, and its schedule is released.",
            given=(subscribes(), schedules("team"), waits(20)),
            script=(begins_phase(), releases()),
            redeliveries=1,
        ),
        Scenario(
            "customer-deleted",
            "A customer with two subscriptions is deleted just after one of them changed.",
            given=(subscribes(), subscribes("sub_2")),
            script=(changes("team"), deletes_customer()),
        ),
        Scenario(
            "customer-unlinked",
            "An operator unlinks a customer while a subscription changes, and one of another product is created.",
            given=(subscribes(),),
            script=(changes("team"), subscribes("sub_2", price="other"), unlinks_customer(), deletes_rows()),
        ),
        Scenario(
            "account-conflict",
            "A subscription names another account without a customer. An operator decides while it changes twice.",
            other_profiles=(Profile("globex", version=1),),
            script=(
                subscribes("sub_2", account_id="globex"),
                changes("team", subscription_id="sub_2"),
                confirms_customer(),
                changes("team", 2, subscription_id="sub_2"),
            ),
        ),
        Scenario(
            "end-deleted",
            "A subscription ends, and Stripe has deleted it when the event is delivered.",
            given=(subscribes(),),
            script=(becomes("canceled"), waits(700), deletes_object("sub_1")),
            fetch_failures=1,
            redeliveries=1,
        ),
        Scenario(
            "deleted-before-customer",
            "Stripe deletes two subscriptions, of which one had ended, and then their customer.",
            given=(subscribes(), subscribes("sub_2")),
            script=(
                becomes("canceled"),
                deletes_object("sub_1"),
                deletes_object("sub_2"),
                waits(700),
                deletes_customer(),
            ),
            redeliveries=1,
        ),
        Scenario(
            "late-account",
            "Events of an account that is created later: they stay open, and are replayed.",
            profile=None,
            script=(subscribes(), changes("team"), creates_account()),
            redeliveries=1,
            workers=3,
        ),
        Scenario(
            "grace-period-of-late-account",
            "An account is created when its subscription is already past due, which older events show by their fetch.",
            profile=None,
            script=(subscribes(), waits(700), becomes("past_due"), creates_account()),
            workers=3,
        ),
        Scenario(
            "late-account-of-deleted-customer",
            "Events of a customer that is deleted before its account is created.",
            profile=None,
            script=(subscribes(), deletes_customer(), creates_account()),
            workers=3,
        ),
        Scenario(
            "first-customer",
            "Two events at once create the first link of an account and its customer, with torn reads.",
            profile=WITHOUT_CUSTOMER,
            script=(subscribes(), changes("team")),
            has_torn_reads=True,
        ),
        Scenario(
            "customer-added-and-deleted",
            "The first customer of an account is deleted at once, with torn reads.",
            profile=WITHOUT_CUSTOMER,
            script=(subscribes(), deletes_customer()),
            has_torn_reads=True,
            workers=3,
        ),
        Scenario(
            "stamps-ahead",
            "Each event may be stamped ten minutes ahead, and is delivered before that time.",
            given=(subscribes(),),
            script=(changes("team"), changes("team", 2), becomes("canceled")),
            clock_offsets=(0, CLOCK_ERROR),
            date_offsets=(0,),
        ),
        Scenario(
            "stamps-behind",
            "All events are stamped ten minutes behind, by clocks that agree. The clocks of responses are right.",
            given=(subscribes(),),
            script=(completes_checkout(), changes("team"), waits(8), changes("team", 2)),
            clock_offsets=(-CLOCK_ERROR, -CLOCK_ERROR + 2 * model.CLOCK_SKEW_SECONDS),
            date_offsets=(0,),
        ),
        Scenario(
            "one-stamp-behind",
            "Each event may be stamped ten minutes behind. Rank orders the events that carry a snapshot.",
            profile=AT_CHECKOUT,
            given=(subscribes(status="incomplete"),),
            script=(becomes("active"), fails_to_pay(), pays()),
            clock_offsets=(-CLOCK_ERROR, 0),
            date_offsets=(0,),
        ),
        Scenario(
            "dates-wrong",
            "Responses are dated ten minutes ahead or behind, also those of a slow fetch.",
            given=(subscribes(), waits(20)),
            script=(completes_checkout(), changes("team"), waits(8), changes("team", 2)),
            date_offsets=(-CLOCK_ERROR, 0, CLOCK_ERROR),
        ),
        Scenario(
            "workers-wrong",
            "Each worker has a clock of its own: right, or ten minutes ahead or behind.",
            given=(subscribes(), waits(20)),
            script=(completes_checkout(), changes("team"), waits(8), changes("team", 2)),
            worker_offsets=(-CLOCK_ERROR, 0, CLOCK_ERROR),
        ),
        Scenario(
            "late-and-workers-wrong",
            "Events that are delivered late to workers whose clocks are wrong.",
            script=(subscribes(), waits(20), changes("team"), waits(700), becomes("canceled"), waits(700)),
            worker_offsets=(-CLOCK_ERROR, 0, CLOCK_ERROR),
        ),
        Scenario(
            "all-clocks-wrong",
            "A subscription ends while the clocks of events, responses and workers are wrong at the same time.",
            given=(subscribes(),),
            script=(changes("team"), becomes("canceled")),
            clock_offsets=(-CLOCK_ERROR, 0, CLOCK_ERROR),
            worker_offsets=(-CLOCK_ERROR, 0, CLOCK_ERROR),
        ),
        Scenario(
            "skew-and-slow-fetches",
            "Three changes around the clock skew, with different clocks and slow fetches.",
            given=(subscribes(),),
            script=(changes("team"), waits(4), changes("team", 2), waits(2), changes("team", 3)),
            clock_offsets=CLOCK_OFFSETS,
            is_large=True,
        ),
        Scenario(
            "there-and-back-slowly",
            "An object changes and changes back, with slow fetches and different clocks.",
            given=(subscribes(),),
            script=(changes("team"), waits(3), changes("pro"), waits(3), changes("team")),
            clock_offsets=CLOCK_OFFSETS,
            is_large=True,
        ),
        Scenario(
            "everything",
            "Three workers, a crash, a failing fetch, a second delivery and a slow fetch.",
            script=(subscribes(status="incomplete"), changes("team"), waits(6), becomes("active")),
            workers=3,
            crashes=1,
            fetch_failures=1,
            redeliveries=1,
            is_large=True,
        ),
    )
}
