"""Plan and status of an account with given subscriptions."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.accounts import Account, AccountStatus, OpenCheckout, Profile
from billing.domain.errors import NeverSubscribed
from billing.domain.plans import Catalog, Plan, Price
from billing.domain.subscriptions import ACCESS_OF_STATUS, AccessPolicy, Subscription

NOW = datetime(2026, 3, 1, tzinfo=UTC)
POLICY = AccessPolicy(timedelta(days=14))
CATALOG = Catalog(
    (
        Plan("free", "Free"),
        Plan("pro", "Pro", (Price("pro_monthly", 1900, "usd", "month"),)),
        Plan("team", "Team", (Price("team_monthly", 4900, "usd", "month"),)),
    )
)
ACTIVE = Subscription(
    id="sub_1",
    customer_id="cus_1",
    status="active",
    created=NOW - timedelta(days=30),
    plan="pro",
    price_id="price_1",
    price_is_mapped=True,
    quantity=1,
    current_period_start=NOW - timedelta(days=1),
    current_period_end=NOW + timedelta(days=29),
    cancel_at_period_end=False,
    cancel_at=None,
    canceled_at=None,
    ended_at=None,
    trial_end=None,
)


def account(*subscriptions: Subscription) -> Account:
    return Account(Profile("acme", version=1, customer_id="cus_1"), subscriptions)


def status(*subscriptions: Subscription) -> AccountStatus:
    return account(*subscriptions).status(CATALOG, NOW, POLICY)


def ended(days_ago: int, **changes: object) -> Subscription:
    return replace(ACTIVE, status="canceled", ended_at=NOW - timedelta(days=days_ago), **changes)  # type: ignore[arg-type]


def test_status_without_subscription_has_free_plan_and_nulls() -> None:
    assert status() == AccountStatus("free", None, None, None)


def test_status_without_granting_subscription_shows_latest_end() -> None:
    latest = ended(1, id="sub_2", current_period_end=NOW)
    assert status(ended(9), latest, ended(5, id="sub_3")) == AccountStatus(
        "free", "canceled", NOW, cancel_at_period_end=False
    )


def test_status_with_unpaid_and_canceled_subscription_shows_unpaid() -> None:
    assert status(ended(1), replace(ACTIVE, id="sub_2", status="unpaid")).status == "unpaid"


@pytest.mark.parametrize(("days", "plan"), [(0, "pro"), (13, "pro"), (14, "free"), (40, "free")])
def test_past_due_subscription_grants_plan_until_end_of_grace_period(days: int, plan: str) -> None:
    past_due = replace(ACTIVE, status="past_due", past_due_since=NOW - timedelta(days=days))
    assert status(past_due).plan == plan


@pytest.mark.parametrize(
    ("changes", "cancelling"),
    [
        ({"cancel_at_period_end": True}, True),
        ({"cancel_at": NOW + timedelta(days=3)}, True),
        ({}, False),
        ({"status": "canceled", "ended_at": NOW, "cancel_at": NOW}, False),
    ],
)
def test_cancel_at_period_end_of_either_cancellation_is_true_until_end(
    changes: dict[str, object], *, cancelling: bool
) -> None:
    assert status(replace(ACTIVE, **changes)).cancel_at_period_end is cancelling  # type: ignore[arg-type]


SUBSCRIPTIONS = st.builds(
    replace,
    st.just(ACTIVE),
    id=st.uuids().map(str),
    status=st.sampled_from([*ACCESS_OF_STATUS, "added_by_stripe_later"]),
    plan=st.sampled_from(["free", "pro", "team", "withdrawn", None]),
    past_due_since=st.sampled_from([NOW - timedelta(days=days) for days in (1, 20)]),
    ended_at=st.sampled_from([None, NOW - timedelta(days=3), NOW - timedelta(days=2)]),
)


@given(st.lists(SUBSCRIPTIONS, max_size=6))
def test_plan_with_any_subscriptions_is_highest_granted_plan(subscriptions: list[Subscription]) -> None:
    granted = [each.plan for each in subscriptions if each.granting(CATALOG, NOW, POLICY)]
    expected = max(granted, key=CATALOG.rank, default="free")
    assert status(*subscriptions).plan == expected
    assert status(*reversed(subscriptions)).plan == expected


@given(st.lists(SUBSCRIPTIONS, max_size=6))
def test_checkout_is_blocked_by_any_live_subscription_of_ours(subscriptions: list[Subscription]) -> None:
    blocking = account(*subscriptions).blocking_subscription(CATALOG, NOW, POLICY)
    assert (blocking is not None) is any(each.live and each.ours(CATALOG) for each in subscriptions)
    assert blocking is None or blocking in subscriptions


@given(st.lists(SUBSCRIPTIONS, max_size=6))
def test_subscriptions_that_are_not_ours_change_no_answer(subscriptions: list[Subscription]) -> None:
    ours = [each for each in subscriptions if each.ours(CATALOG)]
    assert status(*subscriptions) == status(*ours)


def test_customers_with_history_requires_a_subscription() -> None:
    with pytest.raises(NeverSubscribed):
        account().customers_with_history()
    assert account(ended(1)).customers_with_history() == ("cus_1",)


def test_customers_with_history_begins_with_the_current_one_and_live_subscriptions() -> None:
    older, newer = (replace(ACTIVE, customer_id=name) for name in ("cus_older", "cus_newer"))
    past = replace(ended(1), customer_id="cus_past")
    newer = replace(newer, created=NOW + timedelta(days=1))
    assert account(past, older, newer).customers_with_history() == ("cus_1", "cus_newer", "cus_older", "cus_past")
    without_current = Account(Profile("acme"), (past, older))
    assert without_current.customers_with_history() == ("cus_older", "cus_past")


def test_subscription_in_account_conflict_grants_no_plan() -> None:
    conflicting = replace(ACTIVE, conflicting_account_id="globex")
    assert conflicting.granted_plan(CATALOG, NOW, POLICY) is None
    assert not conflicting.granting(CATALOG, NOW, POLICY)
    assert account(conflicting).blocking_subscription(CATALOG, NOW, POLICY) is conflicting
    assert status(conflicting).plan == "free"
    assert status(conflicting, replace(ACTIVE, id="sub_2")).plan == "pro"


def test_operator_links_and_unlinks_a_customer() -> None:
    linked = Profile("acme", customer_id="cus_1").with_customer("cus_2", confirmed=True)
    assert (linked.customer_id, linked.confirmed_customers) == ("cus_2", ("cus_2",))
    assert linked.with_customer("cus_2", confirmed=True).confirmed_customers == ("cus_2",)
    unlinked = linked.without_customer("cus_2")
    assert (unlinked.customer_id, unlinked.confirmed_customers, unlinked.unlinked_customers) == (None, (), ("cus_2",))
    assert unlinked.without_customer("cus_2").unlinked_customers == ("cus_2",)
    again = unlinked.with_customer("cus_2", confirmed=False)
    assert (again.customer_id, again.confirmed_customers, again.unlinked_customers) == ("cus_2", (), ())


def test_unlink_removes_the_customers_subscriptions_from_the_live_ones() -> None:
    profile = Profile("acme", customer_id="cus_1", live_subscription_ids=("sub_1", "sub_2"))
    assert profile.without_customer("cus_1", {"sub_2", "sub_3"}).live_subscription_ids == ("sub_1",)


def test_unlink_of_an_earlier_customer_keeps_the_current_one_and_its_checkout() -> None:
    profile = Profile("acme", customer_id="cus_2", open_checkout=OpenCheckout("cs_1", "order"))
    assert profile.without_customer("cus_1").customer_id == "cus_2"
    assert profile.without_customer("cus_1").open_checkout is not None
    assert profile.without_customer("cus_2").open_checkout is None
