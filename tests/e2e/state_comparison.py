"""Comparison of an account with Stripe: rows, profile, markers, outbox and the API's responses."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import batched
from typing import Any

import httpx

from billing.adapters.dynamodb import Table
from billing.adapters.repository import Repository
from billing.catalog import load_catalog
from billing.domain.subscriptions import Subscription
from billing.stripe_events.objects import parse_invoice, parse_subscription
from tests.e2e.life_cycle import ENDED_STATUSES, AsyncStripeClient, Json, LifeCycle

GRANTING = {"active", "trialing", "past_due"}
RANKS = {"pro_monthly": ("pro", 1), "team_monthly": ("team", 2)}
PLAN_PATHS = ("/v1/billing", "/subscription", "/api/v1/teams/{}/billing/subscription", "/api/billing/subscription")
INVOICES_MAX = 100


async def differences(
    stripe: AsyncStripeClient,
    api: httpx.AsyncClient,
    table: Table,
    life_cycle: LifeCycle,
    events: Mapping[str, Json],
    secret_key: str,
) -> list[str]:
    """Return all differences between an account and Stripe.

    Args:
        stripe: Client of Stripe.
        api: Client of the product's API.
        table: The table.
        life_cycle: Life cycle of the account's customer.
        events: Events of the life cycle by id.
        secret_key: Secret key of the account.
    """
    subscriptions = await _subscriptions_with_schedules(stripe, life_cycle.customer_id)
    invoices = await stripe.all("/v1/invoices", customer=life_cycle.customer_id)
    customer = await stripe.get(f"/v1/customers/{life_cycle.customer_id}")
    headers = {"Authorization": f"Bearer {secret_key}"}
    response_differences = [
        _response_difference(
            path, await api.get(path.format(life_cycle.account_id), headers=headers, timeout=60), subscriptions
        )
        for path in PLAN_PATHS
    ]

    def table_differences() -> list[str]:
        repository = Repository(table)
        return [
            *_subscription_differences(repository, life_cycle.account_id, subscriptions),
            *_invoice_differences(repository, life_cycle.account_id, invoices),
            *_profile_differences(repository, life_cycle, subscriptions, is_deleted=customer.get("deleted", False)),
            *_marker_differences(repository, events),
            *_outbox_differences(table, life_cycle.account_id, subscriptions, invoices, events.values()),
        ]

    return [
        *await asyncio.to_thread(table_differences),
        *(difference for difference in response_differences if difference),
    ]


async def _subscriptions_with_schedules(stripe: AsyncStripeClient, customer_id: str) -> list[Json]:
    """Return the customer's subscriptions with their schedules and the prices of these.

    Requests for a single subscription may be made to fail, and a list cannot expand the prices.
    """
    expanded = {"expand[0]": "data.schedule"}
    subscriptions = await stripe.all("/v1/subscriptions", customer=customer_id, status="all", **expanded)
    prices = {each["id"]: each for each in await stripe.all("/v1/prices")}
    for subscription in subscriptions:
        for phase in subscription["schedule"]["phases"] if subscription["schedule"] else ():
            for item in phase["items"]:
                item["price"] = prices[item["price"]]
    return subscriptions


# --- Table ------------------------------------------------------------------------------------------------------------
def _subscription_differences(repository: Repository, account_id: str, subscriptions: Iterable[Json]) -> Iterator[str]:
    rows = repository.load_subscription_rows(account_id)
    found = {key: row.content for key, row in rows.items()}
    expected = {each["id"]: parse_subscription(each, load_catalog()) for each in subscriptions}
    for name, row in found.items():
        # Stripe does not store when a subscription became past due.
        if isinstance(row, Subscription):
            if (row.past_due_since is not None) != (row.status == "past_due"):
                yield f"{name} is {row.status} and past due since {row.past_due_since}"
            found[name] = replace(row, past_due_since=None)
    yield from _field_differences(found, expected)


def _invoice_differences(repository: Repository, account_id: str, invoices: Iterable[Json]) -> Iterator[str]:
    """Compare invoices, except drafts: no handled event reports a draft."""
    found = {each.id: each for each in repository.list_invoices(account_id, INVOICES_MAX).invoices}
    yield from _field_differences(
        found, {each["id"]: parse_invoice(each) for each in invoices if each["status"] != "draft"}
    )


def _profile_differences(
    repository: Repository, life_cycle: LifeCycle, subscriptions: Iterable[Json], *, is_deleted: bool
) -> Iterator[str]:
    profile = repository.load_account(life_cycle.account_id).profile
    customer_id = None if is_deleted else life_cycle.customer_id
    if profile.customer_id != customer_id:
        yield f"the profile has customer {profile.customer_id}, not {customer_id}"
    if repository.find_owners([life_cycle.customer_id]) != {life_cycle.customer_id: life_cycle.account_id}:
        yield f"the customer {life_cycle.customer_id} is not linked to the account"
    live_ids = tuple(sorted(each["id"] for each in subscriptions if each["status"] not in ENDED_STATUSES))
    if profile.live_subscription_ids != live_ids:
        yield f"the profile has the live subscriptions {profile.live_subscription_ids}, not {live_ids}"
    if profile.trial_used != any(each["trial_end"] for each in subscriptions):
        yield f"the profile has trial_used {profile.trial_used}"


def _marker_differences(repository: Repository, events: Iterable[str]) -> Iterator[str]:
    """Check that each event has a marker with a successful outcome."""
    found = {name: marker for ids in batched(events, 100) for name, marker in repository.find_markers(ids).items()}  # noqa: B911
    for event_id in events:
        outcome = found[event_id].outcome if event_id in found else None
        if outcome not in {"applied", "no_change"}:
            yield f"{event_id} is recorded as {outcome}"


def _sequence_gaps(rows: Iterable[Json]) -> Iterator[str]:
    """Check that the outbound events of each object are numbered from 1 without gaps."""
    sequences = defaultdict(list)
    for row in rows:
        sequences[row["object"]["id"]].append(row["sequence"])
    for object_id, numbers in sequences.items():
        if sorted(numbers) != [*range(1, len(numbers) + 1)]:
            yield f"{object_id}: the outbound events have the sequences {sorted(numbers)}"


def _outbox_differences(
    table: Table, account_id: str, subscriptions: Iterable[Json], invoices: Iterable[Json], events: Iterable[Json]
) -> Iterator[str]:
    """Check that each change was emitted once. For updates and failed payments, check the maximum."""
    rows = table.query(f"ACCOUNT#{account_id}", "OUT#", "OUT#~")
    emitted = Counter((row["type"], row["object"]["id"]) for row in rows)
    yield from _sequence_gaps(rows)
    changed = Counter(_subscription_id(event) for event in events)
    for each in subscriptions:
        created, updated, canceled = (
            emitted[f"subscription.{change}", each["id"]] for change in ("created", "updated", "canceled")
        )
        has_started = each["status"] not in {"incomplete", "incomplete_expired"}
        is_live = has_started and each["status"] not in ENDED_STATUSES
        # A subscription that ended before its first event was processed is not emitted.
        if created > 1 or (is_live and created != 1) or (created and not has_started):
            yield f"{each['id']} ({each['status']}): subscription.created was emitted {created} times"
        if canceled != (created if each["status"] == "canceled" else 0):
            yield f"{each['id']} ({each['status']}): subscription.canceled was emitted {canceled} times"
        if updated > changed[each["id"]]:
            yield f"{each['id']}: subscription.updated was emitted {updated} times for {changed[each['id']]} events"
    for each in invoices:
        paid, failed = (emitted[f"invoice.{change}", each["id"]] for change in ("paid", "payment_failed"))
        if paid != (each["status"] == "paid"):
            yield f"{each['id']} ({each['status']}): invoice.paid was emitted {paid} times"
        if failed > each["attempt_count"]:
            yield f"{each['id']}: invoice.payment_failed was emitted {failed} times, attempts: {each['attempt_count']}"


def _subscription_id(event: Json) -> str | None:
    """Return the subscription that an event of a subscription or schedule is about."""
    source = event["data"]["object"]
    if source["object"] == "subscription_schedule":
        return source["subscription"] or source["released_subscription"]  # type: ignore[no-any-return]
    return source["id"] if source["object"] == "subscription" else None


def _field_differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[str]:
    """Compare rows field by field."""
    for name in sorted(found.keys() - expected.keys()):
        yield f"{name} has a row, but does not exist in Stripe"
    for name in sorted(expected.keys() - found.keys()):
        yield f"{name} has no row"
    for name in sorted(expected.keys() & found.keys()):
        row, target = asdict(found[name]), asdict(expected[name])
        for field in target:
            if row[field] != target[field]:
                yield f"the row {name} has {field} {row[field]}, in Stripe it is {target[field]}"


# --- API --------------------------------------------------------------------------------------------------------------
def _response_difference(path: str, response: httpx.Response, subscriptions: list[Json]) -> str | None:
    """Compare a response. If two subscriptions rank equally, either may be returned."""
    document = response.json()
    data = document.get("data", document)
    actual = tuple(
        data.get(camel, data.get(snake))
        for camel, snake in (
            ("plan", "plan"),
            ("status", "status"),
            ("currentPeriodEnd", "current_period_end"),
            ("cancelAtPeriodEnd", "cancel_at_period_end"),
        )
    )
    best = max(map(_preference, subscriptions))
    expected = [_expected_response(each) for each in subscriptions if _preference(each) == best]
    return None if actual in expected else f"{path} returned {response.status_code} {document}, in Stripe {expected}"


def _preference(subscription: Json) -> tuple[int | bool, ...]:
    """Return the rank of a subscription: docs/explanation/subscriptions-and-plans.md lists the criteria."""
    has_ended = subscription["status"] in ENDED_STATUSES
    is_cancelling = subscription["cancel_at_period_end"] or bool(subscription["cancel_at"])
    end = subscription["cancel_at"] or _item(subscription)["current_period_end"]
    return (
        _granted_plan(subscription)[1],
        not has_ended,
        subscription["status"] in {"active", "trialing"},
        not (is_cancelling and not has_ended),
        subscription["ended_at"] if has_ended else end,
        subscription["created"],
    )


def _expected_response(subscription: Json) -> tuple[Any, ...]:
    ends = datetime.fromtimestamp(_item(subscription)["current_period_end"], UTC)
    has_ended = subscription["status"] in ENDED_STATUSES
    cancelling = subscription["cancel_at_period_end"] or (bool(subscription["cancel_at"]) and not has_ended)
    return _granted_plan(subscription)[0], subscription["status"], ends.strftime("%Y-%m-%dT%H:%M:%SZ"), cancelling


def _granted_plan(subscription: Json) -> tuple[str, int]:
    if subscription["status"] not in GRANTING:
        return "free", 0
    return RANKS[_item(subscription)["price"]["lookup_key"]]


def _item(subscription: Json) -> Json:
    [item] = subscription["items"]["data"]
    return item  # type: ignore[no-any-return]
