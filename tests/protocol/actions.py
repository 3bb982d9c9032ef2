"""Actions of Stripe, an operator and the account, of which scenarios and histories consist."""

from collections.abc import Callable
from dataclasses import replace

from billing.domain.accounts import Profile
from billing.domain.subscriptions import Subscription
from tests.protocol import model
from tests.protocol.model import Json
from tests.protocol.stripe_model import FrozenDict, Stripe, sent
from tests.protocol.transition_system import Action, SystemState


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
        source |= {"metadata": model.metadata(account_id), "items": model.items(price, 1, int(stripe.time))}
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
        return stripe.emit(source | {"metadata": model.metadata()}, "checkout.session.completed", clock_offset)

    return stripe_action("the Checkout Session of sub_1 is completed", act)


def expires_checkout() -> Action:
    """Let a Checkout Session expire."""

    def act(stripe: Stripe, clock_offset: float) -> Stripe:
        source: Json = {"id": "cs_1", "mode": "subscription", "customer": "cus_1", "metadata": model.metadata()}
        return stripe.emit(source, "checkout.session.expired", clock_offset)

    return stripe_action("a Checkout Session expires", act)


def deletes_customer() -> Action:
    """Delete the customer, which cancels its subscriptions."""

    def act(stripe: Stripe, clock_offset: float) -> Stripe:
        for state in [states[-1] for states in stripe.states.values()]:
            if isinstance(state.content, Subscription) and not state.content.has_ended:
                source = state.source | {"status": "canceled", "ended_at": int(stripe.time)}
                stripe = stripe.put(source, "customer.subscription.deleted", clock_offset)
        source = {"id": "cus_1", "metadata": model.metadata()}
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
