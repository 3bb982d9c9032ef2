"""Changes of plan and seats on the portal's page, with the configurations that `billing setup` creates."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page

from local.environment import LocalEnvironment
from tests.e2e.support import AccountClient, StripeClient, billing, eventually

pytestmark = pytest.mark.stack

MONTH_SECONDS = 32 * 86_400

type Row = dict[str, Any]
type ReadRow = Callable[[], Row]


@pytest.fixture
def row(environment: LocalEnvironment, account: AccountClient) -> ReadRow:
    """Function that returns the account's only subscription, as `billing accounts show` prints it."""

    def read() -> Row:
        [subscription] = billing(environment, "accounts", "show", account.account_id)["subscriptions"]
        return dict(subscription)

    return read


def has(**wanted: object) -> Callable[[Row], bool]:
    return lambda row: wanted.items() <= row.items()


def subscribe(account: AccountClient, stripe_client: StripeClient, tier: str, seats: int = 1) -> str:
    """Pay for a subscription, and end its trial. Returns its id."""
    body = {"tier": tier} | ({"quantity": seats} if tier == "team" else {})
    response = account.http.post("/v1/billing/checkout", json=body)
    assert response.status_code == 200, response.text
    subscription_id = stripe_client.pay(response.json()["checkout_url"])
    stripe_client.post(f"/v1/subscriptions/{subscription_id}", trial_end="now")
    eventually(account.status, lambda status: (status["plan"], status["status"]) == (tier, "active"))
    return subscription_id


def invoices_of(stripe_client: StripeClient, subscription_id: str) -> list[dict[str, Any]]:
    """Return the invoices of a subscription, newest first."""
    return list(stripe_client.get("/v1/invoices", subscription=subscription_id)["data"])


def plans_on(page: Page) -> list[str]:
    """Return the names of the plans that the page offers."""
    return [text.split(",")[0].strip() for text in page.get_by_label("Plan").locator("option").all_inner_texts()]


def choose_plan(page: Page, name: str) -> None:
    """Select a plan and submit the form."""
    options = page.get_by_label("Plan").locator("option")
    labels = options.all_inner_texts()
    index = next(index for index, label in enumerate(labels) if label.strip().startswith(name))
    page.get_by_label("Plan").select_option(index=index)
    page.get_by_role("button", name="Update plan").click()


def choose_seats(page: Page, seats: int) -> None:
    """Enter a number of seats and submit the form."""
    page.get_by_label("Quantity").fill(str(seats))
    page.get_by_role("button", name="Update plan").click()


def test_portal_page_seat_change_in_trial_keeps_trial_without_charge(
    account: AccountClient, stripe_client: StripeClient, page: Page, row: ReadRow
) -> None:
    subscription_id = stripe_client.pay(account.checkout_url("team"))
    eventually(account.status, lambda status: status["status"] == "trialing")
    trial_end = row()["current_period_end"]

    page.goto(account.portal_url())
    choose_seats(page, 5)

    assert eventually(row, has(quantity=5))["status"] == "trialing"
    assert row()["current_period_end"] == trial_end
    assert sum(each["amount_paid"] for each in invoices_of(stripe_client, subscription_id)) == 0


@pytest.mark.parametrize("change", ["seats", "plan"])
def test_portal_page_decrease_in_trial_is_pending_until_the_trial_ends(
    account: AccountClient, stripe_client: StripeClient, page: Page, row: ReadRow, change: str
) -> None:
    """The period of a trial ends with the trial."""
    subscription_id = stripe_client.pay(account.checkout_url("team"))
    eventually(account.status, lambda status: status["status"] == "trialing")
    if change == "seats":
        page.goto(account.portal_url())
        choose_seats(page, 5)
        eventually(row, has(quantity=5))
    trial_end = row()["trial_end"]

    page.goto(account.portal_url())
    if change == "seats":
        choose_seats(page, 2)
    else:
        choose_plan(page, "Pro")

    pending = eventually(row, lambda row: row["pending_at"] is not None)
    assert (pending["status"], pending["plan"]) == ("trialing", "team")
    assert pending["quantity"] == (5 if change == "seats" else 1)
    assert pending["pending_at"] == pending["current_period_end"] == trial_end
    assert sum(each["amount_paid"] for each in invoices_of(stripe_client, subscription_id)) == 0

    stripe_client.control("clock", advance_seconds=15 * 86_400)
    applied = eventually(row, has(status="active", pending_at=None))
    assert (applied["plan"], applied["quantity"]) == (("team", 2) if change == "seats" else ("pro", 1))
    assert invoices_of(stripe_client, subscription_id)[0]["total"] == (9800 if change == "seats" else 1900)


def test_portal_page_seat_increase_is_part_of_next_invoice(
    account: AccountClient, stripe_client: StripeClient, page: Page, row: ReadRow
) -> None:
    subscription_id = subscribe(account, stripe_client, "team")
    before = invoices_of(stripe_client, subscription_id)

    page.goto(account.portal_url())
    choose_seats(page, 3)

    eventually(row, has(quantity=3))
    assert invoices_of(stripe_client, subscription_id) == before
    stripe_client.control("clock", advance_seconds=MONTH_SECONDS)
    newest = invoices_of(stripe_client, subscription_id)[0]
    assert newest["billing_reason"] == "subscription_cycle"
    assert newest["total"] > 3 * 4900


def test_portal_page_plan_upgrade_is_invoiced_immediately(
    account: AccountClient, stripe_client: StripeClient, page: Page, row: ReadRow
) -> None:
    subscription_id = subscribe(account, stripe_client, "pro")

    page.goto(account.portal_url())
    choose_plan(page, "Team")

    assert eventually(row, has(plan="team"))["quantity"] == 1
    newest = invoices_of(stripe_client, subscription_id)[0]
    assert (newest["billing_reason"], newest["status"]) == ("subscription_update", "paid")


def test_portal_page_downgrade_to_flat_plan_is_pending_and_applied_at_renewal(
    account: AccountClient, stripe_client: StripeClient, page: Page, row: ReadRow
) -> None:
    subscription_id = subscribe(account, stripe_client, "team")
    before = invoices_of(stripe_client, subscription_id)

    page.goto(account.portal_url())
    choose_plan(page, "Pro")

    pending = eventually(row, has(pending_plan="pro"))
    assert (pending["plan"], pending["quantity"], pending["pending_quantity"]) == ("team", 1, 1)
    assert pending["pending_at"] == pending["current_period_end"]
    assert account.status()["plan"] == "team"
    assert "Changes to Pro" in " ".join(page.locator("body").inner_text().split())
    assert invoices_of(stripe_client, subscription_id) == before

    stripe_client.control("clock", advance_seconds=MONTH_SECONDS)
    applied = eventually(row, has(plan="pro", pending_plan=None))
    assert applied["quantity"] == 1
    assert account.status()["plan"] == "pro"
    newest = invoices_of(stripe_client, subscription_id)[0]
    assert (newest["billing_reason"], newest["total"]) == ("subscription_cycle", 1900)


def test_portal_page_keep_current_plan_withdraws_pending_change(
    account: AccountClient, stripe_client: StripeClient, page: Page, row: ReadRow
) -> None:
    subscribe(account, stripe_client, "team")
    page.goto(account.portal_url())
    choose_plan(page, "Pro")
    eventually(row, has(pending_plan="pro"))

    page.get_by_role("button", name="Keep current plan").click()

    assert eventually(row, has(pending_plan=None))["plan"] == "team"
    stripe_client.control("clock", advance_seconds=MONTH_SECONDS)
    assert eventually(row, lambda row: row["status"] == "active")["plan"] == "team"


def test_portal_page_seat_decrease_is_pending(
    account: AccountClient, stripe_client: StripeClient, page: Page, row: ReadRow
) -> None:
    subscribe(account, stripe_client, "team", seats=3)
    page.goto(account.portal_url())
    choose_seats(page, 2)
    pending = eventually(row, has(pending_quantity=2))
    assert (pending["quantity"], pending["pending_plan"]) == (3, "team")


def test_portal_page_does_not_offer_flat_plan_for_several_seats(
    account: AccountClient, stripe_client: StripeClient, page: Page, row: ReadRow
) -> None:
    """Stripe would charge the flat price once for each seat."""
    subscribe(account, stripe_client, "team", seats=3)
    page.goto(account.portal_url())
    assert plans_on(page) == ["Team"]
    choose_seats(page, 4)
    eventually(row, has(quantity=4))


def test_portal_page_offers_quantity_for_one_seat_and_every_plan(
    account: AccountClient, stripe_client: StripeClient, page: Page
) -> None:
    subscribe(account, stripe_client, "team")
    page.goto(account.portal_url())
    assert plans_on(page) == ["Pro", "Team"]
    assert page.get_by_label("Quantity").count() == 1
