"""A deployment, a subscription and an invoice; tests replace the fields that matter to them."""

from datetime import UTC, datetime, timedelta

from billing.domain.deployment import Deployment
from billing.domain.invoices import Invoice
from billing.domain.subscriptions import Subscription

DEPLOYMENT = Deployment("billing-test", livemode=False)
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
SUBSCRIPTION = Subscription(
    id="sub_1",
    customer_id="cus_1",
    status="active",
    created=NOW,
    plan="pro",
    price_id="price_1",
    quantity=1,
    current_period_start=NOW,
    current_period_end=NOW + timedelta(days=30),
    cancel_at_period_end=False,
    cancel_at=None,
    canceled_at=None,
    ended_at=None,
    trial_end=None,
    price_is_mapped=True,
)
INVOICE = Invoice(
    id="in_1",
    customer_id="cus_1",
    subscription_id="sub_1",
    status="paid",
    number="A-1",
    created=NOW,
    currency="usd",
    total=1900,
    amount_due=1900,
    amount_paid=1900,
    amount_remaining=0,
    attempt_count=1,
    period_start=NOW,
    period_end=NOW + timedelta(days=30),
    hosted_invoice_url=None,
    invoice_pdf=None,
)
