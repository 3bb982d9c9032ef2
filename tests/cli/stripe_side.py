"""An existing Stripe account, and a table that is compared with it."""

from typing import Any

import httpx
import stripe

from tests.cli.conftest import Stack, StripeAccount, aws


def sell(client: stripe.StripeClient) -> None:
    """Give the Stripe account the catalog's price."""
    product = client.v1.products.create({"name": "Pro"})
    client.v1.prices.create(
        {
            "product": product.id,
            "lookup_key": "pro_monthly",
            "currency": "usd",
            "unit_amount": 1900,
            "recurring": {"interval": "month"},
        }
    )


def subscribe(client: stripe.StripeClient, account_id: str | None) -> stripe.Subscription:
    """A new customer with a paid subscription; its metadata names the account, if there is one."""
    metadata = {"account_id": account_id} if account_id else {}
    paying = {"payment_method": "pm_card_visa", "invoice_settings": {"default_payment_method": "pm_card_visa"}}
    who: Any = {"email": f"{account_id}@example.com", "metadata": metadata, **paying}
    customer = client.v1.customers.create(who)
    [price] = client.v1.prices.list({"lookup_keys": ["pro_monthly"]}).data
    order: Any = {"customer": customer.id, "items": [{"price": price.id}], "metadata": metadata}
    return client.v1.subscriptions.create(order)


def age_events(account: StripeAccount) -> None:
    """Let all events have happened two days ago."""
    for event in account.world.all("event"):
        event["created"] -= 2 * 86_400


def customer_of(subscription: stripe.Subscription) -> str:
    """Whose it is."""
    assert isinstance(subscription.customer, str)
    return subscription.customer


def table(stack: Stack) -> list[Any]:
    """Everything that is stored."""
    items = aws("dynamodb", stack.endpoint_url).scan(TableName=stack.table_name)["Items"]
    return sorted(items, key=lambda item: (item["pk"]["S"], item["sk"]["S"]))


def spoil(stack: Stack, account: StripeAccount, account_id: str, subscription_id: str, status: str) -> None:
    """Change a row by hand, as no event ever did, some time before Stripe is asked again."""
    moved = {"advance_seconds": 60}
    httpx.post(f"{account.url}/_simulator/clock", json=moved, trust_env=False).raise_for_status()
    aws("dynamodb", stack.endpoint_url).update_item(
        TableName=stack.table_name,
        Key={"pk": {"S": f"ACCOUNT#{account_id}"}, "sk": {"S": f"SUB#{subscription_id}"}},
        UpdateExpression="SET #status = :status",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":status": {"S": status}},
    )
