"""What an account is left with, beside what Stripe has: rows, link, markers, outbox and the API's answers."""

import asyncio
from collections import Counter
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
from tests.e2e.lives import OVER, Json, Life, StripeApi

GRANTING = {"active", "trialing", "past_due"}
RANKS = {"pro_monthly": ("pro", 1), "team_monthly": ("team", 2)}
PLAN_PATHS = ("/v1/billing", "/subscription", "/api/v1/teams/{}/billing/subscription", "/api/billing/subscription")
INVOICES_MAX = 100
END_OF_TIME = 2**40


async def differences(
    stripe: StripeApi,
    api: httpx.AsyncClient,
    table: Table,
    life: Life,
    events: Mapping[str, Json],
    secret_key: str,
) -> list[str]:
    """Everything about a life's account that is not as in Stripe; empty if all is right."""
    subscriptions = await stripe.all("/v1/subscriptions", customer=life.customer_id, status="all")
    invoices = await stripe.all("/v1/invoices", customer=life.customer_id)
    customer = await stripe.get(f"/v1/customers/{life.customer_id}")
    headers = {"Authorization": f"Bearer {secret_key}"}
    asked = [
        _of_answer(path, await api.get(path.format(life.account_id), headers=headers, timeout=60), subscriptions)
        for path in PLAN_PATHS
    ]

    def stored() -> list[str]:
        repository = Repository(table)
        return [
            *_of_subscriptions(repository, life.account_id, subscriptions),
            *_of_invoices(repository, life.account_id, invoices),
            *_of_profile(repository, life, subscriptions, is_deleted=customer.get("deleted", False)),
            *_of_markers(repository, events),
            *_of_outbox(table, life.account_id, subscriptions, invoices, events.values()),
        ]

    return [*await asyncio.to_thread(stored), *(answer for answer in asked if answer)]


# --- The table --------------------------------------------------------------------------------------------------------
def _of_subscriptions(repository: Repository, account_id: str, subscriptions: Iterable[Json]) -> Iterator[str]:
    rows = repository.load_subscription_rows(account_id)
    found = {key: row.content for key, row in rows.items()}
    truth = {each["id"]: parse_subscription(each, load_catalog()) for each in subscriptions}
    for name, row in found.items():
        # Stripe does not keep since when.
        if isinstance(row, Subscription):
            if (row.past_due_since is not None) != (row.status == "past_due"):
                yield f"{name} is {row.status} and past due since {row.past_due_since}"
            found[name] = replace(row, past_due_since=None)
    yield from _unequal(found, truth)


def _of_invoices(repository: Repository, account_id: str, invoices: Iterable[Json]) -> Iterator[str]:
    """No event that we take tells of a draft."""
    found = {each.id: each for each in repository.list_invoices(account_id, INVOICES_MAX).invoices}
    yield from _unequal(found, {each["id"]: parse_invoice(each) for each in invoices if each["status"] != "draft"})


def _of_profile(
    repository: Repository, life: Life, subscriptions: Iterable[Json], *, is_deleted: bool
) -> Iterator[str]:
    profile = repository.load_account(life.account_id).profile
    customer_id = None if is_deleted else life.customer_id
    if profile.customer_id != customer_id:
        yield f"the profile has customer {profile.customer_id}, not {customer_id}"
    if repository.find_owners([life.customer_id]) != {life.customer_id: life.account_id}:
        yield f"the customer {life.customer_id} does not lead to the account"
    if profile.trial_used != any(each["trial_end"] for each in subscriptions):
        yield f"the profile says trial_used {profile.trial_used}"


def _of_markers(repository: Repository, events: Iterable[str]) -> Iterator[str]:
    """One for each event, with an outcome that says that its effect is there."""
    found = {name: marker for ids in batched(events, 100) for name, marker in repository.find_markers(ids).items()}  # noqa: B911
    for event_id in events:
        outcome = found[event_id].outcome if event_id in found else None
        if outcome not in {"applied", "no_change"}:
            yield f"{event_id} is recorded as {outcome}"


def _of_outbox(
    table: Table, account_id: str, subscriptions: Iterable[Json], invoices: Iterable[Json], events: Iterable[Json]
) -> Iterator[str]:
    """Each thing that happened told once; of changes in between, not more than there were."""
    rows = table.query(f"ACCOUNT#{account_id}", "OUT#", "OUT#~")
    told = Counter((row["type"], row["data"].get("invoice") or row["data"]["subscription"]) for row in rows)
    changed = Counter(event["data"]["object"]["id"] for event in events if event["type"].startswith("customer.sub"))
    for each in subscriptions:
        created, updated, canceled = (
            told[f"subscription.{what}", each["id"]] for what in ("created", "updated", "canceled")
        )
        has_begun = each["status"] not in {"incomplete", "incomplete_expired"}
        lives = has_begun and each["status"] not in OVER
        # One that was over before it was first seen was never there for anybody else.
        if created > 1 or (lives and created != 1) or (created and not has_begun):
            yield f"{each['id']} ({each['status']}) was told {created} times to be created"
        if canceled != (created if each["status"] == "canceled" else 0):
            yield f"{each['id']} ({each['status']}) was told {canceled} times to be canceled"
        if updated > changed[each["id"]]:
            yield f"{each['id']} was told {updated} times to be updated, and changed {changed[each['id']]} times"
    for each in invoices:
        paid, failed = (told[f"invoice.{what}", each["id"]] for what in ("paid", "payment_failed"))
        if paid != (each["status"] == "paid"):
            yield f"{each['id']} ({each['status']}) was told {paid} times to be paid"
        if failed > each["attempt_count"]:
            yield f"{each['id']} was told {failed} times to have failed, after {each['attempt_count']} attempts"


def _unequal(found: Mapping[str, Any], truth: Mapping[str, Any]) -> Iterator[str]:
    """The fields of rows that differ."""
    for name in sorted(found.keys() - truth.keys()):
        yield f"there is a row {name}, and nothing in Stripe"
    for name in sorted(truth.keys() - found.keys()):
        yield f"there is no row {name}"
    for name in sorted(truth.keys() & found.keys()):
        row, wanted = asdict(found[name]), asdict(truth[name])
        for field in wanted:
            if row[field] != wanted[field]:
                yield f"the row {name} has {field} {row[field]}, in Stripe it is {wanted[field]}"


# --- The API ----------------------------------------------------------------------------------------------------------
def _of_answer(path: str, response: httpx.Response, subscriptions: list[Json]) -> str | None:
    """Where two subscriptions are equally good, either may be shown."""
    document = response.json()
    facts = document.get("data", document)
    answer = tuple(
        facts.get(camel, facts.get(snake))
        for camel, snake in (
            ("plan", "plan"),
            ("status", "status"),
            ("currentPeriodEnd", "current_period_end"),
            ("cancelAtPeriodEnd", "cancel_at_period_end"),
        )
    )
    best = max(map(_weight, subscriptions))
    truth = [_shown(each) for each in subscriptions if _weight(each) == best]
    return None if answer in truth else f"{path} answers {response.status_code} {document}, in Stripe {truth}"


def _weight(subscription: Json) -> tuple[int, int, int]:
    ended = subscription["ended_at"] if subscription["status"] in OVER else END_OF_TIME
    return _granted(subscription)[1], ended, subscription["created"]


def _shown(subscription: Json) -> tuple[Any, ...]:
    ends = datetime.fromtimestamp(_item(subscription)["current_period_end"], UTC)
    is_over = subscription["status"] in OVER
    cancelling = subscription["cancel_at_period_end"] or (bool(subscription["cancel_at"]) and not is_over)
    return _granted(subscription)[0], subscription["status"], ends.strftime("%Y-%m-%dT%H:%M:%SZ"), cancelling


def _granted(subscription: Json) -> tuple[str, int]:
    if subscription["status"] not in GRANTING:
        return "free", 0
    return RANKS[_item(subscription)["price"]["lookup_key"]]


def _item(subscription: Json) -> Json:
    [item] = subscription["items"]["data"]
    return item  # type: ignore[no-any-return]
