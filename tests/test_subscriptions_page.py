"""Subscriptions and plans: each row of the table of statuses is the domain's answer."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from billing.domain.accounts import Account, Profile
from billing.domain.errors import NeverSubscribed, SubscriptionExists
from billing.domain.plans import Catalog, Plan, Price
from billing.domain.subscriptions import ACCESS_OF_STATUS, AccessPolicy, Subscription
from local.stack import ROOT
from tests.samples import NOW, SUBSCRIPTION

PAGE = ROOT / "docs/explanation/subscriptions-and-plans.md"
CATALOG = Catalog((Plan("free", "Free"), Plan("pro", "Pro", (Price("pro_monthly", 1900, "usd", "month"),))))
POLICY = AccessPolicy(timedelta(days=14))
LATER = "a status that Stripe adds later"
PAUSED = "`active`, payment collection paused"


def changed(**changes: object) -> Subscription:
    return replace(SUBSCRIPTION, **changes)  # type: ignore[arg-type]


ROWS: Mapping[str, tuple[Subscription, AccessPolicy]] = {
    **{f"`{status}`": (changed(status=status), POLICY) for status in ACCESS_OF_STATUS if status != "past_due"},
    "`past_due` in the grace period": (changed(status="past_due", past_due_since=NOW), POLICY),
    "`past_due` after the grace period": (
        changed(status="past_due", past_due_since=NOW - POLICY.past_due_grace),
        POLICY,
    ),
    LATER: (changed(status="added_later"), POLICY),
    PAUSED: (changed(pause_collection="void"), POLICY),
    f"{PAUSED}, `PauseCollectionGrants` is `false`": (
        changed(pause_collection="void"),
        replace(POLICY, pause_collection_grants=False),
    ),
    "`active`, plan no longer in the catalog": (changed(plan="withdrawn"), POLICY),
    "`active`, in conflict with another account": (changed(conflicting_account_id="globex"), POLICY),
    "`active`, not ours": (changed(plan=None), POLICY),
}


def documented() -> Mapping[str, list[str]]:
    """Return the cells of the page's table by the first one."""
    section = PAGE.read_text().partition("## Statuses")[2].partition("\n##")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line]
    assert rows[0] == ["subscription", "grants", "live", "checkout", "portal", "shown as"]
    return {first: cells for first, *cells in rows[2:]}


def test_table_has_every_status_and_every_case() -> None:
    assert documented().keys() == ROWS.keys()


@pytest.mark.parametrize("name", ROWS)
def test_row_of_the_table_is_the_answer_of_the_domain(name: str) -> None:
    subscription, policy = ROWS[name]
    grants = subscription.granting(CATALOG, NOW, policy)
    account = Account(Profile("acme", customer_id="cus_1"), (subscription,))
    assert documented()[name] == [
        "yes" if grants else "no",
        "yes" if subscription.live else "no",
        checkout_of(account, policy),
        portal_of(account),
        display_of(account, name, policy),
    ]


def checkout_of(account: Account, policy: AccessPolicy) -> str:
    blocking = account.blocking_subscription(CATALOG, NOW, policy)
    if blocking is None:
        return "200"
    if blocking.in_good_standing:
        return "409, open the portal"
    return "409, resume it" if "resume it" in str(SubscriptionExists(blocking.status)) else "409, pay the invoice"


def portal_of(account: Account) -> str:
    try:
        account.customers_with_history()
    except NeverSubscribed:
        return "no"
    return "yes"


def display_of(account: Account, name: str, policy: AccessPolicy) -> str:
    shown = account.status(CATALOG, NOW, policy)
    if shown.status is None:
        return "nothing: `free` and null"
    plan = "its plan" if shown.plan == "pro" else f"`{shown.plan}`"
    return f"{plan}, {'that status' if name == LATER else f'`{shown.status}`'}"
