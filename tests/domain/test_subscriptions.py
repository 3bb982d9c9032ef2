"""Access, live and ours, and the order in which subscriptions are shown."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.plans import Catalog, Plan, Price
from billing.domain.subscriptions import ACCESS_OF_STATUS, AccessPolicy, Subscription
from tests.samples import NOW, SUBSCRIPTION

POLICY = AccessPolicy(timedelta(days=14))
CATALOG = Catalog(
    (
        Plan("free", "Free"),
        Plan("pro", "Pro", (Price("pro_monthly", 1900, "usd", "month"),)),
        Plan("team", "Team", (Price("team_monthly", 4900, "usd", "month"),)),
    )
)
UNKNOWN_STATUS = "added_by_stripe_later"


def changed(**changes: object) -> Subscription:
    return replace(SUBSCRIPTION, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "is_granting", "is_live"),
    [
        ("active", True, True),
        ("trialing", True, True),
        ("past_due", True, True),
        ("unpaid", False, True),
        ("paused", False, True),
        ("incomplete", False, True),
        ("incomplete_expired", False, False),
        ("canceled", False, False),
        (UNKNOWN_STATUS, False, True),
    ],
)
def test_status_decides_granting_and_live(status: str, *, is_granting: bool, is_live: bool) -> None:
    subscription = changed(status=status, past_due_since=NOW)
    assert subscription.granting(CATALOG, NOW, POLICY) is is_granting
    assert subscription.live is is_live


@pytest.mark.parametrize(
    ("plan", "is_ours", "is_granting"),
    [("pro", True, True), ("free", False, False), (None, False, False), ("withdrawn", True, False)],
)
def test_plan_decides_ours(plan: str | None, *, is_ours: bool, is_granting: bool) -> None:
    subscription = changed(plan=plan)
    assert subscription.ours(CATALOG) is is_ours
    assert subscription.granting(CATALOG, NOW, POLICY) is is_granting
    assert subscription.granted_plan(CATALOG, NOW, POLICY) == (plan if is_granting else None)


@pytest.mark.parametrize(("days", "is_granting"), [(0, True), (13, True), (14, False), (40, False)])
def test_past_due_subscription_is_granting_until_end_of_grace_period(days: int, *, is_granting: bool) -> None:
    past_due = changed(status="past_due", past_due_since=NOW - timedelta(days=days))
    assert past_due.granting(CATALOG, NOW, POLICY) is is_granting
    assert past_due.live


@pytest.mark.parametrize("grants", [True, False])
def test_paused_collection_is_granting_if_the_policy_says_so(*, grants: bool) -> None:
    paused = changed(pause_collection="void")
    policy = replace(POLICY, pause_collection_grants=grants)
    assert paused.granting(CATALOG, NOW, policy) is grants
    assert SUBSCRIPTION.granting(CATALOG, NOW, policy)
    assert paused.live


ORDER: Mapping[str, tuple[Subscription, Subscription]] = {
    "higher plan before good standing": (changed(plan="team", status="past_due", past_due_since=NOW), changed()),
    "granting before higher plan": (changed(), changed(plan="team", status="unpaid")),
    "live before ended": (changed(status="unpaid"), changed(status="canceled", ended_at=NOW + timedelta(days=99))),
    "good standing before later creation": (
        changed(),
        changed(status="past_due", past_due_since=NOW, created=NOW + timedelta(days=9)),
    ),
    "trial is in good standing": (changed(status="trialing"), changed(status="past_due", past_due_since=NOW)),
    "going on before cancelling with its period": (
        changed(),
        changed(cancel_at_period_end=True, created=NOW + timedelta(days=9)),
    ),
    "going on before cancelling at a later time": (
        changed(),
        changed(cancel_at=NOW + timedelta(days=300), created=NOW + timedelta(days=9)),
    ),
    "good standing before going on": (
        changed(cancel_at_period_end=True),
        changed(status="past_due", past_due_since=NOW),
    ),
    "later period": (changed(current_period_end=NOW + timedelta(days=365)), changed(created=NOW + timedelta(days=9))),
    "later cancellation": (
        changed(cancel_at=NOW + timedelta(days=60)),
        changed(cancel_at=NOW + timedelta(days=10), created=NOW + timedelta(days=9)),
    ),
    "later end": (
        changed(status="canceled", ended_at=NOW + timedelta(days=2)),
        changed(status="canceled", ended_at=NOW + timedelta(days=1), created=NOW + timedelta(days=9)),
    ),
    "later end of those that ended with their period": (
        changed(status="canceled", ended_at=NOW + timedelta(days=2), cancel_at_period_end=True),
        changed(status="canceled", ended_at=NOW + timedelta(days=1)),
    ),
    "newer": (changed(created=NOW + timedelta(seconds=1)), changed()),
}


@pytest.mark.parametrize("name", ORDER)
def test_display_order_of_two_subscriptions(name: str) -> None:
    shown, other = ORDER[name]
    assert shown.display_order(CATALOG, NOW, POLICY) > other.display_order(CATALOG, NOW, POLICY)


TIMES = st.sampled_from([datetime(2026, 11, day, tzinfo=UTC) for day in range(1, 29, 3)])
SUBSCRIPTIONS = st.builds(
    replace,
    st.just(SUBSCRIPTION),
    id=st.uuids().map(str),
    status=st.sampled_from([*ACCESS_OF_STATUS, UNKNOWN_STATUS]),
    plan=st.sampled_from(["pro", "team", "withdrawn"]),
    created=TIMES,
    current_period_end=st.none() | TIMES,
    cancel_at_period_end=st.booleans(),
    cancel_at=st.none() | TIMES,
    canceled_at=st.none() | TIMES,
    ended_at=st.none() | TIMES,
    past_due_since=st.none() | TIMES,
    pause_collection=st.sampled_from([None, "void"]),
)


@given(subscriptions=st.lists(SUBSCRIPTIONS, min_size=2, max_size=6), pause_collection_grants=st.booleans())
def test_no_subscription_has_precedence_over_the_shown_one(
    subscriptions: list[Subscription], *, pause_collection_grants: bool
) -> None:
    """Each criterion decides only between subscriptions that are equal in all criteria before it."""
    policy = replace(POLICY, pause_collection_grants=pause_collection_grants)
    shown = max(subscriptions, key=lambda each: each.display_order(CATALOG, NOW, policy))
    for other in subscriptions:
        rank, other_rank = (CATALOG.rank(each.granted_plan(CATALOG, NOW, policy)) for each in (shown, other))
        assert rank >= other_rank
        if rank == other_rank:
            assert shown.live or not other.live
        if rank == other_rank and shown.live and other.live:
            assert shown.in_good_standing or not other.in_good_standing
            if shown.in_good_standing == other.in_good_standing:
                assert not shown.is_cancelling or other.is_cancelling
